//! What the hub does on news of its store.

use super::call::{Answer, Refusal};
use super::core::Core;
use super::push::{Audience, Phase, Push, Recipients, Status, Tally};
use super::store::{Condition, Loaded, News};
use crate::wire::relay::PushId;
use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

impl Core {
    /// News of the store.
    pub fn handle_store(&mut self, news: News) {
        match news {
            News::Loaded { pushes, keys } => {
                pushes
                    .into_iter()
                    .for_each(|loaded| self.take_loaded(loaded));
                keys.iter().for_each(|key| self.remember_key(key));
            }
            News::Opened => self.condition = Condition::open(),
            News::Committed { puts, commands } => {
                self.stats.commits += 1;
                self.stats.commit_commands += commands as u64;
                puts.into_iter().for_each(|push| self.stored(push));
            }
            News::Failed { puts, why, full } => {
                self.stats.store_failures += 1;
                self.condition = Condition::failed(why.clone(), full);
                // The next one with such a key is a new push.
                let refused: HashSet<PushId> = puts.iter().copied().collect();
                self.keys.retain(|_, key| !refused.contains(&key.push));
                let keys = &self.keys;
                self.key_ends.retain(|(_, key)| keys.contains_key(key));
                for push in puts {
                    self.not_stored(push, &why, full);
                }
            }
        }
    }

    fn stored(&mut self, id: PushId) {
        let Some(at) = self.pushes.find(id) else {
            return;
        };
        if let Some(call) = self.storing.remove(&at) {
            let answer = Answer::Accepted {
                push: id,
                known: false,
            };
            self.answers.push_back((call, answer));
            self.begin(at);
        }
    }

    fn not_stored(&mut self, id: PushId, why: &str, full: bool) {
        let Some(at) = self.pushes.find(id) else {
            return;
        };
        let Some(call) = self.storing.remove(&at) else {
            return;
        };
        if let Some(push) = self.pushes.remove(at) {
            // Its place may be another's next.
            self.ends.remove(&(push.expires_ms, at));
        }
        let why = why.to_owned();
        let refusal = Refusal::Store { why, full };
        self.answers.push_back((call, Answer::Refused(refusal)));
    }

    /// A push of an earlier process, or of before the store failed. Whether it was sent then nobody knows: each of its
    /// NOTIFYs is a repeat.
    fn take_loaded(&mut self, loaded: Loaded) {
        let Loaded {
            id,
            record,
            acknowledged,
            cancelled,
        } = loaded;
        if self.pushes.find(id).is_some() {
            return;
        }
        let audience = match record.clients {
            Some(clients) => {
                let mut recipients = Recipients::new(clients);
                for target in &mut recipients.targets {
                    target.maybe = true;
                    if cancelled {
                        target.status = Status::Cancelled;
                    }
                }
                for client in &acknowledged {
                    if let Some(at) = recipients.find(client) {
                        recipients.targets[at].status = Status::Acknowledged;
                    }
                }
                Audience::Clients(recipients)
            }
            None => {
                self.pushes.targets += acknowledged.len();
                Audience::All {
                    tally: Tally {
                        acknowledged: acknowledged.len() as u64,
                        ..Tally::default()
                    },
                    acknowledged: acknowledged.into_iter().collect(),
                }
            }
        };
        let at = self.add_push(Push {
            id,
            payload: Arc::from(record.payload.into_bytes()),
            created_ms: record.created_ms,
            expires_ms: record.expires_ms,
            queue: true,
            phase: Phase::Open,
            audience,
            attempts: VecDeque::new(),
            of_all: Vec::new(),
            open: 0,
            held: 0,
            cancelled,
            expired: false,
            stored: true,
        });
        self.resume(at);
    }

    /// A loaded push goes on: what has no receipt waits for its clients.
    fn resume(&mut self, at: u32) {
        let Some(entry) = self.pushes.get_mut(at) else {
            return;
        };
        entry.phase = Phase::Open;
        let waiting: Vec<(u32, String)> = match &entry.audience {
            Audience::Clients(recipients) => recipients
                .iter()
                .enumerate()
                .filter(|(_, (_, target))| entry.is_open(target))
                .map(|(target, (id, _))| (target as u32, id.to_owned()))
                .collect(),
            Audience::All { .. } if entry.cancelled => return self.finish(at),
            // Who is there may have it, or not.
            Audience::All { .. } => {
                let mut from = 0;
                while let Some((channel, _)) = self.presence.next_channel(from) {
                    self.arrived.push_back(channel);
                    from = channel + 1;
                }
                return;
            }
        };
        for (target, client) in waiting {
            self.enqueue(&client, at, target);
            self.pump(&client);
        }
        self.finish_if_over(at);
    }
}
