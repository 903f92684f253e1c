//! Stage `relay`: the links of this shard, which connector each belongs to, and the choice among them.
//!
//! | phase | leaves by |
//! |---|---|
//! | Handshake | mutual TLS established → Hello |
//! | Hello | HELLO accepted → Ready; HELLO names another shard → Moving; refused → Closing |
//! | Moving | last completion seen → given to the other shard |
//! | Ready | error, silence, retirement → closed |
//! | Closing | refusal sent → closed |

use crate::ring::{SocketId, Verbs};
use crate::wire::Put;
use crate::wire::record::Outgoing;
use crate::wire::relay::staging::Staging;
use crate::wire::relay::{Hello, OpenFrame, Session, StreamId};
use crate::wire::tls;
use slab::Slab;
use std::net::SocketAddr;
use std::time::Instant;

use super::channel::announce::Listing;
use super::context::Context;
use super::publishing::Inbox;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    Handshake,
    Hello,
    Moving,
    Ready,
    Closing,
}

/// One relay link, gateway side.
pub struct Link {
    pub tls: tls::Connection,
    pub session: Session<u32>,
    pub state: State,
}

pub struct State {
    pub key: usize,
    pub stamp: u32,
    pub socket: SocketId,
    pub peer: SocketAddr,
    pub phase: Phase,
    /// Present from the end of the handshake on.
    pub out: Option<Outgoing>,
    /// How much of that there may be.
    pub staging: Staging,
    /// CN of the connector's certificate.
    pub certificate_name: String,
    /// The connector's chain (DER, leaf first): judged again when a reload changes who may dial in.
    pub chain: Vec<Vec<u8>>,
    /// [`Plan::connector_ca`](super::plan::Plan::connector_ca) of the plan by which the chain was judged last.
    pub judged_by: [u8; 32],
    pub hello: Option<Hello>,
    pub site: u32,
    pub connector: u32,
    pub settings: Inbox,
    pub dirty: bool,
    pub opened: Instant,
    pub armed: Option<Instant>,
    /// Ciphertext that came while the link was moving.
    pub unread: Vec<u8>,
    /// First bytes of the ids of its connector's pushes.
    pub push_prefix: [u8; 6],
    /// How far its connector knows the channels.
    pub listing: Listing,
    /// Bytes of its pushes that wait to be sent on; it is not read while they are many.
    pub pushes_waiting: usize,
    pub paused: bool,
}

impl Link {
    /// The session and where its frames are staged, once requests may be opened.
    pub fn session(&mut self) -> Option<(&mut Session<u32>, &mut Outgoing)> {
        match (&self.state.phase, self.state.out.as_mut()) {
            (Phase::Ready, Some(out)) => Some((&mut self.session, out)),
            _ => None,
        }
    }

    /// The connector drains and no stream is left here. Only this side can know it: it is who opens streams.
    pub fn is_done(&self) -> bool {
        self.state.phase == Phase::Ready
            && self.session.peer_leaves()
            && self.session.streams() == 0
    }

    pub fn name(&self) -> &str {
        self.state
            .hello
            .as_ref()
            .map_or(&self.state.certificate_name, |hello| &hello.connector)
    }
}

/// The links of one site on this shard that take new streams; one over which GOAWAY went is not here any more.
pub struct SiteLinks {
    /// Per connector: its index and its links' keys.
    connectors: Vec<(u32, Vec<usize>)>,
    /// Per route: where the next turn begins among the connectors that published it. One for each route: with one for
    /// all, two routes asked for in turn could each always meet the same connector.
    turns: Vec<usize>,
    /// Where a route's first turn begins.
    first_turn: usize,
}

impl SiteLinks {
    /// Shards begin at different places: together they are fair from the first requests on.
    pub fn new(shard: u16) -> SiteLinks {
        SiteLinks {
            connectors: Vec::new(),
            turns: Vec::new(),
            first_turn: usize::from(shard),
        }
    }

    pub fn add(&mut self, connector: u32, link: usize) {
        match self
            .connectors
            .iter_mut()
            .find(|(index, _)| *index == connector)
        {
            Some((_, links)) => links.push(link),
            None => self.connectors.push((connector, vec![link])),
        }
    }

    pub fn remove(&mut self, link: usize) {
        for (_, links) in &mut self.connectors {
            links.retain(|key| *key != link);
        }
        self.connectors.retain(|(_, links)| !links.is_empty());
    }

    /// All links.
    pub fn keys(&self) -> impl Iterator<Item = usize> + '_ {
        self.connectors
            .iter()
            .flat_map(|(_, links)| links.iter().copied())
    }

    pub fn is_empty(&self) -> bool {
        self.connectors.is_empty()
    }

    fn of(&self, connector: u32) -> Option<&[usize]> {
        let found = self
            .connectors
            .iter()
            .find(|(index, _)| *index == connector);
        found.map(|(_, links)| links.as_slice())
    }

    fn turn(&self, route: u32) -> usize {
        let turn = self.turns.get(route as usize).copied();
        turn.unwrap_or(self.first_turn)
    }

    fn set_turn(&mut self, route: u32, turn: usize) {
        let route = route as usize;
        if route >= self.turns.len() {
            self.turns.resize(route + 1, self.first_turn);
        }
        self.turns[route] = turn;
    }
}

