//! Reaching an upstream: which endpoint of the route, a pooled connection or a new one, every address of its name, and
//! on to the route's next endpoint when all that fails.
//!
//! ```text
//! endpoint (in turn, out ones last) ▸ pooled connection ─────────────────────────▶ request sent
//!    ▲                              ▸ lookup ▸ address ▸ TCP ▸ TLS ──────────────▶ request sent
//!    │                                           ▲  failed │
//!    │                                           └─────────┘ next address
//!    └───── none left: nothing was sent, so the request as it stands goes on ─┘
//! ```
//!
//! Each endpoint is tried once for a request, and no longer than the route's `timeout` altogether. A request that may
//! have reached an upstream goes out again only if it may be repeated.

use crate::control::config::Upstream as Address;
use crate::ring::{ConnectOptions, Verbs};
use crate::wire::Put;
use crate::wire::http1;
use crate::wire::record::Outgoing;
use crate::wire::relay::ResetCode;
use slab::Slab;
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use super::context::{Context, Owner};
use super::exchange::{Exchange, Refusal};
use super::plan::Endpoint;
use super::resolve::{self, Asker};
use super::shared;
use super::upstream::{self, Phase, State, Upstream};

/// Addresses of one name that are tried; the resolver's order is kept.
pub const ADDRESSES_MAX: usize = 16;

/// The next endpoint for a request, noted in `tried`: a bit for each place in the route's list (64 at most).
fn choose(route: usize, tried: &mut u64, cx: &mut Context) -> Option<u32> {
    let plan = cx.plan.clone();
    let endpoints = &plan.route_endpoints[route];
    let turn = cx.next_endpoint[route];
    let due = |place: usize| cx.health[endpoints[place] as usize].due();
    let place = pick(endpoints.len(), turn, *tried, cx.now, due)?;
    *tried |= 1 << place;
    cx.next_endpoint[route] = (place + 1) % endpoints.len();
    let endpoint = endpoints[place];
    cx.health[endpoint as usize].tried(cx.now);
    Some(endpoint)
}

/// In turn; those that are out (`due` gives until when) only when that is over, or when nothing else is left, the one due
/// soonest first.
fn pick(
    places: usize,
    turn: usize,
    tried: u64,
    now: Instant,
    due: impl Fn(usize) -> Option<Instant>,
) -> Option<usize> {
    let mut soonest: Option<(Instant, usize)> = None;
    for place in (0..places).map(|step| (turn + step) % places) {
        if tried >> place & 1 == 1 {
            continue;
        }
        match due(place).filter(|due| *due > now) {
            None => return Some(place),
            Some(due) if soonest.is_none_or(|(earliest, _)| due < earliest) => {
                soonest = Some((due, place));
            }
            Some(_) => {}
        }
    }
    soonest.map(|(_, place)| place)
}

/// What kind of connection is looked for.
#[derive(Clone, Copy)]
pub struct Find {
    pub route: usize,
    /// It may ride a connection that has long been idle.
    pub repeatable: bool,
    /// The request stands written as HTTP/1.1.
    pub own_only: bool,
}

/// Where a request goes.
pub enum Place {
    /// A connection of its own: HTTP/1.1.
    Own(usize),
    /// A connection to this endpoint that it shares: HTTP/2, as far as is known.
    Shared(u32),
}

/// A connection for a request, pooled or on its way. `refusal` is what is said when no endpoint is left to try; one
/// that is refused here for want of room takes its place.
pub fn connection<R: Verbs>(
    find: Find,
    tried: &mut u64,
    mut refusal: Refusal,
    upstreams: &mut Slab<Upstream>,
    cx: &mut Context,
    ring: &mut R,
) -> Result<Place, Refusal> {
    let Find {
        route,
        repeatable,
        own_only,
    } = find;
    while let Some(endpoint) = choose(route, tried, cx) {
        if !own_only && shared::is_shared(endpoint, cx) {
            return Ok(Place::Shared(endpoint));
        }
        if let Some(key) = cx.pools[endpoint as usize].take(repeatable, cx.now) {
            cx.stats.upstream_reused += 1;
            return Ok(Place::Own(key));
        }
        match dial(endpoint, route, false, upstreams, cx, ring) {
            Ok(key) => return Ok(Place::Own(key)),
            Err(full) => refusal = full,
        }
    }
    Err(refusal)
}

