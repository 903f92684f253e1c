//! A client's connection becomes a channel: its answer's head goes out, and of the rest only the slot stays.

use crate::control::snapshot::{ClientIdentity, Proof, Verdict};
use crate::ring::{Receive, SocketId, Verbs};
use crate::wire::event_stream::{self, Event};
use crate::wire::http1::{self, Framing};
use crate::wire::record::Outgoing;
use crate::wire::relay::{ChannelAuth, ChannelKind};
use crate::wire::{Field, websocket};
use std::time::Duration;

use super::super::accept::counted_as;
use super::super::client::{Client, Phase, State};
use super::super::context::Context;
use super::super::fault::Fault;
use super::super::shard::{Gateway, Owner};
use super::super::{request, response};
use super::own::{Form, Own, Wish};
use super::poll::Poll;
use super::rhythm::Place;
use super::table::{Channel, Stage};
use super::who::Who;

/// Milliseconds after which an event stream's client comes back when its connection breaks: at random in this range.
const RETRY_MS: std::ops::Range<u32> = 1_000..5_000;

/// The connection waits to become a channel.
pub fn is_due(state: &State) -> bool {
    state.phase == Phase::Open
        && state.exchange.as_ref().is_some_and(|exchange| {
            exchange.request_done
                && exchange.held.is_none()
                && matches!(exchange.own.as_deref(), Some(Own::Channel(_)))
        })
}

impl Gateway {
    /// Nothing is in flight on the connection, and it wants to be a channel.
    pub(in crate::gateway) fn park<R: Verbs>(&mut self, ring: &mut R, key: usize) {
        let Gateway {
            clients, links, cx, ..
        } = self;
        let Some(client) = clients.get_mut(key) else {
            return;
        };
        let Client { tls, http, state } = client;
        if http.held() > 0 {
            let why = "a channel's request is the last one of its connection";
            http.close_after_response();
            return request::refuse(http, state, Fault::BadRequest, why, links, cx);
        }
        if tls.partial() > 0 || tls.wants_transmit() {
            // The rest of a record is on its way, or an answer of TLS itself.
            return;
        }
        if self.channels.len() >= cx.plan.channels.most || self.draining.is_some() {
            let why = "the gateway takes no more channels";
            return request::refuse(http, state, Fault::Overloaded, why, links, cx);
        }
        let identity = state.exchange.as_ref().and_then(|e| e.client.clone());
        let Some(Verdict::Accepted(identity)) = identity.as_deref() else {
            let why = "a channel's client must be known";
            return request::refuse(http, state, Fault::Internal, why, links, cx);
        };
        let address = state.counted.then(|| counted_as(state.peer));
        let Some(who) = Who::new(identity, address, &mut self.channels.lineages) else {
            let why = "the client's id or token id is too long for a channel";
            return request::refuse(http, state, Fault::Forbidden, why, links, cx);
        };
        let proven = Proven::of(identity);
        let client = clients.remove(key);
        self.become_channel(ring, client, &proven, who);
        self.count_connections();
    }