/// Where a request may go.
pub struct Wanted<'a> {
    pub site: u32,
    /// Index of its route in the site's table.
    pub route: u32,
    /// Those that published the route.
    pub connectors: &'a [u32],
    /// Not to this one.
    pub except: Option<u32>,
}

/// What became of an attempt to open a stream.
pub enum Opened {
    On {
        link: usize,
        stream: StreamId,
        connector: u32,
    },
    /// Connectors that published the route are linked, and none takes another stream.
    Full,
    NoLink,
}

/// Some connector that is wanted has a link here.
pub fn is_linked(wanted: &Wanted<'_>, cx: &Context) -> bool {
    let linked = &cx.sites[wanted.site as usize].connectors;
    linked.iter().any(|(connector, _)| {
        Some(*connector) != wanted.except && wanted.connectors.contains(connector)
    })
}

/// Opens a stream for `client` on the next connector that published the route: round-robin over connectors, then the
/// least busy of its links.
pub fn open(
    wanted: &Wanted<'_>,
    client: usize,
    frame: &mut OpenFrame,
    links: &mut Slab<Link>,
    cx: &mut Context,
) -> Opened {
    let site_links = &mut cx.sites[wanted.site as usize];
    let count = wanted.connectors.len();
    let turn = site_links.turn(wanted.route);
    let mut any = false;
    for step in 0..count {
        let at = (turn + step) % count;
        let connector = wanted.connectors[at];
        if Some(connector) == wanted.except {
            continue;
        }
        let Some(keys) = site_links.of(connector) else {
            continue;
        };
        any = true;
        let Some(key) = quietest(keys, links) else {
            continue;
        };
        let Some((session, out)) = links.get_mut(key).and_then(Link::session) else {
            continue;
        };
        let Some(stream) = session.open(client as u32, frame, out) else {
            continue;
        };
        if wanted.except.is_none() {
            // A retry takes no turn: else the next request would meet the connector that failed, each time.
            site_links.set_turn(wanted.route, at + 1);
        }
        cx.stats.streams_opened += 1;
        mark(links, key, cx);
        return Opened::On {
            link: key,
            stream,
            connector,
        };
    }
    if any { Opened::Full } else { Opened::NoLink }
}

/// Of these links the one with the fewest streams that takes another.
fn quietest(keys: &[usize], links: &Slab<Link>) -> Option<usize> {
    let open = keys.iter().filter_map(|key| {
        let session = &links.get(*key)?.session;
        session.can_open().then_some((session.streams(), *key))
    });
    open.min().map(|(_, key)| key)
}

/// The link has something to send or may have a new deadline.
pub fn mark(links: &mut Slab<Link>, key: usize, cx: &mut Context) {
    if let Some(link) = links.get_mut(key) {
        cx.mark_link(&mut link.state);
    }
}

/// A send has ended: its buffer, and the next one.
pub fn sent(links: &mut Slab<Link>, key: usize, buffer: Vec<u8>, cx: &mut Context) {
    let Some(link) = links.get_mut(key) else {
        return cx.recycle(buffer);
    };
    if let Some(buffer) = link.state.staging.keep(buffer) {
        cx.recycle(buffer);
    }
    cx.mark_link(&mut link.state);
}

/// Sends what is staged on a link, unless its last send is still on its way.
pub fn flush<R: Verbs>(
    link: &mut Link,
    cx: &mut Context,
    ring: &mut R,
) -> Result<(), tls::TlsError> {
    let Link {
        tls,
        session,
        state,
    } = link;
    if state.phase == Phase::Moving {
        return Ok(());
    }
    if ring.send_in_flight(state.socket) {
        state.staging.still_sending(cx.now);
        session.set_stage_bytes(state.staging.bytes());
        return Ok(());
    }
    let out = match state.out.take() {
        Some(mut out) => {
            session.pump(cx.now, &mut out);
            out
        }
        None => cx.outgoing(tls.layout()),
    };
    if out.is_empty() && !tls.wants_transmit() {
        if tls.is_established() {
            state.out = Some(out);
        }
        return Ok(());
    }
    state.staging.sends(out.staged(), cx.now);
    session.set_stage_bytes(state.staging.bytes());
    let bytes = tls.transmit(out)?;
    if tls.is_established() {
        state.out = Some(match state.staging.take_spare() {
            Some(large) => Outgoing::new(tls.layout(), large),
            None => cx.outgoing(tls.layout()),
        });
    }
    if !bytes.is_empty() {
        cx.stats.relay_bytes_out += bytes.len() as u64;
        ring.send(state.socket, bytes);
    }
    Ok(())
}
