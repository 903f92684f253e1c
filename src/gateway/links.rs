//! What comes in on relay links: HELLO and who may say it, answers for clients, settings; and what all shards of a
//! process share about links (identities, hand-over, the way to the control plane).

use crate::control::certificates::connector_id;
use crate::control::snapshot::ConnectorIds;
use crate::shard::mesh;
use crate::wire::relay::{
    self, Decision, Event, Hello, Incarnations, Ready, Session, SessionLimits, refusal,
};
use crate::wire::tls::{self, Step};
use slab::Slab;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use super::change;
use super::channel::Channels;
use super::client::Client;
use super::context::Context;
use super::control::Order;
use super::fault::Loss;
use super::plan::SiteRefusal;
use super::publishing::{Backlog, Inbox, Place, Taken};
use super::relay::{Link, Phase};
use super::response;
use super::shard::Message;

/// Links a shard takes; more are reset at accept.
pub const LINKS_MAX: usize = 4096;
/// Handshake and HELLO must be there within this time.
const HELLO_TIMEOUT: Duration = Duration::from_secs(10);

/// Limits of a session on the gateway's side.
pub fn limits() -> SessionLimits {
    SessionLimits {
        streams: 65_536,
        initial_stream_credit: 64 * 1024,
        max_stream_credit: 512 * 1024,
        session_credit: 4 * 1024 * 1024,
        stage_bytes: relay::staging::LEAST,
    }
}

/// A link on its way to another shard.
pub struct Moving {
    pub fd: OwnedFd,
    pub tls: tls::Connection,
    pub session: Session<u32>,
    pub peer: SocketAddr,
    pub certificate_name: String,
    pub chain: Vec<Vec<u8>>,
    pub judged_by: [u8; 32],
    pub hello: Hello,
    pub unread: Vec<u8>,
}

/// Settings for the control plane to judge.
pub struct Publication {
    pub site: u32,
    pub connector: String,
    pub hash: [u8; 32],
    pub document: Vec<u8>,
    /// Who asked: shard, link, stamp.
    pub reply_to: (u16, usize, u32),
    /// Its room among those that wait; given back once it is judged.
    pub place: Place,
}

/// A link by shard, key and stamp.
pub type LinkKey = (u16, usize, u32);

/// What the shards of one process share about links. Touched when a link comes or goes, never by a request.
pub struct Shared {
    pub incarnations: Arc<Mutex<Incarnations<LinkKey>>>,
    pub shards: Vec<mesh::Sender<Message>>,
    pub control: mpsc::SyncSender<Order>,
    pub backlog: Arc<Backlog>,
    /// Connector ids by number.
    pub names: ConnectorIds,
}

impl Shared {
    /// Sends a link to the shard that its HELLO names.
    pub fn hand_over(&self, link: Link, fd: OwnedFd, cx: &mut Context) {
        let Some(hello) = link.state.hello else {
            return;
        };
        let to = usize::from(hello.wanted_shard);
        cx.stats.links_moved += 1;
        let moving = Moving {
            fd,
            tls: link.tls,
            session: link.session,
            peer: link.state.peer,
            certificate_name: link.state.certificate_name,
            chain: link.state.chain,
            judged_by: link.state.judged_by,
            hello,
            unread: link.state.unread,
        };
        if let Some(shard) = self.shards.get(to)
            && shard.send(Message::Adopt(Box::new(moving))).is_err()
        {
            tracing::warn!(
                shard = to,
                "the shard's queue is full: a link that moved there was dropped"
            );
        }
    }

    pub fn link_closed(&self, link: &Link, shard: u16, now: Instant) {
        if let (Some(hello), Ok(mut incarnations)) = (&link.state.hello, self.incarnations.lock()) {
            incarnations.leave(
                &hello.connector,
                (shard, link.state.key, link.state.stamp),
                now,
            );
        }
    }
}

/// What the shard does after a link's input.
pub enum Next {
    Continue,
    /// The link carries requests now.
    Ready,
    Move,
    Ended,
}

impl Link {
    /// When this link needs attention.
    pub fn deadline(&self) -> Instant {
        match self.state.phase {
            Phase::Ready => self.session.next_deadline(),
            _ => self.state.opened + HELLO_TIMEOUT,
        }
    }
}

/// Takes ciphertext of a link. `Err`: close it, and why.
pub fn input(
    link: &mut Link,
    input: &mut [u8],
    clients: &mut Slab<Client>,
    channels: &mut Channels,
    cx: &mut Context,
    shared: &Shared,
) -> Result<Next, String> {
    let mut next = Next::Continue;
    let mut used = 0;
    loop {
        let Link {
            tls,
            session,
            state,
        } = &mut *link;
        if state.phase == Phase::Moving {
            state.unread.extend_from_slice(&input[used..]);
            return Ok(Next::Move);
        }
        match tls.next(input, &mut used) {
            Ok(Step::NeedMore) => return Ok(next),
            Ok(Step::Closed) => return Ok(Next::Ended),
            Ok(Step::Established(established)) => {
                state.phase = Phase::Hello;
                state.out = Some(cx.outgoing(tls.layout()));
                let leaf = established.peer_chain.first();
                state.certificate_name = connector_id(leaf.map_or(&[][..], Vec::as_slice))?;
                state.chain = established.peer_chain;
            }
            Ok(Step::Data(plain)) => {
                match frames(session, state, plain, clients, channels, cx, shared)? {
                    Frames::Done => {}
                    Frames::Ended => return Ok(Next::Ended),
                    Frames::Hello(said) => match hello(link, said, cx, shared) {
                        Next::Continue => {}
                        other => next = other,
                    },
                }
            }
            Err(error) => {
                cx.stats.links_refused += u64::from(state.phase == Phase::Handshake);
                return Err(error.text);
            }
        }
    }
}

