//! An upstream connection's life on its shard: connected, heard, complete, ended, overdue.

use crate::ring::{Receive, RecvBuf, Verbs};
use crate::wire::relay::ResetCode;
use std::time::Duration;

use super::context::Owner;
use super::exchange::{self, Outcome};
use super::shard::Connector;
use super::upstream::{self};

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

    pub(super) fn upstream_connected<R: Verbs>(&mut self, ring: &mut R, key: usize) {
        let Some(upstream) = self.upstreams.get_mut(key) else {
            return;
        };
        upstream.state.phase = upstream::Phase::Busy;
        upstream.state.progress = self.cx.now;
        upstream.state.read(Receive::Large, ring);
        self.cx.mark_upstream(&mut upstream.state);
    }

    pub(super) fn upstream_received<R: Verbs>(&mut self, ring: &mut R, key: usize, buf: &RecvBuf) {
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
    pub(super) fn upstream_ended<R: Verbs>(
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

    pub(super) fn connect_failed<R: Verbs>(
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

    pub(super) fn flush_upstream<R: Verbs>(&mut self, ring: &mut R, key: usize) {
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
}

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
