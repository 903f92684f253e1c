//! Calls of the API, and a push from its acceptance to the end of its results.

use super::call::{
    Answer, CallId, ChannelView, ClientView, HubEvent, NewPush, Refusal, Request, Results, To,
};
use super::core::Core;
use super::limits::{
    CLIENT_ID_BYTES, KEY_KEPT, KEYS, PAGE, PER_TURN, QUEUED_BYTES, QUEUED_TO_ALL, RESULTS_KEPT,
    STORE_QUEUE, TARGETS,
};
use super::push::{Audience, Phase, Push, Recipients, STATUSES, Status, Tally};
use super::store::{Command, Record, StoredKey};
use crate::wire::relay::{CloseReason, PushId};
use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

/// An idempotency key that was used.
pub struct Key {
    pub push: PushId,
    /// Of what came with it.
    pub hash: [u8; 32],
}

impl Core {
    /// A call of the API; its answer comes by `poll_answer`, at once or when the push is on disk.
    pub fn handle_call(&mut self, call: CallId, request: Request) {
        let answer = match request {
            Request::Push(new) => match self.accept(call, new) {
                Ok(Some(answer)) => answer,
                Ok(None) => return,
                Err(refusal) => Answer::Refused(refusal),
            },
            Request::Results { push, clients } => self.results(push, clients),
            Request::Cancel(push) => self.cancel(push),
            Request::Clients { from, limit } => self.clients(from, limit),
            Request::Client(id) => match self.presence.find(&id) {
                Some(client) => Answer::Client(self.view(client)),
                None => Answer::Refused(Refusal::UnknownClient),
            },
            Request::Close(id) => self.close(&id),
            Request::Stats => Answer::Stats(Box::new(self.stats())),
        };
        self.answers.push_back((call, answer));
    }

    /// `None`: the answer comes when the push is on disk.
    fn accept(&mut self, call: CallId, new: NewPush) -> Result<Option<Answer>, Refusal> {
        if let Some((key, hash)) = &new.key
            && let Some(known) = self.keys.get(key)
        {
            let push = known.push;
            let storing = self
                .pushes
                .find(push)
                .is_some_and(|at| self.storing.contains_key(&at));
            return match known.hash == *hash {
                false => Err(Refusal::KeyUsed),
                true if storing => Err(Refusal::KeyBusy),
                true => Ok(Some(Answer::Accepted { push, known: true })),
            };
        }
        self.check_room(&new)?;
        let store = new.queue || new.key.is_some() && self.condition.is_open();
        if new.queue
            && let Some((why, full)) = self.condition.broken()
        {
            return Err(Refusal::Store { why, full });
        }
        if store && self.commands.len() >= STORE_QUEUE {
            return Err(Refusal::Overloaded);
        }
        let to_all = new.to == To::All;
        let id = self.next_id();
        let audience = match new.to {
            To::Clients(ids) => Audience::Clients(Recipients::new(ids)),
            To::All => Audience::All {
                tally: Tally::default(),
                acknowledged: HashSet::new(),
            },
        };
        let push = Push {
            id,
            payload: Arc::from(new.payload),
            created_ms: self.unix_ms,
            expires_ms: self.unix_ms + new.ttl_ms,
            queue: new.queue,
            phase: Phase::Storing,
            audience,
            attempts: VecDeque::new(),
            of_all: Vec::new(),
            open: 0,
            held: 0,
            cancelled: false,
            expired: false,
            stored: new.queue,
        };
        let key = new.key.map(|(key, hash)| StoredKey {
            until_ms: push
                .expires_ms
                .max(self.unix_ms + KEY_KEPT.as_millis() as u64),
            key,
            hash,
            push: id,
        });
        let record = new.queue.then(|| Record::of(&push));
        let at = self.add_push(push);
        let count = match to_all {
            true => &mut self.stats.pushes_to_all,
            false => &mut self.stats.pushes_to_clients,
        };
        *count += 1;
        if let Some(key) = &key {
            self.remember_key(key);
        }
        if store {
            self.storing.insert(at, call);
            self.commands.push_back(Command::Put { id, record, key });
            return Ok(None);
        }
        self.begin(at);
        Ok(Some(Answer::Accepted {
            push: id,
            known: false,
        }))
    }

    fn check_room(&mut self, new: &NewPush) -> Result<(), Refusal> {
        let targets = match &new.to {
            To::Clients(ids) => ids.len(),
            To::All => 0,
        };
        for _ in 0..PER_TURN {
            if !self.pushes.is_full() && self.pushes.targets + targets <= TARGETS {
                break;
            }
            // The oldest results go first; there may be none.
            let Some((_, oldest)) = self.results_ends.pop_first() else {
                break;
            };
            self.forget(oldest);
        }
        if self.pushes.is_full() || self.pushes.targets + targets > TARGETS {
            return Err(Refusal::Full("pushes"));
        }
        if new.key.is_some() && self.keys.len() >= KEYS {
            return Err(Refusal::Full("idempotency keys"));
        }
        if !new.queue {
            return Ok(());
        }
        if self.pushes.queued_bytes + new.payload.len() > QUEUED_BYTES {
            return Err(Refusal::Full("queued bytes"));
        }
        match &new.to {
            To::All if self.pushes.queued_to_all >= QUEUED_TO_ALL => {
                Err(Refusal::Full("queued pushes to all"))
            }
            To::Clients(ids) if ids.iter().any(|id| self.queues.is_full(id)) => {
                Err(Refusal::Full("queued pushes for a client"))
            }
            _ => Ok(()),
        }
    }

