//! Between this shard's links and the hub: channel frames become messages and messages become frames. Nothing is kept of
//! a channel here.
//!
//! | what is full | then |
//! |---|---|
//! | the hub's queue | its messages wait here, and when they are many, links with channels are not read |
//! | a link's session, or its gateway owes many fates | pushes wait for it here, and when they are many, the hub gets them back |

use crate::ring::{Receive, Verbs};
use crate::shard::mesh;
use crate::wire::relay::{
    Batch, CHANNELS, ChannelClose, ChannelKey, Closes, Entries, Event, Notification, Outcome,
    PushId, Ready, Receipt,
};
use slab::Slab;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::context::Context;
use super::hub::message::{FromShard, GatewayShard, LinkId, Targets, ToShard};
use super::link::{self, Link};
use super::shard::Connector;

/// Messages for the hub that wait here above which links are not read, and below which they are again.
const WAITING_MAX: usize = 64;
const WAITING_LOW: usize = WAITING_MAX / 2;
/// How often a full queue of the hub's is tried again.
const TRY_AGAIN: Duration = Duration::from_millis(1);
/// Fates that a gateway shard may owe over one link: what it holds for us is bounded by it, so that it never has to stop
/// reading the link, which carries requests too.
const OWED_MAX: usize = 8192;
/// Messages of the hub's that wait for one link.
const PUSHES_MAX: usize = 1024;

/// A shard's way to the hub.
pub struct ToHub {
    hub: mesh::Sender<FromShard>,
    waiting: VecDeque<FromShard>,
    /// Links are not read at the moment.
    paused: bool,
}

impl ToHub {
    pub fn new(hub: mesh::Sender<FromShard>) -> ToHub {
        ToHub {
            hub,
            waiting: VecDeque::new(),
            paused: false,
        }
    }

    /// In order, and none is lost.
    fn send(&mut self, message: FromShard) {
        if !self.waiting.is_empty() {
            return self.waiting.push_back(message);
        }
        if let Err(back) = self.hub.send(message) {
            self.waiting.push_back(back);
        }
    }

    fn drain(&mut self) {
        while let Some(message) = self.waiting.pop_front() {
            if let Err(back) = self.hub.send(message) {
                return self.waiting.push_front(back);
            }
        }
    }
}

/// What a link keeps of its part in it.
#[derive(Default)]
pub struct State {
    /// The gateway speaks of channels.
    on: bool,
    /// Fates that the gateway owes; a push to all counts once.
    owed: usize,
    /// What waits for room, in order.
    pushes: VecDeque<ToShard>,
}

impl State {
    fn has_room(&self) -> bool {
        self.owed < OWED_MAX
    }
}

/// Names a link for the hub.
pub fn id(state: &link::State) -> LinkId {
    LinkId(u64::from(state.stamp) << 32 | state.key as u64)
}

/// READY came: the hub hears of the link before anything that comes on it.
pub fn ready(link: LinkId, state: &mut State, said: &Ready, cx: &mut Context) {
    let Some(hub) = cx.hub.as_mut().filter(|_| said.features & CHANNELS != 0) else {
        return;
    };
    state.on = true;
    let gateway = GatewayShard {
        instance: said.instance,
        boot: said.boot_id,
        shard: said.shard,
    };
    hub.send(FromShard::LinkUp { link, gateway });
}

/// The link is gone.
pub fn lost(state: &mut link::State, cx: &mut Context) {
    let link = id(state);
    if let Some(hub) = cx.hub.as_mut().filter(|_| state.notify.on) {
        hub.send(FromShard::LinkLost { link });
    }
}

/// A channel frame. False: a gateway sends none of its kind.
pub fn heard(link: LinkId, event: Event<'_, u32>, state: &mut State, cx: &mut Context) -> bool {
    let message = match event {
        Event::ChannelUp {
            list_starts,
            list_ends,
            channels,
        } => FromShard::Up {
            link,
            list_starts,
            list_ends,
            ups: channels.collect(),
        },
        Event::ChannelDown(downs) => FromShard::Down {
            link,
            channels: downs.map(|down| (down.key, down.reason)).collect(),
        },
        Event::Outcome {
            push,
            outcome: Outcome::Each(fates),
        } => {
            let channels: Vec<_> = fates.map(|fate| (fate.key, fate.fate)).collect();
            state.owed = state.owed.saturating_sub(channels.len());
            FromShard::Outcomes {
                link,
                push,
                channels,
            }
        }
        Event::Outcome {
            push,
            outcome: Outcome::Totals(totals),
        } => {
            state.owed = state.owed.saturating_sub(1);
            FromShard::OutcomeOfAll { link, push, totals }
        }
        Event::Receipt(receipts) => FromShard::Receipts {
            receipts: owned(receipts),
        },
        _ => return false,
    };
    if let Some(hub) = cx.hub.as_mut() {
        hub.send(message);
    }
    true
}

fn owned(receipts: Entries<'_, Receipt<'_>>) -> Vec<(PushId, Box<str>)> {
    receipts
        .map(|receipt| (receipt.push, receipt.client.into()))
        .collect()
}