/// Ties a connection to an exchange.
pub fn engage(state: &mut State, key: usize, route: usize, cx: &Context) {
    let route = &cx.plan.routes[route];
    state.exchange = Some(key);
    state.answered = false;
    state.timeout = route.timeout;
    state.idle_timeout = route.idle_timeout;
    state.progress = cx.now;
    if state.phase == Phase::Idle {
        state.phase = Phase::Busy;
        state.reused = true;
    }
}

/// A new connection to an endpoint, which `offers` HTTP/2 or does not. It is refused only for what this connector lacks:
/// the upstream saw nothing.
pub fn dial<R: Verbs>(
    endpoint: u32,
    route: usize,
    offers: bool,
    upstreams: &mut Slab<Upstream>,
    cx: &mut Context,
    ring: &mut R,
) -> Result<usize, Refusal> {
    let plan = cx.plan.clone();
    let refused = |what: &str| {
        let text = format!("{what} (upstream {})", plan.endpoints[endpoint as usize]);
        Err((ResetCode::Refused, text.into()))
    };
    let pool = &mut cx.pools[endpoint as usize];
    if pool.open >= plan.pool.connections_per_upstream {
        return refused("the connection limit is reached");
    }
    pool.open += 1;
    let stamp = cx.stamp();
    let key = upstreams.vacant_key();
    let connect_timeout = plan.routes[route].connect_timeout;
    let upstream = upstreams.vacant_entry().insert(Upstream {
        http: http1::Client::new(plan.http),
        shared: None,
        tls: None,
        state: State::new(key, stamp, endpoint, connect_timeout, cx.now),
    });
    upstream.state.offers = offers;
    let Address { host, port, .. } = &plan.endpoints[endpoint as usize].address;
    let missing = match resolve::literal(host, *port) {
        Some(found) => {
            upstream.state.addresses.push(found);
            (!connect(upstream, cx, ring)).then_some("no socket is free")
        }
        None => {
            let asked = cx.resolver.ask(host, *port, Asker::Upstream(key, stamp));
            (!asked).then_some("too many name lookups wait")
        }
    };
    match missing {
        None => Ok(key),
        Some(what) => {
            take_out(key, upstreams, cx, ring, true);
            refused(what)
        }
    }
}

/// Tries the next source address with this address, or the next address. False when none is left.
pub fn connect<R: Verbs>(upstream: &mut Upstream, cx: &mut Context, ring: &mut R) -> bool {
    upstream.tls = None;
    let state = &mut upstream.state;
    state.phase = Phase::Connecting;
    let plan = cx.plan.clone();
    let sources = &plan.endpoints[state.endpoint as usize].sources;
    loop {
        if state.sources_left == 0 {
            if state.addresses.is_empty() {
                return false;
            }
            let next = state.addresses.remove(0);
            state.address = Some(next);
            state.sources_left = fitting(sources, next).count().max(1);
        }
        let Some(address) = state.address else {
            return false;
        };
        state.sources_left -= 1;
        let source = cx.ports.turn(fitting(sources, address));
        let options = ConnectOptions {
            timeout: Some(state.connect_timeout),
            source,
            ..Default::default()
        };
        cx.stats.upstream_connects += 1;
        match ring.connect(address, &options) {
            Ok(socket) => {
                cx.own(socket, Owner::Upstream(state.key));
                state.socket = Some(socket);
                state.held = Some(cx.ports.take(source, address));
                state.reading = crate::ring::Receive::Paused;
                state.since = cx.now;
                return true;
            }
            Err(error) => tracing::debug!(%address, ?source, %error, "no socket"),
        }
    }
}

/// Source addresses of an address' family.
fn fitting(sources: &[IpAddr], address: SocketAddr) -> impl Iterator<Item = IpAddr> + Clone {
    let fits = move |source: &&IpAddr| source.is_ipv4() == address.is_ipv4();
    sources.iter().filter(fits).copied()
}

