//! One gateway shard: its clients, its links, and what each event does to them.

use crate::control::snapshot::Snapshot;
use crate::observe::metrics::ShardStats;
use crate::ring::{Event, ListenerId, SocketId, Verbs};
use crate::shard::executor::Service;
use crate::shard::mesh;
use slab::Slab;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::balancer::Balancers;
use super::channel::Channels;
use super::client::{Client, Phase};
use super::context::Context;
use super::hold;
use super::links::{Moving, Shared};
use super::plan::Plan;
use super::relay::{self, Link};
use super::request;
use super::sweep::Sweep;

/// What a shard is told from outside.
pub enum Message {
    /// A newer snapshot is there to be read.
    Snapshot,
    /// The config file was read again.
    Plan(Arc<Plan>),
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
pub(super) enum Owner {
    Nobody,
    /// Of a balancer, before its PROXY header.
    Waiting(usize),
    Client(usize),
    Link(usize),
    /// Its slot.
    Channel(u32),
}

/// By socket index: whose it is, in four bytes, since a million sockets have one each.
#[derive(Default)]
pub(super) struct Owners(Vec<u32>);

impl Owners {
    /// The top bits say what owns, the others which one.
    const KIND: u32 = 29;

    fn get(&self, socket: SocketId) -> Owner {
        let packed = self.0.get(socket.index as usize).copied().unwrap_or(0);
        let key = packed & ((1 << Owners::KIND) - 1);
        match packed >> Owners::KIND {
            1 => Owner::Waiting(key as usize),
            2 => Owner::Client(key as usize),
            3 => Owner::Link(key as usize),
            4 => Owner::Channel(key),
            _ => Owner::Nobody,
        }
    }

