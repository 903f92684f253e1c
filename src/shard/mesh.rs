//! Messages to a shard: a bounded queue and a wake-up.
//!
//! The queue holds at most the capacity it was made with; a full queue gives the message back and its sender decides.
//! Messages of one sender arrive in order. The wake-up follows the message, so a receiver that drains its queue on
//! every [`Event::Woken`](crate::ring::Event::Woken) misses none.

use crate::ring::Wake;
use crossbeam::queue::ArrayQueue;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering, fence};

/// A queue of at most `capacity` messages to the shard that `waker` wakes (`Verbs::waker`, or a waker made before its
/// ring).
///
/// # Panics
/// When `capacity` is zero.
pub fn channel<M: Send>(capacity: usize, waker: impl Wake + 'static) -> (Sender<M>, Receiver<M>) {
    let shared = Arc::new(Shared {
        queue: ArrayQueue::new(capacity),
        gone: AtomicBool::new(false),
        waker: Box::new(waker),
    });
    (
        Sender {
            shared: shared.clone(),
        },
        Receiver { shared },
    )
}

struct Shared<M> {
    queue: ArrayQueue<M>,
    /// The receiver was dropped.
    gone: AtomicBool,
    waker: Box<dyn Wake>,
}

/// The sending half, one per destination; cloneable, any thread.
pub struct Sender<M> {
    shared: Arc<Shared<M>>,
}

impl<M> Sender<M> {
    /// Queues and wakes; gives the message back when the queue is full or its receiver is gone.
    pub fn send(&self, message: M) -> Result<(), M> {
        self.send_quietly(message)?;
        self.wake();
        Ok(())
    }

    /// Queues without waking: the caller sends more and calls `wake` after the last.
    pub fn send_quietly(&self, message: M) -> Result<(), M> {
        if self.shared.gone.load(Ordering::Acquire) {
            return Err(message);
        }
        self.shared.queue.push(message)?;
        fence(Ordering::SeqCst); // pairs with the one in the receiver's drop: one of the two sees the other
        if self.shared.gone.load(Ordering::Acquire) {
            // The receiver went in between and may have drained already; nobody else will.
            while self.shared.queue.pop().is_some() {}
        }
        Ok(())
    }

    pub fn wake(&self) {
        self.shared.waker.wake();
    }

    /// Messages that wait, for metrics.
    pub fn waiting(&self) -> usize {
        self.shared.queue.len()
    }
}

impl<M> Clone for Sender<M> {
    fn clone(&self) -> Self {
        Sender {
            shared: self.shared.clone(),
        }
    }
}

/// The shard's half. Dropping it drops what waits, and makes every later `send` give its message back.
pub struct Receiver<M> {
    shared: Arc<Shared<M>>,
}

impl<M> Receiver<M> {
    pub fn receive(&self) -> Option<M> {
        self.shared.queue.pop()
    }
}

impl<M> Drop for Receiver<M> {
    fn drop(&mut self) {
        self.shared.gone.store(true, Ordering::Release);
        fence(Ordering::SeqCst);
        while self.shared.queue.pop().is_some() {}
    }
}
