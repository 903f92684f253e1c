//! A request's way in: head ▸ route ▸ auth ▸ relay, then its body.

use crate::control::settings::Auth;
use crate::control::snapshot::{ClientIdentity, Snapshot};
use crate::ring::{Receive, Verbs};
use crate::wire::http1::{self, Framing, RequestHead, ServerEvent};
use crate::wire::relay::{Body, OpenHead, ResetCode};
use crate::wire::{Field, Put};
use slab::Slab;

use super::channel::own::{self, Own};
use super::channel::receipt;
use super::client::{Client, Exchange, Phase, State};
use super::context::Context;
use super::fault::Fault;
use super::hold::{self, Incoming};
use super::plan::{LARGE_BODY, PIPELINED, STREAM_QUEUE};
use super::relay::{self, Link, Wanted};
use super::response::Orphan;
use super::{auth, response, retry, route};
use crate::wire::path;

/// Tokens that are no good, after which a connection ends: each one may cost a signature's verification.
const BAD_TOKENS_MAX: u8 = 16;

/// A fault and what to say of it.
pub type Failure = (Fault, String);

/// Takes plaintext of a client (may be empty: a pipelined request may wait inside the core).
pub fn plaintext<R: Verbs>(
    http: &mut http1::Server,
    state: &mut State,
    plain: &[u8],
    links: &mut Slab<Link>,
    cx: &mut Context,
    ring: &mut R,
) {
    let mut used = 0;
    while state.phase == Phase::Open {
        let outcome = match http.next(plain, &mut used) {
            Ok(ServerEvent::NeedMore) => break,
            Ok(ServerEvent::Head(head)) => {
                state.head_since = None;
                let mut exchange = cx.exchange();
                let outcome = first(&head, state, &mut exchange, links, cx);
                if outcome.is_ok() && large(head.framing) {
                    read(state, Receive::Large, ring);
                }
                state.exchange = Some(exchange);
                outcome
            }
            Ok(ServerEvent::Data(bytes)) => body(state, bytes, links, cx, ring),
            Ok(ServerEvent::End { trailers }) => end(state, &mut trailers.iter(), links, cx, ring),
            Err(refusal) => Err((Fault::of_status(refusal.status), refusal.why.into())),
        };
        if let Err((fault, detail)) = outcome {
            refuse(http, state, fault, &detail, links, cx);
        }
    }
    take_receipts(http, state, links, cx);
    if state.phase == Phase::Open {
        match (http.in_head(), state.head_since) {
            (true, None) => state.head_since = Some(cx.now),
            (false, Some(_)) => state.head_since = None,
            _ => {}
        }
        let flowing = state.exchange.as_ref().is_none_or(|open| !open.paused);
        match waiting(http) {
            0 if flowing && state.reading == Receive::Paused => read(state, Receive::Small, ring),
            held if held > PIPELINED => read(state, Receive::Paused, ring),
            _ => {}
        }
    }
}

/// Answers a request with receipts that is complete.
fn take_receipts(
    http: &mut http1::Server,
    state: &mut State,
    links: &mut Slab<Link>,
    cx: &mut Context,
) {
    let Some(exchange) = state.exchange.as_mut().filter(|e| e.request_done) else {
        return;
    };
    let Some(Own::Receipt(body)) = exchange.own.as_deref() else {
        return;
    };
    match receipt::take(body, exchange.client_id(), exchange.site, links, cx) {
        Ok(()) => response::done(http, state, cx),
        Err((fault, detail)) => refuse(http, state, fault, &detail, links, cx),
    }
}

/// Bytes of later requests inside the core. Those of a head or a trailer section that is not complete wait for more to
/// come, so that the client must be read; they have limits of their own.
fn waiting(http: &http1::Server) -> usize {
    if http.in_head() || http.in_body() {
        0
    } else {
        http.held()
    }
}

fn large(framing: Framing) -> bool {
    match framing {
        Framing::Length(n) => n > LARGE_BODY,
        Framing::Chunked => true,
        Framing::None | Framing::UntilClose => false,
    }
}

/// Tells the ring how to receive, when that changes.
pub fn read<R: Verbs>(state: &mut State, mode: Receive, ring: &mut R) {
    if state.reading != mode {
        state.reading = mode;
        ring.receive(state.socket, mode);
    }
}

