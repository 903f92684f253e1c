//! What is sent, and what came of it.

use super::call::HubEvent;
use super::core::Core;
use super::limits::{CHANNELS, HELD, HELD_PER_CLIENT, TARGETS, TARGETS_PER_MESSAGE};
use super::message::{FromShard, LinkId, Targets, ToShard};
use super::push::{Attempt, Audience, OF_ALL, Phase, Push, Status, Target};
use super::store::Command;
use crate::wire::relay::{ChannelKey, Fate, PushId, Totals};

/// NOTIFYs of one push being gathered: by link, and by whether it is a repeat.
#[derive(Default)]
pub struct Batch(Vec<(LinkId, bool, Vec<ChannelKey>)>);

impl Batch {
    fn add(&mut self, link: LinkId, repeat: bool, key: ChannelKey) {
        match self
            .0
            .iter_mut()
            .find(|(l, r, _)| (*l, *r) == (link, repeat))
        {
            Some((_, _, keys)) => keys.push(key),
            None => self.0.push((link, repeat, vec![key])),
        }
    }
}

impl Core {
    /// One more NOTIFY of a push to a channel. False: its gateway shard has no link now.
    pub(super) fn notify(
        &mut self,
        push: u32,
        target: u32,
        channel: u32,
        repeat: bool,
        batch: &mut Batch,
    ) -> bool {
        let Some((gateway, key)) = self
            .presence
            .channel(channel)
            .map(|c| (c.gateway(), c.key()))
        else {
            return false;
        };
        let (Some(link), Some(entry)) = (self.gateways.link_to(gateway), self.pushes.get_mut(push))
        else {
            return false;
        };
        entry.attempts.push_back(Attempt { link, key, target });
        self.stats.repeats += u64::from(repeat);
        batch.add(link, repeat, key);
        true
    }

    /// A push to all channels of one of its clients. False: none of them has a link now.
    pub(super) fn deliver(
        &mut self,
        push: u32,
        target: u32,
        client: u32,
        batch: &mut Batch,
    ) -> bool {
        let channels: Vec<u32> = self
            .presence
            .channels_of(client)
            .map(|(at, _)| at)
            .collect();
        let Some(entry) = self.pushes.get(push) else {
            return false;
        };
        let queued = entry.queue;
        let known = target_of(entry, target);
        // One to all may have come to the client where it was before.
        let repeat = known.is_none_or(|known| known.maybe || known.in_flight > 0);
        let mut attempts = 0;
        for channel in channels {
            attempts += usize::from(self.notify(push, target, channel, repeat, batch));
        }
        if attempts == 0 {
            return false;
        }
        self.change(push, target, |target| {
            target.in_flight = target.in_flight.saturating_add(attempts as u8);
            target.held = false;
        });
        if queued && target != OF_ALL {
            let client = self.presence.id(client);
            self.queue_sent(&client, attempts);
        }
        true
    }

    /// Hands the NOTIFYs over.
    pub(super) fn send_batch(&mut self, push: u32, batch: Batch) {
        let Some(entry) = self.pushes.get(push) else {
            return;
        };
        let (id, payload) = (entry.id, entry.payload.clone());
        for (link, repeat, keys) in batch.0 {
            for keys in keys.chunks(TARGETS_PER_MESSAGE) {
                self.tell_notify(ToShard::Notify {
                    link,
                    push: id,
                    repeat,
                    payload: payload.clone(),
                    targets: Targets::Channels(keys.to_vec()),
                });
            }
        }
    }

    fn tell_notify(&mut self, message: ToShard) {
        if let Err(ToShard::Notify {
            link,
            push,
            targets,
            ..
        }) = self.tell(message)
        {
            // Not here: what comes of it may send more.
            self.refused.push_back(FromShard::Refused {
                link,
                push,
                targets,
            });
        }
    }

    pub(super) fn take_refused(&mut self) {
        for _ in 0..self.refused.len() {
            if let Some(FromShard::Refused {
                link,
                push,
                targets,
            }) = self.refused.pop_front()
            {
                self.not_sent(link, push, targets);
            }
        }
    }

