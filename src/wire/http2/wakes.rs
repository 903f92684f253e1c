//! Who has something to tell: h2 wakes wakers, and the client reads here whose they were.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Wake, Waker};

/// Wakers must be usable from any thread; these never leave theirs, so the lock is always free.
#[derive(Debug, Default)]
pub struct Wakes {
    connection: AtomicBool,
    /// Keys of streams, each once: at most as many as there are.
    streams: Mutex<Vec<u32>>,
}

impl Wakes {
    pub fn wake_connection(&self) {
        self.connection.store(true, Ordering::Relaxed);
    }

    pub fn take_connection(&self) -> bool {
        self.connection.swap(false, Ordering::Relaxed)
    }

    pub fn connection_is_woken(&self) -> bool {
        self.connection.load(Ordering::Relaxed)
    }

    /// Moves the streams that were woken behind those in `ready`.
    pub fn take_streams(&self, ready: &mut std::collections::VecDeque<u32>) {
        let mut woken = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
        ready.extend(woken.drain(..));
    }

    pub fn any_stream(&self) -> bool {
        let woken = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
        !woken.is_empty()
    }
}

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.wake_connection();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.wake_connection();
    }
}

/// One stream's place on the list. It stays with the stream's key, for whatever streams follow: a late wake-up costs a
/// look and does no harm.
#[derive(Debug)]
pub struct Bell {
    key: u32,
    rung: AtomicBool,
    wakes: Arc<Wakes>,
}

impl Bell {
    pub fn new(key: u32, wakes: &Arc<Wakes>) -> Arc<Bell> {
        Arc::new(Bell {
            key,
            rung: AtomicBool::new(false),
            wakes: wakes.clone(),
        })
    }

    pub fn ring(&self) {
        if !self.rung.swap(true, Ordering::Relaxed) {
            let mut woken = self
                .wakes
                .streams
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            woken.push(self.key);
        }
    }

    /// Its stream is looked at now: what comes later rings again.
    pub fn answer(&self) {
        self.rung.store(false, Ordering::Relaxed);
    }

    pub fn waker(self: &Arc<Self>) -> Waker {
        Waker::from(self.clone())
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.ring();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.ring();
    }
}
