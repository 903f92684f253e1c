//! Connections that many exchanges share: HTTP/2 to an upstream.
//!
//! ```text
//! request ▸ a connection with a free stream ──────────────────────────────▶ sent
//!         ▸ else it waits, with the one dial that is under way ─ h2 ──────▶ as many as fit are sent; the rest: next dial
//!                                                               └ http/1.1 ▶ each on a connection of its own
//! ```
//!
//! One dial at a time and endpoint: ten thousand requests that come at once make as many connections as their streams
//! need, one after the other. What the server chose is remembered: one that chose HTTP/1.1 is offered HTTP/2 again after
//! [`OFFER_AGAIN`].
//!
//! An exchange keeps its request's head as the relay brought it, in one piece, until it is sent, and longer when it has no
//! body: what was refused unseen goes to another connection, and to one of HTTP/1.1 as well.

use crate::control::config::H2;
use crate::ring::Verbs;
use crate::wire::relay::{Body, OpenFrame, OpenHead, ResetCode, StreamId};
use crate::wire::{Field, http2};
use slab::Slab;
use std::collections::VecDeque;
use std::time::Instant;

use super::context::Context;
use super::exchange::{self, Exchange, Refusal};
use super::link::Link;
use super::plan::{Plan, WAITING_MAX};
use super::reach::{self, Place};
use super::upstream::Upstream;

/// A connection's part that is HTTP/2.
pub struct Shared {
    /// A stream's owner is its exchange.
    pub http: http2::Client<u32>,
    /// It stands on its endpoint's list of those with free streams.
    pub listed: bool,
    /// When the first of its exchanges may be overdue; earlier than that is harmless.
    pub due: Option<Instant>,
    /// Some exchange had an answer.
    pub answered: bool,
}

/// What an endpoint's exchanges share.
#[derive(Default)]
pub struct Sharing {
    /// Connections that had a free stream when last seen, the one to take last.
    pub free: Vec<usize>,
    /// The connection that is being made.
    pub dialling: Option<usize>,
    /// Who waits for it, at most [`WAITING_MAX`]; some may have gone.
    pub waiting: VecDeque<(usize, StreamId)>,
    /// The server chose HTTP/1.1: it is not asked again before.
    pub http1_until: Option<Instant>,
}

impl Sharing {
    pub fn forget(&mut self, key: usize) {
        self.free.retain(|free| *free != key);
        self.dialling.take_if(|dialling| *dialling == key);
    }
}

/// An exchange's part.
pub struct Ask {
    /// The head; empty once it may not be sent again.
    pub frame: OpenFrame,
    pub endpoint: u32,
    /// Of its connection; none while it waits.
    pub stream: Option<u32>,
    /// Something of the answer came.
    pub answered: bool,
    /// The relay stream's queue is long.
    pub paused: bool,
    pub progress: Instant,
    /// Connections that refused it unseen.
    pub refusals: u8,
}

/// Whether requests to an endpoint share connections, as far as is known.
pub fn is_shared(endpoint: u32, cx: &Context) -> bool {
    match cx.plan.endpoints[endpoint as usize].h2 {
        H2::Never => false,
        H2::Always => true,
        H2::Auto => {
            let until = cx.pools[endpoint as usize].sharing.http1_until;
            until.is_none_or(|until| cx.now >= until)
        }
    }
}

