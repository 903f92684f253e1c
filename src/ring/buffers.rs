//! Provided-buffer groups: memory that the kernel picks a buffer from when bytes have come, and `RecvBuf`, the handle
//! that brings the buffer back.
//!
//! A buffer is at any moment either the kernel's (published in the group's ring) or that of exactly one `RecvBuf`.
//! The new tail is published once a turn, by `publish`. Pages are backed by memory on first use. The kernel takes buffers
//! in turn, so that all that are in play get touched: a group begins with a few, and brings in more when it ran dry.

use super::sys::Pages;
use io_uring::types::BufRingEntry;
use io_uring::{IoUring, Submitter};
use std::cell::Cell;
use std::io;
use std::rc::Rc;
use std::sync::atomic::{AtomicU16, Ordering};

/// The kernel's limit on buffers of a group.
const BUFFERS_MAX: u16 = 1 << 15;

/// Bytes in play at first, and buffers at least: what a core's second-level cache holds. Buffers go round, so that each
/// receive would otherwise be into memory that has long left the cache.
const FIRST_IN_PLAY_BYTES: u32 = 256 << 10;
const FIRST_IN_PLAY_MIN: u32 = 4;

/// Received bytes in one of the ring's buffers; goes back to its group when dropped. Derefs to `[u8]` (mutably too).
///
/// Dropped by the task that turns the ring, at the latest before the ring sleeps: a socket may be waiting for it.
pub struct RecvBuf(Bytes);

enum Bytes {
    Provided {
        group: Rc<Group>,
        buffer: u16,
        len: u32,
    },
    Owned(Vec<u8>),
}

impl std::ops::Deref for RecvBuf {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        match &self.0 {
            // SAFETY: `take` made this the only handle of the buffer, which the kernel does not write to again before
            // `drop` publishes it; its `len` bytes lie within the group's pages, alive as long as `group`.
            Bytes::Provided { group, buffer, len } => unsafe {
                std::slice::from_raw_parts(group.address(*buffer), *len as usize)
            },
            Bytes::Owned(bytes) => bytes,
        }
    }
}

impl std::ops::DerefMut for RecvBuf {
    fn deref_mut(&mut self) -> &mut [u8] {
        match &mut self.0 {
            // SAFETY: as in `deref`; `&mut self` makes this the only reference.
            Bytes::Provided { group, buffer, len } => unsafe {
                std::slice::from_raw_parts_mut(group.address(*buffer), *len as usize)
            },
            Bytes::Owned(bytes) => bytes,
        }
    }
}

/// For the simulated twin, and for tests of owners.
impl From<Vec<u8>> for RecvBuf {
    fn from(bytes: Vec<u8>) -> Self {
        RecvBuf(Bytes::Owned(bytes))
    }
}

impl std::fmt::Debug for RecvBuf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RecvBuf({} bytes)", self.len()) // never the bytes: they may be secret
    }
}

impl Drop for RecvBuf {
    fn drop(&mut self) {
        if let Bytes::Provided { group, buffer, .. } = &self.0 {
            group.put_back(*buffer);
        }
    }
}

/// One group of equal buffers, registered with a ring under `id`.
pub(super) struct Group {
    pub(super) id: u16,
    pub(super) size: u32,
    count: u16,
    /// `count` descriptors, read by the kernel; the tail lies in the first one's reserved field.
    ring: Pages,
    memory: Pages,
    /// Descriptors written so far, modulo 2^16; `published` of them are shown to the kernel.
    tail: Cell<u16>,
    published: Cell<u16>,
    /// Buffers that are not in a `RecvBuf`.
    at_home: Cell<u16>,
    /// The first so many are in play; the others were never used.
    in_play: Cell<u16>,
    /// It grew since the last `publish`.
    grown: Cell<bool>,
}

