//! A shared connection's life on its shard: agreed on, what its streams tell, flushed, overdue, ended.

use crate::ring::Verbs;
use crate::wire::http2::{self, Content, Event, State};
use crate::wire::relay::{Body, ResetCode};
use slab::Slab;
use std::time::Duration;

use super::context::{Context, Owner};
use super::exchange::{self, Exchange, Refusal};
use super::link::Link;
use super::plan::{OFFER_AGAIN, REFUSALS_MAX, STREAM_QUEUE, UPSTREAM_STAGE};
use super::reach;
use super::shard::Connector;
use super::shared::{self, Shared};
use super::upstream::{self, Phase, Upstream};
use crate::control::config::H2;

/// What an event of a stream led to.
enum Heard {
    Continue,
    Complete,
    Refill,
    Failed(Refusal),
    Lost(http2::Failed),
}

impl Connector {
    pub(super) fn is_shared(&self, key: usize) -> bool {
        self.upstreams
            .get(key)
            .is_some_and(|upstream| upstream.shared.is_some())
    }

    /// A connection that offered HTTP/2 stands, and this was the server's choice. It counts as being dialled until its
    /// SETTINGS are there.
    pub(super) fn agreed<R: Verbs>(&mut self, ring: &mut R, key: usize, h2: bool) {
        let Connector { upstreams, cx, .. } = self;
        let Some(upstream) = upstreams.get_mut(key) else {
            return;
        };
        let endpoint = upstream.state.endpoint;
        if !h2 {
            return self.agreed_on_http1(ring, key, endpoint);
        }
        let Ok(http) = http2::Client::new(cx.now) else {
            return self.dial_failed(ring, key, ResetCode::Internal, "HTTP/2 cannot be begun");
        };
        cx.pools[endpoint as usize].sharing.http1_until = None;
        upstream.state.phase = Phase::Shared;
        upstream.shared = Some(Box::new(Shared {
            http,
            listed: false,
            // For SETTINGS: before them it is not known how many streams it takes.
            due: Some(cx.now + upstream.state.connect_timeout),
            answered: false,
        }));
        cx.mark_upstream(&mut upstream.state);
    }

    fn agreed_on_http1<R: Verbs>(&mut self, ring: &mut R, key: usize, endpoint: u32) {
        if self.cx.plan.endpoints[endpoint as usize].h2 == H2::Always {
            let why = "it does not speak HTTP/2, and the route says `h2 = \"always\"`";
            return self.dial_failed(ring, key, ResetCode::UpstreamRefused, why);
        }
        let sharing = &mut self.cx.pools[endpoint as usize].sharing;
        sharing.dialling.take_if(|dialling| *dialling == key);
        sharing.http1_until = Some(self.cx.now + OFFER_AGAIN);
        if let Some(upstream) = self.upstreams.get_mut(key) {
            upstream.state.offers = false;
        }
        match self.first_waiting(endpoint) {
            Some(first) => {
                let Connector {
                    upstreams,
                    exchanges,
                    cx,
                    ..
                } = self;
                if let Err(refusal) = shared::turn_own(key, first, exchanges, upstreams, cx) {
                    self.fail_exchange(ring, first, refusal);
                }
            }
            // To the pool, as one whose request is complete.
            None => self.complete(ring, key, true),
        }
        self.serve_waiting(ring, endpoint);
    }

    /// The first of those who wait for a connection to this endpoint and are still there.
    fn first_waiting(&mut self, endpoint: u32) -> Option<usize> {
        let waiting = &mut self.cx.pools[endpoint as usize].sharing.waiting;
        while let Some((key, stream)) = waiting.pop_front() {
            if exchange::on(&mut self.exchanges, key, stream).is_some() {
                return Some(key);
            }
        }
        None
    }