    /// Begins a push: everything that can be sent now, is.
    pub(super) fn begin(&mut self, push: u32) {
        let Some(entry) = self.pushes.get_mut(push) else {
            return;
        };
        entry.phase = Phase::Open;
        let ids: Option<Vec<String>> = match &entry.audience {
            Audience::Clients(recipients) => {
                Some(recipients.iter().map(|(id, _)| id.to_owned()).collect())
            }
            Audience::All { .. } => None,
        };
        match ids {
            Some(ids) => self.begin_to_clients(push, &ids),
            None => self.begin_to_all(push),
        }
        self.finish_if_over(push);
    }

    fn begin_to_clients(&mut self, push: u32, ids: &[String]) {
        let queued = self.pushes.get(push).is_some_and(|push| push.queue);
        let mut batch = Batch::default();
        for (target, id) in ids.iter().enumerate() {
            let target = target as u32;
            if queued {
                self.enqueue(id, push, target);
                self.pump(id);
                continue;
            }
            match self.presence.find(id) {
                Some(client) if self.deliver(push, target, client, &mut batch) => {}
                Some(client) => self.hold(push, target, client),
                None => self.settle(push, target, Status::Gone),
            }
        }
        self.send_batch(push, batch);
    }

    fn begin_to_all(&mut self, push: u32) {
        let gateways: Vec<u16> = self.gateways.all().collect();
        for gateway in gateways {
            match self.gateways.link_to(gateway) {
                Some(link) => self.notify_all(push, link, false),
                None => {
                    let id = self.pushes.get(push).map(|push| push.id);
                    if let (Some(gateway), Some(id)) = (self.gateways.get_mut(gateway), id)
                        && gateway.held.len() < HELD_PER_CLIENT
                    {
                        gateway.held.push(id);
                        self.count_held(push, 1);
                    }
                }
            }
        }
        if self.pushes.get(push).is_none_or(|push| push.queue) {
            // Whoever opens a channel gets it.
            return;
        }
        let polls: Vec<u32> = self.grace_ends.keys().copied().collect();
        for client in polls {
            self.hold(push, OF_ALL, client);
        }
    }

    fn notify_all(&mut self, push: u32, link: LinkId, repeat: bool) {
        let Some(entry) = self.pushes.get_mut(push) else {
            return;
        };
        entry.of_all.push(link);
        let message = ToShard::Notify {
            link,
            push: entry.id,
            repeat,
            payload: entry.payload.clone(),
            targets: Targets::All,
        };
        self.tell_notify(message);
    }

    fn count_held(&mut self, push: u32, n: i32) {
        self.held_count = self.held_count.saturating_add_signed(n as isize);
        if let Some(entry) = self.pushes.get_mut(push) {
            entry.held = entry.held.saturating_add_signed(n);
        }
    }

    /// Keeps a push for a client that is expected back.
    fn hold(&mut self, push: u32, target: u32, client: u32) {
        let Some(id) = self.pushes.get(push).map(|push| push.id) else {
            return;
        };
        let full = self
            .held
            .get(&client)
            .is_some_and(|held| held.len() >= HELD_PER_CLIENT);
        if full || self.held_count >= HELD {
            return self.settle(push, target, Status::Dropped);
        }
        self.held.entry(client).or_default().push((id, target));
        self.count_held(push, 1);
        self.change(push, target, |target| target.held = true);
    }

    /// What is held for a client and still remembered.
    fn take_held(&mut self, client: u32) -> Vec<(u32, u32)> {
        let held = self.held.remove(&client).unwrap_or_default();
        let found = held
            .iter()
            .map(|(id, target)| (self.pushes.find(*id), *target));
        let found: Vec<(Option<u32>, u32)> = found.collect();
        let mut known = Vec::new();
        for (push, target) in found {
            // Counted for the hub in any case.
            self.count_held(push.unwrap_or(OF_ALL), -1);
            if let Some(push) = push {
                self.change(push, target, |target| target.held = false);
                known.push((push, target));
            }
        }
        known
    }

