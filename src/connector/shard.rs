//! One connector shard: its links, its upstream connections, and what each event does to them.

use crate::observe::metrics::ShardStats;
use crate::ring::{ConnectOptions, Event as RingEvent, Receive, RecvBuf, Verbs};
use crate::shard::executor::Service;
use crate::shard::mesh;
use crate::wire::relay::{self, Event, ResetCode, Role, Session, StreamId};
use crate::wire::tls::{self, Step};
use slab::Slab;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::context::{Context, Owner};
use super::dial::{Dial, Target};
use super::exchange::{self, Exchange, Outcome};
use super::link::{self, Link};
use super::plan::LINK_TIMEOUT;
use super::resolve::{self, Asker};
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
    /// Copies the counters out.
    Stats(std::sync::mpsc::SyncSender<ShardStats>),
    /// Finish what runs, end at the latest then.
    Drain(Instant),
}

const TIMER_KIND: u64 = 1 << 63;
const TIMER_KEY: u64 = (1 << 31) - 1;
/// Timer tokens without a stamp: when a target is due.
const TIMER_TARGETS: u64 = u64::MAX;

/// TCP_USER_TIMEOUT of links.
const USER_TIMEOUT: Duration = Duration::from_secs(15);
/// Exchanges that a connector with no gateway shard above this holds no link for.
const GATEWAY_SHARDS_MAX: u16 = 1024;

