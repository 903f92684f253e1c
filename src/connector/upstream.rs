//! Upstream connections and their pools: HTTP/1.1 over TCP or TLS, one exchange at a time, kept alive in between.

use crate::ring::{Receive, SocketId, Verbs};
use crate::wire::http1;
use crate::wire::record::{Layout, Outgoing};
use crate::wire::tls;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::context::Context;
use super::plan::FRESH;
use super::plan::SMALL_ANSWER;
use super::ports::Pair;
use super::shared::{Shared, Sharing};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Name being looked up, or connecting.
    Connecting,
    /// TLS is being agreed on.
    Handshake,
    Busy,
    Idle,
    /// Over HTTP/2: see [`Shared`].
    Shared,
}

pub struct Upstream {
    pub http: http1::Client,
    /// It carries many exchanges, over HTTP/2; `http` is of no use then.
    pub shared: Option<Box<Shared>>,
    /// From the TCP connection on, if the endpoint is https.
    pub tls: Option<Box<tls::Connection>>,
    pub state: State,
}

pub struct State {
    pub key: usize,
    pub stamp: u32,
    /// None while the name is being looked up.
    pub socket: Option<SocketId>,
    pub endpoint: u32,
    pub phase: Phase,
    /// Staged for the upstream. Until TLS is agreed on, the request as clear text, of which nothing is sent yet.
    pub out: Option<Outgoing>,
    /// How its TLS records are laid out, once that is agreed on.
    pub layout: Option<Layout>,
    pub exchange: Option<usize>,
    /// It asks for HTTP/2, and has no exchange before it knows.
    pub offers: bool,
    /// Carried a request before this one: its end without an answer may be a stale connection.
    pub reused: bool,
    /// Something of the answer came.
    pub answered: bool,
    /// The request's bytes, kept while it may be repeated on a fresh connection.
    pub replay: Vec<u8>,
    /// Addresses still to try.
    pub addresses: Vec<SocketAddr>,
    /// The one that is tried or that it is connected to.
    pub address: Option<SocketAddr>,
    /// Source addresses that were not tried with it.
    pub sources_left: usize,
    /// Whose port it holds.
    pub held: Option<Pair>,
    pub progress: Instant,
    /// When this lookup, this address' connection or this handshake began.
    pub since: Instant,
    /// Receiving is paused because the stream's queue is long.
    pub paused: bool,
    pub reading: Receive,
    /// Bytes that came of the answer under way, as they stood on the wire.
    pub received: usize,
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
    pub sharing: Sharing,
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
    /// A connection about to be made.
    pub fn new(
        key: usize,
        stamp: u32,
        endpoint: u32,
        connect_timeout: Duration,
        now: Instant,
    ) -> State {
        State {
            key,
            stamp,
            socket: None,
            endpoint,
            phase: Phase::Connecting,
            out: None,
            layout: None,
            exchange: None,
            offers: false,
            reused: false,
            answered: false,
            replay: Vec::new(),
            addresses: Vec::new(),
            address: None,
            sources_left: 0,
            held: None,
            progress: now,
            since: now,
            paused: false,
            reading: Receive::Paused,
            received: 0,
            connect_timeout,
            timeout: None,
            idle_timeout: Duration::ZERO,
            dirty: false,
            armed: None,
        }
    }

    /// Nothing of a request has been sent.
    pub fn is_dialling(&self) -> bool {
        matches!(self.phase, Phase::Connecting | Phase::Handshake)
    }

    /// Where bytes for the upstream are put.
    pub fn stage(&mut self, cx: &mut Context) -> &mut Outgoing {
        let layout = self.layout;
        self.out.get_or_insert_with(|| match layout {
            None => cx.clear_text(),
            Some(layout) => cx.outgoing(layout),
        })
    }

    /// When something must happen if nothing else does.
    pub fn deadline(&self, pool_idle: Duration) -> Option<Instant> {
        match self.phase {
            // The ring itself ends a connection that does not come about.
            Phase::Connecting if self.socket.is_some() => None,
            Phase::Connecting | Phase::Handshake => Some(self.since + self.connect_timeout),
            // Its streams' own.
            Phase::Shared => None,
            Phase::Idle => Some(self.progress + pool_idle),
            Phase::Busy if self.paused => None,
            Phase::Busy if !self.answered => self.timeout.map(|timeout| self.progress + timeout),
            Phase::Busy if self.idle_timeout.is_zero() => None,
            Phase::Busy => Some(self.progress + self.idle_timeout),
        }
    }

