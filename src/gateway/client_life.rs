//! A client connection's life on its shard: what it sends, what is sent to it, its deadlines, its end.

use crate::ring::{Receive, RecvBuf, Verbs};
use crate::wire::tls::{self, Step};
use std::rc::Rc;

use super::accept::counted_as;
use super::auth::Chain;
use super::channel::open;
use super::client::{Client, Phase};
use super::fault::Fault;
use super::plan::DRAIN_BYTES;
use super::shard::{Gateway, Owner, STAMP_BITS};
use super::{request, response};

impl Gateway {
    /// `used`: bytes at the front that were somebody else's (a balancer's header).
    pub(super) fn client_received<R: Verbs>(
        &mut self,
        ring: &mut R,
        key: usize,
        mut buf: RecvBuf,
        mut used: usize,
    ) {
        let Gateway {
            clients, links, cx, ..
        } = self;
        let Some(client) = clients.get_mut(key) else {
            return;
        };
        cx.mark_client(&mut client.state);
        cx.stats.client_bytes_in += buf.len() as u64;
        loop {
            match client.state.phase {
                Phase::Handshake | Phase::Open => {}
                Phase::Closing | Phase::Broken => return,
                Phase::Draining => {
                    client.state.drained += buf.len() - used;
                    return;
                }
            }
            client.state.progress = cx.now;
            match client.tls.next(&mut buf, &mut used) {
                Ok(Step::NeedMore) => return,
                Ok(Step::Established(established)) => {
                    let state = &mut client.state;
                    if established.resumed {
                        cx.stats.handshakes_resumed += 1;
                    } else {
                        cx.stats.handshakes_full += 1;
                    }
                    state.phase = Phase::Open;
                    state.head_since = None;
                    state.layout = client.tls.layout();
                    state.sni = established.sni;
                    state.chain = Chain::new(established.peer_chain).map(Rc::new);
                }
                Ok(Step::Data(plain)) => {
                    request::plaintext(&mut client.http, &mut client.state, plain, links, cx, ring);
                }
                Ok(Step::Closed) => return self.client_finished(ring, key),
                Err(error) => return self.client_tls_failed(ring, key, &error),
            }
        }
    }

    pub(super) fn client_tls_failed<R: Verbs>(
        &mut self,
        ring: &mut R,
        key: usize,
        error: &tls::TlsError,
    ) {
        let Some(client) = self.clients.get_mut(key) else {
            return;
        };
        let handshake = client.state.phase == Phase::Handshake;
        if handshake {
            self.cx.stats.handshakes_failed += 1;
        } else {
            self.cx.stats.ended_protocol += 1;
        }
        tracing::debug!(client = %client.state.peer, handshake, error = %error.text, "tls failed");
        if client.state.exchange.is_some() || !client.tls.wants_transmit() {
            return self.drop_client(ring, key, false);
        }
        // The alert goes out first.
        client.state.phase = Phase::Broken;
        self.cx.mark_client(&mut client.state);
    }

    /// FIN or close_notify.
    pub(super) fn client_finished<R: Verbs>(&mut self, ring: &mut R, key: usize) {
        let half_close = self.cx.plan.half_close;
        let Some(Client { http, state, .. }) = self.clients.get_mut(key) else {
            return;
        };
        state.finished = true;
        match state.phase {
            Phase::Handshake => self.drop_client(ring, key, true),
            Phase::Draining => self.drop_client(ring, key, true),
            Phase::Closing | Phase::Broken => {}
            Phase::Open => match &state.exchange {
                Some(exchange) if half_close && exchange.request_done => {
                    http.close_after_response()
                }
                Some(_) => {
                    self.cx.stats.ended_reset += 1;
                    self.drop_client(ring, key, false);
                }
                None => {
                    state.phase = Phase::Closing;
                    self.cx.mark_client(state);
                }
            },
        }
    }

    /// Takes a connection out of the world; its stream is reset.
    pub(super) fn drop_client<R: Verbs>(&mut self, ring: &mut R, key: usize, orderly: bool) {
        if !self.clients.contains(key) {
            return;
        }
        let mut client = self.clients.remove(key);
        let state = &mut client.state;
        if let Some(exchange) = state.exchange.as_mut() {
            let orphan = exchange.stream.take();
            if exchange.status == 0 {
                exchange.status = response::CLIENT_GONE;
            }
            request::cancel(orphan, &mut self.links, &mut self.cx);
            response::close_exchange(state, None, &mut self.cx);
        }
        if state.counted {
            self.cx.uncount(counted_as(state.peer));
        }
        self.own(state.socket, Owner::Nobody);
        if orderly {
            ring.close(state.socket);
        } else {
            ring.abort(state.socket);
        }
        self.count_connections();
    }

    pub(super) fn client_sent<R: Verbs>(&mut self, ring: &mut R, key: usize, buf: Vec<u8>) {
        self.cx.recycle(buf);
        let Some(client) = self.clients.get_mut(key) else {
            return;
        };
        client.state.progress = self.cx.now;
        response::refill(client, &mut self.links, &mut self.cx);
        self.cx.mark_client(&mut client.state);
        let _ = ring;
    }

