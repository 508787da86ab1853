//! Writing and reading fixed-size little-endian values, one after the other.

/// Writes values into a buffer of fixed size; what does not fit is dropped, which the sizes of cells and ledgers exclude
/// (a test writes the largest of each).
pub(super) struct Writer<'a>(pub(super) &'a mut [u8]);

impl Writer<'_> {
    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        let room = std::mem::take(&mut self.0);
        if let Some((now, rest)) = room.split_at_mut_checked(bytes.len()) {
            now.copy_from_slice(bytes);
            self.0 = rest;
        }
    }

    /// A text with its length, in `room` bytes.
    pub(super) fn text(&mut self, text: &str, room: usize) {
        let len = text.len().min(room.saturating_sub(2));
        self.bytes(&u16::try_from(len).unwrap_or(0).to_le_bytes());
        self.bytes(text.as_bytes().get(..len).unwrap_or_default());
        for _ in len + 2..room {
            self.bytes(&[0]);
        }
    }

    pub(super) fn u64s<'a>(&mut self, values: impl IntoIterator<Item = &'a u64>) {
        for value in values {
            self.bytes(&value.to_le_bytes());
        }
    }
}

/// Reads them back; `None` past the end.
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn bytes(&mut self, len: usize) -> Option<&'a [u8]> {
        let (now, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(now)
    }

    pub(super) fn text(&mut self, room: usize) -> Option<&'a str> {
        let len = usize::from(self.u16()?);
        let text = self.bytes(room.checked_sub(2)?)?.get(..len)?;
        std::str::from_utf8(text).ok()
    }

    pub(super) fn u16(&mut self) -> Option<u16> {
        Some(u16::from_le_bytes(*self.bytes(2)?.first_chunk()?))
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        Some(u32::from_le_bytes(*self.bytes(4)?.first_chunk()?))
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        Some(u64::from_le_bytes(*self.bytes(8)?.first_chunk()?))
    }

    pub(super) fn u64s(&mut self, into: &mut [u64]) -> Option<()> {
        for value in into {
            *value = self.u64()?;
        }
        Some(())
    }
}
