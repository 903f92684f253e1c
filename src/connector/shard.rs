//! One connector shard: its links, its upstream connections, and what each event does to them.

use crate::observe::metrics::ShardStats;
use crate::ring::{Event as RingEvent, Receive, Verbs};
use crate::shard::executor::Service;
use crate::shard::mesh;
use crate::wire::relay::ResetCode;
use slab::Slab;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::{Duration, Instant};

use super::context::{Context, Owner};
use super::dial::Dial;
use super::exchange::{self, Exchange};
use super::hub::message::ToShard;
use super::link::{self, Link};
use super::plan::Plan;
use super::reload::Verdict;
use super::resolve::Asker;
use super::upstream::{self, Upstream};

/// What a shard is told from outside.
pub enum Message {
    Resolved {
        asker: Asker,
        result: Result<Vec<SocketAddr>, String>,
    },
    /// An instance of a gateway runs this many shards.
    Shards {
        gateway: usize,
        instance: u16,
        shards: u16,
    },
    /// A newer plan; the gateways' verdicts on its settings go to whoever waits.
    Plan(Arc<Plan>, Option<SyncSender<Verdict>>),
    /// The hub has a push for a link, or channels to close.
    Hub(ToShard),
    /// Copies the counters out.
    Stats(std::sync::mpsc::SyncSender<ShardStats>),
    /// Finish what runs, end at the latest then.
    Drain(Instant),
}

pub(super) const TIMER_KIND: u64 = 1 << 63;
pub(super) const TIMER_KEY: u64 = (1 << 31) - 1;
/// Timer tokens without a stamp: when a target is due.
pub(super) const TIMER_TARGETS: u64 = u64::MAX;

/// TCP_USER_TIMEOUT of links.
pub(super) const USER_TIMEOUT: Duration = Duration::from_secs(15);
/// Exchanges that a connector with no gateway shard above this holds no link for.
pub(super) const GATEWAY_SHARDS_MAX: u16 = 1024;

/// See the front page of `connector`.
pub struct Connector {
    pub(super) links: Slab<Link>,
    pub(super) upstreams: Slab<Upstream>,
    pub(super) exchanges: Slab<Exchange>,
    pub(super) cx: Context,
    pub(super) mesh: mesh::Receiver<Message>,
    /// All shards of this process, by number.
    pub(super) siblings: Vec<mesh::Sender<Message>>,
    pub(super) draining: Option<Instant>,
    pub(super) finished: bool,
}

/// The link has something to send or may have a new deadline.
pub fn mark_link(links: &mut Slab<Link>, key: usize, cx: &mut Context) {
    if let Some(link) = links.get_mut(key) {
        cx.mark_link(&mut link.state);
    }
}

impl Context {
    pub fn mark_link(&mut self, state: &mut link::State) {
        if !state.dirty {
            state.dirty = true;
            self.dirty_links.push(state.key);
        }
    }

    pub fn mark_upstream(&mut self, state: &mut upstream::State) {
        if !state.dirty {
            state.dirty = true;
            self.dirty_upstreams.push(state.key);
        }
    }
}

impl Connector {
    pub fn new(
        mut cx: Context,
        mesh: mesh::Receiver<Message>,
        siblings: Vec<mesh::Sender<Message>>,
    ) -> Connector {
        cx.add_targets();
        if !cx.targets.is_empty() {
            cx.wheel.insert(cx.now, TIMER_TARGETS);
        }
        Connector {
            links: Slab::new(),
            upstreams: Slab::new(),
            exchanges: Slab::new(),
            cx,
            mesh,
            siblings,
            draining: None,
            finished: false,
        }
    }

    fn message<R: Verbs>(&mut self, ring: &mut R, message: Message) {
        match message {
            Message::Resolved {
                asker: Asker::Target(index, round),
                result,
            } => {
                let target = &mut self.cx.targets[index];
                let awaited = target.round == round && matches!(target.state, Dial::Resolving(_));
                if !awaited || self.draining.is_some() {
                    return;
                }
                match result {
                    Ok(addresses) => {
                        target.addresses = addresses;
                        self.connect_target(ring, index);
                    }
                    Err(error) => {
                        let gateway = &self.cx.plan.gateways[target.gateway].address;
                        if target.attempts == 0 {
                            tracing::warn!(gateway = %gateway.host, error, "the gateway's name cannot be resolved");
                        }
                        self.target_lost(index, None, false);
                    }
                }
            }
            Message::Resolved {
                asker: Asker::Upstream(key, stamp),
                result,
            } => {
                self.upstream_resolved(ring, (key, stamp), result);
            }
            Message::Shards {
                gateway,
                instance,
                shards,
            } => self.learn_shards(gateway, instance, shards),
            Message::Plan(plan, verdicts) => self.replan(ring, plan, verdicts),
            Message::Hub(message) => self.hub_says(message),
            Message::Stats(reply) => {
                self.cx.stats.streams = self.exchanges.len() as u64;
                self.cx.stats.links = self
                    .links
                    .iter()
                    .filter(|(_, l)| l.state.phase == link::Phase::Ready)
                    .count() as u64;
                self.cx.stats.links_wanted =
                    self.cx.targets.iter().filter(|target| !target.off).count() as u64;
                self.cx.stats.upstream_idle =
                    self.cx.pools.iter().map(|pool| pool.idle() as u64).sum();
                let shared = self.upstreams.iter().filter(|(_, u)| u.shared.is_some());
                self.cx.stats.upstream_shared = shared.count() as u64;
                self.cx.stats.upstream_active = (self.upstreams.len() as u64)
                    .saturating_sub(self.cx.stats.upstream_idle + self.cx.stats.upstream_shared);
                self.cx.stats.upstream_ports_used = u64::from(self.cx.ports.most());
                self.cx.stats.upstream_ports_available = u64::from(self.cx.ports.range());
                self.cx.stats.memory_charged = ring.stalled_bytes() as u64;
                let _ = reply.try_send(self.cx.stats.clone());
            }
            Message::Drain(deadline) => self.drain(ring, deadline),
        }
    }

