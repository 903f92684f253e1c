//! Is the peer there? PING and PONG, both ways, on the owner's clock.
//!
//! Misses are counted in PINGs sent and not in time passed, so that a process that was paused asks once more before it
//! gives up a link.

use super::SessionError;
use std::time::{Duration, Instant};

/// Between two PINGs.
pub const PING_INTERVAL: Duration = Duration::from_secs(5);
/// HELLO and READY must have passed by then.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(15);
/// PINGs without PONG after which a peer that sends nothing is dead.
const MISSES_IN_SILENCE: usize = 2;
/// PINGs without PONG after which a peer is dead whatever else it sends: it no longer reads.
const MISSES: usize = 3;

#[derive(Debug)]
pub struct Liveness {
    created: Instant,
    next_ping: Option<Instant>,
    /// When the unanswered PINGs were sent, oldest first.
    unanswered: [Option<Instant>; MISSES],
    last_sent: u64,
    last_answered: u64,
    heard: Instant,
    round_trip: Option<Duration>,
}

impl Liveness {
    pub fn new(now: Instant) -> Liveness {
        Liveness {
            created: now,
            next_ping: None,
            unanswered: [None; MISSES],
            last_sent: 0,
            last_answered: 0,
            heard: now,
            round_trip: None,
        }
    }

    /// HELLO and READY have passed: the first PING is due.
    pub fn ready(&mut self, now: Instant) {
        self.next_ping = Some(now);
    }

    /// Bytes came.
    pub fn heard(&mut self, now: Instant) {
        self.heard = now;
    }

    pub fn round_trip(&self) -> Option<Duration> {
        self.round_trip
    }

    pub fn next_deadline(&self) -> Instant {
        self.next_ping.unwrap_or(self.created + HANDSHAKE_TIMEOUT)
    }

    /// A PING to send now, if one is due.
    pub fn timeout(&mut self, now: Instant) -> Result<Option<u64>, SessionError> {
        if now < self.next_deadline() {
            return Ok(None);
        }
        if self.next_ping.is_none() {
            return Err(SessionError::dead("no HELLO and READY within 15 s"));
        }
        let misses = self.unanswered.iter().flatten().count();
        let silent = self
            .unanswered
            .first()
            .copied()
            .flatten()
            .is_some_and(|at| self.heard <= at);
        if misses >= MISSES || (misses >= MISSES_IN_SILENCE && silent) {
            let text = format!("{misses} PINGs without PONG");
            return Err(SessionError::dead(&text));
        }
        if let Some(free) = self.unanswered.iter_mut().find(|at| at.is_none()) {
            *free = Some(now);
        }
        self.last_sent += 1;
        self.next_ping = Some(now + PING_INTERVAL);
        Ok(Some(self.last_sent))
    }

    /// A PONG answers its PING and all before it. Gives the round trip when it was news.
    pub fn pong(&mut self, id: u64, now: Instant) -> Result<Option<Duration>, SessionError> {
        if id > self.last_sent {
            return Err(SessionError::protocol(
                "PONG for a PING that was not sent".to_owned(),
            ));
        }
        if id <= self.last_answered {
            return Ok(None);
        }
        let answered = (id - self.last_answered) as usize;
        self.last_answered = id;
        let sent_at = self.unanswered.get(answered - 1).copied().flatten();
        self.unanswered.rotate_left(answered.min(MISSES));
        for at in self.unanswered.iter_mut().rev().take(answered) {
            *at = None;
        }
        let Some(sent_at) = sent_at else {
            return Ok(None);
        };
        let measured = now.saturating_duration_since(sent_at);
        self.round_trip = Some(match self.round_trip {
            Some(before) => (before * 7 + measured) / 8,
            None => measured,
        });
        Ok(Some(measured))
    }
}