    fn become_channel<R: Verbs>(&mut self, ring: &mut R, client: Client, proof: &Proven, who: Who) {
        let Client {
            tls,
            mut http,
            mut state,
        } = client;
        let Gateway { channels, cx, .. } = self;
        let socket = state.socket;
        request::read(&mut state, Receive::Small, ring);
        let mut out = match state.out.take() {
            Some(out) => out,
            None => cx.outgoing(state.layout),
        };
        let Some((wish, site)) = answer(&mut http, &mut state, &mut out, cx) else {
            // Whoever calls has looked.
            return self.give_up(ring, socket, &who);
        };
        response::close_exchange(&mut state, None, cx);
        if !matches!(wish.form, Form::LongPoll(_)) {
            let token = state.last_token.as_deref();
            cx.judge.forget(site, state.chain.as_deref(), token);
        }
        let Ok(mut tls) = tls.park() else {
            return self.give_up(ring, socket, &who);
        };
        let (kind, wait) = match wish.form {
            Form::EventStream => (ChannelKind::EventStream, None),
            Form::WebSocket(_) => (ChannelKind::WebSocket, None),
            Form::LongPoll(seconds) => (ChannelKind::LongPoll, Some(seconds)),
        };
        if out.is_empty() {
            cx.recycle(out.into_empty());
        } else {
            match tls.seal(out) {
                Ok(bytes) => {
                    cx.stats.client_bytes_out += bytes.len() as u64;
                    ring.send(socket, bytes);
                }
                Err(_) => return self.give_up(ring, socket, &who),
            }
        }
        channels.who_bytes += who.bytes();
        let generation = channels.table.next_generation();
        let slot = channels.table.insert(Channel {
            tls,
            who,
            websocket: websocket::Parked::default(),
            socket,
            generation,
            since: u32::try_from(cx.unix_now()).unwrap_or(u32::MAX),
            expires: proof.expires,
            place: Place::default(),
            site: site as u16,
            kind,
            auth: proof.auth,
            stage: Stage::Open,
            waits: false,
            partial: false,
        });
        if let Some(seconds) = wait {
            let until = cx.now + Duration::from_secs(u64::from(seconds));
            channels
                .polls
                .insert(slot, Poll::of(state, until, !http.keeps_alive()));
        }
        self.own(socket, Owner::Channel(slot));
        self.schedule(slot);
        self.announce_up(slot);
        if let Some(push) = wish.last {
            self.acknowledge(slot, push);
        }
    }

    /// A connection that is a client no more and cannot be a channel.
    fn give_up<R: Verbs>(&mut self, ring: &mut R, socket: SocketId, who: &Who) {
        if let Some(address) = who.address() {
            self.cx.uncount(address);
        }
        self.own(socket, Owner::Nobody);
        ring.abort(socket);
    }
}

/// What a channel must know of the proof that its client gave.
struct Proven {
    auth: ChannelAuth,
    expires: u32,
}

impl Proven {
    fn of(identity: &ClientIdentity) -> Proven {
        Proven {
            auth: match identity.proof {
                Proof::Certificate { .. } => ChannelAuth::Certificate,
                Proof::Token { .. } => ChannelAuth::Token,
            },
            expires: u32::try_from(identity.not_after).unwrap_or(u32::MAX),
        }
    }
}

/// Writes the head of the answer; that of a long poll comes with what it brings. What the client wants, and its site.
fn answer(
    http: &mut http1::Server,
    state: &mut State,
    out: &mut Outgoing,
    cx: &mut Context,
) -> Option<(Wish, u32)> {
    let exchange = state.exchange.as_mut()?;
    let Own::Channel(wish) = *exchange.own.take()? else {
        return None;
    };
    let id = exchange.id;
    exchange.status = match &wish.form {
        Form::WebSocket(accept) => {
            let fields = accept.fields().chain([request_id(&id)]);
            http.send_head(out, 101, b"Switching Protocols", fields, Framing::None);
            101
        }
        Form::EventStream => {
            let fields = [
                field("Content-Type", event_stream::CONTENT_TYPE),
                field("Cache-Control", b"no-store"),
                request_id(&id),
            ];
            http.send_head(out, 200, b"OK", fields, Framing::Chunked);
            let opening = Event {
                retry: Some(cx.random.u32(RETRY_MS)),
                ..Event::default()
            };
            let written = event_stream::write_event(out, &opening);
            debug_assert!(written.is_ok());
            200
        }
        Form::LongPoll(_) => 200,
    };
    Some((wish, exchange.site))
}

fn field<'a>(name: &'static str, value: &'a [u8]) -> Field<'a> {
    Field {
        name: name.as_bytes(),
        value,
    }
}

fn request_id(id: &[u8]) -> Field<'_> {
    field("Tidegate-Request-Id", id)
}