    /// Ids grow with time, and none comes twice, in this process or the next.
    fn next_id(&mut self) -> PushId {
        let (ms, number) = self.last_id;
        self.last_id = (ms.max(self.unix_ms), number.wrapping_add(1));
        PushId::new(self.settings.prefix, self.last_id.0, self.last_id.1)
    }

    pub(super) fn add_push(&mut self, mut push: Push) -> u32 {
        push.open = match &push.audience {
            Audience::Clients(recipients) => recipients
                .targets
                .iter()
                .filter(|t| push.is_open(t))
                .count() as u32,
            Audience::All { .. } => 0,
        };
        let expires = push.expires_ms;
        let at = self.pushes.insert(push);
        self.ends.insert((expires, at));
        at
    }

    pub(super) fn remember_key(&mut self, key: &StoredKey) {
        let known = Key {
            push: key.push,
            hash: key.hash,
        };
        if self.keys.insert(key.key.clone(), known).is_none() {
            self.key_ends.insert((key.until_ms, key.key.clone()));
        }
    }

    /// Ends a push of which nothing more is to come.
    pub(super) fn finish_if_over(&mut self, at: u32) {
        let over = self.pushes.get(at).is_some_and(|push| {
            push.phase == Phase::Open
                && match &push.audience {
                    Audience::Clients(_) => push.open == 0,
                    Audience::All { .. } => {
                        !push.queue
                            && push.of_all.is_empty()
                            && push.attempts.is_empty()
                            && push.held == 0
                    }
                }
        });
        if over {
            self.finish(at);
        }
    }

    pub(super) fn finish(&mut self, at: u32) {
        let Some(push) = self.pushes.get(at) else {
            return;
        };
        let (id, expires) = (push.id, push.expires_ms);
        self.ends.remove(&(expires, at));
        self.pushes.finish(at, self.unix_ms);
        self.results_ends
            .insert((self.unix_ms + RESULTS_KEPT.as_millis() as u64, at));
        self.event(|core| HubEvent::Result {
            push: id,
            state: core.pushes.get(at).map_or("done", state_name),
        });
    }

    /// Nothing of it can be read any more.
    fn forget(&mut self, at: u32) {
        if let Some(push) = self.pushes.remove(at)
            && push.stored
        {
            self.commands.push_back(Command::Forget(push.id));
        }
    }

    /// Pushes whose time is over, results that were kept long enough, old keys.
    pub(super) fn end_pushes(&mut self) {
        for _ in 0..PER_TURN {
            let due = self
                .ends
                .first()
                .copied()
                .filter(|(at, _)| *at <= self.unix_ms);
            let Some((end, at)) = due else { break };
            self.ends.remove(&(end, at));
            match self.pushes.get(at).map(|push| push.phase) {
                // Looked at again when it is stored: it is over at once then.
                Some(Phase::Storing) => {
                    self.ends.insert((self.unix_ms + 1000, at));
                }
                Some(Phase::Open) => self.end_early(at, Status::Expired),
                Some(Phase::Done(_)) | None => {}
            }
        }
        for _ in 0..PER_TURN {
            let due = self.results_ends.first().copied();
            let Some((end, at)) = due.filter(|(end, _)| *end <= self.unix_ms) else {
                break;
            };
            self.results_ends.remove(&(end, at));
            self.forget(at);
        }
        for _ in 0..PER_TURN {
            let due = self
                .key_ends
                .first()
                .is_some_and(|(at, _)| *at <= self.unix_ms);
            let Some((_, key)) = due.then(|| self.key_ends.pop_first()).flatten() else {
                break;
            };
            self.keys.remove(&key);
            self.commands.push_back(Command::ForgetKey(key));
        }
    }

