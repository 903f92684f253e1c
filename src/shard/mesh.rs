//! Messages to a shard: a bounded queue and a wake-up.
//!
//! The queue holds at most the capacity it was made with; a full queue gives the message back and its sender decides.
//! Messages of one sender arrive in order. The wake-up follows the message, so a receiver that drains its queue on
//! every [`Event::Woken`](crate::ring::Event::Woken) misses none.

use crate::ring::Wake;
use crossbeam::queue::ArrayQueue;
use crossbeam::sync::Unparker;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};
use std::time::Duration;

/// Tries of [`Sender::insist`], two seconds of them.
const INSISTENCE: usize = 200;
const INSIST_EVERY: Duration = Duration::from_millis(10);

/// A queue of at most `capacity` messages to the shard that `waker` wakes (`Verbs::waker`, or a waker made before its
/// ring).
///
/// # Panics
/// When `capacity` is zero.
pub fn channel<M: Send>(capacity: usize, waker: impl Wake + 'static) -> (Sender<M>, Receiver<M>) {
    let shared = Arc::new(Shared {
        queue: ArrayQueue::new(capacity),
        gone: AtomicBool::new(false),
        senders: AtomicUsize::new(1),
        waker: Box::new(waker),
    });
    (
        Sender {
            shared: shared.clone(),
        },
        Receiver { shared },
    )
}

/// Threads that park between messages.
impl Wake for Unparker {
    fn wake(&self) {
        self.unpark();
    }
}

struct Shared<M> {
    queue: ArrayQueue<M>,
    /// The receiver was dropped.
    gone: AtomicBool,
    senders: AtomicUsize,
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

    /// Sends what must not be lost, from a thread that may wait: a full queue is tried again for two seconds. Gives the
    /// message back when the receiver is gone, or takes nothing in that time.
    pub fn insist(&self, message: M) -> Result<(), M> {
        self.insist_between(message, || std::thread::sleep(INSIST_EVERY))
    }

    fn insist_between(&self, mut message: M, mut pause: impl FnMut()) -> Result<(), M> {
        for _ in 0..INSISTENCE {
            message = match self.send(message) {
                Ok(()) => return Ok(()),
                Err(back) => back,
            };
            if self.shared.gone.load(Ordering::Acquire) {
                break;
            }
            pause();
        }
        Err(message)
    }

    pub fn wake(&self) {
        self.shared.waker.wake();
    }

    /// Messages that wait, for metrics.
    pub fn waiting(&self) -> usize {
        self.shared.queue.len()
    }
}

/// The last sender that goes wakes the receiver, which may have waited for it.
impl<M> Drop for Sender<M> {
    fn drop(&mut self) {
        if self.shared.senders.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.shared.waker.wake();
        }
    }
}

impl<M> Clone for Sender<M> {
    fn clone(&self) -> Self {
        self.shared.senders.fetch_add(1, Ordering::Relaxed);
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

    /// No sender is left: what waits is all that will come.
    pub fn is_orphaned(&self) -> bool {
        self.shared.senders.load(Ordering::Acquire) == 0
    }
}

impl<M> Drop for Receiver<M> {
    fn drop(&mut self) {
        self.shared.gone.store(true, Ordering::Release);
        fence(Ordering::SeqCst);
        while self.shared.queue.pop().is_some() {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Default)]
    struct Count(Arc<AtomicUsize>);
    impl Wake for Count {
        fn wake(&self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_full_queue_gives_the_message_back() {
        let wakes = Count::default();
        let (sender, receiver) = channel(2, wakes.clone());
        assert_eq!(sender.send(1), Ok(()));
        assert_eq!(sender.send_quietly(2), Ok(()));
        assert_eq!(sender.clone().send(3), Err(3));
        assert_eq!(
            wakes.0.load(Ordering::Relaxed),
            1,
            "only what was queued, and not quietly"
        );
        assert_eq!(sender.waiting(), 2);
        assert_eq!([receiver.receive(), receiver.receive()], [Some(1), Some(2)]);
        assert_eq!(receiver.receive(), None);
    }

    #[test]
    fn who_insists_waits_for_room_and_not_for_a_receiver_that_is_gone() {
        let (sender, receiver) = channel(1, Count::default());
        assert_eq!(sender.send(1), Ok(()));
        let mut pauses = 0;
        let room_at_last = || {
            pauses += 1;
            if pauses == INSISTENCE - 1 {
                assert_eq!(receiver.receive(), Some(1));
            }
        };
        assert_eq!(sender.insist_between(2, room_at_last), Ok(()));
        let mut pauses = 0;
        assert_eq!(sender.insist_between(3, || pauses += 1), Err(3));
        assert_eq!(pauses, INSISTENCE, "as long as that, and no longer");
        assert_eq!(receiver.receive(), Some(2));
        drop(receiver);
        assert_eq!(
            sender.insist_between(4, || panic!("nobody to wait for")),
            Err(4)
        );
    }

    #[test]
    fn what_waits_goes_with_the_receiver() {
        let (sender, receiver) = channel(4, Count::default());
        let message = Arc::new(());
        assert!(sender.send(message.clone()).is_ok());
        drop(receiver);
        assert_eq!(Arc::strong_count(&message), 1, "dropped with the receiver");
        assert!(sender.send(message.clone()).is_err());
        assert_eq!(Arc::strong_count(&message), 1);
    }

    #[test]
    fn the_last_sender_to_go_wakes_the_receiver() {
        let wakes = Count::default();
        let (sender, receiver) = channel::<()>(4, wakes.clone());
        let other = sender.clone();
        drop(sender);
        assert!(!receiver.is_orphaned() && wakes.0.load(Ordering::Relaxed) == 0);
        drop(other);
        assert!(receiver.is_orphaned() && wakes.0.load(Ordering::Relaxed) == 1);
    }

    #[test]
    fn messages_of_many_senders_all_arrive_in_their_order() {
        const EACH: u64 = 10_000;
        let (sender, receiver) = channel(64, Count::default());
        let senders: Vec<_> = (0..4)
            .map(|from| {
                let sender = sender.clone();
                std::thread::spawn(move || {
                    for number in 0..EACH {
                        let mut message = (from, number);
                        while let Err(back) = sender.send(message) {
                            message = back;
                            std::thread::yield_now();
                        }
                    }
                })
            })
            .collect();
        let mut next = [0; 4];
        while next != [EACH; 4] {
            match receiver.receive() {
                Some((from, number)) => {
                    assert_eq!(number, next[from]);
                    next[from] += 1;
                }
                None => std::thread::yield_now(),
            }
        }
        senders
            .into_iter()
            .for_each(|sender| sender.join().unwrap());
    }
}