    /// Sends what is staged, moves the connection's phase on, and sets its deadline.
    pub(super) fn flush_client<R: Verbs>(&mut self, ring: &mut R, key: usize) {
        let Gateway { clients, cx, .. } = self;
        let Some(client) = clients.get_mut(key) else {
            return;
        };
        client.state.dirty = false;
        let socket = client.state.socket;
        let sending = ring.send_in_flight(socket);
        if let Some(exchange) = &mut client.state.exchange {
            // In the turn that asked for a send it is on its way in any case.
            exchange.slow = sending && client.state.progress < cx.now;
        }
        if !sending {
            let Client { tls, state, .. } = client;
            if state.phase == Phase::Closing && state.exchange.is_none() && tls.is_established() {
                // Behind what is staged, in the same send where it fits.
                tls.close();
            }
            let staged = state.out.take();
            let empty = staged.as_ref().is_none_or(|out| out.is_empty());
            if !empty || tls.wants_transmit() {
                let out = staged.unwrap_or_else(|| cx.outgoing(state.layout));
                match tls.transmit(out) {
                    Ok(bytes) if bytes.is_empty() => cx.recycle(bytes),
                    Ok(bytes) => {
                        state.progress = cx.now;
                        cx.stats.client_bytes_out += bytes.len() as u64;
                        ring.send(socket, bytes);
                    }
                    Err(error) => {
                        tracing::warn!(client = %state.peer, error = %error.text, "cannot seal");
                        return self.drop_client(ring, key, false);
                    }
                }
            } else if let Some(out) = staged {
                cx.recycle(out.into_empty());
            }
        }
        if !ring.send_in_flight(socket) {
            if open::is_due(&client.state) {
                return self.park(ring, key);
            }
            match client.state.phase {
                Phase::Broken => return self.drop_client(ring, key, true),
                Phase::Closing if client.state.finished => {
                    return self.drop_client(ring, key, true);
                }
                Phase::Closing => {
                    ring.shutdown_write(socket);
                    client.state.phase = Phase::Draining;
                    client.state.progress = cx.now;
                    request::read(&mut client.state, Receive::Small, ring);
                }
                Phase::Draining if client.state.drained > DRAIN_BYTES => {
                    return self.drop_client(ring, key, false);
                }
                _ => {}
            }
        }
        self.arm_client(ring, key);
    }

    pub(super) fn arm_client<R: Verbs>(&mut self, ring: &mut R, key: usize) {
        let Gateway { clients, cx, .. } = self;
        let Some(client) = clients.get_mut(key) else {
            return;
        };
        let sending = ring.send_in_flight(client.state.socket);
        if let Some(at) = client.deadline(&cx.plan.timeouts, sending)
            && client.state.armed.is_none_or(|armed| at < armed)
        {
            client.state.armed = Some(at);
            cx.wheel
                .insert(at, u64::from(client.state.stamp) << 31 | key as u64);
        }
    }

    pub(super) fn client_due<R: Verbs>(&mut self, ring: &mut R, key: usize, stamp: u32) {
        let Gateway {
            clients, links, cx, ..
        } = self;
        let Some(client) = clients
            .get_mut(key)
            .filter(|client| client.state.stamp & STAMP_BITS == stamp)
        else {
            return self.header_due(ring, key, stamp);
        };
        if client.state.armed.is_some_and(|armed| armed > cx.now) {
            // A later entry stands for this connection.
            return;
        }
        client.state.armed = None;
        let sending = ring.send_in_flight(client.state.socket);
        let due = client
            .deadline(&cx.plan.timeouts, sending)
            .is_some_and(|at| at <= cx.now);
        if !due {
            return self.arm_client(ring, key);
        }
        let Client { http, state, .. } = client;
        let fault = match state.phase {
            Phase::Handshake => {
                cx.stats.handshakes_failed += 1;
                return self.drop_client(ring, key, false);
            }
            Phase::Closing | Phase::Draining | Phase::Broken => {
                return self.drop_client(ring, key, false);
            }
            Phase::Open if sending => {
                cx.stats.ended_body_timeout += 1;
                return self.drop_client(ring, key, false);
            }
            Phase::Open => match &state.exchange {
                Some(exchange) if exchange.held.is_some() => {
                    (exchange.wants, exchange.wants.explanation())
                }
                Some(exchange) if !exchange.request_done && !exchange.paused => {
                    (Fault::RequestTimeout, "the request's body stopped coming")
                }
                Some(_) => (Fault::UpstreamTimeout, "no answer in time"),
                None if state.head_since.is_some() => {
                    cx.stats.ended_head_timeout += 1;
                    (Fault::RequestTimeout, "the request's head came too slowly")
                }
                None if cx.now < state.progress + cx.plan.timeouts.idle => {
                    client.tls.drop_keys();
                    cx.stats.keys_dropped += 1;
                    return self.arm_client(ring, key);
                }
                None => {
                    cx.stats.ended_idle += 1;
                    state.phase = Phase::Closing;
                    cx.mark_client(state);
                    return;
                }
            },
        };
        request::refuse(http, state, fault.0, fault.1, links, cx);
    }
}
