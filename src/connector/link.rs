//! One relay link, connector side: dialled, TLS, HELLO, READY, then streams.

use crate::ring::{SocketId, Verbs};
use crate::wire::Put;
use crate::wire::record::Outgoing;
use crate::wire::relay::staging::Staging;
use crate::wire::relay::{self, Hello, Session, SessionLimits};
use crate::wire::tls;
use slab::Slab;
use std::time::{Duration, Instant};

use super::context::Context;
use super::notify;
use super::plan::LINK_TIMEOUT;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    Connecting,
    Handshake,
    /// HELLO is sent, READY awaited.
    Hello,
    Ready,
}

pub struct Link {
    pub tls: tls::Connection,
    pub session: Session<u32>,
    pub state: State,
}

pub struct State {
    pub key: usize,
    pub stamp: u32,
    pub socket: SocketId,
    /// Index of its target.
    pub target: usize,
    pub phase: Phase,
    pub out: Option<Outgoing>,
    /// How much of that there may be.
    pub staging: Staging,
    pub opened: Instant,
    pub ready_since: Option<Instant>,
    /// The gateway drains: how long to wait, at random, before it is dialled again.
    pub away: Option<Duration>,
    /// The gateway said why it wants nothing of us.
    pub refused: bool,
    /// When the settings are published again that the gateway had no time for.
    pub publish_at: Option<Instant>,
    /// Its part in notifications.
    pub notify: notify::State,
    pub dirty: bool,
    pub armed: Option<Instant>,
}

/// Limits of a session on the connector's side.
pub fn limits() -> SessionLimits {
    SessionLimits {
        streams: 65_536,
        initial_stream_credit: 64 * 1024,
        max_stream_credit: 512 * 1024,
        session_credit: 4 * 1024 * 1024,
        stage_bytes: relay::staging::LEAST,
    }
}

impl Link {
    /// The session and where its frames are staged, while streams may be.
    pub fn session(&mut self) -> Option<(&mut Session<u32>, &mut Outgoing)> {
        match (self.state.phase, self.state.out.as_mut()) {
            (Phase::Ready, Some(out)) => Some((&mut self.session, out)),
            _ => None,
        }
    }

    pub fn deadline(&self) -> Instant {
        match self.state.phase {
            Phase::Ready => {
                let session = self.session.next_deadline();
                self.state.publish_at.map_or(session, |at| at.min(session))
            }
            _ => self.state.opened + LINK_TIMEOUT,
        }
    }
}

/// The handshake is complete: HELLO.
pub fn say_hello(
    tls: &tls::Connection,
    session: &mut Session<u32>,
    state: &mut State,
    cx: &mut Context,
) {
    let target = &cx.targets[state.target];
    let hello = Hello {
        connector: cx.plan.id.clone(),
        site: cx.plan.site.clone(),
        incarnation: cx.plan.incarnation,
        link_index: target.shard,
        wanted_shard: target.shard,
        versions: (relay::VERSION, relay::VERSION),
    };
    let mut out = cx.outgoing(tls.layout());
    session.send_hello(&hello, &mut out);
    state.out = Some(out);
    state.phase = Phase::Hello;
}

/// A send has ended: its buffer, and the next one.
pub fn sent(links: &mut Slab<Link>, key: usize, buffer: Vec<u8>, cx: &mut Context) {
    let Some(link) = links.get_mut(key) else {
        return cx.recycle(buffer);
    };
    if let Some(buffer) = link.state.staging.keep(buffer) {
        cx.recycle(buffer);
    }
    cx.mark_link(&mut link.state);
}

/// Sends what is staged on a link, unless its last send is still on its way.
pub fn flush<R: Verbs>(
    link: &mut Link,
    cx: &mut Context,
    ring: &mut R,
) -> Result<(), tls::TlsError> {
    let Link {
        tls,
        session,
        state,
    } = link;
    if state.phase == Phase::Connecting {
        return Ok(());
    }
    if ring.send_in_flight(state.socket) {
        state.staging.still_sending(cx.now);
        session.set_stage_bytes(state.staging.bytes());
        return Ok(());
    }
    let out = match state.out.take() {
        Some(mut out) => {
            session.pump(cx.now, &mut out);
            out
        }
        None => cx.outgoing(tls.layout()),
    };
    if out.is_empty() && !tls.wants_transmit() {
        if tls.is_established() {
            state.out = Some(out);
        }
        return Ok(());
    }
    state.staging.sends(out.staged(), cx.now);
    session.set_stage_bytes(state.staging.bytes());
    let bytes = tls.transmit(out)?;
    if tls.is_established() && state.phase != Phase::Handshake {
        state.out = Some(match state.staging.take_spare() {
            Some(large) => Outgoing::new(tls.layout(), large),
            None => cx.outgoing(tls.layout()),
        });
    }
    if !bytes.is_empty() {
        cx.stats.relay_bytes_out += bytes.len() as u64;
        ring.send(state.socket, bytes);
    }
    Ok(())
}