/// Takes a connection out of the world: with a reset, or in order once its last bytes are out.
pub fn take_out<R: Verbs>(
    key: usize,
    upstreams: &mut Slab<Upstream>,
    cx: &mut Context,
    ring: &mut R,
    abort: bool,
) -> Option<Upstream> {
    let mut upstream = upstreams.try_remove(key)?;
    let pool = &mut cx.pools[upstream.state.endpoint as usize];
    pool.open -= 1;
    pool.forget(key);
    pool.sharing.forget(key);
    if !abort {
        upstream::farewell(&mut upstream, cx, ring);
    }
    cx.ports.give_back(upstream.state.held.take());
    if let Some(socket) = upstream.state.socket.take() {
        cx.own(socket, Owner::Nobody);
        if abort {
            ring.abort(socket);
        } else {
            ring.close(socket);
        }
    }
    Some(upstream)
}

/// No connection came about: the request, of which nothing was sent, goes on to the route's next endpoint.
pub fn move_on<R: Verbs>(
    mut dead: Upstream,
    exchange: (usize, &mut Exchange),
    refusal: Refusal,
    upstreams: &mut Slab<Upstream>,
    cx: &mut Context,
    ring: &mut R,
) -> Result<(), Refusal> {
    let staged = dead.state.out.take();
    let bytes = staged.map_or_else(Vec::new, Outgoing::into_clear_text);
    let key = next_connection(exchange.1, refusal, upstreams, cx, ring)?;
    carry_over(dead, bytes, exchange, key, upstreams, cx);
    Ok(())
}

/// The connection ended before it said anything, and the request may be repeated: on a fresh connection where the pooled
/// one was stale, else on another endpoint.
pub fn repeat<R: Verbs>(
    dead: Upstream,
    exchange: (usize, &mut Exchange),
    refusal: Refusal,
    upstreams: &mut Slab<Upstream>,
    cx: &mut Context,
    ring: &mut R,
) -> Result<(), Refusal> {
    let bytes = dead.state.replay.clone();
    exchange.1.seen = true;
    let again = if dead.state.reused {
        let (endpoint, route) = (dead.state.endpoint, exchange.1.route);
        dial(endpoint, route, false, upstreams, cx, ring).ok()
    } else {
        exchange.1.repeated = true;
        None
    };
    let key = match again {
        Some(key) => key,
        None => next_connection(exchange.1, refusal, upstreams, cx, ring)?,
    };
    carry_over(dead, bytes, exchange, key, upstreams, cx);
    Ok(())
}

/// May the request of this connection be repeated elsewhere?
pub fn may_repeat(state: &State, exchange: &Exchange) -> bool {
    (state.reused || !exchange.repeated)
        && !state.answered
        && exchange.repeatable
        && !state.replay.is_empty()
}

fn next_connection<R: Verbs>(
    exchange: &mut Exchange,
    refusal: Refusal,
    upstreams: &mut Slab<Upstream>,
    cx: &mut Context,
    ring: &mut R,
) -> Result<usize, Refusal> {
    exchange.upstream = None;
    let spent = cx.now.saturating_duration_since(exchange.began);
    let timeout = cx.plan.routes[exchange.route].timeout;
    if timeout.is_some_and(|timeout| spent >= timeout) {
        return Err(refusal);
    }
    let find = Find {
        route: exchange.route,
        repeatable: exchange.repeatable,
        own_only: true,
    };
    let seen = exchange.seen.then(|| refusal.clone());
    let tried = &mut exchange.tried;
    match connection(find, tried, refusal.clone(), upstreams, cx, ring) {
        Ok(Place::Own(key)) => Ok(key),
        Ok(Place::Shared(_)) => Err(refusal),
        // RESET(refused) promises that no upstream saw the request: of one that went out before, its failure is told.
        Err(why) => Err(seen.unwrap_or(why)),
    }
}

/// Gives the request of a dead connection to another one. `bytes`: what is to be sent of it.
fn carry_over(
    dead: Upstream,
    mut bytes: Vec<u8>,
    (exchange_key, exchange): (usize, &mut Exchange),
    key: usize,
    upstreams: &mut Slab<Upstream>,
    cx: &mut Context,
) {
    let Some(Upstream { http, state, .. }) = upstreams.get_mut(key) else {
        return;
    };
    cx.stats.upstream_moved_on += 1;
    let plan = cx.plan.clone();
    let from = &plan.endpoints[dead.state.endpoint as usize];
    let to = &plan.endpoints[state.endpoint as usize];
    state.replay = dead.state.replay;
    if dead.state.endpoint != state.endpoint {
        readdress(&mut bytes, from, to, exchange.own_host);
        readdress(&mut state.replay, from, to, exchange.own_host);
    }
    // The core has sent this request and awaits its answer: only the connection beneath is new.
    *http = dead.http;
    engage(state, exchange_key, exchange.route, cx);
    state.stage(cx).put(&bytes);
    cx.recycle(bytes);
    exchange.upstream = Some(key);
    cx.mark_upstream(state);
}

