//! Passive health of an upstream endpoint, as one shard sees it: learned from the requests alone.
//!
//! ```text
//!            dial failed, or broke BROKEN_MAX times in a row
//!      In ──────────────────────────────────────────────────▶ Out until then ──┐ the wait doubles when it
//!      ▲                                                        │  ▲            │ fails again
//!      └── connected (if the dial had failed), answered ────────┘  └────────────┘
//! ```
//!
//! While it is out, requests go to the route's other endpoints. When the wait is over one request tries it, and the next
//! one only after another such wait, unless that one succeeded. When all are out the one due soonest is tried, so that a
//! single upstream is never locked out: being out is an order of preference, not a verdict.

use std::time::{Duration, Instant};

use super::context::Context;

/// First wait; doubles with each failure.
pub const WAIT_FIRST: Duration = Duration::from_secs(1);
pub const WAIT_MAX: Duration = Duration::from_secs(30);
/// Connections in a row that ended, or said nothing in time, where an answer was due.
pub const BROKEN_MAX: u8 = 3;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cause {
    Dial,
    Broke,
}

#[derive(Debug, Default)]
pub struct Health {
    out: Option<Out>,
    broken: u8,
}

#[derive(Debug)]
struct Out {
    /// What must succeed to end it.
    cause: Cause,
    until: Instant,
    wait: Duration,
    /// The wait was over and a request was sent there: its failure makes the next wait longer. Others, which began
    /// before or were a last resort, say nothing new.
    probing: bool,
}

impl Health {
    pub fn is_out(&self) -> bool {
        self.out.is_some()
    }

    /// When a request may try it; `None`: at any time.
    pub fn due(&self) -> Option<Instant> {
        self.out.as_ref().map(|out| out.until)
    }

    /// A request goes to it. If it is out, others wait for what becomes of this one.
    pub fn tried(&mut self, now: Instant) {
        if let Some(out) = self.out.as_mut().filter(|out| out.until <= now) {
            out.until = now + out.wait;
            out.probing = true;
        }
    }

    /// No connection came about. True when that put it out.
    pub fn dial_failed(&mut self, now: Instant, random: &mut fastrand::Rng) -> bool {
        self.failed(Cause::Dial, now, random)
    }

    /// A connection broke where an answer was due. True when that put it out.
    pub fn broke(&mut self, now: Instant, random: &mut fastrand::Rng) -> bool {
        self.broken = self.broken.saturating_add(1);
        (self.broken >= BROKEN_MAX || self.is_out()) && self.failed(Cause::Broke, now, random)
    }

    /// A connection stands, TLS included. True when it is back by that.
    pub fn connected(&mut self) -> bool {
        let back = self
            .out
            .as_ref()
            .is_some_and(|out| out.cause == Cause::Dial);
        if back {
            self.out = None;
        }
        back
    }

    /// It began to answer. True when it is back by that.
    pub fn answered(&mut self) -> bool {
        self.broken = 0;
        self.out.take().is_some()
    }

    fn failed(&mut self, cause: Cause, now: Instant, random: &mut fastrand::Rng) -> bool {
        let wait = match &self.out {
            Some(out) if !out.probing => return false,
            Some(out) => (out.wait * 2).min(WAIT_MAX),
            None => WAIT_FIRST,
        };
        let was_in = self.out.is_none();
        // Jitter of a quarter, so that shards and connectors do not try together.
        let until = now + wait.mul_f64(0.75 + random.f64() / 2.0);
        self.out = Some(Out {
            cause,
            until,
            wait,
            probing: false,
        });
        was_in
    }
}

/// The verdicts as the shard counts and logs them: a line when an endpoint goes out, one when it is back.
impl Context {
    pub fn endpoint_dial_failed(&mut self, endpoint: u32, why: &str) {
        self.stats.upstream_connect_failed += 1;
        let health = &mut self.health[endpoint as usize];
        if health.dial_failed(self.now, &mut self.random) {
            self.endpoint_went_out(endpoint, why);
        }
    }

    pub fn endpoint_broke(&mut self, endpoint: u32, why: &str) {
        let health = &mut self.health[endpoint as usize];
        if health.broke(self.now, &mut self.random) {
            self.endpoint_went_out(endpoint, why);
        }
    }

    pub fn endpoint_connected(&mut self, endpoint: u32) {
        if self.health[endpoint as usize].connected() {
            self.endpoint_came_back(endpoint);
        }
    }

    pub fn endpoint_answered(&mut self, endpoint: u32) {
        if self.health[endpoint as usize].answered() {
            self.endpoint_came_back(endpoint);
        }
    }

    fn endpoint_went_out(&mut self, endpoint: u32, why: &str) {
        self.stats.upstream_went_out += 1;
        self.stats.upstream_out += 1;
        let upstream = &self.plan.endpoints[endpoint as usize];
        tracing::warn!(%upstream, why, shard = self.shard, "upstream is out: others of its routes are preferred");
    }

    fn endpoint_came_back(&mut self, endpoint: u32) {
        self.stats.upstream_came_back += 1;
        self.stats.upstream_out = self.stats.upstream_out.saturating_sub(1);
        let upstream = &self.plan.endpoints[endpoint as usize];
        tracing::info!(%upstream, shard = self.shard, "upstream is back");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wait_of(health: &Health, now: Instant) -> Duration {
        health.due().expect("out") - now
    }

    #[test]
    fn the_wait_doubles_with_each_failed_try_up_to_its_cap() {
        let mut now = Instant::now();
        let mut random = fastrand::Rng::with_seed(3);
        let mut health = Health::default();
        assert!(health.dial_failed(now, &mut random), "that put it out");
        let mut wait = WAIT_FIRST;
        for _ in 0..8 {
            let jittered = wait.mul_f64(0.75)..=wait.mul_f64(1.25);
            assert!(jittered.contains(&wait_of(&health, now)), "{wait:?}");
            now = health.due().expect("out");
            health.tried(now);
            assert!(wait_of(&health, now) >= wait, "one at a time");
            assert!(!health.dial_failed(now, &mut random), "it was out before");
            wait = (wait * 2).min(WAIT_MAX);
        }
        assert_eq!(wait, WAIT_MAX);
        assert!(health.connected());
        assert!(!health.is_out() && !health.connected());
        health.dial_failed(now, &mut random);
        assert!(
            wait_of(&health, now) <= WAIT_FIRST.mul_f64(1.25),
            "success starts over"
        );
    }

    /// A hundred requests at once must not make half a minute of one refusal.
    #[test]
    fn failures_of_the_same_moment_count_once() {
        let now = Instant::now();
        let mut random = fastrand::Rng::with_seed(3);
        let mut health = Health::default();
        for _ in 0..100 {
            health.tried(now);
            health.dial_failed(now, &mut random);
        }
        assert!(wait_of(&health, now) <= WAIT_FIRST.mul_f64(1.25));
    }

    #[test]
    fn breaking_off_in_a_row_puts_it_out_and_only_an_answer_brings_it_back() {
        let now = Instant::now();
        let mut random = fastrand::Rng::with_seed(3);
        let mut health = Health::default();
        for _ in 0..5 {
            assert!(!health.broke(now, &mut random));
            assert!(!health.broke(now, &mut random));
            assert!(!health.answered(), "in a row");
        }
        for n in 1..=BROKEN_MAX {
            assert_eq!(health.broke(now, &mut random), n == BROKEN_MAX);
        }
        assert!(!health.connected(), "it accepts, and says nothing");
        assert!(health.is_out());
        assert!(health.answered());
        assert!(!health.is_out());
    }
}
