//! A BPF ring buffer (`kernel/bpf/ringbuf.c`), read a window at a time: mapped is only what is read just now, because the
//! kernel shows the ring twice in a row and all that is mapped counts as this process's memory. Its records stay until they
//! are released, many at once. What is in them `journal` knows.
#![expect(
    unsafe_code,
    reason = "memory that the kernel writes meanwhile; aya's own ring gives each record back before the next"
)]

use std::io;
use std::os::fd::AsFd as _;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use aya::maps::MapData;
use memmap2::{MmapOptions, MmapRaw};
use rustix::param::page_size;

/// `BPF_RINGBUF_BUSY_BIT`, `BPF_RINGBUF_DISCARD_BIT`, `BPF_RINGBUF_HDR_SZ` (`include/uapi/linux/bpf.h`).
const BUSY: u32 = 1 << 31;
const DISCARDED: u32 = 1 << 30;
const HEADER: u64 = 8;
/// Records begin at multiples of this.
const ALIGNMENT: u64 = 8;
/// Most that is mapped at once, if it is not one record.
const WINDOW: u64 = 256 * 1024;

/// The ring.
pub(super) struct Ring {
    map: MapData,
    id: u32,
    /// Bytes, a power of two.
    size: u64,
    /// One page, ours to write: where the reader is.
    consumer: MmapRaw,
    /// One page, the kernel's: where the writers are.
    producer: MmapRaw,
}

impl Ring {
    /// # Errors
    /// When the ring cannot be mapped.
    pub(super) fn open(map: MapData) -> io::Result<Self> {
        let info = map.info().map_err(io::Error::other)?;
        let (id, size) = (info.id(), u64::from(info.max_entries()));
        let page = MmapOptions::new().len(page_size()).to_owned();
        let consumer = page.clone().map_raw(&map.fd().as_fd())?;
        let producer = page.clone().offset(bytes(page_size())).map_raw_read_only(&map.fd().as_fd())?;
        Ok(Self { map, id, size, consumer, producer })
    }

    /// The kernel's number for it, used once.
    pub(super) fn id(&self) -> u32 {
        self.id
    }

    pub(super) fn map(&self) -> &MapData {
        &self.map
    }

    /// Up to where it was released.
    pub(super) fn released(&self) -> u64 {
        position(&self.consumer).load(Ordering::Relaxed)
    }

    /// Up to where there is something, or will be in a moment.
    pub(super) fn written(&self) -> u64 {
        position(&self.producer).load(Ordering::Acquire)
    }

    /// Lets the kernel overwrite what is before this position: nobody looks at that any more.
    pub(super) fn release(&mut self, to: u64) {
        position(&self.consumer).store(to, Ordering::Release);
    }

    /// What is there from this position on, or as much of it as is mapped at once; `None`: nothing.
    ///
    /// # Errors
    /// When it cannot be mapped.
    pub(super) fn window(&self, from: u64) -> io::Result<Option<Window>> {
        let end = self.written().min(from.saturating_add(WINDOW));
        if from >= end {
            return Ok(None);
        }
        let page = bytes(page_size());
        let offset = from & (self.size - 1);
        let skipped = offset & (page - 1);
        let length = usize::try_from(skipped + (end - from)).map_err(io::Error::other)?;
        let memory = MmapOptions::new()
            .offset(2 * page + offset - skipped)
            .len(length.next_multiple_of(page_size()))
            .map_raw_read_only(&self.map.fd().as_fd())?;
        Ok(Some(Window { memory, base: from - skipped, next: from, end }))
    }
}

/// The position that this page begins with (`struct bpf_ringbuf`).
fn position(page: &MmapRaw) -> &AtomicU64 {
    // SAFETY: the page is mapped as long as it is borrowed, and nobody accesses the word but atomically: here, and in the
    // kernel by smp_load_acquire and smp_store_release. Of the kernel's page it is only loaded.
    unsafe { AtomicU64::from_ptr(page.as_mut_ptr().cast()) }
}

fn bytes(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

/// A part of the ring.
pub(super) struct Window {
    memory: MmapRaw,
    /// Position of its first byte.
    base: u64,
    next: u64,
    end: u64,
}

/// One record.
pub(super) struct Record<'a> {
    /// What it holds; nothing if it was discarded.
    pub(super) bytes: &'a [u8],
    /// Position behind it.
    pub(super) end: u64,
}

impl Window {
    /// The next record that lies in the window as a whole, and that is written to its end.
    pub(super) fn next(&mut self) -> Option<Record<'_>> {
        let data = self.next + HEADER;
        if data > self.end {
            return None;
        }
        // SAFETY: within the window, and aligned as the kernel aligns records. The kernel clears the bit by an atomic
        // exchange when the record is complete (`bpf_ringbuf_commit`).
        let header = unsafe { AtomicU32::from_ptr(self.memory.as_mut_ptr().add(self.at(self.next)?).cast()) };
        let header = header.load(Ordering::Acquire);
        if header & BUSY != 0 {
            return None;
        }
        let length = header & !DISCARDED;
        let end = (data + u64::from(length)).next_multiple_of(ALIGNMENT);
        if end > self.end {
            return None;
        }
        let length = if header & DISCARDED == 0 { usize::try_from(length).ok()? } else { 0 };
        // SAFETY: within the window; the kernel writes there again only when it is released, which the reader does when it
        // has done with a record (`Ring::release`).
        let bytes = unsafe { std::slice::from_raw_parts(self.memory.as_mut_ptr().add(self.at(data)?), length) };
        self.next = end;
        Some(Record { bytes, end })
    }

    fn at(&self, position: u64) -> Option<usize> {
        usize::try_from(position - self.base).ok()
    }
}