    /// The client did not come back.
    pub(super) fn drop_held(&mut self, client: u32) {
        for (push, target) in self.take_held(client) {
            self.settle(push, target, Status::Gone);
            self.finish_if_over(push);
        }
    }

    /// What is held for a gateway shard and still remembered.
    fn take_held_to_all(&mut self, gateway: u16) -> Vec<u32> {
        let held = self
            .gateways
            .get_mut(gateway)
            .map(|g| std::mem::take(&mut g.held));
        let mut known = Vec::new();
        for id in held.unwrap_or_default() {
            let push = self.pushes.find(id);
            self.count_held(push.unwrap_or(OF_ALL), -1);
            known.extend(push);
        }
        known
    }

    pub(super) fn drop_held_to_all(&mut self, gateway: u16) {
        for push in self.take_held_to_all(gateway) {
            self.finish_if_over(push);
        }
    }

    /// A gateway shard has a link again.
    pub(super) fn send_held_to_all(&mut self, gateway: u16, link: LinkId) {
        for push in self.take_held_to_all(gateway) {
            if self
                .pushes
                .get(push)
                .is_some_and(|push| push.phase == Phase::Open)
            {
                // A client may have had it elsewhere and come here since.
                self.notify_all(push, link, true);
            }
        }
    }

    fn send_held(&mut self, client: u32) {
        for (push, target) in self.take_held(client) {
            if self
                .pushes
                .get(push)
                .is_none_or(|push| push.phase != Phase::Open)
            {
                continue;
            }
            let mut batch = Batch::default();
            if !self.deliver(push, target, client, &mut batch) {
                self.hold(push, target, client);
            }
            self.send_batch(push, batch);
        }
    }

    /// A client has a channel more.
    pub(super) fn client_arrived(&mut self, client: u32, channel: u32, id: &str) {
        if self.held_count > 0 {
            self.send_held(client);
        }
        self.restart_queue(id);
        if self.pushes.queued_to_all > 0 && self.arrived.len() < CHANNELS {
            self.arrived.push_back(channel);
        }
    }

    /// A channel that was known is still there, maybe after its link was lost: what could not be sent goes now.
    pub(super) fn client_confirmed(&mut self, client: u32) {
        if self.held_count > 0 {
            self.send_held(client);
        }
        if self.pushes.queued > 0 {
            let id = self.presence.id(client);
            self.pump(&id);
        }
    }

    /// OUTCOME of one channel.
    pub(super) fn outcome(&mut self, link: LinkId, id: PushId, key: ChannelKey, fate: Fate) {
        let Some(push) = self.pushes.find(id) else {
            return;
        };
        let Some(attempt) = self
            .pushes
            .get_mut(push)
            .and_then(|p| p.take_attempt(link, key))
        else {
            return;
        };
        let status = match fate {
            Fate::Sent => Status::Sent,
            Fate::Gone => Status::Gone,
            Fate::Dropped => Status::Dropped,
        };
        self.attempt_over(push, attempt, status);
    }

    fn attempt_over(&mut self, push: u32, attempt: Attempt, status: Status) {
        self.count_outcome(status, 1);
        if attempt.target == OF_ALL {
            self.tally(push, status, 1);
            return self.finish_if_over(push);
        }
        self.change(push, attempt.target, |target| {
            target.in_flight = target.in_flight.saturating_sub(1);
            target.maybe |= matches!(status, Status::Sent | Status::Unknown);
        });
        let Some((queue, client)) = self
            .pushes
            .get(push)
            .and_then(|entry| match &entry.audience {
                Audience::Clients(recipients) => Some((
                    entry.queue,
                    recipients.id(attempt.target as usize).to_owned(),
                )),
                Audience::All { .. } => None,
            })
        else {
            return;
        };
        if queue {
            self.settle(push, attempt.target, status);
            let went = status == Status::Sent;
            let later = matches!(status, Status::Dropped | Status::Unknown);
            self.queue_heard(&client, push, went, later);
            if status == Status::Gone && self.drop_gone(attempt, &client) {
                self.pump(&client);
            }
        } else if status == Status::Gone && self.try_elsewhere(push, attempt, &client) {
            return;
        } else {
            self.settle(push, attempt.target, status);
        }
        self.finish_if_over(push);
    }

