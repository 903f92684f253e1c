//! Pushes go out: what connectors ask for waits here and is done in slices of a turn, small pushes before those to all.
//!
//! ```text
//! NOTIFY ▸ few: [push, keys] …      ┐  a slice: so many channels a turn, each sealed and sent, or waiting in its backlog
//!        ▸ all: [push, cursor] …    ┘  ▸ OUTCOME: a fate for each key; totals when a push to all is through
//! ```

use crate::control::config::Slow;
use crate::ring::{Receive, Verbs};
use crate::wire::Put;
use crate::wire::relay::{
    Audience, ChannelFate, ChannelKey, ChannelKind, CloseReason, Fate, Outcomes, PushId, Summary,
    Totals,
};
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::super::relay;
use super::super::shard::Gateway;
use super::Reason;
use super::backlog::{Owed, Waiting};
use super::payload::Payload;
use super::table::Stage;

/// Channels that one turn sends to, some 5 µs each, while there are requests: one waits for a slice four times on its way.
const SLICE_BESIDE_REQUESTS: usize = 16;
/// The same while there are none: a third cheaper for each channel.
const SLICE: usize = 64;
/// There are requests when one began, or its answer did, within this time.
const REQUESTS_WITHIN: Duration = Duration::from_millis(10);
/// Of a slice, the part that at least is for pushes to all, when there are any.
const PART_FOR_ALL: usize = 4;
/// How often the core is offered to whoever else may want it: a connector, an upstream on the same host, the kernel's own
/// threads. Without it they wait until the scheduler's next tick, and a request that goes through them waits as long.
const GIVE_WAY_EVERY: Duration = Duration::from_micros(500);
/// Slots that one turn looks at for a push to all: others' channels cost a look only.
const LOOKED_AT: usize = 4096;
/// Bytes of pushes that wait for one link's connector, above which the link is not read; and below which it is again.
const WAITING_MAX: usize = 1 << 20;
const WAITING_LOW: usize = WAITING_MAX / 2;
/// Payloads and key lists kept for use again.
const POOL: usize = 64;
/// Room that the session must have before a slice may need it for fates.
const FRAME: usize = 16_384;

/// A push to some channels.
struct Few {
    link: usize,
    stamp: u32,
    payload: Rc<Payload>,
    keys: Vec<ChannelKey>,
    at: usize,
}

/// A push to all channels of a site.
struct All {
    link: usize,
    stamp: u32,
    payload: Rc<Payload>,
    site: u16,
    /// The next slot.
    from: u32,
    /// Channels of a later generation came after the push.
    last: u32,
    totals: Totals,
}

/// A fate that was not known when its push came.
struct Late {
    owed: Owed,
    push: PushId,
    key: ChannelKey,
    fate: Fate,
}

/// What waits to be sent on this shard.
pub struct FanOut {
    few: VecDeque<Few>,
    all: VecDeque<All>,
    closes: VecDeque<(ChannelKey, CloseReason)>,
    late: VecDeque<Late>,
    payloads: Vec<Rc<Payload>>,
    keys: Vec<Vec<ChannelKey>>,
    outcomes: Outcomes,
    summary: Summary,
    /// Nothing could be done in the last turn: links have no room for fates.
    stuck: bool,
    gave_way: Option<Instant>,
}

impl Default for FanOut {
    fn default() -> FanOut {
        FanOut {
            few: VecDeque::new(),
            all: VecDeque::new(),
            closes: VecDeque::new(),
            late: VecDeque::new(),
            payloads: Vec::new(),
            keys: Vec::new(),
            outcomes: Outcomes::new(PushId([0; 16])),
            summary: Summary::default(),
            stuck: false,
            gave_way: None,
        }
    }
}

impl FanOut {
    /// The next turn has work to do here.
    pub fn is_busy(&self) -> bool {
        let waits = !self.few.is_empty()
            || !self.all.is_empty()
            || !self.closes.is_empty()
            || !self.late.is_empty();
        waits && !self.stuck
    }

    fn is_idle(&self) -> bool {
        self.few.is_empty() && self.all.is_empty() && self.closes.is_empty() && self.late.is_empty()
    }

    fn give_way(&mut self, now: Instant) {
        let since = self.gave_way.map(|then| now.duration_since(then));
        if since.is_none_or(|since| since >= GIVE_WAY_EVERY) {
            std::thread::yield_now();
            self.gave_way = Some(now);
        }
    }

