//! One gateway shard: its clients, its links, and what each event does to them.

use crate::control::snapshot::Snapshot;
use crate::observe::metrics::ShardStats;
use crate::ring::{Event, ListenerId, Receive, RecvBuf, SocketId, Verbs};
use crate::shard::executor::Service;
use crate::shard::mesh;
use crate::wire::http1;
use crate::wire::relay::{Role, Session};
use crate::wire::tls::{self, Step};
use slab::Slab;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::auth::Chain;
use super::client::{self, Client, Phase};
use super::context::Context;
use super::fault::Fault;
use super::links::{self, Moving, Shared};
use super::plan::DRAIN_BYTES;
use super::relay::{self, Link};
use super::{request, response};

/// What a shard is told from outside.
pub enum Message {
    /// A newer snapshot is there to be read.
    Snapshot,
    /// A link that another shard accepted and that belongs here.
    Adopt(Box<Moving>),
    /// The control plane's verdict on settings that came over a link of this shard.
    Published {
        link: usize,
        stamp: u32,
        hash: [u8; 32],
        accepted: bool,
        text: String,
    },
    /// A newer link took this one's place.
    Retire { link: usize, stamp: u32 },
    /// Copies the counters out.
    Stats(std::sync::mpsc::SyncSender<ShardStats>),
    /// Accept nothing more, tell the connectors, finish what runs, end at the latest then.
    Drain(Instant),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owner {
    Nobody,
    Client(usize),
    Link(usize),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Door {
    Clients,
    Relay,
}

/// Tags of timer tokens.
const TIMER_LINK: u64 = 1 << 63;

/// See the front page of `gateway`.
pub struct Gateway {
    clients: Slab<Client>,
    links: Slab<Link>,
    /// By socket index.
    owners: Vec<Owner>,
    doors: Vec<(ListenerId, Door)>,
    cx: Context,
    shared: Arc<Shared>,
    mesh: mesh::Receiver<Message>,
    draining: Option<Instant>,
    finished: bool,
    /// Once a second: pressure, wall clock.
    next_tick: Instant,
}

impl Gateway {
    pub fn new(cx: Context, shared: Arc<Shared>, mesh: mesh::Receiver<Message>) -> Gateway {
        let next_tick = cx.now;
        Gateway {
            clients: Slab::new(),
            links: Slab::new(),
            owners: Vec::new(),
            doors: Vec::new(),
            cx,
            shared,
            mesh,
            draining: None,
            finished: false,
            next_tick,
        }
    }

    /// A listener whose sockets are clients.
    pub fn clients_on(&mut self, listener: ListenerId) {
        self.doors.push((listener, Door::Clients));
    }

    /// A listener whose sockets are relay links.
    pub fn relay_on(&mut self, listener: ListenerId) {
        self.doors.push((listener, Door::Relay));
    }

    fn owner(&self, socket: SocketId) -> Owner {
        self.owners
            .get(socket.index as usize)
            .copied()
            .unwrap_or(Owner::Nobody)
    }

    fn own(&mut self, socket: SocketId, owner: Owner) {
        let index = socket.index as usize;
        if index >= self.owners.len() {
            self.owners.resize(index + 1, Owner::Nobody);
        }
        self.owners[index] = owner;
    }

    // accept

    fn accept_client<R: Verbs>(&mut self, ring: &mut R, socket: SocketId, peer: SocketAddr) {
        self.cx.stats.accepted += 1;
        let plan = self.cx.plan.clone();
        let address = peer.ip().to_canonical();
        let limit = plan.connections_per_address;
        let same = self.cx.per_address.get(&address).copied().unwrap_or(0);
        if same as usize >= limit {
            self.cx.stats.refused_address += 1;
            return ring.abort(socket);
        }
        if self.clients.len() >= plan.connections || self.draining.is_some() {
            self.cx.stats.refused_limit += 1;
            return ring.abort(socket);
        }
        let Ok(tls) = tls::Connection::server(&plan.server_tls) else {
            self.cx.stats.handshakes_failed += 1;
            return ring.abort(socket);
        };
        if limit != usize::MAX {
            *self.cx.per_address.entry(address).or_insert(0) += 1;
        }
        let (stamp, now) = (self.cx.stamp(), self.cx.now);
        let layout = tls.layout();
        let key = self.clients.vacant_key();
        let state = client::State {
            key,
            socket,
            layout,
            stamp,
            peer,
            address: address.to_string().into(),
            sni: None,
            chain: None,
            phase: Phase::Handshake,
            out: None,
            exchange: None,
            reading: Receive::Small,
            dirty: false,
            finished: false,
            progress: now,
            head_since: Some(now),
            armed: None,
            drained: 0,
        };
        self.clients.insert(Client {
            tls,
            http: http1::Server::new(plan.http),
            state,
        });
        self.own(socket, Owner::Client(key));
        ring.receive(socket, Receive::Small);
        if let Some(client) = self.clients.get_mut(key) {
            self.cx.mark_client(&mut client.state);
        }
        self.cx.stats.connections = self.clients.len() as u64;
    }

    fn accept_link<R: Verbs>(&mut self, ring: &mut R, socket: SocketId, peer: SocketAddr) {
        let Ok(tls) = tls::Connection::server(&self.cx.plan.relay_tls) else {
            return ring.abort(socket);
        };
        if self.links.len() >= links::LINKS_MAX || self.draining.is_some() {
            return ring.abort(socket);
        }
        let session = Session::new(Role::Gateway, links::limits(), self.cx.now);
        let key = self.insert_link(tls, session, socket, peer, relay::Phase::Handshake);
        ring.receive(socket, Receive::Large);
        relay::mark(&mut self.links, key, &mut self.cx);
    }

    fn insert_link(
        &mut self,
        tls: tls::Connection,
        session: Session<u32>,
        socket: SocketId,
        peer: SocketAddr,
        phase: relay::Phase,
    ) -> usize {
        let stamp = self.cx.stamp();
        let key = self.links.vacant_key();
        self.links.insert(Link {
            tls,
            session,
            state: relay::State {
                key,
                stamp,
                socket,
                peer,
                phase,
                out: None,
                certificate_name: String::new(),
                hello: None,
                site: 0,
                connector: u32::MAX,
                document: Vec::new(),
                dirty: false,
                opened: self.cx.now,
                armed: None,
                unread: Vec::new(),
            },
        });
        self.own(socket, Owner::Link(key));
        key
    }

    // clients

    fn client_received<R: Verbs>(&mut self, ring: &mut R, key: usize, mut buf: RecvBuf) {
        let Gateway {
            clients, links, cx, ..
        } = self;
        let Some(client) = clients.get_mut(key) else {
            return;
        };
        cx.mark_client(&mut client.state);
        cx.stats.client_bytes_in += buf.len() as u64;
        let mut used = 0;
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

    fn client_tls_failed<R: Verbs>(&mut self, ring: &mut R, key: usize, error: &tls::TlsError) {
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
    fn client_finished<R: Verbs>(&mut self, ring: &mut R, key: usize) {
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
    fn drop_client<R: Verbs>(&mut self, ring: &mut R, key: usize, orderly: bool) {
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
        if self.cx.plan.connections_per_address != usize::MAX {
            let address = state.peer.ip().to_canonical();
            if let Some(count) = self.cx.per_address.get_mut(&address) {
                *count -= 1;
                if *count == 0 {
                    self.cx.per_address.remove(&address);
                }
            }
        }
        self.own(state.socket, Owner::Nobody);
        if orderly {
            ring.close(state.socket);
        } else {
            ring.abort(state.socket);
        }
        self.cx.stats.connections = self.clients.len() as u64;
    }

    fn client_sent<R: Verbs>(&mut self, ring: &mut R, key: usize, buf: Vec<u8>) {
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
    fn flush_client<R: Verbs>(&mut self, ring: &mut R, key: usize) {
        let Gateway { clients, cx, .. } = self;
        let Some(client) = clients.get_mut(key) else {
            return;
        };
        client.state.dirty = false;
        let socket = client.state.socket;
        if !ring.send_in_flight(socket) {
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

    fn arm_client<R: Verbs>(&mut self, ring: &mut R, key: usize) {
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

    fn client_due<R: Verbs>(&mut self, ring: &mut R, key: usize, stamp: u32) {
        let Gateway {
            clients, links, cx, ..
        } = self;
        let Some(client) = clients
            .get_mut(key)
            .filter(|client| client.state.stamp & STAMP_BITS == stamp)
        else {
            return;
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
                    (Fault::NoConnector, "no connector of this site is linked")
                }
                Some(exchange) if !exchange.request_done && !exchange.paused => {
                    (Fault::RequestTimeout, "the request's body stopped coming")
                }
                Some(_) => (Fault::UpstreamTimeout, "no answer in time"),
                None if state.head_since.is_some() => {
                    (Fault::RequestTimeout, "the request's head came too slowly")
                }
                None => {
                    state.phase = Phase::Closing;
                    cx.mark_client(state);
                    return;
                }
            },
        };
        let orphan = response::fail(http, state, fault.0, fault.1, cx);
        request::cancel(orphan, links, cx);
    }

    // links

    fn link_received<R: Verbs>(&mut self, ring: &mut R, key: usize, mut buf: RecvBuf) {
        let Some(link) = self.links.get_mut(key) else {
            return;
        };
        if link.state.phase == relay::Phase::Moving {
            link.state.unread.extend_from_slice(&buf);
            return;
        }
        self.cx.stats.relay_bytes_in += buf.len() as u64;
        self.link_input(ring, key, &mut buf);
    }

    fn link_input<R: Verbs>(&mut self, ring: &mut R, key: usize, input: &mut [u8]) {
        let Gateway {
            clients,
            links,
            cx,
            shared,
            ..
        } = self;
        let Some(link) = links.get_mut(key) else {
            return;
        };
        cx.mark_link(&mut link.state);
        let outcome = links::input(link, input, clients, cx, shared);
        match outcome {
            Ok(links::Next::Continue) => {}
            Ok(links::Next::Ready) => request::retry_held(clients, links, cx, ring),
            Ok(links::Next::Move) => {
                if let Some(link) = links.get_mut(key) {
                    ring.detach(link.state.socket);
                }
            }
            Ok(links::Next::Ended) => self.drop_link(ring, key, "the connector ended the link"),
            Err(why) => self.drop_link(ring, key, &why),
        }
        self.resume_drained(ring, key);
    }

    /// Streams whose queue ran empty: their clients are read again.
    fn resume_drained<R: Verbs>(&mut self, ring: &mut R, key: usize) {
        let Some(link) = self.links.get_mut(key) else {
            return;
        };
        while let Some((_, token)) = link.session.poll_drained() {
            if let Some(client) = self.clients.get_mut(token as usize) {
                request::resume(client, ring);
                self.cx.mark_client(&mut client.state);
            }
        }
    }

    fn drop_link<R: Verbs>(&mut self, ring: &mut R, key: usize, why: &str) {
        if !self.links.contains(key) {
            return;
        }
        let mut link = self.links.remove(key);
        let state = &link.state;
        let ready = state.phase == relay::Phase::Ready;
        tracing::info!(
            connector = link.name(), peer = %state.peer, shard = self.cx.shard, ready, why, "link closed"
        );
        self.own(link.state.socket, Owner::Nobody);
        if ready {
            self.cx.sites[link.state.site as usize].remove(key);
            self.cx.stats.links_lost += 1;
            self.shared.link_closed(&link, self.cx.shard, self.cx.now);
        }
        // The alert or refusal that says why, if the socket takes it at once.
        if !ring.send_in_flight(link.state.socket)
            && link.tls.wants_transmit()
            && let Ok(bytes) = link.tls.transmit(self.cx.outgoing(link.tls.layout()))
            && !bytes.is_empty()
        {
            ring.send(link.state.socket, bytes);
        }
        ring.close(link.state.socket);
        for (stream, token) in link.session.tokens() {
            let on = |client: &&mut Client| {
                client
                    .state
                    .exchange
                    .as_ref()
                    .is_some_and(|e| e.is_on(stream))
            };
            if let Some(client) = self.clients.get_mut(token as usize).filter(on) {
                response::reset(
                    client,
                    Fault::ConnectorLost,
                    "the link to the connector was lost",
                    &mut self.cx,
                );
            }
        }
        self.cx.stats.links -= u64::from(ready);
    }

    fn flush_link<R: Verbs>(&mut self, ring: &mut R, key: usize) {
        let Gateway { links, cx, .. } = self;
        let Some(link) = links.get_mut(key) else {
            return;
        };
        link.state.dirty = false;
        if let Err(error) = relay::flush(link, cx, ring) {
            return self.drop_link(ring, key, &error.text);
        }
        if link.state.phase == relay::Phase::Closing && !ring.send_in_flight(link.state.socket) {
            return self.drop_link(ring, key, "refused");
        }
        let at = link.deadline();
        if link.state.armed.is_none_or(|armed| at < armed) {
            link.state.armed = Some(at);
            cx.wheel.insert(
                at,
                TIMER_LINK | u64::from(link.state.stamp & STAMP_BITS) << 31 | key as u64,
            );
        }
        self.resume_drained(ring, key);
    }

    fn link_due<R: Verbs>(&mut self, ring: &mut R, key: usize, stamp: u32) {
        let Gateway { links, cx, .. } = self;
        let Some(link) = links
            .get_mut(key)
            .filter(|link| link.state.stamp & STAMP_BITS == stamp)
        else {
            return;
        };
        if link.state.armed.is_some_and(|armed| armed > cx.now) {
            return;
        }
        link.state.armed = None;
        cx.mark_link(&mut link.state);
        if link.deadline() > cx.now {
            return;
        }
        if link.state.phase != relay::Phase::Ready {
            return self.drop_link(ring, key, "no READY in time");
        }
        let Some((session, out)) = link.session() else {
            return;
        };
        if let Err(error) = session.handle_timeout(cx.now, out) {
            self.drop_link(ring, key, &error.text);
        }
    }

    fn adopt<R: Verbs>(&mut self, ring: &mut R, moving: Moving) {
        let Ok(socket) = ring.adopt(moving.fd) else {
            return;
        };
        let key = self.insert_link(
            moving.tls,
            moving.session,
            socket,
            moving.peer,
            relay::Phase::Hello,
        );
        let Some(link) = self.links.get_mut(key) else {
            return;
        };
        link.state.out = Some(self.cx.outgoing(link.tls.layout()));
        link.state.certificate_name = moving.certificate_name;
        ring.receive(socket, Receive::Large);
        match links::hello(link, moving.hello, &mut self.cx, &self.shared) {
            links::Next::Ready => {
                request::retry_held(&mut self.clients, &mut self.links, &mut self.cx, ring)
            }
            _ => relay::mark(&mut self.links, key, &mut self.cx),
        }
        let mut unread = moving.unread;
        if !unread.is_empty() {
            self.link_input(ring, key, &mut unread);
        }
        relay::mark(&mut self.links, key, &mut self.cx);
    }

    // the world outside

    fn message<R: Verbs>(&mut self, ring: &mut R, message: Message) {
        match message {
            // Read before the messages were.
            Message::Snapshot => {}
            Message::Adopt(moving) => self.adopt(ring, *moving),
            Message::Published {
                link,
                stamp,
                hash,
                accepted,
                text,
            } => {
                if let Some(link) = self
                    .links
                    .get_mut(link)
                    .filter(|link| link.state.stamp == stamp)
                {
                    if let Some((session, out)) = link.session() {
                        session.send_published(hash, accepted, &text, out);
                    }
                    self.cx.mark_link(&mut link.state);
                }
            }
            Message::Retire { link, stamp } => {
                if self
                    .links
                    .get(link)
                    .is_some_and(|link| link.state.stamp == stamp)
                {
                    self.drop_link(ring, link, "replaced by a newer link of the same connector");
                }
            }
            Message::Stats(reply) => {
                self.cx.stats.stalled_bytes = self.cx.buffered as u64;
                self.cx.stats.streams = self
                    .links
                    .iter()
                    .map(|(_, link)| u64::from(link.session.streams()))
                    .sum();
                self.cx.stats.requests_open = self
                    .clients
                    .iter()
                    .filter(|(_, c)| c.state.exchange.is_some())
                    .count() as u64;
                self.cx.stats.requests_held = self.cx.held.len() as u64;
                self.cx.stats.memory_charged = (self.cx.buffered + ring.stalled_bytes()) as u64;
                let _ = reply.try_send(self.cx.stats.clone());
            }
            Message::Drain(deadline) => self.drain(ring, deadline),
        }
    }

    fn drain<R: Verbs>(&mut self, ring: &mut R, deadline: Instant) {
        self.draining = Some(deadline);
        for (listener, _) in self.doors.drain(..) {
            ring.stop_listening(listener);
        }
        let left = deadline.saturating_duration_since(self.cx.now);
        for (_, link) in &mut self.links {
            let spread = Duration::from_millis(self.cx.random.u64(0..1000));
            if let Some((session, out)) = link.session() {
                session.send_go_away(left, spread, out);
            }
            self.cx.mark_link(&mut link.state);
        }
        for (_, Client { http, state, .. }) in &mut self.clients {
            http.close_after_response();
            if state.exchange.is_none() && state.phase == Phase::Open {
                state.phase = Phase::Closing;
            }
            self.cx.mark_client(state);
        }
    }

    /// Once a second: the wall clock, and what slow readers cost.
    fn tick<R: Verbs>(&mut self, ring: &mut R) {
        if self.cx.now < self.next_tick {
            return;
        }
        self.next_tick = self.cx.now + Duration::from_secs(1);
        self.cx.read_wall_clock();
        let held = self.cx.buffered + ring.stalled_bytes();
        let pressure = held > self.cx.plan.memory / 5 * 4;
        if pressure != self.cx.pressure {
            self.cx.pressure = pressure;
            tracing::warn!(shard = self.cx.shard, held, pressure, "memory pressure");
            for (_, link) in &mut self.links {
                link.session.set_pressure(pressure);
            }
        }
        if held > self.cx.plan.memory {
            self.shed(ring);
        }
    }

    /// Over the cap: the clients that have not read for longest lose their streams, until a tenth is free.
    fn shed<R: Verbs>(&mut self, ring: &mut R) {
        let mut stalled: Vec<(Instant, usize, usize)> = self
            .clients
            .iter()
            .filter_map(|(key, client)| {
                let backlog = client.state.exchange.as_ref()?.backlog();
                (backlog > 0).then_some((client.state.progress, key, backlog))
            })
            .collect();
        stalled.sort_unstable();
        let mut to_free = self.cx.plan.memory / 10;
        for (_, key, backlog) in stalled {
            self.cx.stats.streams_evicted += 1;
            self.drop_client(ring, key, false);
            to_free = to_free.saturating_sub(backlog);
            if to_free == 0 {
                break;
            }
        }
    }

    /// The newest snapshot this shard works by (tests).
    pub fn snapshot(&self) -> &Arc<Snapshot> {
        &self.cx.snapshot
    }
}

/// Stamp bits that fit a timer token beside the tag and a 31-bit key.
const STAMP_BITS: u32 = u32::MAX;

impl<R: Verbs> Service<R> for Gateway {
    fn handle(&mut self, ring: &mut R, event: Event) {
        self.cx.now = ring.now();
        self.tick(ring);
        match event {
            Event::Accepted {
                listener,
                socket,
                peer,
            } => {
                match self
                    .doors
                    .iter()
                    .find(|(id, _)| *id == listener)
                    .map(|(_, door)| *door)
                {
                    Some(Door::Clients) => self.accept_client(ring, socket, peer),
                    Some(Door::Relay) => self.accept_link(ring, socket, peer),
                    None => ring.abort(socket),
                }
            }
            Event::Received { socket, buf } => match self.owner(socket) {
                Owner::Client(key) => self.client_received(ring, key, buf),
                Owner::Link(key) => self.link_received(ring, key, buf),
                Owner::Nobody => {}
            },
            Event::Sent { socket, buf } => match self.owner(socket) {
                Owner::Client(key) => self.client_sent(ring, key, buf),
                Owner::Link(key) => {
                    self.cx.recycle(buf);
                    relay::mark(&mut self.links, key, &mut self.cx);
                }
                Owner::Nobody => self.cx.recycle(buf),
            },
            Event::PeerFinished { socket } | Event::PeerGone { socket } => match self.owner(socket)
            {
                Owner::Client(key) => self.client_finished(ring, key),
                Owner::Link(key) => {
                    self.drop_link(ring, key, "the connector closed the connection")
                }
                Owner::Nobody => {}
            },
            Event::Failed { socket, error } => match self.owner(socket) {
                Owner::Client(key) => self.drop_client(ring, key, false),
                Owner::Link(key) => self.drop_link(ring, key, &error.to_string()),
                Owner::Nobody => {}
            },
            Event::Detached { socket, fd } => {
                if let Owner::Link(key) = self.owner(socket) {
                    self.own(socket, Owner::Nobody);
                    let link = self.links.remove(key);
                    self.shared.hand_over(link, fd, &mut self.cx);
                }
            }
            Event::Connected { .. } | Event::Woken => {}
        }
    }

    fn end_turn(&mut self, ring: &mut R) {
        self.cx.now = ring.now();
        self.tick(ring);
        if self.cx.refresh_snapshot() {
            let Gateway {
                clients, links, cx, ..
            } = self;
            request::retry_held(clients, links, cx, ring);
        }
        while let Some(message) = self.mesh.receive() {
            self.message(ring, message);
        }
        while let Some(token) = self.cx.wheel.pop(self.cx.now) {
            let key = (token & ((1 << 31) - 1)) as usize;
            let stamp = (token >> 31) as u32;
            if token & TIMER_LINK != 0 {
                self.link_due(ring, key, stamp);
            } else {
                self.client_due(ring, key, stamp);
            }
        }
        // Flushing may stage more (credit, faults, the next pipelined request): until nothing is dirty.
        loop {
            while let Some(key) = self.cx.resume.pop() {
                let Gateway {
                    clients, links, cx, ..
                } = self;
                if let Some(Client { http, state, .. }) = clients.get_mut(key) {
                    request::plaintext(http, state, &[], links, cx, ring);
                    if state.phase == Phase::Open
                        && state.reading == Receive::Paused
                        && http.held() == 0
                    {
                        request::read(state, Receive::Small, ring);
                    }
                }
            }
            if let Some(key) = self.cx.dirty_clients.pop() {
                self.flush_client(ring, key);
            } else if let Some(key) = self.cx.dirty_links.pop() {
                self.flush_link(ring, key);
            } else {
                break;
            }
        }
        if let Some(deadline) = self.draining
            && (self.clients.is_empty() || self.cx.now >= deadline)
        {
            self.finished = true;
        }
    }

    fn next_deadline(&self) -> Option<Instant> {
        let wheel = self.cx.wheel.next_deadline();
        let drain = self.draining;
        // The once-a-second tick matters only while something is open: an idle shard sleeps.
        let tick = (self.cx.buffered > 0).then_some(self.next_tick);
        [wheel, drain, tick].into_iter().flatten().min()
    }

    fn is_finished(&self) -> bool {
        self.finished
    }
}