/// Begins an exchange towards this endpoint, or the route's next one.
pub fn begin<R: Verbs>(
    endpoint: u32,
    (key, head): (usize, &OpenHead<'_>),
    exchanges: &mut Slab<Exchange>,
    upstreams: &mut Slab<Upstream>,
    cx: &mut Context,
    ring: &mut R,
) -> Result<(), Refusal> {
    if !http2::is_sendable(head.method) {
        return Err((ResetCode::Protocol, "CONNECT is for proxies".into()));
    }
    let mut frame = OpenFrame::default();
    if !frame.encode(head, &mut { head.fields }) {
        return Err((ResetCode::Protocol, "the request's head is too long".into()));
    }
    if let Some(exchange) = exchanges.get_mut(key) {
        exchange.ask = Some(Box::new(Ask {
            frame,
            endpoint,
            stream: None,
            answered: false,
            paused: false,
            progress: cx.now,
            refusals: 0,
        }));
    }
    place(endpoint, key, exchanges, upstreams, cx, ring)
        .or_else(|refusal| go_on(key, refusal, exchanges, upstreams, cx, ring))
}

/// A stream of a connection to this endpoint, or a place among those who wait for one.
pub fn place<R: Verbs>(
    endpoint: u32,
    key: usize,
    exchanges: &mut Slab<Exchange>,
    upstreams: &mut Slab<Upstream>,
    cx: &mut Context,
    ring: &mut R,
) -> Result<(), Refusal> {
    while let Some(free) = cx.pools[endpoint as usize].sharing.free.last().copied() {
        match send(free, key, exchanges, upstreams, cx) {
            Ok(()) => return Ok(()),
            Err(failed) if failed.refused => unlist(free, endpoint, upstreams, cx),
            Err(failed) => return Err((ResetCode::Protocol, failed.why.into())),
        }
    }
    let Some(exchange) = exchanges.get_mut(key) else {
        return Err((ResetCode::Internal, "the exchange is gone".into()));
    };
    let (route, stream) = (exchange.route, exchange.stream);
    if let Some(ask) = &mut exchange.ask {
        ask.endpoint = endpoint;
        ask.stream = None;
    }
    if cx.pools[endpoint as usize].sharing.waiting.len() >= WAITING_MAX {
        let text = "too many requests wait for a connection to the upstream";
        return Err((ResetCode::Refused, text.into()));
    }
    if cx.pools[endpoint as usize].sharing.dialling.is_none() {
        let dialled = reach::dial(endpoint, route, true, upstreams, cx, ring)?;
        cx.pools[endpoint as usize].sharing.dialling = Some(dialled);
    }
    let sharing = &mut cx.pools[endpoint as usize].sharing;
    sharing.waiting.push_back((key, stream));
    Ok(())
}

/// The route's next endpoint, over HTTP/1.1 too, while the route's time lasts.
pub fn go_on<R: Verbs>(
    key: usize,
    refusal: Refusal,
    exchanges: &mut Slab<Exchange>,
    upstreams: &mut Slab<Upstream>,
    cx: &mut Context,
    ring: &mut R,
) -> Result<(), Refusal> {
    let mut last = refusal.clone();
    loop {
        let Some(exchange) = exchanges.get_mut(key) else {
            return Err(refusal);
        };
        exchange.upstream = None;
        let spent = cx.now.saturating_duration_since(exchange.began);
        let timeout = cx.plan.routes[exchange.route].timeout;
        let whole = exchange
            .ask
            .as_ref()
            .is_some_and(|ask| !ask.frame.is_empty());
        if !whole || timeout.is_some_and(|timeout| spent >= timeout) {
            return Err(refusal);
        }
        let find = reach::Find {
            route: exchange.route,
            repeatable: exchange.repeatable,
            own_only: false,
        };
        let seen = exchange.seen;
        let tried = &mut exchange.tried;
        let placed = match reach::connection(find, tried, last.clone(), upstreams, cx, ring) {
            Ok(Place::Own(own)) => turn_own(own, key, exchanges, upstreams, cx),
            Ok(Place::Shared(endpoint)) => place(endpoint, key, exchanges, upstreams, cx, ring),
            // RESET(refused) promises that no upstream saw the request.
            Err(_) if seen => return Err(refusal),
            Err(why) => return Err(why),
        };
        cx.stats.upstream_moved_on += 1;
        match placed {
            Ok(()) => return Ok(()),
            Err(why) => last = why,
        }
    }
}

/// Gives a request that waited to a connection of its own. What waits of its body follows when the head is sent.
pub fn turn_own(
    own: usize,
    key: usize,
    exchanges: &mut Slab<Exchange>,
    upstreams: &mut Slab<Upstream>,
    cx: &mut Context,
) -> Result<(), Refusal> {
    let ask = exchanges
        .get_mut(key)
        .and_then(|exchange| exchange.ask.take());
    match ask.as_ref().and_then(|ask| ask.frame.head()) {
        Some(head) => exchange::send_own(own, (key, &head), exchanges, upstreams, cx),
        None => Err((ResetCode::Internal, "the request is not whole".into())),
    }
}

/// Sends a request on a free stream of a connection. `Err(refused)`: it has none.
pub fn send(
    conn: usize,
    key: usize,
    exchanges: &mut Slab<Exchange>,
    upstreams: &mut Slab<Upstream>,
    cx: &mut Context,
) -> Result<(), http2::Failed> {
    let lost = |refused| http2::Failed {
        refused,
        wants_http1: false,
        why: "the request or its connection is gone".into(),
    };
    let Some(Upstream {
        shared: Some(shared),
        state,
        ..
    }) = upstreams.get_mut(conn)
    else {
        return Err(lost(true));
    };
    let exchange = exchanges.get_mut(key).ok_or_else(|| lost(false))?;
    let ask = exchange.ask.as_mut().ok_or_else(|| lost(false))?;
    let head = ask.frame.head().ok_or_else(|| lost(false))?;
    let plan = cx.plan.clone();
    let endpoint = &plan.endpoints[state.endpoint as usize];
    let mut joined = Vec::new();
    let strip = plan.routes[exchange.route].strip;
    let request = http2::Request {
        method: head.method,
        https: endpoint.tls.is_some(),
        authority: exchange::host_at(endpoint, &head),
        target: exchange::target_at(endpoint, strip, head.target, &mut joined),
        content: match head.body {
            Body::None => http2::Content::None,
            Body::Length(length) => http2::Content::Length(length),
            Body::Unknown => http2::Content::Unknown,
        },
    };
    let stream = shared
        .http
        .open(key as u32, &request, exchange::fields_of(&head))?;
    let whole = head.body == Body::None;
    cx.stats.upstream_reused += u64::from(shared.answered);
    ask.endpoint = state.endpoint;
    ask.stream = Some(stream);
    ask.answered = false;
    ask.progress = cx.now;
    if !whole {
        ask.frame = OpenFrame::default();
    }
    exchange.upstream = Some(conn);
    note_deadline(shared, exchange, &plan);
    cx.mark_upstream(state);
    Ok(())
}

/// Takes a connection off the list of those with free streams.
pub fn unlist(conn: usize, endpoint: u32, upstreams: &mut Slab<Upstream>, cx: &mut Context) {
    let free = &mut cx.pools[endpoint as usize].sharing.free;
    free.retain(|free| *free != conn);
    if let Some(shared) = upstreams.get_mut(conn).and_then(|u| u.shared.as_mut()) {
        shared.listed = false;
    }
}

/// Puts a connection on the list if it has a free stream.
pub fn list(conn: usize, endpoint: u32, shared: &mut Shared, cx: &mut Context) {
    if !shared.listed && shared.http.room() > 0 {
        shared.listed = true;
        cx.pools[endpoint as usize].sharing.free.push(conn);
    }
}

/// When something must happen to an exchange if nothing else does.
pub fn deadline(exchange: &Exchange, plan: &Plan) -> Option<Instant> {
    let ask = exchange.ask.as_ref()?;
    let route = &plan.routes[exchange.route];
    match (ask.paused, ask.answered) {
        (true, _) => None,
        (false, false) => route.timeout.map(|timeout| ask.progress + timeout),
        (false, true) if route.idle_timeout.is_zero() => None,
        (false, true) => Some(ask.progress + route.idle_timeout),
    }
}

pub fn note_deadline(shared: &mut Shared, exchange: &Exchange, plan: &Plan) {
    if let Some(at) = deadline(exchange, plan)
        && shared.due.is_none_or(|due| at < due)
    {
        shared.due = Some(at);
    }
}

/// Body bytes of a request; see [`exchange::data`]. What finds no room waits: before the request is sent, and beyond the
/// upstream's window.
pub fn data(
    exchange: &mut Exchange,
    bytes: &[u8],
    upstreams: &mut Slab<Upstream>,
    cx: &mut Context,
) -> usize {
    if exchange.response_done {
        return bytes.len();
    }
    let mut taken = 0;
    if exchange.pending.is_empty()
        && let Some((shared, stream)) = stream_of(exchange, upstreams, cx)
    {
        taken = shared.http.send_data(stream, bytes);
    }
    exchange
        .pending
        .extend_from_slice(bytes.get(taken..).unwrap_or_default());
    taken
}

/// END of a request; see [`exchange::end`].
pub fn end(
    exchange: &mut Exchange,
    trailers: &mut dyn Iterator<Item = Field<'_>>,
    upstreams: &mut Slab<Upstream>,
    cx: &mut Context,
) -> bool {
    if exchange.request_done || exchange.response_done {
        return true;
    }
    let waits = !exchange.pending.is_empty();
    match stream_of(exchange, upstreams, cx).filter(|_| !waits) {
        Some((shared, stream)) => {
            let whole = shared.http.send_end(stream, trailers);
            exchange.request_done = true;
            whole
        }
        None => {
            exchange.end = Some(exchange::kept(trailers));
            true
        }
    }
}

/// An exchange's connection and stream, which has something to send now.
fn stream_of<'u>(
    exchange: &mut Exchange,
    upstreams: &'u mut Slab<Upstream>,
    cx: &mut Context,
) -> Option<(&'u mut Shared, u32)> {
    let ask = exchange.ask.as_mut()?;
    let stream = ask.stream?;
    let upstream = upstreams.get_mut(exchange.upstream?)?;
    ask.progress = cx.now;
    cx.mark_upstream(&mut upstream.state);
    Some((upstream.shared.as_deref_mut()?, stream))
}