/// Field names that only the gateway may set: `tidegate-…`, also with `_` for `-`, which some upstreams fold together.
fn is_ours(name: &[u8]) -> bool {
    const PREFIX: &[u8] = b"tidegate";
    name.len() > PREFIX.len()
        && name[..PREFIX.len()].eq_ignore_ascii_case(PREFIX)
        && matches!(name[PREFIX.len()], b'-' | b'_')
}

/// Notes what the exchange must know of the request, and begins it, or holds it for want of a link.
fn first(
    head: &RequestHead<'_>,
    state: &mut State,
    exchange: &mut Exchange,
    links: &mut Slab<Link>,
    cx: &mut Context,
) -> Result<(), Failure> {
    exchange.line.put(head.method);
    exchange.line.put(b" ");
    exchange.method_len = head.method.len();
    exchange.line.put(head.target);
    exchange.request_done = head.framing == Framing::None;
    exchange.upgrade = own::upgrade(head).map(Box::new);
    let incoming = Incoming::of(head);
    retry::earn(cx);
    cx.last_request = Some(cx.now);
    match begin(&incoming, state, exchange, links, cx) {
        Err((fault, _)) if hold::hold(&incoming, fault, state, exchange, cx) => Ok(()),
        outcome => outcome,
    }
}

/// Routes, judges and opens: the exchange has a stream afterwards, or the fault says why not.
pub(super) fn begin(
    head: &Incoming<'_>,
    state: &mut State,
    exchange: &mut Exchange,
    links: &mut Slab<Link>,
    cx: &mut Context,
) -> Result<(), Failure> {
    // A held request comes here again, perhaps as somebody else.
    exchange.client = None;
    exchange.challenge = None;
    exchange.bad_token = false;
    let snapshot = cx.snapshot.clone();
    let site = route::site(&snapshot, state.sni.as_deref(), head.host).map_err(|fault| {
        (
            fault,
            "the host name belongs to no site, or to another than the TLS server name".into(),
        )
    })?;
    exchange.site = site;
    let mut scratch = Vec::new();
    let normal = path::normalise(head.target, &mut scratch)
        .map_err(|r| (Fault::BadRequest, r.why.to_owned()))?;
    if normal.path.starts_with(own::PREFIX) {
        let upgrade = exchange.upgrade.as_deref().copied();
        let own = own::read(head, normal.path, normal.query, upgrade)?;
        return begin_own(own, head, &snapshot, state, exchange, cx);
    }
    let (index, route) = route::admit(&snapshot, site, normal.path, head.method, head.framing)
        .map_err(|fault| (fault, fault.explanation().to_owned()))?;
    if exchange.body_in > route.max_body {
        return Err(too_large(route.max_body));
    }
    let entry = enter(head, &snapshot, site, route.auth, state, exchange, cx)?;
    exchange.goes_by(route);

    let mut joined = Vec::new();
    let id = exchange.id;
    let open = OpenHead {
        method: head.method,
        target: join(&normal, head.target, &mut joined),
        host: head.host,
        request_id: &id,
        body: match head.framing {
            Framing::None => Body::None,
            Framing::Length(n) => Body::Length(n),
            Framing::Chunked | Framing::UntilClose => Body::Unknown,
        },
        expect_continue: head.expect_continue,
        fields: Default::default(),
    };
    let forwarded = head.fields().filter(|field| !is_dropped(field.name));
    let mut fields = forwarded.chain(identity_fields(&entry, &state.address));
    let fits = exchange.open.encode(&open, &mut fields);
    if let auth::Entry::Known(verdict) = &entry {
        exchange.client = Some(verdict.clone());
    }
    if !fits {
        return Err((
            Fault::HeadTooLarge,
            "the head does not fit a relay frame".into(),
        ));
    }
    let wanted = Wanted {
        site,
        route: index,
        connectors: &route.connectors,
        except: None,
    };
    match relay::open(&wanted, state.key, &mut exchange.open, links, cx) {
        relay::Opened::On {
            link,
            stream,
            connector,
        } => {
            exchange.stream = Some((link, stream));
            exchange.connector = connector;
            // A body is kept only where somebody else could take it.
            let others = Wanted {
                except: Some(connector),
                ..wanted
            };
            let whole = head.framing == Framing::None || relay::is_linked(&others, cx);
            retry::begin(exchange, whole, cx);
            Ok(())
        }
        relay::Opened::Full => Err((
            Fault::Overloaded,
            "every link of the site's connectors is at its stream limit".into(),
        )),
        relay::Opened::NoLink => Err((Fault::NoConnector, Fault::NoConnector.explanation().into())),
    }
}

