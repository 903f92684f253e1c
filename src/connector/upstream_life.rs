//! An upstream connection's life on its shard: resolved, connected, heard, complete, ended, overdue.

use crate::ring::{Receive, RecvBuf, Verbs};
use crate::wire::relay::ResetCode;
use crate::wire::tls;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::Duration;

use super::context::Owner;
use super::exchange::{self, Outcome};
use super::ports;
use super::reach;
use super::shard::Connector;
use super::upstream::{self, Phase, Upstream};

impl Connector {
    pub(super) fn drop_exchange<R: Verbs>(&mut self, ring: &mut R, key: usize) {
        exchange::drop(
            key,
            &mut self.exchanges,
            &mut self.upstreams,
            &mut self.cx,
            ring,
        );
    }

    /// The exchange failed on the upstream's side: RESET tells the gateway.
    pub(super) fn fail_exchange<R: Verbs>(
        &mut self,
        ring: &mut R,
        key: usize,
        refusal: exchange::Refusal,
    ) {
        let Some(exchange) = self.exchanges.get(key) else {
            return;
        };
        exchange::note_failure(&refusal, &mut self.cx);
        if let Some(link) = self.links.get_mut(exchange.link) {
            if let Some((session, out)) = link.session() {
                session.reset(exchange.stream, refusal.0, &refusal.1, out);
            }
            self.cx.mark_link(&mut link.state);
        }
        self.drop_exchange(ring, key);
    }

    /// A lookup's answer.
    pub(super) fn upstream_resolved<R: Verbs>(
        &mut self,
        ring: &mut R,
        (key, stamp): (usize, u32),
        result: Result<Vec<SocketAddr>, String>,
    ) {
        let Connector { upstreams, cx, .. } = self;
        let Some(upstream) = upstreams
            .get_mut(key)
            .filter(|upstream| upstream.state.stamp == stamp)
        else {
            return;
        };
        let why = match result {
            Ok(addresses) if addresses.is_empty() => "its name has no address".into(),
            Err(error) => format!("its name cannot be resolved: {error}"),
            Ok(mut addresses) => {
                addresses.truncate(reach::ADDRESSES_MAX);
                upstream.state.addresses = addresses;
                if reach::connect(upstream, cx, ring) {
                    return;
                }
                let refusal = (ResetCode::Refused, "no socket is free".into());
                return self.move_on(ring, key, refusal);
            }
        };
        self.dial_failed(ring, key, ResetCode::UpstreamRefused, &why);
    }

    pub(super) fn upstream_connected<R: Verbs>(&mut self, ring: &mut R, key: usize) {
        let Some(upstream) = self.upstreams.get_mut(key) else {
            return;
        };
        let state = &mut upstream.state;
        state.progress = self.cx.now;
        let plan = self.cx.plan.clone();
        match &plan.endpoints[state.endpoint as usize].tls {
            None => {
                state.phase = Phase::Busy;
                self.cx.endpoint_connected(state.endpoint);
                state.read(Receive::Large, ring);
                self.cx.mark_upstream(state);
                if state.offers {
                    self.agreed(ring, key, true);
                }
                return;
            }
            Some(setting) => match tls::Connection::client(
                if state.offers {
                    &setting.offering
                } else {
                    &setting.config
                },
                setting.name.clone(),
            ) {
                Ok(connection) => {
                    upstream.tls = Some(Box::new(connection));
                    state.phase = Phase::Handshake;
                    state.since = self.cx.now;
                }
                Err(error) => {
                    return self.dial_failed(ring, key, ResetCode::Internal, &error.text);
                }
            },
        }
        state.read(Receive::Large, ring);
        self.cx.mark_upstream(state);
    }

    pub(super) fn upstream_received<R: Verbs>(&mut self, ring: &mut R, key: usize, buf: RecvBuf) {
        let Some(upstream) = self.upstreams.get_mut(key) else {
            return;
        };
        self.cx.stats.upstream_bytes_in += buf.len() as u64;
        upstream.state.received(buf.len(), ring);
        if upstream.tls.is_some() {
            return self.upstream_records(ring, key, buf);
        }
        let Connector {
            links,
            exchanges,
            cx,
            ..
        } = self;
        let Upstream {
            http,
            state,
            shared,
            ..
        } = upstream;
        if let Some(shared) = shared {
            shared.http.handle_input(&buf, cx.now);
            return cx.mark_upstream(state);
        }
        let heard = match state.exchange.and_then(|key| exchanges.get_mut(key)) {
            Some(exchange) => exchange::received(http, state, &buf, exchange, links, cx, ring),
            None => Outcome::Unasked,
        };
        self.upstream_heard(ring, key, heard);
    }

    /// What came from an upstream had this outcome.
    pub(super) fn upstream_heard<R: Verbs>(&mut self, ring: &mut R, key: usize, heard: Outcome) {
        match heard {
            Outcome::Continue => {}
            Outcome::Complete { reusable } => self.complete(ring, key, reusable),
            Outcome::Failed(refusal) => {
                self.cx.stats.upstream_broken += 1;
                let exchange = self.upstreams.get(key).and_then(|u| u.state.exchange);
                if let Some(exchange) = exchange {
                    self.fail_exchange(ring, exchange, refusal);
                }
            }
            // The connection cannot be trusted with a request.
            Outcome::Unasked => {
                reach::take_out(key, &mut self.upstreams, &mut self.cx, ring, true);
            }
        }
    }