    /// Sends what waits for a connection to this endpoint, as far as there are any, and dials for the rest.
    fn serve_waiting<R: Verbs>(&mut self, ring: &mut R, endpoint: u32) {
        let waiting = &mut self.cx.pools[endpoint as usize].sharing.waiting;
        let mut left = waiting.len();
        while left > 0 {
            left -= 1;
            let sharing = &mut self.cx.pools[endpoint as usize].sharing;
            // Who comes behind a dial that is under way waits in order already.
            if sharing.dialling.is_some() && sharing.free.is_empty() {
                return;
            }
            let Some((key, stream)) = sharing.waiting.pop_front() else {
                return;
            };
            if exchange::on(&mut self.exchanges, key, stream).is_none() {
                continue;
            }
            if let Err(refusal) = self.serve_one(ring, endpoint, key) {
                self.fail_exchange(ring, key, refusal);
            }
            // Who waits again is the first to be served.
            let waiting = &mut self.cx.pools[endpoint as usize].sharing.waiting;
            if waiting.back() == Some(&(key, stream)) {
                waiting.rotate_right(1);
            }
        }
    }

    fn serve_one<R: Verbs>(
        &mut self,
        ring: &mut R,
        endpoint: u32,
        key: usize,
    ) -> Result<(), Refusal> {
        let Connector {
            links,
            upstreams,
            exchanges,
            cx,
            ..
        } = self;
        let placed = if shared::is_shared(endpoint, cx) {
            shared::place(endpoint, key, exchanges, upstreams, cx, ring)
        } else {
            own(endpoint, key, exchanges, upstreams, cx, ring)
        };
        if let Err(refusal) = placed {
            return shared::go_on(key, refusal, exchanges, upstreams, cx, ring);
        }
        let whole = exchanges
            .get_mut(key)
            .is_none_or(|exchange| shared::refill(exchange, links, upstreams, cx));
        if whole { Ok(()) } else { Err(short()) }
    }

    /// No connection came about: each request that waited goes on to its route's next endpoint.
    pub(super) fn none_to_share<R: Verbs>(
        &mut self,
        ring: &mut R,
        endpoint: u32,
        refusal: &Refusal,
    ) {
        let waiting = &mut self.cx.pools[endpoint as usize].sharing.waiting;
        for (key, stream) in std::mem::take(waiting) {
            let Connector {
                upstreams,
                exchanges,
                cx,
                ..
            } = self;
            if exchange::on(exchanges, key, stream).is_none() {
                continue;
            }
            let refusal = refusal.clone();
            if let Err(refusal) = shared::go_on(key, refusal, exchanges, upstreams, cx, ring) {
                self.fail_exchange(ring, key, refusal);
            }
        }
    }

    /// What the streams of a connection have to tell.
    fn shared_events<R: Verbs>(&mut self, ring: &mut R, conn: usize) {
        loop {
            let Connector {
                links,
                upstreams,
                exchanges,
                cx,
                ..
            } = self;
            let Some(Upstream {
                shared: Some(shared),
                state,
                ..
            }) = upstreams.get_mut(conn)
            else {
                return;
            };
            let Some((token, stream, event)) = shared.http.next_event() else {
                return;
            };
            state.progress = cx.now;
            let key = token as usize;
            let Some(exchange) = exchanges.get_mut(key) else {
                shared.http.reset(stream);
                continue;
            };
            if !matches!(event, Event::Room | Event::Failed(_)) {
                answered(shared, exchange, state.endpoint, cx);
            }
            let heard = heard(event, shared, exchange, links, cx);
            match heard {
                Heard::Continue => {}
                Heard::Complete => {
                    let waited = exchange.pending.len() - exchange.pending_at;
                    shared::consumed(exchange, waited, links, cx);
                    exchange.pending = Vec::new();
                    exchange.pending_at = 0;
                    exchange.upstream = None;
                    exchange.response_done = true;
                    if exchange.request_done {
                        exchanges.remove(key);
                    }
                }
                Heard::Refill => {
                    if !shared::refill(exchange, links, upstreams, cx) {
                        self.fail_exchange(ring, key, short());
                    }
                }
                Heard::Failed(refusal) => {
                    cx.stats.upstream_broken += 1;
                    self.fail_exchange(ring, key, refusal);
                }
                Heard::Lost(failed) => {
                    let fresh = !shared.answered;
                    self.stream_lost(ring, key, failed, fresh);
                }
            }
        }
    }