    fn set(&mut self, socket: SocketId, owner: Owner) {
        let index = socket.index as usize;
        if index >= self.0.len() {
            self.0.resize(index + 1, 0);
        }
        let (kind, key) = match owner {
            Owner::Nobody => (0, 0),
            Owner::Waiting(key) => (1, key as u32),
            Owner::Client(key) => (2, key as u32),
            Owner::Link(key) => (3, key as u32),
            Owner::Channel(slot) => (4, slot),
        };
        debug_assert!(key < 1 << Owners::KIND);
        self.0[index] = kind << Owners::KIND | key;
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Door {
    Clients,
    Relay,
}

/// Tags of timer tokens.
pub(super) const TIMER_LINK: u64 = 1 << 63;

/// See the front page of `gateway`.
pub struct Gateway {
    pub(super) clients: Slab<Client>,
    pub(super) links: Slab<Link>,
    pub(super) balancers: Balancers,
    owners: Owners,
    doors: Vec<(ListenerId, Door)>,
    pub(super) cx: Context,
    pub(super) shared: Arc<Shared>,
    pub(super) mesh: mesh::Receiver<Message>,
    pub(super) draining: Option<Instant>,
    pub(super) finished: bool,
    /// Once a second: pressure, wall clock.
    pub(super) next_tick: Instant,
    pub(super) channels: Channels,
    /// Someone may have been denied: clients that are still to be looked at.
    pub(super) sweep: Sweep,
}

impl Gateway {
    pub fn new(cx: Context, shared: Arc<Shared>, mesh: mesh::Receiver<Message>) -> Gateway {
        let next_tick = cx.now;
        Gateway {
            clients: Slab::new(),
            links: Slab::new(),
            balancers: Balancers::default(),
            owners: Owners::default(),
            doors: Vec::new(),
            cx,
            shared,
            mesh,
            draining: None,
            finished: false,
            next_tick,
            channels: Channels::new(next_tick),
            sweep: Sweep::default(),
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

    pub(super) fn owner(&self, socket: SocketId) -> Owner {
        self.owners.get(socket)
    }

    pub(super) fn own(&mut self, socket: SocketId, owner: Owner) {
        self.owners.set(socket, owner);
    }

    fn message<R: Verbs>(&mut self, ring: &mut R, message: Message) {
        match message {
            // Read before the messages were.
            Message::Snapshot => {}
            Message::Plan(plan) => self.replan(ring, plan),
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
                    link.state.settings.judged();
                    if let Some((session, out)) = link.session() {
                        session.send_published(hash, accepted, &text, out);
                    }
                    self.cx.mark_link(&mut link.state);
                }
            }
            Message::Retire { link, stamp } => {
                // A link that said GOAWAY is an earlier process's that ends in order: its streams finish beside the
                // newer links, and it is closed with the last of them.
                let stands = |link: &Link| link.state.stamp == stamp && !link.session.peer_leaves();
                if self.links.get(link).is_some_and(stands) {
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
                self.cx.stats.handshakes_open = self
                    .clients
                    .iter()
                    .filter(|(_, c)| c.state.phase == Phase::Handshake)
                    .count() as u64;
                self.cx.stats.requests_held = self.cx.held.waiting() as u64;
                self.cx.count_judgements();
                self.channels.count(&mut self.cx);
                self.cx.stats.memory_charged = self.charged(ring) as u64;
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
        for (key, link) in &mut self.links {
            let spread = Duration::from_millis(self.cx.random.u64(0..1000));
            if let Some((session, out)) = link.session() {
                session.send_go_away(left, spread, out);
                self.cx.sites[link.state.site as usize].remove(key);
            }
            self.cx.mark_link(&mut link.state);
        }
        self.depart(deadline);
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
        let held = self.charged(ring);
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

    /// Bytes that count against the memory cap.
    fn charged<R: Verbs>(&self, ring: &R) -> usize {
        self.cx.buffered + self.cx.retries.kept + ring.stalled_bytes()
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

    /// No client is connected.
    fn is_empty(&self) -> bool {
        self.clients.is_empty() && self.balancers.waiting() == 0 && self.channels.is_empty()
    }

    /// The newest snapshot this shard works by (tests).
    pub fn snapshot(&self) -> &Arc<Snapshot> {
        self.cx.snapshot.shared()
    }
}

/// Stamp bits that fit a timer token beside the tag and a 31-bit key.
pub(super) const STAMP_BITS: u32 = u32::MAX;

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
                Owner::Client(key) => self.client_received(ring, key, buf, 0),
                Owner::Waiting(key) => self.header_received(ring, key, buf),
                Owner::Link(key) => self.link_received(ring, key, buf),
                Owner::Channel(slot) => self.channel_received(ring, slot, buf),
                Owner::Nobody => {}
            },
            Event::Sent { socket, buf } => match self.owner(socket) {
                Owner::Client(key) => self.client_sent(ring, key, buf),
                Owner::Link(key) => relay::sent(&mut self.links, key, buf, &mut self.cx),
                Owner::Channel(slot) => self.channel_sent(ring, slot, buf),
                Owner::Waiting(_) | Owner::Nobody => self.cx.recycle(buf),
            },
            Event::PeerFinished { socket } | Event::PeerGone { socket } => match self.owner(socket)
            {
                Owner::Client(key) => self.client_finished(ring, key),
                Owner::Waiting(key) => self.header_cut(ring, key),
                Owner::Link(key) => {
                    self.drop_link(ring, key, "the connector closed the connection")
                }
                Owner::Channel(slot) => self.channel_finished(ring, slot),
                Owner::Nobody => {}
            },
            Event::Failed { socket, error } => match self.owner(socket) {
                Owner::Client(key) => self.drop_client(ring, key, false),
                Owner::Waiting(key) => self.header_failed(ring, key),
                Owner::Link(key) => self.drop_link(ring, key, &error.to_string()),
                Owner::Channel(slot) => self.channel_failed(ring, slot),
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
        let newer = self.refresh_snapshot();
        while let Some(message) = self.mesh.receive() {
            self.message(ring, message);
        }
        if newer {
            let Gateway {
                clients, links, cx, ..
            } = self;
            hold::retry_held(clients, links, cx, ring);
        }
        self.recheck(ring);
        self.recheck_channels(ring);
        self.depart_some(ring);
        self.channels_due(ring);
        self.fan_out(ring);
        self.list_some();
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
                }
            }
            if let Some(key) = self.cx.dirty_clients.pop() {
                self.flush_client(ring, key);
            } else if self.channels.has_news() {
                self.announce();
            } else if let Some(key) = self.cx.dirty_links.pop() {
                self.flush_link(ring, key);
            } else {
                break;
            }
        }
        if let Some(deadline) = self.draining
            && (self.is_empty() || self.cx.now >= deadline)
        {
            self.finished = true;
        }
    }

    fn next_deadline(&self) -> Option<Instant> {
        let wheel = self.cx.wheel.next_deadline();
        let drain = self.draining;
        // The once-a-second tick matters only while something is open: an idle shard sleeps.
        let tick = (self.cx.buffered + self.cx.retries.kept > 0).then_some(self.next_tick);
        let sweep = self.sweep.is_under_way().then_some(self.cx.now);
        let channels = self.channels.next_deadline(self.cx.now);
        [wheel, drain, tick, sweep, channels]
            .into_iter()
            .flatten()
            .min()
    }

    fn is_finished(&self) -> bool {
        self.finished
    }
}
