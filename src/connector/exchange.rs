//! A request's way through the connector: stream ▸ route ▸ upstream, and the answer's way back.

use crate::ring::{Receive, Verbs};
use crate::wire::http1::{self, ClientEvent, Framing};
use crate::wire::relay::{Body, OpenHead, ResetCode, StreamId};
use crate::wire::{Field, Put};
use slab::Slab;
use std::borrow::Cow;
use std::time::Instant;

use super::context::Context;
use super::link::Link;
use super::plan::{Endpoint, STREAM_QUEUE, UPSTREAM_STAGE};
use super::reach::{self, Place};
use super::shared::{self, Ask};
use super::upstream::{State, Upstream};

/// One stream and the upstream connection that serves it.
pub struct Exchange {
    pub link: usize,
    pub stream: StreamId,
    pub route: usize,
    pub upstream: Option<usize>,
    /// Body bytes that found no room in staging, from `pending_at` on.
    pub pending: Vec<u8>,
    pub pending_at: usize,
    /// END came: behind `pending`, these trailers.
    pub end: Option<Vec<(Vec<u8>, Vec<u8>)>>,
    /// The whole request has been staged for the upstream.
    pub request_done: bool,
    /// The answer is complete.
    pub response_done: bool,
    /// The client's connection speaks of a request that may be repeated.
    pub repeatable: bool,
    /// It was, after a connection that was not stale.
    pub repeated: bool,
    /// Some upstream may have seen it, and it went out again.
    pub seen: bool,
    /// Places in the route's list of upstreams that were tried.
    pub tried: u64,
    pub began: Instant,
    /// Host is the endpoint's own: the request named none.
    pub own_host: bool,
    /// Its way over a shared connection.
    pub ask: Option<Box<Ask>>,
}

/// Exchanges a shard carries; a stream over it is refused.
pub const EXCHANGES_MAX: usize = 65_536;

/// The exchange of a stream: one that took its key since is not.
pub fn on(exchanges: &mut Slab<Exchange>, key: usize, stream: StreamId) -> Option<&mut Exchange> {
    exchanges
        .get_mut(key)
        .filter(|exchange| exchange.stream == stream)
}

/// Why a stream cannot be served.
pub type Refusal = (ResetCode, Cow<'static, str>);

/// Begins a stream: route, connection, request head. The caller attaches the key to the stream, or resets it.
pub fn begin<R: Verbs>(
    link: usize,
    stream: StreamId,
    head: &OpenHead<'_>,
    exchanges: &mut Slab<Exchange>,
    upstreams: &mut Slab<Upstream>,
    cx: &mut Context,
    ring: &mut R,
) -> Result<usize, Refusal> {
    let begun = try_begin(link, stream, head, exchanges, upstreams, cx, ring);
    if let Err(refusal) = &begun {
        note_failure(refusal, cx);
    }
    begun
}

/// What is counted and logged of a request that is reset.
pub fn note_failure((code, reason): &Refusal, cx: &mut Context) {
    tracing::debug!(?code, reason = &**reason, "request failed");
    cx.stats.errors.add(code_name(*code));
    cx.stats.streams_reset += 1;
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
        ResetCode::PortsExhausted => "ports_exhausted",
    }
}

fn try_begin<R: Verbs>(
    link: usize,
    stream: StreamId,
    head: &OpenHead<'_>,
    exchanges: &mut Slab<Exchange>,
    upstreams: &mut Slab<Upstream>,
    cx: &mut Context,
    ring: &mut R,
) -> Result<usize, Refusal> {
    cx.stats.streams_opened += 1;
    let plan = cx.plan.clone();
    if exchanges.len() >= EXCHANGES_MAX {
        return Err((
            ResetCode::Refused,
            "too many requests at this connector".into(),
        ));
    }
    let path_end = memchr::memchr(b'?', head.target).unwrap_or(head.target.len());
    let route_index = plan.route(&head.target[..path_end]).ok_or_else(|| {
        (
            ResetCode::NotPublished,
            "this connector does not publish the path".into(),
        )
    })?;
    if !http1::is_request_line(head.method, head.target) {
        return Err((
            ResetCode::Protocol,
            "the gateway sent no request line".into(),
        ));
    }
    let repeatable = http1::is_idempotent(head.method) && head.body == Body::None;

    let mut tried = 0;
    let nobody = (ResetCode::Refused, "the route has no upstream".into());
    let find = reach::Find {
        route: route_index,
        repeatable,
        own_only: false,
    };
    let place = reach::connection(find, &mut tried, nobody, upstreams, cx, ring)?;
    let key = exchanges.insert(Exchange {
        link,
        stream,
        route: route_index,
        upstream: None,
        pending: Vec::new(),
        pending_at: 0,
        end: None,
        request_done: head.body == Body::None,
        response_done: false,
        repeatable,
        repeated: false,
        seen: false,
        tried,
        began: cx.now,
        own_host: head.host.is_empty(),
        ask: None,
    });
    let placed = match place {
        Place::Own(upstream) => send_own(upstream, (key, head), exchanges, upstreams, cx),
        Place::Shared(endpoint) => {
            shared::begin(endpoint, (key, head), exchanges, upstreams, cx, ring)
        }
    };
    if placed.is_err() {
        exchanges.remove(key);
    }
    placed.map(|()| key)
}