/// A request that the gateway answers itself: whoever may hold a channel may make it.
fn begin_own(
    own: Own,
    head: &Incoming<'_>,
    snapshot: &Snapshot,
    state: &mut State,
    exchange: &mut Exchange,
    cx: &mut Context,
) -> Result<(), Failure> {
    let site = exchange.site;
    let settings = &snapshot.sites[site as usize];
    if !settings.published {
        return Err((Fault::NoConnector, Fault::NoConnector.explanation().into()));
    }
    let entry = enter(head, snapshot, site, settings.channels, state, exchange, cx)?;
    if let auth::Entry::Known(verdict) = entry {
        exchange.client = Some(verdict);
    }
    exchange.own = Some(Box::new(own));
    Ok(())
}

/// Stage `auth`. What is missing is asked for, and the request may wait for it.
fn enter(
    head: &Incoming<'_>,
    snapshot: &Snapshot,
    site: u32,
    required: Auth,
    state: &mut State,
    exchange: &mut Exchange,
    cx: &mut Context,
) -> Result<auth::Entry, Failure> {
    let bearer = match required {
        Auth::Token | Auth::Any => auth::Bearer::of(head.fields()),
        Auth::Certificate | Auth::None => auth::Bearer::Absent,
    };
    let shown = auth::Credentials {
        chain: state.chain.as_deref(),
        bearer,
        last_token: &mut state.last_token,
    };
    let unix_now = cx.unix_now();
    let refused = match cx.judge.enter(snapshot, site, required, shown, unix_now) {
        Ok(entry) => return Ok(entry),
        Err(refused) => refused,
    };
    exchange.challenge = refused.challenge;
    exchange.bad_token = refused.challenge == Some(auth::Challenge::InvalidToken);
    let Some(missing) = refused.missing else {
        return Err((refused.fault, refused.detail));
    };
    let coming = missing.source.is_some_and(|source| cx.ask(&source));
    exchange.bad_token = missing.stale_key;
    if missing.stale_key && !coming {
        exchange.challenge = Some(auth::Challenge::InvalidToken);
        return Err((Fault::Unauthenticated, refused.detail));
    }
    Err((refused.fault, refused.detail))
}

/// Path and query as they are forwarded: the client's own bytes where they were normal already.
fn join<'a>(normal: &path::Normalised<'a>, target: &'a [u8], joined: &'a mut Vec<u8>) -> &'a [u8] {
    let query = normal.query.map_or(0, |query| query.len() + 1);
    if target.len() == normal.path.len() + query && target.starts_with(normal.path) {
        return target;
    }
    joined.put(normal.path);
    if let Some(query) = normal.query {
        joined.put(b"?");
        joined.put(query);
    }
    joined
}

/// Fields of the client that do not travel: those the relay carries apart, and our own names.
fn is_dropped(name: &[u8]) -> bool {
    name.eq_ignore_ascii_case(b"host")
        || name.eq_ignore_ascii_case(b"content-length")
        || name.eq_ignore_ascii_case(b"expect")
        || is_ours(name)
}

/// Who the client is, for the upstream (DESIGN §6).
fn identity_fields<'a>(
    entry: &'a auth::Entry,
    address: &'a str,
) -> impl Iterator<Item = Field<'a>> {
    let identity = entry.identity();
    let field = |name: &'static str, value: &'a str| Field {
        name: name.as_bytes(),
        value: value.as_bytes(),
    };
    let auth = identity.map_or("none", ClientIdentity::means);
    let known = identity.into_iter().flat_map(move |identity| {
        let optional = [
            ("Tidegate-Device", identity.device.as_deref()),
            ("Tidegate-User", identity.user.as_deref()),
            ("Tidegate-Tenant", identity.tenant.as_deref()),
            ("Tidegate-Cert-Hash", identity.cert_hash()),
        ];
        let known = optional
            .into_iter()
            .filter_map(move |(name, value)| value.map(|value| field(name, value)));
        [field("Tidegate-Client-Id", &identity.client_id)]
            .into_iter()
            .chain(known)
    });
    [
        field("Tidegate-Auth", auth),
        field("Tidegate-Address", address),
    ]
    .into_iter()
    .chain(known)
}

fn too_large(most: u64) -> Failure {
    let detail = format!("the route takes {most} bytes at most");
    (Fault::BodyTooLarge, detail)
}