enum Frames {
    Done,
    Hello(Hello),
    Ended,
}

/// Takes the frames in one record's plaintext.
fn frames(
    session: &mut Session<u32>,
    state: &mut super::relay::State,
    plain: &[u8],
    clients: &mut Slab<Client>,
    channels: &mut Channels,
    cx: &mut Context,
    shared: &Shared,
) -> Result<Frames, String> {
    let Some(out) = state.out.as_mut() else {
        return Ok(Frames::Ended);
    };
    let mut used = 0;
    let mut said = Frames::Done;
    loop {
        let event = session
            .next(plain, &mut used, cx.now, out)
            .map_err(|error| error.text)?;
        let mut orphan = None;
        let mut consumed = None;
        let mut busy = None;
        match event {
            None => return Ok(said),
            Some(Event::Hello(hello)) => said = Frames::Hello(hello),
            Some(Event::Head {
                stream,
                token,
                head,
            }) => {
                if let Some(client) = clients.get_mut(token as usize) {
                    response::head(client, state.key, stream, &head, cx);
                }
            }
            Some(Event::Data {
                stream,
                token,
                bytes,
            }) => {
                let taken = match clients.get_mut(token as usize) {
                    Some(client) => response::data(client, state.key, stream, bytes, cx),
                    None => bytes.len(),
                };
                consumed = Some((stream, taken));
            }
            Some(Event::End {
                stream,
                token,
                trailers,
            }) => {
                if let Some(client) = clients.get_mut(token as usize) {
                    orphan =
                        response::end(client, state.key, stream, &mut trailers.into_iter(), cx);
                }
            }
            Some(Event::Reset {
                stream,
                token,
                code,
                text,
            }) => {
                cx.stats.streams_reset += 1;
                if let Some(client) = clients.get_mut(token as usize) {
                    response::reset(client, state.key, stream, Loss::of_reset(code), text, cx);
                }
            }
            Some(Event::Publish {
                hash,
                total,
                offset,
                bytes,
            }) => {
                let chunk = Chunk {
                    hash,
                    total,
                    offset,
                    bytes,
                };
                let from = Origin {
                    hello: state.hello.as_ref().ok_or("settings before HELLO")?,
                    site: state.site,
                    link: (cx.shard, state.key, state.stamp),
                };
                busy = publish(&mut state.settings, from, chunk, cx.now, shared)?.then_some(hash);
            }
            Some(Event::Refused { text, .. }) => {
                return Err(format!("the connector ended the session: {text}"));
            }
            // No more streams go over this link; it is closed when those open are finished.
            Some(Event::GoAway { .. }) => {
                tracing::info!(peer = %state.peer, shard = cx.shard, "the connector drains");
                cx.sites[state.site as usize].remove(state.key);
            }
            Some(Event::RoundTrip(_)) => {}
            Some(
                Event::Ready(_)
                | Event::Open { .. }
                | Event::Published { .. }
                | Event::ChannelUp { .. }
                | Event::ChannelDown(_)
                | Event::Outcome { .. }
                | Event::Receipt(_),
            ) => {
                return Err("the connector sent what only a gateway sends".into());
            }
            Some(Event::ChannelClose(closes)) => {
                for close in closes {
                    channels.fan_out.close(close.key, close.reason);
                }
            }
            Some(Event::Notify {
                push,
                repeat,
                audience,
                payload,
            }) => {
                let text = std::str::from_utf8(payload)
                    .map_err(|_| "the connector sent a push that is not UTF-8")?;
                let from = (state.key, state.stamp);
                let last = channels.table.last_generation();
                let push = (push, repeat);
                state.pushes_waiting += channels
                    .fan_out
                    .notify(from, state.site, last, push, audience, text);
            }
        }
        if let Some((stream, taken)) = consumed
            && taken > 0
        {
            session.consumed(stream, taken, out);
        }
        if let Some(hash) = busy {
            let text = format!("{}other settings are being judged", relay::BUSY);
            session.send_published(hash, false, &text, out);
        }
        if let Some((_, stream)) = orphan {
            session.reset(
                stream,
                crate::wire::relay::ResetCode::Cancelled,
                "answered before the request ended",
                out,
            );
        }
    }
}