    /// Ends a push whose targets are not all done: they expire, or are cancelled.
    fn end_early(&mut self, at: u32, status: Status) {
        let Some(push) = self.pushes.get_mut(at) else {
            return;
        };
        push.attempts.clear();
        push.of_all.clear();
        push.expired |= status == Status::Expired;
        push.cancelled |= status == Status::Cancelled;
        let queue = push.queue;
        let open: Vec<(u32, String)> = match &push.audience {
            Audience::Clients(recipients) => {
                let targets = recipients.iter().enumerate();
                let open = targets.filter(|(_, (_, target))| push.is_open(target));
                open.map(|(target, (id, _))| (target as u32, id.to_owned()))
                    .collect()
            }
            Audience::All { .. } => Vec::new(),
        };
        for (target, client) in open {
            let in_flight = self.in_flight(at, target);
            let sent = !queue && in_flight > 0;
            self.change(at, target, |target| {
                target.in_flight = 0;
                target.held = false;
                // Handed to a gateway that never told: nobody knows.
                target.status = target
                    .status
                    .max(if sent { Status::Unknown } else { status });
            });
            if queue {
                self.queue_unsent(&client, in_flight);
                self.dequeue(&client, at);
                self.pump(&client);
            }
            self.stats.expired += u64::from(status == Status::Expired);
        }
        self.finish(at);
    }

    fn in_flight(&self, at: u32, target: u32) -> usize {
        match self.pushes.get(at).map(|push| &push.audience) {
            Some(Audience::Clients(recipients)) => {
                let target = recipients.targets.get(target as usize);
                target.map_or(0, |target| usize::from(target.in_flight))
            }
            _ => 0,
        }
    }

    fn cancel(&mut self, id: PushId) -> Answer {
        let Some(at) = self.pushes.find(id) else {
            return Answer::Refused(Refusal::UnknownPush);
        };
        let queued = self
            .pushes
            .get(at)
            .is_some_and(|push| push.queue && push.phase == Phase::Open);
        if !queued {
            return Answer::Refused(Refusal::NotQueued);
        }
        if let Some(expires) = self.pushes.get(at).map(|push| push.expires_ms) {
            self.ends.remove(&(expires, at));
        }
        self.commands.push_back(Command::Cancel(id));
        self.end_early(at, Status::Cancelled);
        self.results(id, None)
    }

    fn results(&self, id: PushId, clients: Option<u32>) -> Answer {
        let Some(push) = self.pushes.find(id).and_then(|at| self.pushes.get(at)) else {
            return Answer::Refused(Refusal::UnknownPush);
        };
        let mut results = Results {
            push: id,
            queue: push.queue,
            created_ms: push.created_ms,
            expires_ms: push.expires_ms,
            state: state_name(push),
            to_all: matches!(push.audience, Audience::All { .. }),
            counts: [0; STATUSES],
            tally: Tally::default(),
            clients: Vec::new(),
            next: None,
        };
        match &push.audience {
            Audience::All { tally, .. } => results.tally = *tally,
            Audience::Clients(recipients) => {
                for target in &recipients.targets {
                    results.counts[target.status as usize] += 1;
                }
                if let Some(from) = clients {
                    let from = from as usize;
                    let page = recipients.iter().skip(from).take(PAGE);
                    results.clients = page
                        .map(|(id, target)| (id.to_owned(), target.status.name()))
                        .collect();
                    let behind = from + results.clients.len();
                    results.next = (behind < recipients.len()).then_some(behind as u32);
                }
            }
        }
        Answer::Results(Box::new(results))
    }

    fn clients(&self, from: u32, limit: usize) -> Answer {
        let (mut clients, mut from) = (Vec::new(), from);
        let next = loop {
            let Some(at) = self.presence.next_client(from) else {
                break None;
            };
            if clients.len() >= limit.clamp(1, PAGE) {
                break Some(at);
            }
            clients.push(self.view(at));
            from = at + 1;
        };
        Answer::Clients { clients, next }
    }

    fn view(&self, client: u32) -> ClientView {
        let channels = self.presence.channels_of(client).map(|(_, channel)| {
            let gateway = self
                .gateways
                .get(channel.gateway())
                .map(|gateway| gateway.shard);
            ChannelView {
                kind: channel.kind(),
                auth: channel.auth(),
                since: channel.since,
                instance: gateway.map_or(0, |gateway| gateway.instance),
                shard: gateway.map_or(0, |gateway| gateway.shard),
            }
        });
        ClientView {
            client: self.presence.id(client),
            channels: channels.collect(),
            last_seen: self.presence.last_seen(client),
        }
    }

    fn close(&mut self, id: &str) -> Answer {
        let client = Some(id)
            .filter(|id| id.len() <= CLIENT_ID_BYTES)
            .and_then(|id| self.presence.find(id));
        let Some(client) = client else {
            return Answer::Refused(Refusal::UnknownClient);
        };
        let channels: Vec<u32> = self
            .presence
            .channels_of(client)
            .map(|(at, _)| at)
            .collect();
        for channel in &channels {
            self.close_channel(*channel, CloseReason::Requested);
        }
        Answer::Closing(channels.len())
    }
}

/// Where a push stands, as a whole.
pub(super) fn state_name(push: &Push) -> &'static str {
    match push.phase {
        Phase::Storing => "storing",
        Phase::Open => "open",
        Phase::Done(_) if push.cancelled => "cancelled",
        Phase::Done(_) if push.expired => "expired",
        Phase::Done(_) => "done",
    }
}