/// What an endpoint is asked for: the route's prefix gives way to its base path. Built in `joined` if need be.
pub fn target_at<'a>(
    endpoint: &Endpoint,
    strip: usize,
    target: &'a [u8],
    joined: &'a mut Vec<u8>,
) -> &'a [u8] {
    let base = endpoint.address.base_path.as_bytes();
    // The prefix matched, in whatever case: that many bytes of the path are the route's.
    let target = target.get(strip..).unwrap_or_default();
    if base.is_empty() && target.first() == Some(&b'/') {
        return target;
    }
    joined.put(base);
    if target.first() != Some(&b'/') {
        joined.put(b"/");
    }
    joined.put(target);
    joined
}

/// Host as an endpoint is told: HTTP/1.0 may name none, and upstreams must be told one.
pub fn host_at<'a>(endpoint: &'a Endpoint, head: &OpenHead<'a>) -> &'a [u8] {
    if head.host.is_empty() {
        endpoint.authority.as_bytes()
    } else {
        head.host
    }
}

/// A request's fields, Host excepted.
pub fn fields_of<'a>(head: &OpenHead<'a>) -> impl Iterator<Item = Field<'a>> {
    let id = Field {
        name: b"Tidegate-Request-Id",
        value: head.request_id,
    };
    let expect = head.expect_continue.then_some(Field {
        name: b"Expect",
        value: b"100-continue",
    });
    head.fields.chain([id]).chain(expect)
}

