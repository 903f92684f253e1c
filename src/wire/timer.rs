//! One timer wheel per shard: entries are `(key, generation)`, cancelled lazily by their owner.

use std::time::{Duration, Instant};

/// A hashed wheel of `u64` tokens; see `insert`.
pub struct Wheel {}

impl Wheel {
    /// `tick` is the wheel's resolution (e.g. 16 ms).
    pub fn new(start: Instant, tick: Duration) -> Self {
        todo!()
    }
    /// Fires `token` at or after `at`, never before, at most one tick late (plus the owner's own lateness). O(1).
    /// There is no removal: the owner compares its own deadline when a token fires, and inserts again if it moved.
    pub fn insert(&mut self, at: Instant, token: u64) {
        todo!()
    }
    /// The next due token, or `None` when nothing is due at `now`. Call until `None`.
    pub fn pop(&mut self, now: Instant) -> Option<u64> {
        todo!()
    }
    /// When to wake up at the latest: a lower bound of the earliest entry's deadline; `None` when the wheel is empty.
    pub fn next_deadline(&self) -> Option<Instant> {
        todo!()
    }
    /// Entries held.
    pub fn len(&self) -> usize {
        todo!()
    }
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