    /// The answer is complete: the connection goes to the pool or ends.
    pub(super) fn complete<R: Verbs>(&mut self, ring: &mut R, key: usize, reusable: bool) {
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
            state.phase = Phase::Idle;
            state.progress = self.cx.now;
            state.paused = false;
            state.read_next(ring);
            let endpoint = state.endpoint as usize;
            let max = self.cx.plan.pool.idle_per_upstream;
            self.cx.mark_upstream(state);
            if let Some(oldest) = self.cx.pools[endpoint].put(key, self.cx.now, max) {
                reach::take_out(oldest, &mut self.upstreams, &mut self.cx, ring, false);
            }
        } else {
            reach::take_out(key, &mut self.upstreams, &mut self.cx, ring, false);
        }
    }

    /// FIN, or an error of the socket.
    pub(super) fn upstream_ended<R: Verbs>(
        &mut self,
        ring: &mut R,
        key: usize,
        error: Option<std::io::Error>,
    ) {
        let Some(upstream) = self.upstreams.get(key) else {
            return;
        };
        let in_tls = upstream.tls.is_some();
        let what = match (&error, upstream.state.phase) {
            (Some(error), Phase::Handshake) => format!("TLS handshake: {error}"),
            (Some(error), _) => error.to_string(),
            (None, Phase::Handshake) => "it closed the connection in the TLS handshake".into(),
            // Anybody on the way can send a FIN: it is no end of an answer (RFC 8446 §6.1).
            (None, _) if in_tls => "it closed the connection without close_notify".into(),
            (None, _) => "it closed the connection".into(),
        };
        if upstream.state.is_dialling() {
            let code = match error.map(|error| error.kind()) {
                Some(ErrorKind::AddrNotAvailable) => ResetCode::PortsExhausted,
                Some(ErrorKind::TimedOut) => ResetCode::UpstreamTimeout,
                _ => ResetCode::UpstreamRefused,
            };
            return self.attempt_failed(ring, key, code, &what);
        }
        self.upstream_over(ring, key, error.is_none() && !in_tls, &what);
    }

    /// The peer finished while we do not read: what it sent before is read first, when the stream has room again.
    pub(super) fn upstream_gone<R: Verbs>(&mut self, ring: &mut R, key: usize) {
        let reading = self
            .upstreams
            .get(key)
            .is_some_and(|upstream| !upstream.state.paused || upstream.state.exchange.is_none());
        if reading {
            self.upstream_ended(ring, key, None);
        }
    }

    /// A connection that stood is over. `orderly`: the peer said so, which ends a body that lasts until then.
    pub(super) fn upstream_over<R: Verbs>(
        &mut self,
        ring: &mut R,
        key: usize,
        orderly: bool,
        what: &str,
    ) {
        if self.is_shared(key) {
            return self.shared_over(ring, key, what);
        }
        let Connector {
            links,
            upstreams,
            exchanges,
            cx,
            ..
        } = self;
        let Some(Upstream { http, state, .. }) = upstreams.get_mut(key) else {
            return;
        };
        let exchange_key = state.exchange;
        let Some((exchange_key, exchange)) =
            exchange_key.and_then(|key| Some((key, exchanges.get_mut(key)?)))
        else {
            cx.stats.upstream_idle_closed += 1;
            reach::take_out(key, upstreams, cx, ring, false);
            return;
        };
        // Asked only of an answer that began: a request that is repeated keeps its parser.
        if orderly && state.answered && matches!(http.finish(), Ok(true)) {
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
        cx.stats.upstream_broken += 1;
        if !state.answered && !state.reused {
            cx.endpoint_broke(state.endpoint, what);
        }
        let when = if state.answered {
            "in the middle of its answer"
        } else {
            "before it answered"
        };
        let upstream = &cx.plan.endpoints[state.endpoint as usize];
        let refusal = (
            ResetCode::UpstreamBroken,
            format!("upstream {upstream}: {what} {when}").into(),
        );
        if !reach::may_repeat(state, exchange) {
            return self.fail_exchange(ring, exchange_key, refusal);
        }
        exchange.upstream = None;
        let Some(dead) = reach::take_out(key, upstreams, cx, ring, false) else {
            return;
        };
        let exchange = (exchange_key, exchange);
        if let Err(refusal) = reach::repeat(dead, exchange, refusal, upstreams, cx, ring) {
            self.fail_exchange(ring, exchange_key, refusal);
        }
    }

    /// One address did not come to a connection: the next one, if the name has more.
    pub(super) fn attempt_failed<R: Verbs>(
        &mut self,
        ring: &mut R,
        key: usize,
        code: ResetCode,
        why: &str,
    ) {
        let Connector { upstreams, cx, .. } = self;
        let Some(upstream) = upstreams.get_mut(key) else {
            return;
        };
        // The next source address has ports of its own; what else failed, fails from there too.
        let exhausted = code == ResetCode::PortsExhausted;
        if !exhausted {
            upstream.state.sources_left = 0;
        }
        cx.ports.give_back(upstream.state.held.take());
        if upstream.state.phase == Phase::Handshake {
            cx.stats.upstream_handshakes_failed += 1;
            upstream::farewell(upstream, cx, ring);
        }
        if let Some(socket) = upstream.state.socket.take() {
            cx.own(socket, Owner::Nobody);
            ring.close(socket);
        }
        if reach::connect(upstream, cx, ring) {
            return;
        }
        if exhausted {
            // The upstream is as well as before.
            return self.ports_exhausted(ring, key);
        }
        self.dial_failed(ring, key, code, why);
    }

    fn ports_exhausted<R: Verbs>(&mut self, ring: &mut R, key: usize) {
        let Connector { upstreams, cx, .. } = self;
        let Some(upstream) = upstreams.get(key) else {
            return;
        };
        let endpoint = &cx.plan.endpoints[upstream.state.endpoint as usize];
        let text = format!(
            "no local port is left towards upstream {endpoint}: {}",
            ports::REMEDY
        );
        if let Some(address) = upstream.state.address {
            cx.ports.exhausted(address);
        }
        self.move_on(ring, key, (ResetCode::PortsExhausted, text.into()));
    }

    /// The endpoint cannot be reached: its health, and its request, which nobody saw.
    pub(super) fn dial_failed<R: Verbs>(
        &mut self,
        ring: &mut R,
        key: usize,
        code: ResetCode,
        why: &str,
    ) {
        let Some(upstream) = self.upstreams.get(key) else {
            return;
        };
        let endpoint = upstream.state.endpoint;
        self.cx.endpoint_dial_failed(endpoint, why);
        let upstream = &self.cx.plan.endpoints[endpoint as usize];
        let text = format!("upstream {upstream} cannot be reached: {why}");
        self.move_on(ring, key, (code, text.into()));
    }

    fn move_on<R: Verbs>(&mut self, ring: &mut R, key: usize, refusal: exchange::Refusal) {
        let Connector {
            upstreams,
            exchanges,
            cx,
            ..
        } = self;
        let Some(dead) = reach::take_out(key, upstreams, cx, ring, false) else {
            return;
        };
        if dead.state.offers {
            return self.none_to_share(ring, dead.state.endpoint, &refusal);
        }
        let Some((exchange_key, exchange)) = dead
            .state
            .exchange
            .and_then(|key| Some((key, exchanges.get_mut(key)?)))
        else {
            return;
        };
        let exchange = (exchange_key, exchange);
        if let Err(refusal) = reach::move_on(dead, exchange, refusal, upstreams, cx, ring) {
            self.fail_exchange(ring, exchange_key, refusal);
        }
    }

    pub(super) fn flush_upstream<R: Verbs>(&mut self, ring: &mut R, key: usize) {
        if self.is_shared(key) {
            return self.flush_shared(ring, key);
        }
        let Connector { upstreams, cx, .. } = self;
        let Some(upstream) = upstreams.get_mut(key) else {
            return;
        };
        upstream.state.dirty = false;
        if let Err(error) = upstream::flush(upstream, cx, ring) {
            return self.tls_failed(ring, key, &error);
        }
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

    pub(super) fn upstream_due<R: Verbs>(&mut self, ring: &mut R, key: usize, stamp: u32) {
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
        if upstream.shared.is_some() {
            return self.shared_due(ring, key);
        }
        let idle = Duration::from_secs(cx.plan.pool.idle_seconds);
        match state.deadline(idle) {
            Some(at) if at <= cx.now => {}
            _ => return cx.mark_upstream(state),
        }
        let (phase, exchange) = (state.phase, state.exchange);
        let timeout = ResetCode::UpstreamTimeout;
        let (code, text) = match phase {
            Phase::Idle => {
                reach::take_out(key, &mut self.upstreams, &mut self.cx, ring, false);
                return;
            }
            Phase::Connecting => {
                cx.stats.upstream_timeouts += 1;
                return self.dial_failed(ring, key, timeout, "its name was not resolved in time");
            }
            Phase::Handshake => {
                cx.stats.upstream_timeouts += 1;
                return self.attempt_failed(ring, key, timeout, "no TLS handshake in time");
            }
            // Handled above.
            Phase::Shared => return,
            Phase::Busy if state.answered => {
                (ResetCode::UpstreamBroken, "its answer stopped coming")
            }
            Phase::Busy => (timeout, "it did not answer in time"),
        };
        cx.stats.upstream_timeouts += 1;
        if !state.answered {
            cx.endpoint_broke(state.endpoint, text);
        }
        let upstream = &cx.plan.endpoints[state.endpoint as usize];
        let refusal = (code, format!("upstream {upstream}: {text}").into());
        match exchange {
            Some(exchange) => self.fail_exchange(ring, exchange, refusal),
            None => {
                reach::take_out(key, &mut self.upstreams, &mut self.cx, ring, true);
            }
        }
    }
}