    /// The channel went before its push came there: the client's next one takes it, or its grace holds it.
    fn try_elsewhere(&mut self, push: u32, attempt: Attempt, id: &str) -> bool {
        let open = self
            .pushes
            .get(push)
            .is_some_and(|push| push.phase == Phase::Open);
        let idle = self
            .target(push, attempt.target)
            .is_some_and(|t| t.in_flight == 0 && !t.maybe);
        let (true, true, Some(client)) = (open, idle, self.presence.find(id)) else {
            return false;
        };
        if self.drop_gone(attempt, id) {
            let mut batch = Batch::default();
            let sent = self.deliver(push, attempt.target, client, &mut batch);
            self.send_batch(push, batch);
            return sent;
        }
        let expected = self.grace_ends.contains_key(&client);
        if expected {
            self.hold(push, attempt.target, client);
        }
        expected
    }

    /// A channel that its gateway knows no more is dropped here too, if the client has another one. Its only one stays
    /// until the gateway tells why it went: a long poll that was answered leaves a grace. True: there is another one.
    fn drop_gone(&mut self, attempt: Attempt, id: &str) -> bool {
        let gateway = self.gateways.of_link(attempt.link);
        let gone = gateway.and_then(|gateway| self.find_channel(gateway, attempt.key));
        let Some(client) = self.presence.find(id) else {
            return false;
        };
        let other = self
            .presence
            .channels_of(client)
            .any(|(at, _)| Some(at) != gone);
        if let Some(gone) = gone.filter(|_| other) {
            self.channel_gone(gone, "lost", false);
        }
        other
    }

    /// OUTCOME of a push to all.
    pub(super) fn outcome_of_all(&mut self, link: LinkId, id: PushId, totals: Totals) {
        let Some(push) = self.pushes.find(id) else {
            return;
        };
        let Some(entry) = self.pushes.get_mut(push) else {
            return;
        };
        let Some(at) = entry.of_all.iter().position(|other| *other == link) else {
            return;
        };
        entry.of_all.remove(at);
        for (status, n) in [
            (Status::Sent, totals.sent),
            (Status::Gone, totals.gone),
            (Status::Dropped, totals.dropped),
        ] {
            self.count_outcome(status, u64::from(n));
            self.tally(push, status, u64::from(n));
        }
        self.finish_if_over(push);
    }

    /// A shard, or the way to it, had no room.
    pub(super) fn not_sent(&mut self, link: LinkId, id: PushId, targets: Targets) {
        match targets {
            Targets::Channels(keys) => {
                for key in keys {
                    self.outcome(link, id, key, Fate::Dropped);
                }
            }
            Targets::All => {
                let channels = self.channels_behind(link);
                let totals = Totals {
                    dropped: channels,
                    ..Totals::default()
                };
                self.outcome_of_all(link, id, totals);
            }
        }
    }

    fn channels_behind(&self, link: LinkId) -> u32 {
        let gateway = self.gateways.of_link(link);
        gateway
            .and_then(|at| self.gateways.get(at))
            .map_or(0, |gateway| gateway.channels)
    }

    /// Outcomes that were awaited over a link are unknown for ever.
    pub(super) fn lose_attempts(&mut self, link: LinkId) {
        let channels = u64::from(self.channels_behind(link));
        let touched: Vec<u32> = self
            .pushes
            .iter()
            .filter(|(_, push)| {
                push.of_all.contains(&link)
                    || push.attempts.iter().any(|attempt| attempt.link == link)
            })
            .map(|(at, _)| at)
            .collect();
        for push in touched {
            let Some(entry) = self.pushes.get_mut(push) else {
                continue;
            };
            let all = entry.of_all.iter().filter(|other| **other == link).count() as u64;
            entry.of_all.retain(|other| *other != link);
            let lost: Vec<Attempt> = entry
                .attempts
                .iter()
                .filter(|a| a.link == link)
                .copied()
                .collect();
            entry.attempts.retain(|attempt| attempt.link != link);
            self.tally(push, Status::Unknown, all * channels);
            self.count_outcome(Status::Unknown, all * channels);
            for attempt in lost {
                self.attempt_over(push, attempt, Status::Unknown);
            }
            self.finish_if_over(push);
        }
    }

