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
use crate::wire::Field;
use crate::wire::record::Outgoing;
use crate::wire::relay::{Hello, OpenHead, Session, StreamId};
use crate::wire::tls;
use slab::Slab;
use std::net::SocketAddr;
use std::time::Instant;

use super::context::Context;

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
    /// CN of the connector's certificate.
    pub certificate_name: String,
    /// The connector's chain (DER, leaf first): judged again when a reload changes who may dial in.
    pub chain: Vec<Vec<u8>>,
    pub hello: Option<Hello>,
    pub site: u32,
    pub connector: u32,
    /// Settings chunks received so far.
    pub document: Vec<u8>,
    pub dirty: bool,
    pub opened: Instant,
    pub armed: Option<Instant>,
    /// Ciphertext that came while the link was moving.
    pub unread: Vec<u8>,
}

impl Link {
    /// The session and where its frames are staged, once requests may be opened.
    pub fn session(&mut self) -> Option<(&mut Session<u32>, &mut Outgoing)> {
        match (&self.state.phase, self.state.out.as_mut()) {
            (Phase::Ready, Some(out)) => Some((&mut self.session, out)),
            _ => None,
        }
    }

    pub fn name(&self) -> &str {
        self.state
            .hello
            .as_ref()
            .map_or(&self.state.certificate_name, |hello| &hello.connector)
    }
}

/// The ready links of one site on this shard.
#[derive(Default)]
pub struct SiteLinks {
    /// Per connector: its index and its links' keys.
    connectors: Vec<(u32, Vec<usize>)>,
    next: usize,
}

impl SiteLinks {
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

    pub fn is_empty(&self) -> bool {
        self.connectors.is_empty()
    }
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
    /// The head does not fit an OPEN frame.
    TooLarge,
}

/// Opens a stream for `client` on the next connector that published the route: round-robin over connectors, then the
/// least busy of its links.
pub fn open(
    site: u32,
    published_by: &[u32],
    client: usize,
    head: &OpenHead<'_>,
    fields: &mut dyn Iterator<Item = Field<'_>>,
    links: &mut Slab<Link>,
    cx: &mut Context,
) -> Opened {
    let site_links = &mut cx.sites[site as usize];
    let count = site_links.connectors.len();
    let mut any = false;
    for turn in 0..count {
        let at = (site_links.next + turn) % count;
        let (connector, keys) = &site_links.connectors[at];
        if !published_by.contains(connector) {
            continue;
        }
        let quietest = keys
            .iter()
            .copied()
            .min_by_key(|key| links.get(*key).map_or(u32::MAX, |l| l.session.streams()));
        let Some((key, (session, out))) =
            quietest.and_then(|key| Some((key, links.get_mut(key).and_then(Link::session)?)))
        else {
            continue;
        };
        any = true;
        if !session.can_open() {
            continue;
        }
        let Some(stream) = session.open(client as u32, head, fields, out) else {
            return Opened::TooLarge;
        };
        let connector = *connector;
        site_links.next = at + 1;
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

/// The link has something to send or may have a new deadline.
pub fn mark(links: &mut Slab<Link>, key: usize, cx: &mut Context) {
    if let Some(link) = links.get_mut(key) {
        cx.mark_link(&mut link.state);
    }
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
    if state.phase == Phase::Moving || ring.send_in_flight(state.socket) {
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
    let bytes = tls.transmit(out)?;
    if tls.is_established() {
        state.out = Some(cx.outgoing(tls.layout()));
    }
    if !bytes.is_empty() {
        cx.stats.relay_bytes_out += bytes.len() as u64;
        ring.send(state.socket, bytes);
    }
    Ok(())
}
