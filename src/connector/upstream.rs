//! Upstream connections and their pools: HTTP/1.1 over TCP, one exchange at a time, kept alive in between.

use crate::ring::{Receive, SocketId, Verbs};
use crate::wire::http1;
use crate::wire::record::Outgoing;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::context::Context;
use super::plan::FRESH;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Name being looked up, or connecting.
    Connecting,
    Busy,
    Idle,
}

pub struct Upstream {
    pub http: http1::Client,
    pub state: State,
}

pub struct State {
    pub key: usize,
    pub stamp: u32,
    /// None while the name is being looked up.
    pub socket: Option<SocketId>,
    pub endpoint: u32,
    pub phase: Phase,
    pub out: Option<Outgoing>,
    pub exchange: Option<usize>,
    /// Carried a request before this one: its end without an answer may be a stale connection.
    pub reused: bool,
    /// Something of the answer came.
    pub answered: bool,
    /// The request's bytes, kept while it may be repeated on a fresh connection.
    pub replay: Vec<u8>,
    /// Addresses still to try.
    pub addresses: Vec<SocketAddr>,
    pub progress: Instant,
    /// Receiving is paused because the stream's queue is long.
    pub paused: bool,
    pub reading: Receive,
    pub connect_timeout: Duration,
    /// To the first byte.
    pub timeout: Option<Duration>,
    /// Between bytes of a body.
    pub idle_timeout: Duration,
    pub dirty: bool,
    pub armed: Option<Instant>,
}

/// The connections of one endpoint on this shard.
#[derive(Default)]
pub struct Pool {
    /// Idle ones, the most recently used last.
    idle: Vec<(usize, Instant)>,
    /// All of them.
    pub open: usize,
}

impl Pool {
    /// The most recently used idle connection that may carry the request.
    pub fn take(&mut self, repeatable: bool, now: Instant) -> Option<usize> {
        let (key, since) = *self.idle.last()?;
        if !repeatable && now.saturating_duration_since(since) > FRESH {
            return None;
        }
        self.idle.pop();
        Some(key)
    }

    /// Puts a connection back; gives the oldest one out when there are too many.
    pub fn put(&mut self, key: usize, now: Instant, max: usize) -> Option<usize> {
        self.idle.push((key, now));
        (self.idle.len() > max).then(|| self.idle.remove(0).0)
    }

    pub fn forget(&mut self, key: usize) {
        self.idle.retain(|(idle, _)| *idle != key);
    }

    pub fn idle(&self) -> usize {
        self.idle.len()
    }
}

impl State {
    /// When something must happen if nothing else does.
    pub fn deadline(&self, pool_idle: Duration) -> Option<Instant> {
        match self.phase {
            Phase::Connecting => Some(self.progress + self.connect_timeout),
            Phase::Idle => Some(self.progress + pool_idle),
            Phase::Busy if self.paused => None,
            Phase::Busy if !self.answered => self.timeout.map(|timeout| self.progress + timeout),
            Phase::Busy if self.idle_timeout.is_zero() => None,
            Phase::Busy => Some(self.progress + self.idle_timeout),
        }
    }

    pub fn read<R: Verbs>(&mut self, mode: Receive, ring: &mut R) {
        if let Some(socket) = self.socket
            && self.reading != mode
        {
            self.reading = mode;
            ring.receive(socket, mode);
        }
    }
}

/// Sends what is staged for an upstream, unless its last send is still on its way.
pub fn flush<R: Verbs>(upstream: &mut Upstream, cx: &mut Context, ring: &mut R) {
    let state = &mut upstream.state;
    let (Some(socket), true) = (state.socket, state.phase != Phase::Connecting) else {
        return;
    };
    if ring.send_in_flight(socket) {
        return;
    }
    if let Some(out) = state.out.take() {
        let bytes = out.into_clear_text();
        if bytes.is_empty() {
            cx.recycle(bytes);
        } else {
            cx.stats.upstream_bytes_out += bytes.len() as u64;
            ring.send(socket, bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stale_connection_carries_only_what_may_be_repeated() {
        let start = Instant::now();
        let mut pool = Pool::default();
        assert_eq!(pool.put(7, start, 4), None);
        let later = start + FRESH + Duration::from_millis(1);
        assert_eq!(pool.take(false, later), None);
        assert_eq!(pool.idle(), 1, "it stays for the next");
        assert_eq!(pool.take(true, later), Some(7));
        assert_eq!(pool.take(true, later), None);
    }

    #[test]
    fn the_oldest_leaves_when_there_are_too_many() {
        let now = Instant::now();
        let mut pool = Pool::default();
        assert_eq!(pool.put(1, now, 2), None);
        assert_eq!(pool.put(2, now, 2), None);
        assert_eq!(pool.put(3, now, 2), Some(1));
        assert_eq!(pool.take(true, now), Some(3));
    }
}