impl Connector {
    /// A message of the hub's.
    pub(super) fn hub_says(&mut self, message: ToShard) {
        let LinkId(link) = message.link();
        let (key, stamp) = (link as u32 as usize, (link >> 32) as u32);
        let Connector { links, cx, .. } = self;
        // The hub was told that the link is gone, or is about to be: what was for it is unknown there.
        let Some(link) = links.get_mut(key).filter(|l| l.state.stamp == stamp) else {
            return;
        };
        if link.state.notify.pushes.len() >= PUSHES_MAX {
            return refuse(message, cx);
        }
        link.state.notify.pushes.push_back(message);
        send_waiting(link, cx);
    }

    /// Sends what waits for a link, as far as there is room.
    pub(super) fn notify_more(&mut self, key: usize) {
        if let Some(link) = self.links.get_mut(key)
            && !link.state.notify.pushes.is_empty()
        {
            send_waiting(link, &mut self.cx);
        }
    }

    /// Once a turn: what waits for the hub goes on, and links are read again, or not.
    pub(super) fn hub_turn<R: Verbs>(&mut self, ring: &mut R) {
        let Some(hub) = self.cx.hub.as_mut() else {
            return;
        };
        if hub.waiting.is_empty() && !hub.paused {
            return;
        }
        hub.drain();
        let waiting = hub.waiting.len();
        let change = match hub.paused {
            false if waiting > WAITING_MAX => Some(Receive::Paused),
            true if waiting < WAITING_LOW => Some(Receive::Large),
            _ => None,
        };
        if let Some(mode) = change {
            hub.paused = mode == Receive::Paused;
            let on = |link: &Link| link.state.notify.on;
            for (_, link) in self.links.iter().filter(|(_, link)| on(link)) {
                ring.receive(link.state.socket, mode);
            }
        }
    }
}

impl Context {
    /// When the hub's queue is tried again.
    pub(super) fn hub_deadline(&self) -> Option<Instant> {
        let hub = self.hub.as_ref()?;
        (!hub.waiting.is_empty()).then(|| self.now + TRY_AGAIN)
    }
}

/// The hub gets a push back that its link cannot take.
fn refuse(message: ToShard, cx: &mut Context) {
    if let (
        ToShard::Notify {
            link,
            push,
            targets,
            ..
        },
        Some(hub),
    ) = (message, cx.hub.as_mut())
    {
        hub.send(FromShard::Refused {
            link,
            push,
            targets,
        });
    }
}

/// Before a link is flushed: what waits takes the room that there is.
pub fn fill(link: &mut Link, cx: &mut Context) {
    if !link.state.notify.pushes.is_empty() && link.session.poll_channel_room() {
        send_waiting(link, cx);
    }
}

fn send_waiting(link: &mut Link, cx: &mut Context) {
    while link.state.notify.has_room()
        && let Some(message) = link.state.notify.pushes.pop_front()
    {
        if let Some(rest) = send(link, message, cx) {
            link.state.notify.pushes.push_front(rest);
            break;
        }
    }
    cx.mark_link(&mut link.state);
}

/// Sends a message's frames. What found no room comes back.
fn send(link: &mut Link, message: ToShard, cx: &mut Context) -> Option<ToShard> {
    match message {
        ToShard::Notify {
            link: id,
            push,
            repeat,
            payload,
            targets,
        } => {
            if !cx.notification.restart(push, repeat, &payload) {
                // The API takes no longer payload.
                debug_assert!(false, "a payload over its limit");
                return None;
            }
            let rest = match targets {
                Targets::All => {
                    cx.notification.to_all();
                    (!batch(link, 1, &mut cx.notification)).then_some(Targets::All)
                }
                Targets::Channels(keys) => {
                    let sent = some(link, &keys, &mut cx.notification);
                    let left = keys.get(sent..).unwrap_or_default();
                    (!left.is_empty()).then(|| Targets::Channels(left.to_vec()))
                }
            };
            rest.map(|targets| ToShard::Notify {
                link: id,
                push,
                repeat,
                payload,
                targets,
            })
        }
        ToShard::Close {
            link: id,
            channels,
            reason,
        } => {
            let mut closes = Closes::default();
            let mut sent = 0;
            for part in channels.chunks(CLOSES) {
                closes.clear();
                for key in part {
                    closes.push(ChannelClose { key: *key, reason });
                }
                let (session, out) = link.session()?;
                if !session.send_batch(&mut closes, out) {
                    break;
                }
                sent += part.len();
            }
            let left = channels.get(sent..).unwrap_or_default();
            (!left.is_empty()).then(|| ToShard::Close {
                link: id,
                channels: left.to_vec(),
                reason,
            })
        }
    }
}

/// Channels in one CHANNEL_CLOSE.
const CLOSES: usize = 1024;

/// Sends a push to these channels, frame by frame; gives how many found room.
fn some(link: &mut Link, keys: &[ChannelKey], notification: &mut Notification) -> usize {
    let mut sent = 0;
    while sent < keys.len() && link.state.notify.has_room() {
        notification.clear();
        let rest = &keys[sent..];
        let count = rest
            .iter()
            .take_while(|key| notification.push(**key))
            .count();
        if !batch(link, count, notification) {
            break;
        }
        sent += count;
    }
    sent
}

fn batch(link: &mut Link, fates: usize, notification: &mut Notification) -> bool {
    let sent = match link.session() {
        Some((session, out)) => session.send_batch(notification, out),
        None => false,
    };
    if sent {
        link.state.notify.owed += fates;
    }
    sent
}

/// Links whose channels the hub knows.
pub fn count(links: &Slab<Link>) -> usize {
    links
        .iter()
        .filter(|(_, link)| link.state.notify.on)
        .count()
}
