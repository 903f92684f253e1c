//! Which links there should be, and when each is dialled next.

use crate::ring::SocketId;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::plan::{BACKOFF_BASE, BACKOFF_CAP, BACKOFF_REFUSED, STABLE};

/// One link that this shard keeps: to one shard of one instance of one gateway.
pub struct Target {
    pub gateway: usize,
    pub instance: u16,
    pub shard: u16,
    pub state: Dial,
    pub attempts: u32,
    /// Addresses still to try in this round.
    pub addresses: Vec<SocketAddr>,
    /// Tells a late lookup from the current one.
    pub round: u32,
    /// A reload took it away: no link is dialled, and one that stands is left.
    pub off: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dial {
    /// Dial again then.
    Waiting(Instant),
    Resolving(Instant),
    /// A link exists, in whatever phase.
    Up(usize),
}

impl Target {
    pub fn new(gateway: usize, instance: u16, shard: u16, now: Instant) -> Target {
        Target {
            gateway,
            instance,
            shard,
            state: Dial::Waiting(now),
            attempts: 0,
            addresses: Vec::new(),
            round: 0,
            off: false,
        }
    }

    /// The link is gone after `lasted` of being ready, or never came up: when to try again.
    pub fn lost(
        &mut self,
        now: Instant,
        lasted: Option<Duration>,
        refused: bool,
        random: &mut fastrand::Rng,
    ) {
        if lasted.is_some_and(|lasted| lasted >= STABLE) {
            self.attempts = 0;
        }
        let cap = if refused {
            BACKOFF_REFUSED
        } else {
            BACKOFF_CAP
        };
        let ceiling = (BACKOFF_BASE * (1 << self.attempts.min(8))).min(cap);
        self.attempts = self.attempts.saturating_add(1);
        // A refusal is not repeated at once, or the logs of both sides fill.
        let floor = if refused { ceiling / 2 } else { Duration::ZERO };
        let wait = floor + (ceiling - floor).mul_f64(random.f64());
        self.addresses.clear();
        self.state = Dial::Waiting(now + wait);
    }

    /// The gateway went away in order and wants to be dialled again within `delay`, at random.
    pub fn left(&mut self, now: Instant, delay: Duration, random: &mut fastrand::Rng) {
        self.attempts = 0;
        self.addresses.clear();
        self.state = Dial::Waiting(now + delay.mul_f64(random.f64()));
    }

    pub fn due(&self) -> Option<Instant> {
        match self.state {
            _ if self.off => None,
            Dial::Waiting(at) | Dial::Resolving(at) => Some(at),
            Dial::Up(_) => None,
        }
    }
}

/// A socket of a link that is being dialled.
pub type Dialled = (usize, SocketId);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn back_off_is_jittered_from_the_first_retry_and_capped() {
        let now = Instant::now();
        let mut random = fastrand::Rng::with_seed(7);
        let mut target = Target::new(0, 0, 0, now);
        let mut waits = Vec::new();
        for _ in 0..200 {
            target.lost(now, None, false, &mut random);
            let Dial::Waiting(at) = target.state else {
                panic!("not waiting")
            };
            waits.push(at - now);
        }
        assert!(waits[0] <= BACKOFF_BASE);
        assert!(waits.iter().all(|wait| *wait <= BACKOFF_CAP));
        assert!(waits.iter().any(|wait| *wait > BACKOFF_CAP / 2), "it grows");
        assert!(
            waits.iter().skip(10).any(|wait| *wait < BACKOFF_CAP / 4),
            "full jitter starts at zero"
        );
    }

    #[test]
    fn after_a_go_away_the_wait_is_the_gateways_choice() {
        let now = Instant::now();
        let mut random = fastrand::Rng::with_seed(7);
        let mut target = Target::new(0, 0, 0, now);
        target.lost(now, None, false, &mut random);
        let delay = Duration::from_secs(3);
        let mut longest = Duration::ZERO;
        for _ in 0..200 {
            target.left(now, delay, &mut random);
            let Dial::Waiting(at) = target.state else {
                panic!("not waiting")
            };
            longest = longest.max(at - now);
        }
        assert!(longest <= delay && longest > delay / 2, "{longest:?}");
        assert_eq!(target.attempts, 0, "a drained gateway is no failed one");
    }

    #[test]
    fn only_a_stable_link_resets_the_back_off() {
        let now = Instant::now();
        let mut random = fastrand::Rng::with_seed(7);
        let mut target = Target::new(0, 0, 0, now);
        for _ in 0..5 {
            target.lost(now, Some(Duration::from_millis(10)), false, &mut random);
        }
        assert_eq!(target.attempts, 5);
        target.lost(now, Some(STABLE), false, &mut random);
        assert_eq!(target.attempts, 1);
    }
}