    /// A stream ended without its answer. It goes out again where that does no harm: always when nobody saw it.
    fn stream_lost<R: Verbs>(
        &mut self,
        ring: &mut R,
        key: usize,
        failed: http2::Failed,
        fresh: bool,
    ) {
        let Connector {
            upstreams,
            exchanges,
            cx,
            ..
        } = self;
        let Some(exchange) = exchanges.get_mut(key) else {
            return;
        };
        exchange.upstream = None;
        let Some(ask) = &mut exchange.ask else {
            return;
        };
        ask.stream = None;
        let endpoint = ask.endpoint;
        let when = if ask.answered {
            "in the middle of its answer"
        } else {
            "before it answered"
        };
        let upstream = &cx.plan.endpoints[endpoint as usize];
        let text = format!("upstream {upstream}: {} {when}", failed.why);
        let refused = failed.refused && !ask.answered;
        if failed.wants_http1 {
            let sharing = &mut cx.pools[endpoint as usize].sharing;
            sharing.http1_until = Some(cx.now + OFFER_AGAIN);
        }
        let whole = !ask.frame.is_empty() && !ask.answered;
        let again = if refused {
            ask.refusals += 1;
            whole && ask.refusals <= REFUSALS_MAX
        } else {
            cx.stats.upstream_broken += 1;
            let again = whole && exchange.repeatable && !exchange.repeated;
            exchange.repeated = true;
            exchange.seen = true;
            again
        };
        let code = match exchange.seen {
            false => ResetCode::Refused,
            true => ResetCode::UpstreamBroken,
        };
        let refusal = (code, text.into());
        let placed = if !again {
            Err(refusal)
        } else if !refused && fresh {
            shared::go_on(key, refusal, exchanges, upstreams, cx, ring)
        } else {
            cx.stats.upstream_moved_on += 1;
            let placed = if shared::is_shared(endpoint, cx) {
                shared::place(endpoint, key, exchanges, upstreams, cx, ring)
            } else {
                own(endpoint, key, exchanges, upstreams, cx, ring)
            };
            placed.or_else(|_| shared::go_on(key, refusal, exchanges, upstreams, cx, ring))
        };
        if let Err(refusal) = placed {
            self.fail_exchange(ring, key, refusal);
        }
    }

    /// The connection is over, and why. What its streams had been sent before is still given.
    pub(super) fn shared_over<R: Verbs>(&mut self, ring: &mut R, conn: usize, why: &str) {
        let Connector { upstreams, cx, .. } = self;
        let Some(upstream) = upstreams.get_mut(conn) else {
            return;
        };
        let Upstream {
            shared: Some(shared),
            state,
            ..
        } = upstream
        else {
            return;
        };
        if state.offers {
            let why = format!("no HTTP/2 with it: {why}");
            return self.dial_failed(ring, conn, ResetCode::UpstreamRefused, &why);
        }
        if shared.http.streams() == 0 {
            cx.stats.upstream_idle_closed += 1;
        } else if !shared.answered && shared.http.state() != State::Leaving {
            cx.endpoint_broke(state.endpoint, why);
        }
        shared.http.handle_end(why);
        let endpoint = state.endpoint;
        upstream::farewell(upstream, cx, ring);
        cx.ports.give_back(upstream.state.held.take());
        if let Some(socket) = upstream.state.socket.take() {
            cx.own(socket, Owner::Nobody);
            ring.close(socket);
        }
        cx.mark_upstream(&mut upstream.state);
        shared::unlist(conn, endpoint, upstreams, cx);
    }

    pub(super) fn flush_shared<R: Verbs>(&mut self, ring: &mut R, conn: usize) {
        if let Some(upstream) = self.upstreams.get_mut(conn) {
            upstream.state.dirty = false;
        }
        self.shared_events(ring, conn);
        let Connector { upstreams, cx, .. } = self;
        let Some(upstream) = upstreams.get_mut(conn) else {
            return;
        };
        if let Some(socket) = upstream.state.socket
            && !ring.send_in_flight(socket)
            && let Some(shared) = &mut upstream.shared
            && shared.http.wants_transmit()
        {
            shared
                .http
                .transmit(upstream.state.stage(cx), UPSTREAM_STAGE);
        }
        if let Err(error) = upstream::flush(upstream, cx, ring) {
            return self.tls_failed(ring, conn, &error);
        }
        self.settle_shared(ring, conn);
    }