/// Sends what waits of a request's body, as far as it goes, and its end. False: it was not as long as promised.
pub fn refill(
    exchange: &mut Exchange,
    links: &mut Slab<Link>,
    upstreams: &mut Slab<Upstream>,
    cx: &mut Context,
) -> bool {
    let Some((shared, stream)) = stream_of(exchange, upstreams, cx) else {
        return true;
    };
    let waiting = exchange
        .pending
        .get(exchange.pending_at..)
        .unwrap_or_default();
    if !waiting.is_empty() {
        let moved = shared.http.send_data(stream, waiting);
        exchange.pending_at += moved;
        if exchange.pending_at * 2 >= exchange.pending.len() {
            exchange.pending.drain(..exchange.pending_at);
            exchange.pending_at = 0;
        }
        consumed(exchange, moved, links, cx);
    }
    if !exchange.pending.is_empty() {
        return true;
    }
    match exchange.end.take() {
        None => true,
        Some(trailers) => {
            exchange.request_done = true;
            let mut trailers = trailers.iter().map(|(name, value)| Field { name, value });
            shared.http.send_end(stream, &mut trailers)
        }
    }
}

/// Gives the stream's credit back for bytes that waited.
pub fn consumed(exchange: &Exchange, bytes: usize, links: &mut Slab<Link>, cx: &mut Context) {
    if let Some(link) = links.get_mut(exchange.link) {
        if let Some((session, out)) = link.session() {
            session.consumed(exchange.stream, bytes, out);
        }
        cx.mark_link(&mut link.state);
    }
}

/// The relay stream's queue ran empty.
pub fn resume(ask: &mut Ask, upstream: Option<&mut Upstream>, cx: &mut Context) {
    if let (true, Some(stream)) = (ask.paused, ask.stream)
        && let Some(upstream) = upstream
        && let Some(shared) = &mut upstream.shared
    {
        ask.paused = false;
        ask.progress = cx.now;
        shared.http.resume(stream);
        cx.mark_upstream(&mut upstream.state);
    }
}

/// An exchange is over before its end: the upstream hears it by RST_STREAM, and the connection stands.
pub fn cancel(conn: usize, stream: u32, upstreams: &mut Slab<Upstream>, cx: &mut Context) {
    if let Some(Upstream {
        shared: Some(shared),
        state,
        ..
    }) = upstreams.get_mut(conn)
    {
        shared.http.reset(stream);
        state.progress = cx.now;
        cx.mark_upstream(state);
    }
}