    /// Bytes came. An answer that turns out to be no small one is read in large buffers.
    pub fn received<R: Verbs>(&mut self, bytes: usize, ring: &mut R) {
        self.received += bytes;
        if self.reading == Receive::Small && self.received > SMALL_ANSWER {
            self.read(Receive::Large, ring);
        }
    }

    /// The answer is complete. The next one is taken to be like it: a small one costs no receive of its own when the
    /// receive stays armed.
    pub fn read_next<R: Verbs>(&mut self, ring: &mut R) {
        let mode = match std::mem::take(&mut self.received) {
            0..=SMALL_ANSWER => Receive::Small,
            _ => Receive::Large,
        };
        self.read(mode, ring);
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

/// Sends what is staged for an upstream, unless its last send is still on its way. Errors are TLS's, and end it.
pub fn flush<R: Verbs>(
    upstream: &mut Upstream,
    cx: &mut Context,
    ring: &mut R,
) -> Result<(), tls::TlsError> {
    let state = &mut upstream.state;
    let (Some(socket), true) = (state.socket, state.phase != Phase::Connecting) else {
        return Ok(());
    };
    if ring.send_in_flight(socket) {
        return Ok(());
    }
    let bytes = match &mut upstream.tls {
        None => state.out.take().map(Outgoing::into_clear_text),
        Some(tls) => records(tls, state, cx)?,
    };
    match bytes {
        None => {}
        Some(bytes) if bytes.is_empty() => cx.recycle(bytes),
        Some(bytes) => {
            cx.stats.upstream_bytes_out += bytes.len() as u64;
            ring.send(socket, bytes);
        }
    }
    Ok(())
}

/// What TLS has to send: handshake, alerts, key updates, and the staged bytes sealed where they stand.
fn records(
    tls: &mut tls::Connection,
    state: &mut State,
    cx: &mut Context,
) -> Result<Option<Vec<u8>>, tls::TlsError> {
    // Before the keys are there, what is staged waits as clear text.
    let staged = state.layout.and_then(|_| state.out.take());
    match staged {
        Some(out) if !out.is_empty() => tls.transmit(out).map(Some),
        staged => {
            let out = staged.unwrap_or_else(|| cx.outgoing(tls.layout()));
            if tls.wants_transmit() {
                tls.transmit(out).map(Some)
            } else {
                Ok(Some(out.into_empty()))
            }
        }
    }
}

/// The last that is said on a connection that ends in order: TLS's close_notify, or the alert that waits.
pub fn farewell<R: Verbs>(upstream: &mut Upstream, cx: &mut Context, ring: &mut R) {
    let (Some(socket), Some(tls)) = (upstream.state.socket, &mut upstream.tls) else {
        return;
    };
    if upstream.state.phase == Phase::Connecting || ring.send_in_flight(socket) {
        return;
    }
    if tls.is_established() {
        tls.close();
    }
    if tls.wants_transmit()
        && let Ok(bytes) = tls.transmit(cx.outgoing(tls.layout()))
        && !bytes.is_empty()
    {
        ring.send(socket, bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ring::ConnectOptions;
    use crate::ring::sim::{SimConfig, SimNet};

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
    fn the_receive_of_small_answers_stays_armed() {
        let net = SimNet::new(1, SimConfig::default());
        let mut ring = net.ring([10, 0, 0, 1].into());
        let to = "10.0.0.2:80".parse().unwrap();
        let socket = ring.connect(to, &ConnectOptions::default()).unwrap();
        let mut state = State::new(1, 1, 0, Duration::ZERO, ring.now());
        state.socket = Some(socket);
        let mut answer = |received: &[usize]| {
            for bytes in received {
                state.received(*bytes, &mut ring);
            }
            state.read_next(&mut ring);
            state.reading
        };
        assert_eq!(answer(&[1_300]), Receive::Small);
        assert_eq!(answer(&[1_000, 1_000]), Receive::Small);
        assert_eq!(answer(&[2_000, 100_000]), Receive::Large);
        assert_eq!(answer(&[2_049]), Receive::Large);
        assert_eq!(answer(&[2_048]), Receive::Small);
        state.received(2_049, &mut ring);
        assert_eq!(state.reading, Receive::Large, "within an answer");
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
