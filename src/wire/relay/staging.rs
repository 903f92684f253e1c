//! How much of a link is staged at a time, and the large buffers that this takes.
//!
//! What is staged leaves in one send, and whatever comes later waits behind it. On a connection that keeps its sender
//! waiting that is little. On one that takes all at once the sender is the slower part, and what finds no room in staging
//! is copied once more, into its stream's queue, and costs a send of its own: there it is as much as a turn brings in.

use std::time::Instant;

/// Of a link that keeps us waiting, or has little to carry.
pub const LEAST: usize = 64 * 1024;
/// Of a link that takes all at once and is filled: four receives of 256 KiB.
pub const MOST: usize = 1024 * 1024;
/// A buffer of more capacity holds more than [`LEAST`] ever takes: it belongs to its link, not to a shard's pool.
const LARGE_BUFFER: usize = 2 * LEAST;

#[derive(Debug)]
pub struct Staging {
    bytes: usize,
    sent_at: Option<Instant>,
    spare: Vec<u8>,
}

impl Default for Staging {
    fn default() -> Staging {
        Staging {
            bytes: LEAST,
            sent_at: None,
            spare: Vec::new(),
        }
    }
}

impl Staging {
    /// How many bytes may be staged: [`LEAST`] to [`MOST`].
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The last send is still on its way at `now`. In the turn that asked for it that says nothing.
    pub fn still_sending(&mut self, now: Instant) {
        if self.sent_at.is_some_and(|at| at < now) {
            self.bytes = LEAST;
        }
    }

    /// `staged` bytes are about to be sent, the last send having ended.
    pub fn sends(&mut self, staged: usize, now: Instant) {
        self.sent_at = Some(now);
        if staged >= self.bytes {
            self.bytes = (2 * self.bytes).min(MOST);
        } else if staged < self.bytes / 4 {
            self.bytes = (self.bytes / 2).max(LEAST);
        }
        if self.bytes == LEAST {
            self.spare = Vec::new();
        }
    }

    /// A buffer to stage in, when this link needs larger ones than others.
    pub fn take_spare(&mut self) -> Option<Vec<u8>> {
        (self.spare.capacity() > 0).then(|| std::mem::take(&mut self.spare))
    }

    /// Keeps a sent buffer that is too large for the shard's pool, while the link needs such; else gives it back.
    pub fn keep(&mut self, buffer: Vec<u8>) -> Option<Vec<u8>> {
        let large = buffer.capacity() > LARGE_BUFFER;
        if !large || self.bytes == LEAST {
            return Some(buffer);
        }
        self.spare = buffer;
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_link_that_takes_all_at_once_gets_more_and_one_that_waits_little() {
        let (mut staging, start) = (Staging::default(), Instant::now());
        let at = |ms| start + Duration::from_millis(ms);
        assert_eq!(staging.bytes(), LEAST);
        for ms in 0..6 {
            staging.sends(staging.bytes(), at(ms));
        }
        assert_eq!(staging.bytes(), MOST);
        staging.still_sending(at(5));
        assert_eq!(staging.bytes(), MOST, "it was asked for in this turn");
        staging.still_sending(at(6));
        assert_eq!(staging.bytes(), LEAST);
    }

    #[test]
    fn what_is_half_full_stays_and_what_is_nearly_empty_shrinks() {
        let (mut staging, now) = (Staging::default(), Instant::now());
        for _ in 0..4 {
            staging.sends(MOST, now);
        }
        staging.sends(MOST / 2, now);
        assert_eq!(staging.bytes(), MOST);
        for _ in 0..4 {
            staging.sends(100, now);
        }
        assert_eq!(staging.bytes(), LEAST);
    }

    #[test]
    fn a_large_buffer_stays_while_it_is_needed() {
        let (mut staging, now) = (Staging::default(), Instant::now());
        assert!(staging.keep(Vec::with_capacity(MOST)).is_some());
        staging.sends(LEAST, now);
        assert!(staging.keep(Vec::with_capacity(1_000)).is_some());
        assert!(staging.keep(Vec::with_capacity(MOST)).is_none());
        assert_eq!(
            staging.take_spare().map(|buffer| buffer.capacity()),
            Some(MOST)
        );
        assert!(staging.take_spare().is_none());
        assert!(staging.keep(Vec::with_capacity(MOST)).is_none());
        staging.sends(10, now);
        assert!(staging.take_spare().is_none(), "it went with the need");
    }
}