    /// A push came over a link. Gives the bytes that wait for its sake.
    pub fn notify(
        &mut self,
        from: (usize, u32),
        site: u32,
        last: u32,
        push: (PushId, bool),
        audience: Audience<'_>,
        text: &str,
    ) -> usize {
        let mut payload = self.payloads.pop().unwrap_or_default();
        if let Some(payload) = Rc::get_mut(&mut payload) {
            payload.fill(push.0, push.1, text);
        }
        let (link, stamp) = from;
        let size = payload.size();
        match audience {
            Audience::All => {
                self.all.push_back(All {
                    link,
                    stamp,
                    payload,
                    site: site as u16,
                    from: 0,
                    last,
                    totals: Totals::default(),
                });
                size
            }
            Audience::Channels(entries) => {
                let mut keys = self.keys.pop().unwrap_or_default();
                keys.extend(entries);
                let size = size + keys.len() * size_of::<ChannelKey>();
                self.few.push_back(Few {
                    link,
                    stamp,
                    payload,
                    keys,
                    at: 0,
                });
                size
            }
        }
    }

    /// A connector wants a channel closed.
    pub fn close(&mut self, key: ChannelKey, reason: CloseReason) {
        self.closes.push_back((key, reason));
    }

    /// A push that waited for a channel that is gone.
    pub fn gone(&mut self, slot: u32, generation: u32, waiting: Waiting) {
        self.tell_late(slot, generation, waiting, Fate::Gone);
    }

    fn tell_late(&mut self, slot: u32, generation: u32, waiting: Waiting, fate: Fate) {
        if let (Some(push), true) = (waiting.payload.push(), waiting.owed.is_some()) {
            let key = ChannelKey { slot, generation };
            self.late.push_back(Late {
                owed: waiting.owed,
                push,
                key,
                fate,
            });
        }
        self.put_away(waiting.payload);
    }

    /// A payload that is nobody else's is used again.
    fn put_away(&mut self, mut payload: Rc<Payload>) {
        if self.payloads.len() < POOL && Rc::get_mut(&mut payload).is_some() {
            self.payloads.push(payload);
        }
    }

    fn put_keys_away(&mut self, mut keys: Vec<ChannelKey>) {
        keys.clear();
        if self.keys.len() < POOL {
            self.keys.push(keys);
        }
    }
}

impl Gateway {
    /// A slice of what waits.
    pub(in crate::gateway) fn fan_out<R: Verbs>(&mut self, ring: &mut R) {
        if self.channels.fan_out.is_idle() {
            return;
        }
        while let Some((key, reason)) = self.channels.fan_out.closes.pop_front() {
            if self.channels.table.find(key).is_some() {
                self.leave(ring, key.slot, Reason::of_close(reason));
            }
        }
        self.channels.fan_out.give_way(self.cx.now);
        let told = self.tell_fates();
        let slice = self.slice();
        let for_all = match self.channels.fan_out.all.is_empty() {
            true => 0,
            false => slice / PART_FOR_ALL,
        };
        let few = self.slice_of_few(ring, slice - for_all);
        let all = self.slice_of_all(ring, slice - few);
        self.channels.fan_out.stuck = !told && few == 0 && all == 0;
    }

    fn slice(&self) -> usize {
        let since = self
            .cx
            .last_request
            .map(|at| self.cx.now.duration_since(at));
        match since {
            Some(since) if since < REQUESTS_WITHIN => SLICE_BESIDE_REQUESTS,
            _ => SLICE,
        }
    }

    /// Fates that were late. True when one could be told.
    fn tell_fates(&mut self) -> bool {
        let Gateway {
            channels,
            links,
            cx,
            ..
        } = self;
        let mut told = false;
        for _ in 0..SLICE {
            let Some(late) = channels.fan_out.late.pop_front() else {
                break;
            };
            let Some(link) = late
                .owed
                .and_then(|(key, stamp)| links.get_mut(key).filter(|l| l.state.stamp == stamp))
            else {
                // Who asked is gone: unknown there.
                told = true;
                continue;
            };
            let Some((session, out)) = link.session() else {
                continue;
            };
            let outcomes = &mut channels.fan_out.outcomes;
            outcomes.restart(late.push);
            outcomes.push(ChannelFate {
                key: late.key,
                fate: late.fate,
            });
            if session.send_batch(outcomes, out) {
                cx.mark_link(&mut link.state);
                told = true;
            } else {
                channels.fan_out.late.push_front(late);
                break;
            }
        }
        told
    }

    /// The link is there still, and takes another frame of fates.
    fn takes_fates(&self, key: usize, stamp: u32) -> Option<bool> {
        let link = self.links.get(key).filter(|l| l.state.stamp == stamp)?;
        Some(link.session.channel_room() >= FRAME)
    }

