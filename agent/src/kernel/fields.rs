//! Writing where fields lie in this kernel's structures into the instructions of the kernel object that need it. Where they lie, `btf`
//! reads.

use sockmeter_ebpf::layout::field;

use super::btf::Offsets;

/// An instruction that loads 64 bits: code, registers, offset, the value's lower half; three fields that are 0, and the upper half
/// (RFC 9669 5.4).
const SIZE: usize = 16;
/// Its code, `BPF_LD | BPF_DW | BPF_IMM`.
const LOAD: u8 = 0x18;
/// Instructions lie at multiples of this.
const STEP: usize = 8;

/// Gives each instruction of `object` that stands for a field's offset (`field::place`) that offset.
pub(super) fn fill(object: &mut [u8], offsets: &Offsets) {
    let mut from = 0;
    while let Some(instruction) = object.get_mut(from..).and_then(<[u8]>::first_chunk_mut::<SIZE>) {
        if let Some(offset) = field_of(instruction).and_then(|field| offsets.get(field)) {
            instruction[4..8].copy_from_slice(&offset.to_le_bytes());
            instruction[12..].fill(0);
        }
        from += STEP;
    }
}

/// Which field's offset an instruction stands for, if it does.
fn field_of(instruction: &[u8; SIZE]) -> Option<usize> {
    // The source register would say that this is no number, but a map's.
    let [LOAD, 0..=0x0f, 0, 0, a, b, c, d, 0, 0, 0, 0, high @ ..] = *instruction else {
        return None;
    };
    if u32::from_le_bytes(high) != field::PLACE {
        return None;
    }
    usize::try_from(u32::from_le_bytes([a, b, c, d])).ok()
}

#[cfg(test)]
mod tests {
    use super::super::object;
    use super::*;

    fn load(register: u8, value: u64) -> [u8; SIZE] {
        let mut instruction = [LOAD, register, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        let value = value.to_le_bytes();
        instruction[4..8].copy_from_slice(&value[..4]);
        instruction[12..].copy_from_slice(&value[4..]);
        instruction
    }

    fn numbered() -> Offsets {
        let mut offsets = [1_000; field::COUNT];
        for (offset, more) in offsets.iter_mut().zip(0..) {
            *offset += more;
        }
        offsets
    }

    #[test]
    fn only_what_stands_for_an_offset_is_replaced() {
        let kept = [load(1, 7), load(0x11, field::place(3)), load(2, field::place(field::COUNT))];
        let mut object = [load(3, field::place(3)), kept[0], load(9, field::place(44)), kept[1], kept[2]].concat();
        object.extend([LOAD; 9]);
        let mut expected = [load(3, 1_003), kept[0], load(9, 1_044), kept[1], kept[2]].concat();
        expected.extend([LOAD; 9]);
        fill(&mut object, &numbered());
        assert_eq!(object, expected);
    }

    /// Where the object was not built, there is nothing to see.
    #[test]
    fn the_programs_read_every_field_and_no_place_is_left() {
        let Ok(object) = object::built() else {
            return;
        };
        let mut object = object.into_owned();
        let places = |object: &[u8]| {
            let all = object.windows(SIZE).filter_map(|bytes| field_of(bytes.first_chunk()?));
            all.collect::<std::collections::BTreeSet<_>>()
        };
        assert!(places(&object).into_iter().eq(0..field::COUNT));
        fill(&mut object, &numbered());
        assert!(places(&object).is_empty());
    }
}