    /// Asks the gateways for no more streams. What they opened before they heard of it is served: a link ends when the
    /// gateway closes it, and the shard with its last link, or at the deadline.
    fn drain<R: Verbs>(&mut self, ring: &mut R, deadline: Instant) {
        self.draining = Some(deadline);
        let left = deadline.saturating_duration_since(self.cx.now);
        let mut unready = Vec::new();
        for (key, link) in &mut self.links {
            match link.session() {
                Some((session, out)) => session.send_go_away(left, Duration::ZERO, out),
                None => unready.push(key),
            }
            self.cx.mark_link(&mut link.state);
        }
        for key in unready {
            self.drop_link(ring, key, "draining");
        }
    }
}

impl<R: Verbs> Service<R> for Connector {
    fn handle(&mut self, ring: &mut R, event: RingEvent) {
        self.cx.now = ring.now();
        match event {
            RingEvent::Connected { socket } => match self.cx.owner(socket) {
                Owner::Link(key) => {
                    if let Some(link) = self.links.get_mut(key) {
                        link.state.phase = link::Phase::Handshake;
                        ring.receive(socket, Receive::Large);
                        self.cx.mark_link(&mut link.state);
                    }
                }
                Owner::Upstream(key) => self.upstream_connected(ring, key),
                Owner::Nobody => {}
            },
            RingEvent::Received { socket, buf } => match self.cx.owner(socket) {
                Owner::Link(key) => self.link_received(ring, key, buf),
                Owner::Upstream(key) => self.upstream_received(ring, key, buf),
                Owner::Nobody => {}
            },
            RingEvent::Sent { socket, buf } => match self.cx.owner(socket) {
                Owner::Link(key) => link::sent(&mut self.links, key, buf, &mut self.cx),
                Owner::Upstream(key) => {
                    self.cx.recycle(buf);
                    let Connector {
                        links,
                        upstreams,
                        exchanges,
                        cx,
                        ..
                    } = self;
                    if let Some(short) = exchange::refill(key, upstreams, exchanges, links, cx) {
                        let text = "the request's body is shorter than its length";
                        self.fail_exchange(ring, short, (ResetCode::Protocol, text.into()));
                    }
                }
                Owner::Nobody => self.cx.recycle(buf),
            },
            RingEvent::PeerFinished { socket } => match self.cx.owner(socket) {
                Owner::Link(key) => self.drop_link(ring, key, "the gateway closed the connection"),
                Owner::Upstream(key) => self.upstream_ended(ring, key, None),
                Owner::Nobody => {}
            },
            RingEvent::PeerGone { socket } => match self.cx.owner(socket) {
                Owner::Link(key) => self.drop_link(ring, key, "the gateway closed the connection"),
                Owner::Upstream(key) => self.upstream_gone(ring, key),
                Owner::Nobody => {}
            },
            RingEvent::Failed { socket, error } => match self.cx.owner(socket) {
                Owner::Link(key) => self.drop_link(ring, key, &error.to_string()),
                Owner::Upstream(key) => self.upstream_ended(ring, key, Some(error)),
                Owner::Nobody => {}
            },
            RingEvent::Accepted { socket, .. } => ring.abort(socket),
            RingEvent::Detached { .. } | RingEvent::Woken => {}
        }
    }

    fn end_turn(&mut self, ring: &mut R) {
        self.cx.now = ring.now();
        while let Some(message) = self.mesh.receive() {
            self.message(ring, message);
        }
        self.hub_turn(ring);
        let mut targets_due = false;
        while let Some(token) = self.cx.wheel.pop(self.cx.now) {
            let (key, stamp) = ((token & TIMER_KEY) as usize, (token >> 31) as u32);
            if token == TIMER_TARGETS {
                targets_due = true;
            } else if token & TIMER_KIND != 0 {
                self.link_due(ring, key, stamp & 0x7fff_ffff);
            } else {
                self.upstream_due(ring, key, stamp);
            }
        }
        if targets_due {
            self.dial_due(ring);
        }
        loop {
            if let Some(key) = self.cx.dirty_upstreams.pop() {
                self.flush_upstream(ring, key);
            } else if let Some(key) = self.cx.dirty_links.pop() {
                self.flush_link(ring, key);
            } else {
                break;
            }
        }
        if let Some(deadline) = self.draining
            && (self.links.is_empty() && self.exchanges.is_empty() || self.cx.now >= deadline)
        {
            self.finished = true;
        }
    }

    fn next_deadline(&self) -> Option<Instant> {
        [
            self.cx.wheel.next_deadline(),
            self.draining,
            self.cx.hub_deadline(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    fn is_finished(&self) -> bool {
        self.finished
    }
}