/// Takes a chunk of settings; the whole goes to the control plane. True: it has no room, which the connector is told.
fn publish(
    inbox: &mut Inbox,
    from: Origin<'_>,
    chunk: Chunk<'_>,
    now: Instant,
    shared: &Shared,
) -> Result<bool, String> {
    let Chunk {
        hash,
        total,
        offset,
        bytes,
    } = chunk;
    let document = match inbox.take(total, offset, bytes, now)? {
        Taken::More => return Ok(false),
        Taken::Busy => return Ok(true),
        Taken::Whole(document) => document,
    };
    let Some(place) = shared.backlog.enter(document.len()) else {
        return Ok(true);
    };
    let publication = Publication {
        site: from.site,
        connector: from.hello.connector.clone(),
        hash,
        document,
        reply_to: from.link,
        place,
    };
    let full = shared.control.try_send(Order::Publication(publication));
    if full.is_ok() {
        inbox.handed_on(now);
    }
    Ok(full.is_err())
}

/// Whose settings they are.
struct Origin<'a> {
    hello: &'a Hello,
    site: u32,
    link: LinkKey,
}

/// A part of a settings document.
struct Chunk<'a> {
    hash: [u8; 32],
    total: u32,
    offset: u32,
    bytes: &'a [u8],
}

/// HELLO: may this peer speak for that connector and site, and on which shard?
pub fn hello(link: &mut Link, said: Hello, cx: &mut Context, shared: &Shared) -> Next {
    let refuse = |link: &mut Link, code: u16, text: String, cx: &mut Context| {
        tracing::warn!(
            connector = %said.connector, site = %said.site, certificate = %link.state.certificate_name,
            peer = %link.state.peer, code, reason = %text, "link refused"
        );
        cx.stats.links_refused += 1;
        if let Some(out) = link.state.out.as_mut() {
            link.session.send_refused(code, &text, out);
        }
        link.state.phase = Phase::Closing;
        cx.mark_link(&mut link.state);
        Next::Continue
    };
    if !(said.versions.0..=said.versions.1).contains(&relay::VERSION) {
        let text = format!("this gateway speaks TGR/{} only", relay::VERSION);
        return refuse(link, refusal::VERSION, text, cx);
    }
    if said.connector != link.state.certificate_name {
        let text = format!(
            "the connector calls itself `{}` and its certificate is for `{}`",
            said.connector, link.state.certificate_name
        );
        return refuse(link, refusal::FORBIDDEN, text, cx);
    }
    // A reload may have come since the handshake, or while the link moved here.
    if let Err(text) = change::vouched_for(&mut link.state, &cx.plan, cx.unix_now()) {
        return refuse(link, refusal::FORBIDDEN, text, cx);
    }
    let site = match cx.plan.site_of(&said.site, &said.connector) {
        Ok(site) => site,
        Err(SiteRefusal::Unknown) => {
            let text = format!("this gateway has no site `{}`", said.site);
            return refuse(link, refusal::UNKNOWN_SITE, text, cx);
        }
        Err(SiteRefusal::NotServedBy) => {
            let text = format!(
                "site `{}` is not served by connector `{}`",
                said.site, said.connector
            );
            return refuse(link, refusal::FORBIDDEN, text, cx);
        }
    };
    if said.wanted_shard != cx.shard && said.wanted_shard < cx.plan.shards {
        link.state.phase = Phase::Moving;
        link.state.hello = Some(said);
        return Next::Move;
    }
    let key = (cx.shard, link.state.key, link.state.stamp);
    let Ok(mut incarnations) = shared.incarnations.lock() else {
        return Next::Ended;
    };
    let decision = incarnations.arrive(
        &said.connector,
        said.incarnation,
        said.link_index,
        cx.shard,
        key,
        cx.now,
    );
    drop(incarnations);
    match decision {
        Decision::Refuse(code) => {
            let text = format!(
                "two connectors call themselves `{}` and replace each other",
                said.connector
            );
            return refuse(link, code, text, cx);
        }
        Decision::Accept { replace, retire } => {
            for (shard, (_, link, stamp)) in replace.into_iter().chain(retire) {
                if let Some(shard) = shared.shards.get(usize::from(shard)) {
                    let _ = shard.send(Message::Retire { link, stamp });
                }
            }
        }
    }
    let state = &mut link.state;
    state.site = site as u32;
    state.push_prefix = relay::PushId::prefix(&said.site, &said.connector);
    state.connector = shared.names.index(&said.connector);
    state.phase = Phase::Ready;
    let ready = Ready {
        version: relay::VERSION,
        features: relay::FEATURES,
        instance: cx.plan.instance,
        boot_id: cx.plan.boot_id,
        shard: cx.shard,
        shards: cx.plan.shards,
        settings_hash: [0; 32],
    };
    if let Some(out) = state.out.as_mut() {
        link.session.send_ready(&ready, out);
    }
    tracing::info!(connector = %said.connector, site = %said.site, peer = %state.peer, shard = cx.shard, "link ready");
    cx.note_connector(state.connector, &said.connector);
    state.hello = Some(said);
    cx.sites[site].add(state.connector, state.key);
    cx.stats.links_opened += 1;
    cx.stats.links += 1;
    cx.mark_link(state);
    Next::Ready
}