/// Gives a request to a connection of its own.
pub fn send_own(
    key: usize,
    (exchange_key, head): (usize, &OpenHead<'_>),
    exchanges: &mut Slab<Exchange>,
    upstreams: &mut Slab<Upstream>,
    cx: &mut Context,
) -> Result<(), Refusal> {
    let (Some(Upstream { http, state, .. }), Some(exchange)) =
        (upstreams.get_mut(key), exchanges.get_mut(exchange_key))
    else {
        return Err((ResetCode::Internal, "the pool lost a connection".into()));
    };
    exchange.upstream = Some(key);
    reach::engage(state, exchange_key, exchange.route, cx);
    let plan = cx.plan.clone();
    let endpoint = &plan.endpoints[state.endpoint as usize];
    let mut joined = Vec::new();
    let strip = plan.routes[exchange.route].strip;
    let target = target_at(endpoint, strip, head.target, &mut joined);
    let host = Field {
        name: b"Host",
        value: host_at(endpoint, head),
    };
    let mut fields = [host].into_iter().chain(fields_of(head));
    let framing = match head.body {
        Body::None => Framing::None,
        Body::Length(n) => Framing::Length(n),
        Body::Unknown => Framing::Chunked,
    };
    state.replay.clear();
    if exchange.repeatable {
        // Kept, so that a pooled connection found dead costs the client nothing.
        http.send_head(&mut state.replay, head.method, target, &mut fields, framing);
        http.send_end(&mut state.replay, []);
        let replay = std::mem::take(&mut state.replay);
        state.stage(cx).put(&replay);
        state.replay = replay;
    } else {
        let out = state.stage(cx);
        http.send_head(out, head.method, target, &mut fields, framing);
        if head.body == Body::None {
            http.send_end(out, []);
        }
    }
    cx.mark_upstream(state);
    Ok(())
}

/// Body bytes of a request. Gives back how many are done with.
pub fn data(
    exchange: &mut Exchange,
    bytes: &[u8],
    upstreams: &mut Slab<Upstream>,
    cx: &mut Context,
) -> usize {
    if exchange.ask.is_some() {
        return shared::data(exchange, bytes, upstreams, cx);
    }
    // After the answer's end, and after a failure, the rest is dropped.
    let Some(Upstream { http, state, .. }) =
        exchange.upstream.and_then(|key| upstreams.get_mut(key))
    else {
        return bytes.len();
    };
    state.progress = cx.now;
    let out = state.stage(cx);
    let taken = if exchange.pending.is_empty() && out.staged() + bytes.len() <= UPSTREAM_STAGE {
        http.send_data(out, bytes);
        bytes.len()
    } else {
        exchange.pending.extend_from_slice(bytes);
        0
    };
    cx.mark_upstream(state);
    taken
}

/// END of a request: at once, or behind the bytes that wait. False: it was shorter than promised.
pub fn end(
    exchange: &mut Exchange,
    trailers: &mut dyn Iterator<Item = Field<'_>>,
    upstreams: &mut Slab<Upstream>,
    cx: &mut Context,
) -> bool {
    if exchange.ask.is_some() {
        return shared::end(exchange, trailers, upstreams, cx);
    }
    let Some(Upstream { http, state, .. }) =
        exchange.upstream.and_then(|key| upstreams.get_mut(key))
    else {
        return true;
    };
    if exchange.request_done {
        return true;
    }
    if exchange.pending.is_empty() {
        exchange.request_done = true;
        let out = state.stage(cx);
        let complete = http.send_end(out, trailers);
        cx.mark_upstream(state);
        complete
    } else {
        exchange.end = Some(kept(trailers));
        true
    }
}

/// Trailers that wait behind a body.
pub fn kept(trailers: &mut dyn Iterator<Item = Field<'_>>) -> Vec<(Vec<u8>, Vec<u8>)> {
    trailers
        .map(|f| (f.name.to_vec(), f.value.to_vec()))
        .collect()
}

/// Moves waiting request bytes into staging: called when the upstream's last send is complete. The exchange whose body
/// turned out shorter than promised, if so.
pub fn refill(
    key: usize,
    upstreams: &mut Slab<Upstream>,
    exchanges: &mut Slab<Exchange>,
    links: &mut Slab<Link>,
    cx: &mut Context,
) -> Option<usize> {
    let Upstream {
        http,
        state,
        shared,
        ..
    } = upstreams.get_mut(key)?;
    if shared.is_some() {
        cx.mark_upstream(state);
        return None;
    }
    state.progress = cx.now;
    let exchange_key = state.exchange?;
    let exchange = exchanges.get_mut(exchange_key)?;
    let waiting = exchange.pending.len() - exchange.pending_at;
    if waiting > 0 {
        let out = state.stage(cx);
        let moved = waiting.min(UPSTREAM_STAGE.saturating_sub(out.staged()));
        http.send_data(
            out,
            &exchange.pending[exchange.pending_at..exchange.pending_at + moved],
        );
        exchange.pending_at += moved;
        if exchange.pending_at * 2 >= exchange.pending.len() {
            exchange.pending.drain(..exchange.pending_at);
            exchange.pending_at = 0;
        }
        if let Some((session, out)) = links.get_mut(exchange.link).and_then(Link::session) {
            session.consumed(exchange.stream, moved, out);
        }
        super::shard::mark_link(links, exchange.link, cx);
    }
    if exchange.pending.is_empty()
        && let Some(trailers) = exchange.end.take()
    {
        exchange.request_done = true;
        let out = state.stage(cx);
        let mut trailers = trailers.iter().map(|(name, value)| Field { name, value });
        if !http.send_end(out, &mut trailers) {
            return Some(exchange_key);
        }
    }
    cx.mark_upstream(state);
    None
}

/// The session has reset the stream already; the exchange goes too.
fn too_large() -> Outcome {
    Outcome::Failed((ResetCode::UpstreamBroken, TOO_LARGE.into()))
}

pub const TOO_LARGE: &str = "the upstream's head or trailers do not fit a relay frame";

/// What the upstream's bytes led to.
pub enum Outcome {
    Continue,
    /// The exchange is complete; the connection may serve another or not.
    Complete {
        reusable: bool,
    },
    Failed(Refusal),
    /// Bytes that no request asked for.
    Unasked,
}

fn is_dropped(name: &[u8], body: Body, fields: &http1::Fields<'_>) -> bool {
    http1::is_hop_by_hop(name, *fields)
        || (body != Body::None && name.eq_ignore_ascii_case(b"content-length"))
}

/// Takes bytes from the upstream, TLS undone.
pub fn received<R: Verbs>(
    http: &mut http1::Client,
    state: &mut State,
    input: &[u8],
    exchange: &mut Exchange,
    links: &mut Slab<Link>,
    cx: &mut Context,
    ring: &mut R,
) -> Outcome {
    state.progress = cx.now;
    if !state.answered {
        state.answered = true;
        cx.endpoint_answered(state.endpoint);
    }
    let mut used = 0;
    let Some(link) = links.get_mut(exchange.link) else {
        return Outcome::Continue;
    };
    loop {
        let Some((session, out)) = link.session() else {
            return Outcome::Continue;
        };
        match http.next(input, &mut used) {
            Ok(ClientEvent::NeedMore) => break,
            Ok(ClientEvent::Interim(head)) => {
                let mut fields = head
                    .fields
                    .iter()
                    .filter(|f| !is_dropped(f.name, Body::Length(0), &head.fields));
                let fits = session.send_head(
                    exchange.stream,
                    head.status,
                    true,
                    head.reason,
                    Body::None,
                    &mut fields,
                    out,
                );
                if !fits {
                    return too_large();
                }
            }
            Ok(ClientEvent::Head(head)) if head.status == 101 => {
                return Outcome::Failed((
                    ResetCode::UpstreamBroken,
                    "the upstream switched protocols unasked".into(),
                ));
            }
            Ok(ClientEvent::Head(head)) => {
                let body = match head.framing {
                    Framing::None => Body::None,
                    Framing::Length(n) => Body::Length(n),
                    Framing::Chunked | Framing::UntilClose => Body::Unknown,
                };
                let mut fields = head
                    .fields
                    .iter()
                    .filter(|f| !is_dropped(f.name, body, &head.fields));
                let fits = session.send_head(
                    exchange.stream,
                    head.status,
                    false,
                    head.reason,
                    body,
                    &mut fields,
                    out,
                );
                if !fits {
                    return too_large();
                }
            }
            Ok(ClientEvent::Data(bytes)) => session.send_data(exchange.stream, bytes, out),
            Ok(ClientEvent::End { trailers }) => {
                if !session.send_end(exchange.stream, &mut trailers.iter(), out) {
                    return too_large();
                }
                exchange.response_done = true;
                cx.mark_link(&mut link.state);
                let reusable = exchange.request_done && used == input.len() && http.is_reusable();
                return Outcome::Complete { reusable };
            }
            Err(refusal) => {
                let text = format!("the upstream's answer cannot be read: {}", refusal.why);
                return Outcome::Failed((ResetCode::UpstreamBroken, text.into()));
            }
        }
    }
    if session_queue(link, exchange.stream) > STREAM_QUEUE && !state.paused {
        state.paused = true;
        state.read(Receive::Paused, ring);
    }
    cx.mark_link(&mut link.state);
    // For its deadline, which is nearer now.
    cx.mark_upstream(state);
    Outcome::Continue
}

pub fn session_queue(link: &mut Link, stream: StreamId) -> usize {
    link.session()
        .map_or(0, |(session, _)| session.queued(stream))
}

/// The stream is over: whatever its upstream connection still does is unwanted.
pub fn drop<R: Verbs>(
    key: usize,
    exchanges: &mut Slab<Exchange>,
    upstreams: &mut Slab<Upstream>,
    cx: &mut Context,
    ring: &mut R,
) {
    if let Some(exchange) = exchanges.try_remove(key)
        && let Some(upstream) = exchange.upstream
    {
        match exchange.ask.and_then(|ask| ask.stream) {
            Some(stream) => shared::cancel(upstream, stream, upstreams, cx),
            None => {
                reach::take_out(upstream, upstreams, cx, ring, true);
            }
        }
    }
}
