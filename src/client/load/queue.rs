//! The open loop of one shard: requests that become due by the clock, and wait here while every user is busy.

use std::collections::VecDeque;
use std::time::Instant;

use super::arrivals::Arrivals;

/// Requests that wait on a shard: 64 MiB of due times. Those over it are counted as not sent at once.
const WAITING_MAX: usize = 4 << 20;

pub struct Queue {
    arrivals: Arrivals,
    begin: Instant,
    /// Nothing becomes due from here on.
    end: Instant,
    /// Those due from here on are counted to an end.
    counted_from: Instant,
    left: Option<u64>,
    next: Option<Instant>,
    waiting: VecDeque<Instant>,
    /// Due, and no room to wait.
    pub dropped: u64,
}

impl Queue {
    /// `left` ends it after so many that are due from `counted_from` on.
    pub fn new(
        arrivals: Arrivals,
        (begin, counted_from, end): (Instant, Instant, Instant),
        left: Option<u64>,
    ) -> Queue {
        let mut queue = Queue {
            arrivals,
            begin,
            end,
            counted_from,
            left,
            next: None,
            waiting: VecDeque::new(),
            dropped: 0,
        };
        queue.draw();
        queue
    }

    fn draw(&mut self) {
        let at = self.begin + self.arrivals.draw();
        let is_over = at >= self.end || (at >= self.counted_from && self.left == Some(0));
        self.next = (!is_over).then_some(at);
    }

    /// Lets what is due by `now` wait.
    pub fn advance(&mut self, now: Instant) {
        while let Some(at) = self.next.filter(|at| *at <= now) {
            if self.waiting.len() < WAITING_MAX {
                self.waiting.push_back(at);
            } else {
                self.dropped += 1;
            }
            if at >= self.counted_from {
                self.left = self.left.map(|left| left - 1);
            }
            self.draw();
        }
    }

    /// The due time of the one that has waited longest.
    pub fn pop(&mut self) -> Option<Instant> {
        self.waiting.pop_front()
    }

    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// When the next one is due; none: nothing is any more.
    pub fn next(&self) -> Option<Instant> {
        self.next
    }

    /// Everything that waits, at the end: how many.
    pub fn give_up(&mut self) -> u64 {
        let waiting = self.waiting.len() as u64;
        self.waiting.clear();
        waiting + std::mem::take(&mut self.dropped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::load::scenario::Spread;
    use std::time::Duration;

    fn queue(rate: f64, end_s: u64, left: Option<u64>) -> (Queue, Instant) {
        let begin = Instant::now();
        let arrivals = Arrivals::new(rate, Spread::Constant, Duration::ZERO, (0, 1), 1);
        let counted_from = begin + Duration::from_secs(1);
        let end = begin + Duration::from_secs(end_s);
        (
            Queue::new(arrivals, (begin, counted_from, end), left),
            begin,
        )
    }

    #[test]
    fn requests_wait_from_when_they_were_due() {
        let (mut queue, begin) = queue(10.0, 100, None);
        queue.advance(begin + Duration::from_millis(950));
        assert_eq!(queue.waiting(), 10);
        assert_eq!(queue.next(), Some(begin + Duration::from_secs(1)));
        let due: Vec<_> = std::iter::from_fn(|| queue.pop()).collect();
        assert_eq!(due[9], begin + Duration::from_millis(900));
    }

    #[test]
    fn a_count_begins_after_the_warm_up() {
        let (mut queue, begin) = queue(10.0, 100, Some(25));
        queue.advance(begin + Duration::from_secs(50));
        assert_eq!((queue.waiting(), queue.next()), (35, None));
    }

    #[test]
    fn nothing_is_due_after_the_end() {
        let (mut queue, begin) = queue(10.0, 3, None);
        queue.advance(begin + Duration::from_secs(50));
        assert_eq!((queue.waiting(), queue.next()), (30, None));
        assert_eq!((queue.give_up(), queue.waiting()), (30, 0));
    }

    #[test]
    fn a_full_queue_counts_what_it_drops() {
        let (mut queue, begin) = queue(1e7, 100, None);
        queue.advance(begin + Duration::from_millis(500));
        assert_eq!(queue.waiting(), WAITING_MAX);
        assert_eq!(queue.give_up(), 5_000_001);
    }
}