    /// Gives how many channels were sent to.
    fn slice_of_few<R: Verbs>(&mut self, ring: &mut R, budget: usize) -> usize {
        let mut done = 0;
        // Each is looked at once: one whose link has no room waits behind the others.
        for _ in 0..self.channels.fan_out.few.len() {
            if done >= budget {
                break;
            }
            let Some(mut few) = self.channels.fan_out.few.pop_front() else {
                break;
            };
            let lives = self.takes_fates(few.link, few.stamp);
            if lives == Some(false) {
                self.channels.fan_out.few.push_back(few);
                continue;
            }
            done += self.send_to_few(ring, &mut few, lives.is_some(), budget - done);
            if few.at < few.keys.len() {
                self.channels.fan_out.few.push_front(few);
                continue;
            }
            let size = few.payload.size() + few.keys.len() * size_of::<ChannelKey>();
            self.waits_less(ring, few.link, few.stamp, size);
            self.channels.fan_out.put_away(few.payload);
            self.channels.fan_out.put_keys_away(few.keys);
        }
        done
    }

    fn send_to_few<R: Verbs>(
        &mut self,
        ring: &mut R,
        few: &mut Few,
        lives: bool,
        budget: usize,
    ) -> usize {
        let Some(push) = few.payload.push() else {
            few.at = few.keys.len();
            return 0;
        };
        let mut outcomes =
            std::mem::replace(&mut self.channels.fan_out.outcomes, Outcomes::new(push));
        outcomes.restart(push);
        let end = few.keys.len().min(few.at + budget);
        let count = end - few.at;
        for key in &few.keys[few.at..end] {
            let owed = Some((few.link, few.stamp));
            if let Some(fate) = self.deliver(ring, *key, &few.payload, owed) {
                // At most a slice of them: they fit a frame.
                outcomes.push(ChannelFate { key: *key, fate });
            }
        }
        few.at = end;
        if lives && let Some(link) = self.links.get_mut(few.link) {
            if let Some((session, out)) = link.session() {
                let sent = session.send_batch(&mut outcomes, out);
                debug_assert!(sent, "there was room");
            }
            self.cx.mark_link(&mut link.state);
        }
        self.channels.fan_out.outcomes = outcomes;
        count
    }

    fn slice_of_all<R: Verbs>(&mut self, ring: &mut R, budget: usize) -> usize {
        let Some(mut all) = self.channels.fan_out.all.pop_front() else {
            return 0;
        };
        let lives = self.takes_fates(all.link, all.stamp);
        let (mut done, mut looked) = (0, 0);
        let mut through = false;
        while done < budget && looked < LOOKED_AT {
            looked += 1;
            let Some((slot, channel)) = self.channels.table.next_from(all.from) else {
                through = true;
                break;
            };
            all.from = slot + 1;
            let later = channel.generation.wrapping_sub(all.last) as i32 > 0;
            if channel.site != all.site || channel.stage != Stage::Open || later {
                continue;
            }
            let key = channel.key(slot);
            done += 1;
            match self.deliver(ring, key, &all.payload, None) {
                Some(Fate::Gone) => all.totals.gone += 1,
                Some(Fate::Dropped) => all.totals.dropped += 1,
                // What waits in a backlog has been handed over as far as a push to all is counted.
                Some(Fate::Sent) | None => all.totals.sent += 1,
            }
        }
        if !through {
            self.channels.fan_out.all.push_front(all);
            return looked;
        }
        if lives == Some(false) {
            // Its totals have no room yet: others go first.
            self.channels.fan_out.all.push_back(all);
            return done;
        }
        if lives == Some(true)
            && let Some(push) = all.payload.push()
            && let Some(link) = self.links.get_mut(all.link)
        {
            let summary = &mut self.channels.fan_out.summary;
            summary.set(push, all.totals);
            if let Some((session, out)) = link.session() {
                let sent = session.send_batch(summary, out);
                debug_assert!(sent, "there was room");
            }
            self.cx.mark_link(&mut link.state);
        }
        let size = all.payload.size();
        self.waits_less(ring, all.link, all.stamp, size);
        self.channels.fan_out.put_away(all.payload);
        done.max(1)
    }

