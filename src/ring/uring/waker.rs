//! Waking a ring from other threads.
//!
//! A ring looks at `pending` once a turn; only for one that sleeps is the eventfd written to, on which it sleeps. So a
//! busy ring is woken without a system call, and no completion of one eventfd has to signal another, which the kernel
//! puts off when it happens within a write.

use crate::ring::{Wake, sys};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Wakes one ring. Can be made before its ring (`RingConfig::waker`), so that a mesh can be laid before the shards run.
#[derive(Clone, Debug)]
pub struct Waker(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    eventfd: OwnedFd,
    pending: AtomicBool,
    asleep: AtomicBool,
}

impl Waker {
    pub fn new() -> io::Result<Waker> {
        Ok(Waker(Arc::new(Shared {
            eventfd: sys::eventfd()?,
            pending: AtomicBool::new(false),
            asleep: AtomicBool::new(false),
        })))
    }

    pub(super) fn fd(&self) -> RawFd {
        self.0.eventfd.as_raw_fd()
    }

    /// Takes a wake-up. Whoever takes it sees all that was queued before it.
    pub(super) fn take(&self) -> bool {
        self.0.pending.load(Ordering::SeqCst) && self.0.pending.swap(false, Ordering::AcqRel)
    }

    pub(super) fn is_pending(&self) -> bool {
        self.0.pending.load(Ordering::SeqCst)
    }

    /// From here on, and until it is set back, a wake-up writes to the eventfd. Looks at `is_pending` after this find
    /// every wake-up that did not.
    pub(super) fn set_asleep(&self, asleep: bool) {
        self.0.asleep.store(asleep, Ordering::SeqCst);
    }
}

impl Wake for Waker {
    fn wake(&self) {
        // Both sides write theirs and then read the other's, in one total order (SeqCst): the ring sees `pending`, or
        // this sees `asleep`.
        if !self.0.pending.swap(true, Ordering::SeqCst) && self.0.asleep.load(Ordering::SeqCst) {
            sys::signal(&self.0.eventfd);
        }
    }
}