    /// A client has a push.
    pub(super) fn receipt(&mut self, id: PushId, client: &str) {
        if let Some(place) = self.presence.find(client) {
            let seconds = self.seconds();
            self.presence.saw(place, seconds);
        }
        let Some(push) = self.pushes.find(id) else {
            self.stats.receipts_unknown += 1;
            return;
        };
        let full = self.pushes.targets >= TARGETS;
        let Some(entry) = self.pushes.get_mut(push) else {
            return;
        };
        let (queue, stored) = (entry.queue, entry.stored);
        let (fresh, target) = match &mut entry.audience {
            Audience::Clients(recipients) => match recipients.find(client) {
                Some(target) => {
                    let known = recipients.targets.get(target).map(|target| target.status);
                    (known != Some(Status::Acknowledged), Some(target as u32))
                }
                None => {
                    self.stats.receipts_unknown += 1;
                    return;
                }
            },
            Audience::All {
                tally,
                acknowledged,
            } => {
                let fresh = !queue || (!full && acknowledged.insert(client.into()));
                tally.acknowledged += u64::from(fresh);
                self.pushes.targets += usize::from(fresh && queue);
                (fresh, None)
            }
        };
        self.stats.receipts += 1;
        if !fresh {
            return;
        }
        if let Some(target) = target {
            self.settle(push, target, Status::Acknowledged);
        }
        if stored {
            self.commands
                .push_back(Command::Acknowledge(id, client.into()));
        }
        self.event(|_| HubEvent::Receipt {
            push: id,
            client: client.to_owned(),
        });
        if queue && target.is_some() {
            self.dequeue(client, push);
            self.pump(client);
        }
        self.finish_if_over(push);
    }

    fn target(&self, push: u32, target: u32) -> Option<Target> {
        self.pushes
            .get(push)
            .and_then(|push| target_of(push, target))
    }

    /// Changes a target, and what of its push is open by it.
    pub(super) fn change(&mut self, push: u32, target: u32, change: impl FnOnce(&mut Target)) {
        let Some(entry) = self.pushes.get_mut(push) else {
            return;
        };
        let Some(before) = target_of(entry, target) else {
            return;
        };
        let mut after = before;
        change(&mut after);
        let (was, is) = (entry.is_open(&before), entry.is_open(&after));
        entry.open = entry.open + u32::from(is) - u32::from(was);
        if let Audience::Clients(recipients) = &mut entry.audience
            && let Some(target) = recipients.targets.get_mut(target as usize)
        {
            *target = after;
        }
    }

    /// A target's result, unless it has a better one.
    pub(super) fn settle(&mut self, push: u32, target: u32, status: Status) {
        self.change(push, target, |target| {
            target.status = target.status.max(status)
        });
    }

    fn tally(&mut self, push: u32, status: Status, n: u64) {
        let Some(Audience::All { tally, .. }) = self.pushes.get_mut(push).map(|p| &mut p.audience)
        else {
            return;
        };
        match status {
            Status::Sent => tally.sent += n,
            Status::Gone => tally.gone += n,
            Status::Dropped => tally.dropped += n,
            Status::Unknown => tally.unknown += n,
            _ => {}
        }
    }

    fn count_outcome(&mut self, status: Status, n: u64) {
        match status {
            Status::Sent => self.stats.sent += n,
            Status::Gone => self.stats.gone += n,
            Status::Dropped => self.stats.dropped += n,
            Status::Unknown => self.stats.unknown += n,
            _ => {}
        }
    }
}

fn target_of(push: &Push, target: u32) -> Option<Target> {
    match &push.audience {
        Audience::Clients(recipients) => recipients.targets.get(target as usize).copied(),
        Audience::All { .. } => None,
    }
}