    /// Sends a push on one channel. `None`: it waits, and its fate is told later, or never where it is owed to nobody.
    fn deliver<R: Verbs>(
        &mut self,
        ring: &mut R,
        key: ChannelKey,
        payload: &Rc<Payload>,
        owed: Owed,
    ) -> Option<Fate> {
        let slot = key.slot;
        let fate = match self.channels.table.find(key) {
            None => Some(Fate::Gone),
            Some(channel) if payload.bytes(channel.kind).is_empty() => Some(Fate::Dropped),
            Some(channel) if channel.kind == ChannelKind::LongPoll => {
                self.answer_poll(ring, slot, Some(payload));
                Some(Fate::Sent)
            }
            Some(channel) if channel.waits || ring.send_in_flight(channel.socket) => {
                self.wait(ring, slot, payload, owed)
            }
            Some(channel) => {
                let mut out = self.cx.outgoing(channel.tls.layout());
                out.put(payload.bytes(channel.kind));
                self.send_on(ring, slot, out);
                Some(Fate::Sent)
            }
        };
        match fate {
            Some(Fate::Sent) => self.cx.stats.channel_sent += 1,
            Some(Fate::Gone) => self.cx.stats.channel_gone += 1,
            Some(Fate::Dropped) => self.cx.stats.channel_dropped += 1,
            None => {}
        }
        fate
    }

    /// The socket is full: the push waits within the bound, or the policy says what goes.
    fn wait<R: Verbs>(
        &mut self,
        ring: &mut R,
        slot: u32,
        payload: &Rc<Payload>,
        owed: Owed,
    ) -> Option<Fate> {
        let Gateway { channels, cx, .. } = self;
        if cx.pressure {
            return Some(Fate::Dropped);
        }
        let channel = channels.table.get_mut(slot)?;
        let generation = channel.generation;
        let backlog = channels.backlogs.entry(slot).or_default();
        channel.waits = true;
        if backlog.len() >= cx.plan.channels.backlog {
            match cx.plan.channels.slow {
                Slow::Close => {
                    self.leave(ring, slot, Reason::Slow);
                    return Some(Fate::Dropped);
                }
                Slow::DropOldest => {
                    if let Some(oldest) = backlog.pop() {
                        cx.buffered -= oldest.payload.size();
                        cx.stats.channel_dropped += 1;
                        channels
                            .fan_out
                            .tell_late(slot, generation, oldest, Fate::Dropped);
                    }
                }
            }
        }
        cx.buffered += payload.size();
        backlog.push(Waiting {
            payload: payload.clone(),
            owed,
        });
        None
    }

    /// The last send on a channel is complete: what waits follows, as much as fits a record or two.
    pub(super) fn drain_backlog<R: Verbs>(&mut self, ring: &mut R, slot: u32) {
        const AT_ONCE: usize = 16 * 1024;
        let Gateway { channels, cx, .. } = self;
        let Some(channel) = channels.table.get_mut(slot) else {
            return;
        };
        let Some(backlog) = channels.backlogs.get_mut(&slot) else {
            channel.waits = false;
            return;
        };
        let mut out = cx.outgoing(channel.tls.layout());
        out.put(&std::mem::take(&mut backlog.answer));
        while let Some(first) = backlog.first() {
            let bytes = first.payload.bytes(channel.kind);
            if !out.is_empty() && out.staged() + bytes.len() > AT_ONCE {
                break;
            }
            // One event, one record: a client that reads a record has whole events.
            out.end_record();
            out.put(bytes);
            if let Some(sent) = backlog.pop() {
                cx.buffered -= sent.payload.size();
                cx.stats.channel_sent += 1;
                channels
                    .fan_out
                    .tell_late(slot, channel.generation, sent, Fate::Sent);
            }
        }
        if backlog.is_empty() {
            channels.backlogs.remove(&slot);
            channel.waits = false;
        }
        self.send_on(ring, slot, out);
    }

    /// A push came over a link: more waits for its sake, and when that is much, the link is not read for a while.
    pub(in crate::gateway) fn waits_more<R: Verbs>(&mut self, ring: &mut R, key: usize) {
        let Some(link) = self.links.get_mut(key) else {
            return;
        };
        if link.state.pushes_waiting > WAITING_MAX && !link.state.paused {
            link.state.paused = true;
            self.cx.stats.channel_links_paused += 1;
            ring.receive(link.state.socket, Receive::Paused);
        }
    }

    fn waits_less<R: Verbs>(&mut self, ring: &mut R, key: usize, stamp: u32, size: usize) {
        let Some(link) = self.links.get_mut(key).filter(|l| l.state.stamp == stamp) else {
            return;
        };
        link.state.pushes_waiting = link.state.pushes_waiting.saturating_sub(size);
        if link.state.paused && link.state.pushes_waiting < WAITING_LOW {
            link.state.paused = false;
            ring.receive(link.state.socket, Receive::Large);
            relay::mark(&mut self.links, key, &mut self.cx);
        }
    }
}