/// Rewrites the head of a request for another endpoint: the base path in its target, and Host (its first field) where
/// that is the endpoint's own. No bytes: nothing was staged.
fn readdress(bytes: &mut Vec<u8>, from: &Endpoint, to: &Endpoint, own_host: bool) {
    let Some(space) = memchr::memchr(b' ', bytes) else {
        return;
    };
    let target = space + 1;
    let base = &from.address.base_path;
    if base != &to.address.base_path && bytes[target..].starts_with(base.as_bytes()) {
        bytes.splice(target..target + base.len(), to.address.base_path.bytes());
    }
    const HOST: &[u8] = b"\r\nHost: ";
    if own_host
        && let Some(line) = memchr::memmem::find(bytes, HOST)
        && bytes[line + HOST.len()..].starts_with(from.authority.as_bytes())
    {
        let at = line + HOST.len();
        bytes.splice(at..at + from.authority.len(), to.authority.bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::config::H2;

    fn endpoint(authority: &str, base: &str) -> Endpoint {
        Endpoint {
            address: Address {
                https: false,
                host: authority.into(),
                port: 80,
                base_path: base.into(),
            },
            authority: authority.into(),
            tls: None,
            h2: H2::Never,
            sources: Vec::new(),
        }
    }

    #[test]
    fn endpoints_take_turns_and_those_that_are_out_come_last() {
        let now = Instant::now();
        let later = |ms| Some(now + std::time::Duration::from_millis(ms));
        let order = |turn, dues: [Option<Instant>; 4]| {
            let (mut tried, mut order) = (0, Vec::new());
            while let Some(place) = pick(4, turn, tried, now, |place| dues[place]) {
                assert_eq!(tried >> place & 1, 0, "each once");
                tried |= 1 << place;
                order.push(place);
            }
            order
        };
        assert_eq!(order(0, [None; 4]), [0, 1, 2, 3]);
        assert_eq!(order(2, [None; 4]), [2, 3, 0, 1]);
        let some_out = [later(9), None, later(5), None];
        assert_eq!(
            order(0, some_out),
            [1, 3, 2, 0],
            "the one due soonest first"
        );
        let due = [Some(now), None, later(5), None];
        assert_eq!(
            order(0, due),
            [0, 1, 3, 2],
            "a wait that is over counts no more"
        );
        let all_out = [later(9), later(8), later(5), later(7)];
        assert_eq!(order(1, all_out), [2, 3, 1, 0], "nobody is locked out");
    }

    #[test]
    fn a_request_is_readdressed_for_the_endpoint_that_it_goes_on_to() {
        let (one, two) = (endpoint("one:81", "/base"), endpoint("two", ""));
        let case = |from, to, own_host, text: &str| {
            let mut bytes = text.as_bytes().to_vec();
            readdress(&mut bytes, from, to, own_host);
            String::from_utf8(bytes).unwrap()
        };
        let there = "GET /base/x?q HTTP/1.1\r\nHost: one:81\r\nA: one:81 /base\r\n\r\n";
        let here = "GET /x?q HTTP/1.1\r\nHost: two\r\nA: one:81 /base\r\n\r\n";
        assert_eq!(case(&one, &two, true, there), here);
        let back = "GET /base/x?q HTTP/1.1\r\nHost: one:81\r\nA: one:81 /base\r\n\r\n";
        assert_eq!(case(&two, &one, true, here), back);
        let asked = "GET /base/x HTTP/1.1\r\nHost: one:81\r\n\r\n";
        let kept = "GET /x HTTP/1.1\r\nHost: one:81\r\n\r\n";
        assert_eq!(
            case(&one, &two, false, asked),
            kept,
            "the client's Host stays"
        );
        assert_eq!(case(&one, &two, true, ""), "");
    }
}
