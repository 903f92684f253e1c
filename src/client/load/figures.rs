//! What a shard counts while it runs; merged when all have ended.

use hdrhistogram::Histogram;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::client::result::RawHistogram;

/// Longest time that is told from a longer one.
const LONGEST_US: u64 = 600_000_000;
/// Most characters of an example.
const EXAMPLE_MAX: usize = 300;

/// Microseconds to three digits, up to ten minutes. Grows with what it holds.
#[derive(Clone)]
pub struct Times(Histogram<u64>);

impl Times {
    pub fn new() -> Times {
        let times = Histogram::new(3).expect("three digits are within what the histogram takes");
        Times(times)
    }

    pub fn record(&mut self, time: Duration) {
        let us = (time.as_micros() as u64).clamp(1, LONGEST_US);
        // Grows as it must: no value is refused.
        let _ = self.0.record(us);
    }

    pub fn merge(&mut self, other: &Times) {
        // A histogram that grows takes every other one.
        let _ = self.0.add(&other.0);
    }

    pub fn len(&self) -> u64 {
        self.0.len()
    }

    pub fn mean(&self) -> f64 {
        self.0.mean()
    }

    pub fn quantile(&self, quantile: f64) -> u64 {
        self.0.value_at_quantile(quantile)
    }

    pub fn raw(&self) -> RawHistogram {
        let steps = self.0.iter_recorded();
        steps
            .map(|step| (step.value_iterated_to(), step.count_at_value()))
            .collect()
    }
}

/// Why something failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    Connect,
    Handshake,
    Timeout,
    BrokenOff,
    Unreadable,
    NotSent,
    /// On this side, of this program.
    Own,
}

impl Class {
    pub fn name(self) -> &'static str {
        match self {
            Class::Connect => "connect",
            Class::Handshake => "handshake",
            Class::Timeout => "timeout",
            Class::BrokenOff => "broken off",
            Class::Unreadable => "unreadable answer",
            Class::NotSent => "not sent",
            Class::Own => "load generator",
        }
    }
}

/// Of one member, of one shard.
#[derive(Clone)]
pub struct MemberFigures {
    /// From the intended time with a rate, else from the sending.
    pub latency: Times,
    /// With a rate: from the sending.
    pub service: Option<Times>,
    pub statuses: Vec<(u16, u64)>,
    pub failed: u64,
}

impl MemberFigures {
    pub fn new(open_loop: bool) -> MemberFigures {
        MemberFigures {
            latency: Times::new(),
            service: open_loop.then(Times::new),
            statuses: Vec::new(),
            failed: 0,
        }
    }

    pub fn count_status(&mut self, status: u16, count: u64) {
        match self.statuses.iter_mut().find(|(known, _)| *known == status) {
            Some((_, known)) => *known += count,
            None => self.statuses.push((status, count)),
        }
    }

    pub fn merge(&mut self, other: &MemberFigures) {
        self.latency.merge(&other.latency);
        if let (Some(own), Some(other)) = (&mut self.service, &other.service) {
            own.merge(other);
        }
        for (status, count) in &other.statuses {
            self.count_status(*status, *count);
        }
        self.failed += other.failed;
    }
}

/// Of one shard, or of all.
pub struct Figures {
    pub members: Vec<MemberFigures>,
    /// By class, with the first one in its own words.
    pub errors: BTreeMap<Class, (u64, String)>,
    /// In the measured time, from sockets.
    pub bytes_received: u64,
    /// Bytes of bodies in the measured time, those of exchanges that have not ended included.
    pub body_received: u64,
    pub body_sent: u64,
    /// Of the whole run, as are handshakes.
    pub connects: u64,
    pub handshakes_full: u64,
    pub handshakes_resumed: u64,
    pub unfinished: u64,
    pub unfinished_longest: Duration,
    /// The last measured answer.
    pub ended: Option<Instant>,
}

impl Figures {
    pub fn new(members: usize, open_loop: bool) -> Figures {
        Figures {
            members: (0..members)
                .map(|_| MemberFigures::new(open_loop))
                .collect(),
            errors: BTreeMap::new(),
            bytes_received: 0,
            body_received: 0,
            body_sent: 0,
            connects: 0,
            handshakes_full: 0,
            handshakes_resumed: 0,
            unfinished: 0,
            unfinished_longest: Duration::ZERO,
            ended: None,
        }
    }

    pub fn count_errors(&mut self, class: Class, count: u64, example: &str) {
        let (known, _) = self
            .errors
            .entry(class)
            .or_insert_with(|| (0, example.chars().take(EXAMPLE_MAX).collect()));
        *known += count;
    }

    pub fn merge(&mut self, other: &Figures) {
        for (own, other) in self.members.iter_mut().zip(&other.members) {
            own.merge(other);
        }
        for (class, (count, example)) in &other.errors {
            self.count_errors(*class, *count, example);
        }
        self.bytes_received += other.bytes_received;
        self.body_received += other.body_received;
        self.body_sent += other.body_sent;
        self.connects += other.connects;
        self.handshakes_full += other.handshakes_full;
        self.handshakes_resumed += other.handshakes_resumed;
        self.unfinished += other.unfinished;
        self.unfinished_longest = self.unfinished_longest.max(other.unfinished_longest);
        self.ended = self.ended.max(other.ended);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_add_up() {
        let mut all = Figures::new(1, true);
        for shard in 1..=3_u64 {
            let mut one = Figures::new(1, true);
            one.members[0]
                .latency
                .record(Duration::from_millis(10 * shard));
            one.members[0].count_status(200, shard);
            one.members[0].count_status(503, 1);
            one.count_errors(Class::Timeout, shard, &format!("shard {shard}"));
            all.merge(&one);
        }
        assert_eq!(all.members[0].latency.len(), 3);
        assert_eq!(all.members[0].statuses, [(200, 6), (503, 3)]);
        assert_eq!(all.errors[&Class::Timeout], (6, "shard 1".to_owned()));
        // Three digits: to the thousandth.
        let longest = all.members[0].latency.quantile(1.0);
        assert!((30_000..30_030).contains(&longest), "{longest}");
    }

    #[test]
    fn times_beyond_the_longest_count_as_it() {
        let mut times = Times::new();
        times.record(Duration::from_secs(5000));
        times.record(Duration::ZERO);
        assert_eq!(times.len(), 2);
        assert!(times.quantile(1.0) >= LONGEST_US);
    }
}
