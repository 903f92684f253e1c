//! What waits for a channel whose socket is full: bounded, and shared with all others that wait for the same push.

use std::collections::VecDeque;
use std::rc::Rc;

use super::payload::Payload;

/// Whom the fate of a push is owed: key and stamp of the link that brought it.
pub type Owed = Option<(usize, u32)>;

/// A push that waits.
pub struct Waiting {
    pub payload: Rc<Payload>,
    pub owed: Owed,
}

/// What waits for one channel.
#[derive(Default)]
pub struct Backlog {
    waiting: VecDeque<Waiting>,
    /// A frame of the protocol itself that goes first: the answer to the last ping.
    pub answer: Vec<u8>,
}

impl Backlog {
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.answer.is_empty()
    }

    pub fn push(&mut self, waiting: Waiting) {
        self.waiting.push_back(waiting);
    }

    /// The one that has waited longest.
    pub fn pop(&mut self) -> Option<Waiting> {
        self.waiting.pop_front()
    }

    pub fn first(&self) -> Option<&Waiting> {
        self.waiting.front()
    }
}