/// Body bytes of the open request.
fn body<R: Verbs>(
    state: &mut State,
    bytes: &[u8],
    links: &mut Slab<Link>,
    cx: &mut Context,
    ring: &mut R,
) -> Result<(), Failure> {
    // After an early answer the rest of the body is read and dropped.
    let Some(exchange) = state.exchange.as_mut() else {
        return Ok(());
    };
    exchange.body_in += bytes.len() as u64;
    if exchange.body_in > exchange.max_body {
        return Err(too_large(exchange.max_body));
    }
    if let Some(Own::Receipt(body)) = exchange.own.as_deref_mut() {
        body.extend_from_slice(bytes);
        return match exchange.body_in > own::RECEIPT_BYTES {
            true => Err(too_large(own::RECEIPT_BYTES)),
            false => Ok(()),
        };
    }
    if let Some(held) = &mut exchange.held {
        if !held.keep(bytes) {
            exchange.paused = true;
            read(state, Receive::Paused, ring);
        }
        return Ok(());
    }
    let Some((link, stream)) = exchange.stream else {
        return Ok(());
    };
    let Some((session, out)) = links.get_mut(link).and_then(Link::session) else {
        return Ok(());
    };
    session.send_data(stream, bytes, out);
    retry::keep(exchange, bytes, cx);
    if session.queued(stream) > STREAM_QUEUE {
        exchange.paused = true;
        read(state, Receive::Paused, ring);
    }
    relay::mark(links, link, cx);
    Ok(())
}

/// The request is complete.
fn end<R: Verbs>(
    state: &mut State,
    trailers: &mut dyn Iterator<Item = Field<'_>>,
    links: &mut Slab<Link>,
    cx: &mut Context,
    ring: &mut R,
) -> Result<(), Failure> {
    if let Some(exchange) = state.exchange.as_mut() {
        exchange.request_done = true;
        if let Some(held) = &mut exchange.held {
            held.end(trailers.filter(|f| !is_ours(f.name)));
        } else if let Some((link, stream)) = exchange.stream {
            let mut trailers = trailers.filter(|f| !is_ours(f.name)).peekable();
            if trailers.peek().is_some() {
                // They are not kept.
                retry::let_go(exchange, cx);
            }
            if let Some((session, out)) = links.get_mut(link).and_then(Link::session) {
                session.send_end(stream, &mut trailers, out);
            }
            relay::mark(links, link, cx);
        }
    }
    if state.reading == Receive::Large {
        read(state, Receive::Small, ring);
    }
    Ok(())
}

/// The stream's queue ran empty: read on.
pub fn resume<R: Verbs>(client: &mut Client, ring: &mut R) {
    let state = &mut client.state;
    if let Some(exchange) = state.exchange.as_mut()
        && exchange.paused
    {
        exchange.paused = false;
        let mode = if exchange.request_done {
            Receive::Small
        } else {
            Receive::Large
        };
        read(state, mode, ring);
    }
}

/// Answers a request with a fault, and counts a token that was no good: a connection that shows many is not kept.
pub fn refuse(
    http: &mut http1::Server,
    state: &mut State,
    fault: Fault,
    detail: &str,
    links: &mut Slab<Link>,
    cx: &mut Context,
) {
    let bad = state.exchange.as_ref().is_some_and(|e| e.bad_token);
    state.bad_tokens = state.bad_tokens.saturating_add(u8::from(bad));
    if state.bad_tokens >= BAD_TOKENS_MAX {
        http.close_after_response();
    }
    let orphan = response::fail(http, state, fault, detail, cx);
    cancel(orphan, links, cx);
}

/// Ends the stream of a request that is over on the client's side.
pub fn cancel(orphan: Orphan, links: &mut Slab<Link>, cx: &mut Context) {
    if let Some((link, stream)) = orphan {
        if let Some((session, out)) = links.get_mut(link).and_then(Link::session) {
            session.reset(
                stream,
                ResetCode::Cancelled,
                "the client's side is over",
                out,
            );
        }
        relay::mark(links, link, cx);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_names_are_recognised_in_any_spelling() {
        for name in [
            "Tidegate-Client-Id",
            "tidegate_client_id",
            "TIDEGATE-AUTH",
            "tidegate-anything",
        ] {
            assert!(is_ours(name.as_bytes()), "{name}");
        }
        for name in ["Tidegate", "X-Tidegate-Auth", "Tidegates-Auth", "Host"] {
            assert!(!is_ours(name.as_bytes()), "{name}");
        }
    }
}