/// See the front page of `connector`.
pub struct Connector {
    links: Slab<Link>,
    upstreams: Slab<Upstream>,
    exchanges: Slab<Exchange>,
    cx: Context,
    mesh: mesh::Receiver<Message>,
    /// All shards of this process, by number.
    siblings: Vec<mesh::Sender<Message>>,
    draining: Option<Instant>,
    finished: bool,
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
        // Shard 0 of every instance is dialled by our shard 0; READY tells how many more there are.
        if cx.shard == 0 {
            for (gateway, at) in cx.plan.gateways.iter().enumerate() {
                for instance in 0..at.address.instances {
                    cx.targets.push(Target::new(gateway, instance, 0, cx.now));
                }
            }
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

    // dialling

    /// Dials every target that is due.
    fn dial_due<R: Verbs>(&mut self, ring: &mut R) {
        for index in 0..self.cx.targets.len() {
            let now = self.cx.now;
            match self.cx.targets[index].state {
                Dial::Waiting(at) if at <= now && self.draining.is_none() => self.dial(ring, index),
                Dial::Resolving(at) if at <= now => self.target_lost(index, None, false),
                _ => {}
            }
        }
        self.arm_targets();
    }

    fn arm_targets(&mut self) {
        if let Some(at) = self.cx.targets.iter().filter_map(Target::due).min() {
            self.cx.wheel.insert(at.max(self.cx.now), TIMER_TARGETS);
        }
    }

    fn dial<R: Verbs>(&mut self, ring: &mut R, index: usize) {
        let target = &mut self.cx.targets[index];
        let gateway = &self.cx.plan.gateways[target.gateway].address;
        let port = gateway.port.saturating_add(target.instance);
        if target.addresses.is_empty() {
            match resolve::literal(&gateway.host, port) {
                Some(address) => target.addresses.push(address),
                None => {
                    target.round = target.round.wrapping_add(1);
                    let asker = Asker::Target(index, target.round);
                    target.state = Dial::Resolving(self.cx.now + LINK_TIMEOUT);
                    if !self.cx.resolver.ask(&gateway.host, port, asker) {
                        self.target_lost(index, None, false);
                    }
                    return;
                }
            }
        }
        self.connect_target(ring, index);
    }

    /// Tries the next address of a target.
    fn connect_target<R: Verbs>(&mut self, ring: &mut R, index: usize) {
        let options = ConnectOptions {
            timeout: Some(LINK_TIMEOUT / 2),
            user_timeout: Some(USER_TIMEOUT),
            source: None,
        };
        let target = &mut self.cx.targets[index];
        if target.addresses.is_empty() {
            return self.target_lost(index, None, false);
        }
        let address = target.addresses.remove(0);
        let name = self.cx.plan.gateways[target.gateway].name.clone();
        let (Ok(tls), Ok(socket)) = (
            tls::Connection::client(&self.cx.plan.gateway_tls, name),
            ring.connect(address, &options),
        ) else {
            return self.target_lost(index, None, false);
        };
        let stamp = self.cx.stamp();
        let key = self.links.insert(Link {
            tls,
            session: Session::new(Role::Connector, link::limits(), self.cx.now),
            state: link::State {
                key: self.links.vacant_key(),
                stamp,
                socket,
                target: index,
                phase: link::Phase::Connecting,
                out: None,
                opened: self.cx.now,
                ready_since: None,
                refused: false,
                dirty: false,
                armed: None,
            },
        });
        self.cx.own(socket, Owner::Link(key));
        self.cx.targets[index].state = Dial::Up(key);
        mark_link(&mut self.links, key, &mut self.cx);
    }

    fn target_lost(&mut self, index: usize, lasted: Option<Duration>, refused: bool) {
        let Context {
            targets,
            random,
            now,
            ..
        } = &mut self.cx;
        targets[index].lost(*now, lasted, refused, random);
        self.arm_targets();
    }

    /// An instance has this many shards: those that are ours get a target.
    fn learn_shards(&mut self, gateway: usize, instance: u16, shards: u16) {
        let ours = u16::try_from(self.siblings.len().max(1)).unwrap_or(1);
        for shard in 0..shards.min(GATEWAY_SHARDS_MAX) {
            let known = |target: &Target| {
                target.gateway == gateway && target.instance == instance && target.shard == shard
            };
            if shard % ours == self.cx.shard && !self.cx.targets.iter().any(known) {
                self.cx
                    .targets
                    .push(Target::new(gateway, instance, shard, self.cx.now));
            }
        }
        self.arm_targets();
    }

    // links

    fn drop_link<R: Verbs>(&mut self, ring: &mut R, key: usize, why: &str) {
        if !self.links.contains(key) {
            return;
        }
        let mut link = self.links.remove(key);
        let target = link.state.target;
        let lasted = link
            .state
            .ready_since
            .map(|since| self.cx.now.saturating_duration_since(since));
        {
            let target = &self.cx.targets[target];
            let gateway = &self.cx.plan.gateways[target.gateway].address;
            let again = target.attempts > 0 && lasted.is_none();
            // A gateway that stays away is one line, then silence at this level: back-off would fill the log.
            if again && !link.state.refused {
                tracing::debug!(gateway = %gateway.host, instance = target.instance, shard = target.shard, why, "link lost");
            } else {
                tracing::warn!(gateway = %gateway.host, instance = target.instance, shard = target.shard, why, "link lost");
            }
        }
        self.cx.own(link.state.socket, Owner::Nobody);
        if !ring.send_in_flight(link.state.socket)
            && link.state.phase != link::Phase::Connecting
            && link.tls.wants_transmit()
            && let Ok(bytes) = link.tls.transmit(self.cx.outgoing(link.tls.layout()))
            && !bytes.is_empty()
        {
            ring.send(link.state.socket, bytes);
        }
        ring.close(link.state.socket);
        let tokens: Vec<u32> = link.session.tokens().map(|(_, token)| token).collect();
        for token in tokens {
            self.drop_exchange(ring, token as usize);
        }
        let more = !self.cx.targets[target].addresses.is_empty()
            && lasted.is_none()
            && !link.state.refused;
        if more && self.draining.is_none() {
            self.connect_target(ring, target);
        } else {
            self.target_lost(target, lasted, link.state.refused);
        }
        self.cx.stats.links_lost += u64::from(lasted.is_some());
    }

    fn link_received<R: Verbs>(&mut self, ring: &mut R, key: usize, mut buf: RecvBuf) {
        self.cx.stats.relay_bytes_in += buf.len() as u64;
        let mut used = 0;
        loop {
            let Connector {
                links,
                upstreams,
                exchanges,
                cx,
                ..
            } = self;
            let Some(link) = links.get_mut(key) else {
                return;
            };
            let Link {
                tls,
                session,
                state,
            } = link;
            cx.mark_link(state);
            let (outcome, ready) = match tls.next(&mut buf, &mut used) {
                Ok(Step::NeedMore) => break,
                Ok(Step::Closed) => (Err("the gateway closed the link".to_owned()), None),
                Ok(Step::Established(_)) => {
                    link::say_hello(tls, session, state, cx);
                    (Ok(()), None)
                }
                Ok(Step::Data(plain)) => {
                    frames(session, state, plain, upstreams, exchanges, cx, ring)
                }
                Err(error) => (Err(error.text), None),
            };
            if let Some(ready) = ready {
                self.link_ready(key, &ready);
            }
            if let Err(why) = outcome {
                return self.drop_link(ring, key, &why);
            }
        }
        self.resume_drained(ring, key);
    }

    fn link_ready(&mut self, key: usize, ready: &relay::Ready) {
        let Some(link) = self.links.get_mut(key) else {
            return;
        };
        link.state.phase = link::Phase::Ready;
        link.state.ready_since = Some(self.cx.now);
        let target = &self.cx.targets[link.state.target];
        let (gateway, instance, shard) = (target.gateway, target.instance, target.shard);
        tracing::info!(
            gateway = %self.cx.plan.gateways[gateway].address.host, instance, shard, of = ready.shards, "link ready"
        );
        self.cx.stats.links_opened += 1;
        // One link per instance carries the settings, and only when the gateway has others.
        if shard == 0 {
            let plan = self.cx.plan.clone();
            if ready.settings_hash == plan.document_hash {
                self.cx.settings_accepted[gateway] = true;
                self.cx.stats.settings_accepted += 1;
            } else if let Some((session, out)) = link.session() {
                session.publish(plan.document_hash, plan.document.clone(), out);
            }
        }
        self.cx.mark_link(&mut link.state);
        for sibling in &self.siblings {
            let _ = sibling.send(Message::Shards {
                gateway,
                instance,
                shards: ready.shards,
            });
        }
        if self.siblings.is_empty() {
            self.learn_shards(gateway, instance, ready.shards);
        }
    }

    /// Streams whose queue ran empty: their upstreams are read again.
    fn resume_drained<R: Verbs>(&mut self, ring: &mut R, key: usize) {
        let Some(link) = self.links.get_mut(key) else {
            return;
        };
        while let Some((_, token)) = link.session.poll_drained() {
            let exchange = self.exchanges.get(token as usize);
            if let Some(upstream) = exchange
                .and_then(|e| e.upstream)
                .and_then(|key| self.upstreams.get_mut(key))
                && upstream.state.paused
            {
                upstream.state.paused = false;
                upstream.state.progress = self.cx.now;
                upstream.state.read(Receive::Large, ring);
                self.cx.mark_upstream(&mut upstream.state);
            }
        }
    }

    fn flush_link<R: Verbs>(&mut self, ring: &mut R, key: usize) {
        let Connector { links, cx, .. } = self;
        let Some(link) = links.get_mut(key) else {
            return;
        };
        link.state.dirty = false;
        if let Err(error) = link::flush(link, cx, ring) {
            return self.drop_link(ring, key, &error.text);
        }
        let at = link.deadline();
        if link.state.armed.is_none_or(|armed| at < armed) {
            link.state.armed = Some(at);
            cx.wheel.insert(
                at,
                TIMER_KIND | u64::from(link.state.stamp & 0x7fff_ffff) << 31 | key as u64,
            );
        }
        self.resume_drained(ring, key);
    }

    fn link_due<R: Verbs>(&mut self, ring: &mut R, key: usize, stamp: u32) {
        let Connector { links, cx, .. } = self;
        let Some(link) = links
            .get_mut(key)
            .filter(|link| link.state.stamp & 0x7fff_ffff == stamp)
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
        if link.state.phase != link::Phase::Ready {
            return self.drop_link(ring, key, "no READY in time");
        }
        let Some((session, out)) = link.session() else {
            return;
        };
        if let Err(error) = session.handle_timeout(cx.now, out) {
            self.drop_link(ring, key, &error.text);
        }
    }

    // exchanges and upstreams

    fn drop_exchange<R: Verbs>(&mut self, ring: &mut R, key: usize) {
        exchange::drop(
            key,
            &mut self.exchanges,
            &mut self.upstreams,
            &mut self.cx,
            ring,
        );
    }

    /// The exchange failed on the upstream's side: RESET tells the gateway.
    fn fail_exchange<R: Verbs>(&mut self, ring: &mut R, key: usize, refusal: exchange::Refusal) {
        let Some(exchange) = self.exchanges.get(key) else {
            return;
        };
        tracing::debug!(code = ?refusal.0, reason = refusal.1, "request failed");
        self.cx.stats.errors.add(code_name(refusal.0));
        self.cx.stats.streams_reset += 1;
        if let Some(link) = self.links.get_mut(exchange.link) {
            if let Some((session, out)) = link.session() {
                session.reset(exchange.stream, refusal.0, &refusal.1, out);
            }
            self.cx.mark_link(&mut link.state);
        }
        self.drop_exchange(ring, key);
    }

    fn upstream_connected<R: Verbs>(&mut self, ring: &mut R, key: usize) {
        let Some(upstream) = self.upstreams.get_mut(key) else {
            return;
        };
        upstream.state.phase = upstream::Phase::Busy;
        upstream.state.progress = self.cx.now;
        upstream.state.read(Receive::Large, ring);
        self.cx.mark_upstream(&mut upstream.state);
    }

    fn upstream_received<R: Verbs>(&mut self, ring: &mut R, key: usize, buf: &RecvBuf) {
        let Connector {
            links,
            upstreams,
            exchanges,
            cx,
            ..
        } = self;
        let Some(upstream) = upstreams.get_mut(key) else {
            return;
        };
        let exchange_key = upstream.state.exchange;
        let Some(exchange) = exchange_key.and_then(|exchange| exchanges.get_mut(exchange)) else {
            // Bytes that nobody asked for: the connection cannot be trusted with a request.
            return exchange::remove(key, &mut self.upstreams, &mut self.cx, ring, true);
        };
        match exchange::received(upstream, buf, exchange, links, cx, ring) {
            Outcome::Continue => {}
            Outcome::Complete { reusable } => self.complete(ring, key, reusable),
            Outcome::Failed(refusal) => {
                if let Some(exchange) = exchange_key {
                    self.fail_exchange(ring, exchange, refusal);
                }
            }
        }
    }

    /// The answer is complete: the connection goes to the pool or ends.
    fn complete<R: Verbs>(&mut self, ring: &mut R, key: usize, reusable: bool) {
        let Some(upstream) = self.upstreams.get_mut(key) else {
            return;
        };
        if let Some(exchange_key) = upstream.state.exchange.take()
            && let Some(exchange) = self.exchanges.get_mut(exchange_key)
        {
            exchange.upstream = None;
            if exchange.request_done {
                self.exchanges.remove(exchange_key);
            }
        }
        let unsent = upstream
            .state
            .out
            .as_ref()
            .is_some_and(|out| !out.is_empty());
        if reusable && !unsent && self.draining.is_none() {
            let state = &mut upstream.state;
            state.phase = upstream::Phase::Idle;
            state.progress = self.cx.now;
            state.paused = false;
            state.read(Receive::Large, ring);
            let endpoint = state.endpoint as usize;
            let max = self.cx.plan.pool.idle_per_upstream;
            self.cx.mark_upstream(state);
            if let Some(oldest) = self.cx.pools[endpoint].put(key, self.cx.now, max) {
                exchange::remove(oldest, &mut self.upstreams, &mut self.cx, ring, false);
            }
        } else {
            exchange::remove(key, &mut self.upstreams, &mut self.cx, ring, false);
        }
    }

    /// The connection ended: an error when it owed something.
    fn upstream_ended<R: Verbs>(
        &mut self,
        ring: &mut R,
        key: usize,
        error: Option<std::io::Error>,
    ) {
        let Connector {
            links,
            upstreams,
            exchanges,
            cx,
            ..
        } = self;
        let Some(upstream) = upstreams.get_mut(key) else {
            return;
        };
        if upstream.state.phase == upstream::Phase::Connecting {
            return self.connect_failed(ring, key, error);
        }
        let exchange_key = upstream.state.exchange;
        let Some((exchange_key, exchange)) =
            exchange_key.and_then(|key| Some((key, exchanges.get_mut(key)?)))
        else {
            return exchange::remove(key, &mut self.upstreams, &mut self.cx, ring, false);
        };
        if error.is_none() && matches!(upstream.http.finish(), Ok(true)) {
            // The connection's end is the body's.
            if let Some(link) = links.get_mut(exchange.link) {
                if let Some((session, out)) = link.session() {
                    session.send_end(exchange.stream, &mut std::iter::empty(), out);
                }
                cx.mark_link(&mut link.state);
            }
            exchange.response_done = true;
            return self.complete(ring, key, false);
        }
        if exchange::may_repeat(upstream, exchange) {
            let Connector {
                upstreams,
                exchanges,
                cx,
                ..
            } = self;
            let Some(exchange) = exchanges.get_mut(exchange_key) else {
                return;
            };
            let mut dead = upstreams.remove(key);
            cx.pools[dead.state.endpoint as usize].open -= 1;
            if let Some(socket) = dead.state.socket.take() {
                cx.own(socket, Owner::Nobody);
                ring.close(socket);
            }
            exchange.upstream = None;
            match exchange::repeat(dead, exchange_key, exchange, upstreams, cx, ring) {
                Ok(()) => {}
                Err(refusal) => self.fail_exchange(ring, exchange_key, refusal),
            }
            return;
        }
        let what = error.map_or("the upstream closed the connection".to_owned(), |error| {
            error.to_string()
        });
        let when = if upstream.state.answered {
            "in the middle of its answer"
        } else {
            "before it answered"
        };
        self.fail_exchange(
            ring,
            exchange_key,
            (ResetCode::UpstreamBroken, format!("{what} {when}")),
        );
    }

    fn connect_failed<R: Verbs>(
        &mut self,
        ring: &mut R,
        key: usize,
        error: Option<std::io::Error>,
    ) {
        let Connector { upstreams, cx, .. } = self;
        let Some(upstream) = upstreams.get_mut(key) else {
            return;
        };
        if let Some(socket) = upstream.state.socket.take() {
            cx.own(socket, Owner::Nobody);
            ring.close(socket);
        }
        if exchange::connect(&mut upstream.state, cx, ring) {
            return;
        }
        let timed_out = error
            .as_ref()
            .is_some_and(|error| error.kind() == std::io::ErrorKind::TimedOut);
        let code = if timed_out {
            ResetCode::UpstreamTimeout
        } else {
            ResetCode::UpstreamRefused
        };
        let text = error.map_or("the upstream cannot be reached".to_owned(), |error| {
            format!("the upstream cannot be reached: {error}")
        });
        match upstream.state.exchange {
            Some(exchange) => self.fail_exchange(ring, exchange, (code, text)),
            None => exchange::remove(key, &mut self.upstreams, &mut self.cx, ring, false),
        }
    }

    fn flush_upstream<R: Verbs>(&mut self, ring: &mut R, key: usize) {
        let Connector { upstreams, cx, .. } = self;
        let Some(upstream) = upstreams.get_mut(key) else {
            return;
        };
        upstream.state.dirty = false;
        upstream::flush(upstream, cx, ring);
        let state = &mut upstream.state;
        let idle = Duration::from_secs(cx.plan.pool.idle_seconds);
        if let Some(at) = state.deadline(idle)
            && state.armed.is_none_or(|armed| at < armed)
        {
            state.armed = Some(at);
            cx.wheel
                .insert(at, u64::from(state.stamp) << 31 | key as u64);
        }
    }

    fn upstream_due<R: Verbs>(&mut self, ring: &mut R, key: usize, stamp: u32) {
        let Connector { upstreams, cx, .. } = self;
        let Some(upstream) = upstreams
            .get_mut(key)
            .filter(|upstream| upstream.state.stamp == stamp)
        else {
            return;
        };
        let state = &mut upstream.state;
        if state.armed.is_some_and(|armed| armed > cx.now) {
            return;
        }
        state.armed = None;
        let idle = Duration::from_secs(cx.plan.pool.idle_seconds);
        match state.deadline(idle) {
            Some(at) if at <= cx.now => {}
            _ => return cx.mark_upstream(state),
        }
        let (phase, exchange) = (state.phase, state.exchange);
        let text = match phase {
            upstream::Phase::Idle => {
                return exchange::remove(key, &mut self.upstreams, &mut self.cx, ring, false);
            }
            upstream::Phase::Connecting => "the upstream did not accept the connection in time",
            upstream::Phase::Busy if state.answered => "the upstream's answer stopped coming",
            upstream::Phase::Busy => "the upstream did not answer in time",
        };
        let code = if state.answered {
            ResetCode::UpstreamBroken
        } else {
            ResetCode::UpstreamTimeout
        };
        match exchange {
            Some(exchange) => self.fail_exchange(ring, exchange, (code, text.into())),
            None => {
                exchange::remove(key, &mut self.upstreams, &mut self.cx, ring, true);
            }
        }
    }

    // the world outside

    fn message<R: Verbs>(&mut self, ring: &mut R, message: Message) {
        match message {
            Message::Resolved {
                asker: Asker::Target(index, round),
                result,
            } => {
                let target = &mut self.cx.targets[index];
                if target.round != round || !matches!(target.state, Dial::Resolving(_)) {
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
                let Connector { upstreams, cx, .. } = self;
                match exchange::resolved(key, stamp, result, upstreams, cx, ring) {
                    Ok(()) => {}
                    Err(text) => {
                        if let Some(exchange) = self
                            .upstreams
                            .get(key)
                            .and_then(|upstream| upstream.state.exchange)
                        {
                            self.fail_exchange(ring, exchange, (ResetCode::UpstreamRefused, text));
                        } else {
                            exchange::remove(key, &mut self.upstreams, &mut self.cx, ring, false);
                        }
                    }
                }
            }
            Message::Shards {
                gateway,
                instance,
                shards,
            } => self.learn_shards(gateway, instance, shards),
            Message::Stats(reply) => {
                self.cx.stats.streams = self.exchanges.len() as u64;
                self.cx.stats.links = self
                    .links
                    .iter()
                    .filter(|(_, l)| l.state.phase == link::Phase::Ready)
                    .count() as u64;
                self.cx.stats.links_wanted = self.cx.targets.len() as u64;
                self.cx.stats.upstream_idle =
                    self.cx.pools.iter().map(|pool| pool.idle() as u64).sum();
                self.cx.stats.upstream_active =
                    self.upstreams.len() as u64 - self.cx.stats.upstream_idle;
                self.cx.stats.memory_charged = ring.stalled_bytes() as u64;
                let _ = reply.try_send(self.cx.stats.clone());
            }
            Message::Drain(deadline) => {
                self.draining = Some(deadline);
                for (_, link) in &mut self.links {
                    if let Some((session, out)) = link.session() {
                        session.send_go_away(
                            deadline.saturating_duration_since(self.cx.now),
                            Duration::ZERO,
                            out,
                        );
                    }
                    self.cx.mark_link(&mut link.state);
                }
            }
        }
    }
}

/// What a record's frames led to: an error ends the link; READY is handled by the shard.
type FramesOutcome = (Result<(), String>, Option<relay::Ready>);

/// A reset's counter.
fn code_name(code: ResetCode) -> &'static str {
    match code {
        ResetCode::Refused => "refused",
        ResetCode::Cancelled => "cancelled",
        ResetCode::UpstreamRefused => "upstream_refused",
        ResetCode::UpstreamTimeout => "upstream_timeout",
        ResetCode::UpstreamBroken => "upstream_broken",
        ResetCode::NotPublished => "not_published",
        ResetCode::BodyTooLarge => "body_too_large",
        ResetCode::Overloaded => "overloaded",
        ResetCode::Protocol => "protocol",
        ResetCode::Internal => "internal",
    }
}

/// What the session is told once an event's borrow has ended.
enum Then {
    Nothing,
    Attach(StreamId, u32),
    Consumed(StreamId, usize),
    Reset(StreamId, exchange::Refusal),
}

/// Takes the frames in one record's plaintext.
fn frames<R: Verbs>(
    session: &mut Session<u32>,
    state: &mut link::State,
    plain: &[u8],
    upstreams: &mut Slab<Upstream>,
    exchanges: &mut Slab<Exchange>,
    cx: &mut Context,
    ring: &mut R,
) -> FramesOutcome {
    let Some(out) = state.out.as_mut() else {
        return (Err("data before HELLO".into()), None);
    };
    let mut used = 0;
    let mut ready = None;
    loop {
        let event = match session.next(plain, &mut used, cx.now, out) {
            Ok(Some(event)) => event,
            Ok(None) => return (Ok(()), ready),
            Err(error) => return (Err(error.text), ready),
        };
        let then = match event {
            Event::Open { stream, head } => {
                match exchange::begin(state.key, stream, &head, exchanges, upstreams, cx, ring) {
                    Ok(key) => Then::Attach(stream, key as u32),
                    Err(refusal) => Then::Reset(stream, refusal),
                }
            }
            Event::Data {
                stream,
                token,
                bytes,
            } => match exchange::on(exchanges, token as usize, stream) {
                Some(exchange) => {
                    Then::Consumed(stream, exchange::data(exchange, bytes, upstreams, cx))
                }
                None => Then::Consumed(stream, bytes.len()),
            },
            Event::End {
                stream,
                token,
                mut trailers,
            } => end_of_request(
                stream,
                token as usize,
                &mut trailers,
                upstreams,
                exchanges,
                cx,
                ring,
            ),
            Event::Reset { stream, token, .. } => {
                if exchange::on(exchanges, token as usize, stream).is_some() {
                    exchange::drop(token as usize, exchanges, upstreams, cx, ring);
                }
                Then::Nothing
            }
            Event::Ready(said) => {
                ready = Some(said);
                Then::Nothing
            }
            Event::Refused { text, .. } => {
                state.refused = true;
                return (Err(format!("the gateway refused the link: {text}")), ready);
            }
            Event::Published { accepted, text, .. } => {
                let gateway = cx.targets[state.target].gateway;
                cx.settings_accepted[gateway] = accepted;
                *(if accepted {
                    &mut cx.stats.settings_accepted
                } else {
                    &mut cx.stats.settings_refused
                }) += 1;
                if accepted {
                    tracing::info!(gateway = %cx.plan.gateways[gateway].address.host, "settings accepted");
                } else {
                    tracing::error!(gateway = %cx.plan.gateways[gateway].address.host, reason = text, "settings refused");
                }
                Then::Nothing
            }
            // A gateway that goes away opens no more streams; its port is dialled again when the link has ended.
            Event::RoundTrip(_) | Event::GoAway { .. } => Then::Nothing,
            Event::Hello(_) | Event::Head { .. } | Event::Publish { .. } => {
                return (
                    Err("the gateway sent what only a connector sends".into()),
                    ready,
                );
            }
        };
        match then {
            Then::Attach(stream, key) => session.attach(stream, key),
            Then::Consumed(stream, n) if n > 0 => session.consumed(stream, n, out),
            Then::Reset(stream, (code, text)) => session.reset(stream, code, &text, out),
            Then::Nothing | Then::Consumed(..) => {}
        }
    }
}

fn end_of_request<R: Verbs>(
    stream: StreamId,
    key: usize,
    trailers: &mut dyn Iterator<Item = crate::wire::Field<'_>>,
    upstreams: &mut Slab<Upstream>,
    exchanges: &mut Slab<Exchange>,
    cx: &mut Context,
    ring: &mut R,
) -> Then {
    let Some(exchange) = exchange::on(exchanges, key, stream) else {
        return Then::Nothing;
    };
    if exchange.response_done {
        // Answered before the request ended: now both have.
        exchanges.remove(key);
        return Then::Nothing;
    }
    if exchange::end(exchange, trailers, upstreams, cx) {
        return Then::Nothing;
    }
    exchange::drop(key, exchanges, upstreams, cx, ring);
    Then::Reset(
        stream,
        (
            ResetCode::Protocol,
            "the request's body is shorter than its length".into(),
        ),
    )
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
                Owner::Upstream(key) => self.upstream_received(ring, key, &buf),
                Owner::Nobody => {}
            },
            RingEvent::Sent { socket, buf } => {
                self.cx.recycle(buf);
                match self.cx.owner(socket) {
                    Owner::Link(key) => mark_link(&mut self.links, key, &mut self.cx),
                    Owner::Upstream(key) => {
                        let Connector {
                            links,
                            upstreams,
                            exchanges,
                            cx,
                            ..
                        } = self;
                        if let Some(short) = exchange::refill(key, upstreams, exchanges, links, cx)
                        {
                            let text = "the request's body is shorter than its length".to_owned();
                            self.fail_exchange(ring, short, (ResetCode::Protocol, text));
                        }
                    }
                    Owner::Nobody => {}
                }
            }
            RingEvent::PeerFinished { socket } | RingEvent::PeerGone { socket } => match self
                .cx
                .owner(socket)
            {
                Owner::Link(key) => self.drop_link(ring, key, "the gateway closed the connection"),
                Owner::Upstream(key) => self.upstream_ended(ring, key, None),
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
            && (self.exchanges.is_empty() || self.cx.now >= deadline)
        {
            self.finished = true;
        }
    }

    fn next_deadline(&self) -> Option<Instant> {
        [self.cx.wheel.next_deadline(), self.draining]
            .into_iter()
            .flatten()
            .min()
    }

    fn is_finished(&self) -> bool {
        self.finished
    }
}