impl Group {
    /// `count` is a power of two of at most 32,768; `size` at least 1.
    pub(super) fn register(io: &IoUring, id: u16, count: u16, size: u32) -> io::Result<Rc<Group>> {
        if !count.is_power_of_two() || count > BUFFERS_MAX || size == 0 {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "a buffer group holds a power of two of buffers, at most 32,768, each of at least one byte",
            ));
        }
        let ring = Pages::map(count as usize * size_of::<BufRingEntry>())?;
        let memory = Pages::map(count as usize * size as usize)?;
        let submitter: Submitter<'_> = io.submitter();
        // SAFETY: `ring` is page-aligned and holds `count` descriptors. The `Group` that owns it outlives the ring:
        // `Ring` keeps a handle and leaks it if operations survive the ring.
        unsafe { submitter.register_buf_ring_with_flags(ring.start() as u64, count, id, 0)? };
        let group = Group {
            id,
            size,
            count,
            ring,
            memory,
            tail: Cell::new(0),
            published: Cell::new(0),
            at_home: Cell::new(0),
            in_play: Cell::new(0),
            grown: Cell::new(false),
        };
        let first = (FIRST_IN_PLAY_BYTES / size).max(FIRST_IN_PLAY_MIN);
        group.bring_in(u16::try_from(first).unwrap_or(count).min(count));
        group.publish();
        Ok(Rc::new(group))
    }

    /// The handle of a buffer that a completion says the kernel has filled with `len` bytes.
    pub(super) fn take(self: &Rc<Self>, buffer: u16, len: u32) -> RecvBuf {
        assert!(
            buffer < self.count && len <= self.size,
            "the kernel names a buffer it was given"
        );
        debug_assert!(self.at_home.get() > 0);
        self.at_home.set(self.at_home.get().wrapping_sub(1));
        RecvBuf(Bytes::Provided {
            group: self.clone(),
            buffer,
            len,
        })
    }

    /// The group ran dry: as many again come into play, if there are; once a turn, however many found it so.
    pub(super) fn grow(&self) {
        if self.grown.replace(true) {
            return;
        }
        let in_play = self.in_play.get();
        self.bring_in(in_play.min(self.count - in_play));
    }

    fn bring_in(&self, more: u16) {
        let from = self.in_play.get();
        self.in_play.set(from + more);
        (from..from + more).for_each(|buffer| self.put_back(buffer));
    }

    /// Buffers with the kernel, those of completions not yet seen included.
    pub(super) fn at_home(&self) -> usize {
        self.at_home.get() as usize
    }

    /// Shows the kernel what came back.
    pub(super) fn publish(&self) {
        let tail = self.tail.get();
        self.grown.set(false);
        if self.published.replace(tail) != tail {
            // SAFETY: the field lies in the mapped descriptors, is aligned, and is only ever accessed atomically after
            // registration. Release: the descriptors are seen before the tail that covers them.
            unsafe {
                let field = BufRingEntry::tail(self.ring.start().cast::<BufRingEntry>());
                (*field.cast::<AtomicU16>()).store(tail, Ordering::Release);
            }
        }
    }

    fn put_back(&self, buffer: u16) {
        let tail = self.tail.get();
        let place = (tail & (self.count - 1)) as usize;
        // SAFETY: `place` is less than `count`. The descriptor is free: at most `count` buffers exist, each is put back
        // once per `take`, and the kernel reads only below the published tail. Field-wise writes leave the tail, in the
        // first descriptor's reserved field, alone.
        unsafe {
            let entry = &mut *self.ring.start().cast::<BufRingEntry>().add(place);
            entry.set_addr(self.address(buffer) as u64);
            entry.set_len(self.size);
            entry.set_bid(buffer);
        }
        self.tail.set(tail.wrapping_add(1));
        self.at_home.set(self.at_home.get() + 1);
    }

    fn address(&self, buffer: u16) -> *mut u8 {
        // In bounds: `buffer` is less than `count`, checked in `take`.
        self.memory
            .start()
            .wrapping_add(buffer as usize * self.size as usize)
    }
}