    /// What a connection is good for now, and when it is due.
    fn settle_shared<R: Verbs>(&mut self, ring: &mut R, conn: usize) {
        let Connector { upstreams, cx, .. } = self;
        let Some(Upstream {
            shared: Some(shared),
            state,
            ..
        }) = upstreams.get_mut(conn)
        else {
            return;
        };
        let sends = state
            .socket
            .is_some_and(|socket| !ring.send_in_flight(socket));
        if shared.http.has_events() || sends && shared.http.wants_transmit() {
            cx.mark_upstream(state);
        }
        let endpoint = state.endpoint;
        match shared.http.state() {
            State::Open => {
                if state.offers && shared.http.room() > 0 {
                    state.offers = false;
                    let sharing = &mut cx.pools[endpoint as usize].sharing;
                    sharing.dialling.take_if(|dialling| *dialling == conn);
                }
                shared::list(conn, endpoint, shared, cx);
                let idle = Duration::from_secs(cx.plan.pool.idle_seconds);
                let unused = (shared.http.streams() == 0).then_some(state.progress + idle);
                let due = [shared.due, shared.http.next_deadline(), unused];
                if let Some(at) = due.into_iter().flatten().min()
                    && state.armed.is_none_or(|armed| at < armed)
                {
                    state.armed = Some(at);
                    cx.wheel
                        .insert(at, u64::from(state.stamp) << 31 | conn as u64);
                }
                if !cx.pools[endpoint as usize].sharing.waiting.is_empty() {
                    self.serve_waiting(ring, endpoint);
                }
            }
            State::Over if state.socket.is_some() => {
                let why = shared.http.why().to_owned();
                self.shared_over(ring, conn, &why);
            }
            State::Leaving if state.offers => {
                self.shared_over(ring, conn, "it says GOAWAY at once")
            }
            State::Leaving | State::Over if shared.http.streams() == 0 => {
                reach::take_out(conn, upstreams, cx, ring, false);
            }
            State::Leaving | State::Over => shared::unlist(conn, endpoint, upstreams, cx),
        }
    }

    /// Its time came: exchanges that are overdue fail, a silent peer is asked, one that was idle for long ends.
    pub(super) fn shared_due<R: Verbs>(&mut self, ring: &mut R, conn: usize) {
        let Connector {
            upstreams,
            exchanges,
            cx,
            ..
        } = self;
        let plan = cx.plan.clone();
        let Some(Upstream {
            shared: Some(shared),
            state,
            ..
        }) = upstreams.get_mut(conn)
        else {
            return;
        };
        cx.mark_upstream(state);
        if state.offers {
            match shared.due {
                Some(due) if due <= cx.now => self.shared_over(ring, conn, "no SETTINGS in time"),
                _ => {}
            }
            return;
        }
        shared.http.handle_timeout(cx.now);
        let idle = Duration::from_secs(plan.pool.idle_seconds);
        if shared.http.streams() == 0 && state.progress + idle <= cx.now {
            reach::take_out(conn, upstreams, cx, ring, false);
            return;
        }
        let mut late = Vec::new();
        shared.due = None;
        for token in shared.http.tokens() {
            let key = token as usize;
            match exchanges.get(key).and_then(|e| shared::deadline(e, &plan)) {
                Some(at) if at <= cx.now => late.push(key),
                Some(at) if shared.due.is_none_or(|due| at < due) => shared.due = Some(at),
                _ => {}
            }
        }
        let endpoint = state.endpoint;
        for key in late {
            self.overdue(ring, key, endpoint);
        }
    }

