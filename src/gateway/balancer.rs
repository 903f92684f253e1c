//! Connections from listed balancers, until their PROXY header says whose they are.
//!
//! ```text
//! accepted ─ peer is listed ─▶ Waiting ── header ──▶ Handshake (client.rs), as the client that the header names
//!          └ any other peer ─────────────────────▶ Handshake
//! ```
//!
//! A waiting connection is no [`Client`](super::client::Client) yet: it has no TLS state, and a client carries nothing
//! of its header. It counts among the process's connections; the limit of its address is applied when that is known.
//! Its deadline is the handshake's, and the client that comes of it inherits the time of the accept.

use crate::ring::{RecvBuf, SocketId, Verbs};
use crate::wire::proxy_protocol::{Header, Source};
use ipnet::IpNet;
use slab::Slab;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use super::accept::Arrival;
use super::shard::{Gateway, Owner};

/// A misconfigured balancer fails with every connection: its reason is logged once in this time, and counted always.
const COMPLAIN_EVERY: Duration = Duration::from_secs(10);

struct Waiting {
    socket: SocketId,
    /// The balancer.
    peer: SocketAddr,
    stamp: u32,
    since: Instant,
    header: Header,
}

/// The waiting connections of a shard.
#[derive(Default)]
pub struct Balancers {
    waiting: Slab<Waiting>,
    complained: Option<Instant>,
}

impl Balancers {
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }
}

/// True for an address whose connections begin with a PROXY header.
pub fn is_listed(list: &[IpNet], address: IpAddr) -> bool {
    list.iter().any(|net| net.contains(&address))
}

impl Gateway {
    pub(super) fn await_header(&mut self, socket: SocketId, peer: SocketAddr) {
        let (stamp, since) = (self.cx.stamp(), self.cx.now);
        let key = self.balancers.waiting.insert(Waiting {
            socket,
            peer,
            stamp,
            since,
            header: Header::new(),
        });
        let due = since + self.cx.plan.timeouts.head;
        self.cx
            .wheel
            .insert(due, u64::from(stamp) << 31 | key as u64);
        self.own(socket, Owner::Waiting(key));
    }

    /// Bytes of a header, and whatever came behind it.
    pub(super) fn header_received<R: Verbs>(&mut self, ring: &mut R, key: usize, buf: RecvBuf) {
        let Some(waiting) = self.balancers.waiting.get_mut(key) else {
            return;
        };
        let mut used = 0;
        match waiting.header.next(&buf, &mut used) {
            Ok(None) => self.cx.stats.client_bytes_in += buf.len() as u64,
            Ok(Some(source)) => {
                let &mut Waiting {
                    socket,
                    peer,
                    since,
                    ..
                } = waiting;
                let (peer, counted) = match source {
                    Source::Client(address) => {
                        self.cx.stats.proxy_headers += 1;
                        (address, true)
                    }
                    Source::Peer => {
                        self.cx.stats.proxy_local += 1;
                        (peer, false)
                    }
                };
                self.forget_waiting(key);
                let arrival = Arrival {
                    socket,
                    peer,
                    since,
                    counted,
                };
                if let Some(client) = self.admit(ring, arrival) {
                    self.client_received(ring, client, buf, used);
                } else {
                    self.cx.stats.client_bytes_in += buf.len() as u64;
                }
            }
            Err(why) => {
                self.cx.stats.client_bytes_in += buf.len() as u64;
                self.refuse_header(ring, key, why.0);
            }
        }
    }

    /// FIN before the header was whole. Without a byte it is how balancers look whether somebody listens.
    pub(super) fn header_cut<R: Verbs>(&mut self, ring: &mut R, key: usize) {
        match self.balancers.waiting.get(key) {
            Some(waiting) if waiting.header.is_empty() => {
                ring.close(waiting.socket);
                self.forget_waiting(key);
            }
            _ => self.refuse_header(ring, key, "the connection ended within the PROXY header"),
        }
    }

    /// A timer that is no client's. Stamps tell all connections apart, so that both kinds share one form of token.
    pub(super) fn header_due<R: Verbs>(&mut self, ring: &mut R, key: usize, stamp: u32) {
        let waiting = self.balancers.waiting.get(key);
        if waiting.is_some_and(|waiting| waiting.stamp == stamp) {
            self.refuse_header(ring, key, "the PROXY header did not come in time");
        }
    }

    fn refuse_header<R: Verbs>(&mut self, ring: &mut R, key: usize, why: &'static str) {
        let Some(Waiting { socket, peer, .. }) = self.balancers.waiting.get(key) else {
            return;
        };
        let now = self.cx.now;
        let complained = &mut self.balancers.complained;
        if complained.is_none_or(|at| now >= at + COMPLAIN_EVERY) {
            *complained = Some(now);
            tracing::warn!(balancer = %peer, reason = why, "connection refused");
        } else {
            tracing::debug!(balancer = %peer, reason = why, "connection refused");
        }
        self.cx.stats.proxy_bad += 1;
        ring.abort(*socket);
        self.forget_waiting(key);
    }

    /// Takes it out of the books; the socket stays.
    pub(super) fn forget_waiting(&mut self, key: usize) {
        if let Some(waiting) = self.balancers.waiting.try_remove(key) {
            self.own(waiting.socket, Owner::Nobody);
        }
        self.count_connections();
    }

    /// The ring says that the socket is dead.
    pub(super) fn header_failed<R: Verbs>(&mut self, ring: &mut R, key: usize) {
        if let Some(waiting) = self.balancers.waiting.get(key) {
            ring.abort(waiting.socket);
        }
        self.forget_waiting(key);
    }
}
