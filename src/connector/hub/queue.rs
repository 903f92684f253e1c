//! Queued pushes by the client that they wait for, whether it is there or not. They go in their order, a window of them
//! at once; each channel that the client opens begins anew with all that have no receipt.

use super::core::Core;
use super::deliver::Batch;
use super::limits::{DROPPED_RETRY, PER_TURN, QUEUED_PER_CLIENT, WINDOW};
use super::push::{Audience, OF_ALL, Phase};
use std::collections::{HashMap, VecDeque};
use std::time::Instant;

#[derive(Default)]
pub struct Queue {
    /// Place of the push, and of the client among its recipients.
    items: Vec<(u32, u32)>,
    /// Those before it were sent since the client's last channel came.
    cursor: usize,
    /// NOTIFYs without outcome.
    in_flight: usize,
    /// It is in the list of those to be tried again.
    retried: bool,
}

#[derive(Default)]
pub struct Queues {
    by_client: HashMap<Box<str>, Queue>,
    retries: VecDeque<(Instant, Box<str>)>,
}

impl Queues {
    pub fn is_full(&self, client: &str) -> bool {
        let queue = self.by_client.get(client);
        queue.is_some_and(|queue| queue.items.len() >= QUEUED_PER_CLIENT)
    }

    pub fn next_retry(&self) -> Option<Instant> {
        self.retries.front().map(|(at, _)| *at)
    }
}

impl Core {
    /// A queued push waits for a client from now on.
    pub(super) fn enqueue(&mut self, client: &str, push: u32, target: u32) {
        let queue = self.queues.by_client.entry(client.into()).or_default();
        queue.items.push((push, target));
    }

    /// A queued push waits no more.
    pub(super) fn dequeue(&mut self, client: &str, push: u32) {
        let Some(queue) = self.queues.by_client.get_mut(client) else {
            return;
        };
        if let Some(at) = queue.items.iter().position(|(other, _)| *other == push) {
            queue.items.remove(at);
            queue.cursor -= usize::from(at < queue.cursor);
        }
        if queue.items.is_empty() {
            self.queues.by_client.remove(client);
        }
    }

    /// A channel came: all that has no receipt is sent again.
    pub(super) fn restart_queue(&mut self, client: &str) {
        if self.queues.by_client.is_empty() {
            return;
        }
        if let Some(queue) = self.queues.by_client.get_mut(client) {
            queue.cursor = 0;
            self.pump(client);
        }
    }

    /// Sends what the window lets through.
    pub(super) fn pump(&mut self, client: &str) {
        let Some(place) = self.presence.find(client) else {
            return;
        };
        for _ in 0..WINDOW {
            let Some(queue) = self.queues.by_client.get(client) else {
                return;
            };
            let Some((push, target)) = queue.items.get(queue.cursor).copied() else {
                return;
            };
            if queue.in_flight >= WINDOW {
                return;
            }
            let mut batch = Batch::default();
            if !self.deliver(push, target, place, &mut batch) {
                return;
            }
            if let Some(queue) = self.queues.by_client.get_mut(client) {
                queue.cursor += 1;
            }
            self.send_batch(push, batch);
        }
    }

    pub(super) fn queue_sent(&mut self, client: &str, attempts: usize) {
        if let Some(queue) = self.queues.by_client.get_mut(client) {
            queue.in_flight += attempts;
        }
    }

    /// Attempts whose outcome nobody waits for any more.
    pub(super) fn queue_unsent(&mut self, client: &str, attempts: usize) {
        if let Some(queue) = self.queues.by_client.get_mut(client) {
            queue.in_flight = queue.in_flight.saturating_sub(attempts);
        }
    }

    /// An attempt of a queued push has its outcome. One that did not go is tried again: `later`, or else when the client
    /// has another channel.
    pub(super) fn queue_heard(&mut self, client: &str, push: u32, went: bool, later: bool) {
        let Some(queue) = self.queues.by_client.get_mut(client) else {
            return;
        };
        queue.in_flight = queue.in_flight.saturating_sub(1);
        if went {
            return self.pump(client);
        }
        if let Some(at) = queue.items.iter().position(|(other, _)| *other == push) {
            queue.cursor = queue.cursor.min(at);
        }
        if later && !queue.retried {
            queue.retried = true;
            let at = self.now + DROPPED_RETRY;
            self.queues.retries.push_back((at, client.into()));
        }
    }

    /// Clients whose channel was over its bound a while ago.
    pub(super) fn retry_dropped(&mut self) {
        for _ in 0..PER_TURN {
            let due = self
                .queues
                .retries
                .front()
                .is_some_and(|(at, _)| *at <= self.now);
            let Some((_, client)) = due.then(|| self.queues.retries.pop_front()).flatten() else {
                return;
            };
            if let Some(queue) = self.queues.by_client.get_mut(&client) {
                queue.retried = false;
                self.pump(&client);
            }
        }
    }

    /// Sends the queued pushes to all to channels that came after them, or had them without a receipt.
    pub(super) fn greet_arrived(&mut self) {
        if self.arrived.is_empty() || !self.has_room() {
            return;
        }
        let count = self.arrived.len().min(PER_TURN);
        let channels: Vec<u32> = self.arrived.drain(..count).collect();
        let waits = |push: &super::push::Push| {
            push.queue && push.phase == Phase::Open && matches!(push.audience, Audience::All { .. })
        };
        let pushes: Vec<u32> = self
            .pushes
            .iter()
            .filter(|(_, push)| waits(push))
            .map(|(at, _)| at)
            .collect();
        for push in pushes {
            let mut batch = Batch::default();
            for channel in &channels {
                let channel_of = self.presence.channel(*channel);
                let Some((client, gateway)) = channel_of.map(|c| (c.client, c.gateway())) else {
                    continue;
                };
                // Whether it was there when the push went to all, nobody knows any more: it is a repeat.
                if !self.has_acknowledged(push, client)
                    && !self.notify(push, OF_ALL, *channel, true, &mut batch)
                {
                    self.owe_all(push, gateway);
                }
            }
            self.send_batch(push, batch);
        }
    }

    fn has_acknowledged(&self, push: u32, client: u32) -> bool {
        match self.pushes.get(push).map(|push| &push.audience) {
            Some(Audience::All { acknowledged, .. }) if !acknowledged.is_empty() => {
                acknowledged.contains(&*self.presence.id(client))
            }
            _ => false,
        }
    }
}