    fn overdue<R: Verbs>(&mut self, ring: &mut R, key: usize, endpoint: u32) {
        let ask = self.exchanges.get(key).and_then(|e| e.ask.as_ref());
        let (code, text) = if ask.is_some_and(|ask| ask.answered) {
            (ResetCode::UpstreamBroken, "its answer stopped coming")
        } else {
            self.cx
                .endpoint_broke(endpoint, "it did not answer in time");
            (ResetCode::UpstreamTimeout, "it did not answer in time")
        };
        self.cx.stats.upstream_timeouts += 1;
        let upstream = &self.cx.plan.endpoints[endpoint as usize];
        let refusal = (code, format!("upstream {upstream}: {text}").into());
        self.fail_exchange(ring, key, refusal);
    }
}

fn short() -> Refusal {
    let text = "the request's body is not as long as its length says";
    (ResetCode::Protocol, text.into())
}

/// A connection of its own for a request whose endpoint turned out to speak HTTP/1.1.
fn own<R: Verbs>(
    endpoint: u32,
    key: usize,
    exchanges: &mut Slab<Exchange>,
    upstreams: &mut Slab<Upstream>,
    cx: &mut Context,
    ring: &mut R,
) -> Result<(), Refusal> {
    let Some(exchange) = exchanges.get(key) else {
        return Err(short());
    };
    let pooled = cx.pools[endpoint as usize].take(exchange.repeatable, cx.now);
    let own = match pooled {
        Some(own) => own,
        None => reach::dial(endpoint, exchange.route, false, upstreams, cx, ring)?,
    };
    shared::turn_own(own, key, exchanges, upstreams, cx)
}

/// Something of an answer came.
fn answered(shared: &mut Shared, exchange: &mut Exchange, endpoint: u32, cx: &mut Context) {
    shared.answered = true;
    let Some(ask) = &mut exchange.ask else {
        return;
    };
    ask.progress = cx.now;
    if !std::mem::replace(&mut ask.answered, true) {
        cx.endpoint_answered(endpoint);
        let plan = cx.plan.clone();
        shared::note_deadline(shared, exchange, &plan);
    }
}

/// Passes an event on to the relay stream.
fn heard(
    event: Event,
    shared: &mut Shared,
    exchange: &mut Exchange,
    links: &mut Slab<Link>,
    cx: &mut Context,
) -> Heard {
    let (event, stream) = match event {
        Event::Room => return Heard::Refill,
        Event::Failed(failed) => return Heard::Lost(failed),
        event => (event, exchange.stream),
    };
    let Some(link) = links.get_mut(exchange.link) else {
        return Heard::Continue;
    };
    cx.mark_link(&mut link.state);
    let Some((session, out)) = link.session() else {
        return Heard::Continue;
    };
    let fits = match event {
        Event::Interim { status: 101, .. } | Event::Head { status: 101, .. } => {
            let text = "the upstream switched protocols unasked";
            return Heard::Failed((ResetCode::UpstreamBroken, text.into()));
        }
        Event::Interim { status, fields } => {
            let reason = http2::reason(status).as_bytes();
            let mut fields = fields.iter();
            session.send_head(stream, status, true, reason, Body::None, &mut fields, out)
        }
        Event::Head {
            status,
            fields,
            content,
        } => {
            let body = match content {
                Content::None => Body::None,
                Content::Length(length) => Body::Length(length),
                Content::Unknown => Body::Unknown,
            };
            let reason = http2::reason(status).as_bytes();
            let mut fields = fields
                .iter()
                .filter(|field| body == Body::None || field.name != b"content-length");
            session.send_head(stream, status, false, reason, body, &mut fields, out)
        }
        Event::Data(bytes) => {
            session.send_data(stream, &bytes, out);
            if session.queued(stream) > STREAM_QUEUE
                && let Some(ask) = &mut exchange.ask
                && let Some(on) = ask.stream
            {
                ask.paused = true;
                shared.http.pause(on);
            }
            return Heard::Continue;
        }
        Event::End { trailers } => {
            if session.send_end(stream, &mut trailers.iter(), out) {
                return Heard::Complete;
            }
            false
        }
        Event::Room | Event::Failed(_) => true,
    };
    if fits {
        Heard::Continue
    } else {
        Heard::Failed((ResetCode::UpstreamBroken, exchange::TOO_LARGE.into()))
    }
}
