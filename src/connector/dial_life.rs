//! Keeping links up: dials what is due, address by address, and learns how many shards an instance has.

use crate::ring::{ConnectOptions, Verbs};
use crate::wire::relay::staging::Staging;
use crate::wire::relay::{Role, Session};
use crate::wire::tls::{self};
use std::time::Duration;

use super::context::{Context, EARLY, Owner};
use super::dial::{Dial, Target};
use super::link::{self, Link};
use super::notify;
use super::plan::LINK_TIMEOUT;
use super::resolve::{self, Asker};
use super::shard::{Connector, GATEWAY_SHARDS_MAX, TIMER_TARGETS, USER_TIMEOUT, mark_link};

impl Connector {
    /// Dials every target that is due.
    pub(super) fn dial_due<R: Verbs>(&mut self, ring: &mut R) {
        for index in 0..self.cx.targets.len() {
            let now = self.cx.now;
            match self.cx.targets[index].state {
                _ if self.cx.targets[index].off => {}
                Dial::Waiting(at) if at <= now && self.draining.is_none() => self.dial(ring, index),
                Dial::Resolving(at) if at <= now => self.target_lost(index, None, false),
                _ => {}
            }
        }
        self.arm_targets();
    }

    pub(super) fn arm_targets(&mut self) {
        if self.draining.is_some() {
            // Nothing is dialled any more, however long it has been due.
            return;
        }
        if let Some(at) = self.cx.targets.iter().filter_map(Target::due).min() {
            self.cx.wheel.insert(at.max(self.cx.now), TIMER_TARGETS);
        }
    }

    pub(super) fn dial<R: Verbs>(&mut self, ring: &mut R, index: usize) {
        let target = &mut self.cx.targets[index];
        let gateway = &self.cx.plan.gateways[target.gateway].address;
        let port = gateway.port.saturating_add(target.instance);
        if target.addresses.is_empty() {
            match resolve::literal(&gateway.host, port) {
                Some(address) => target.addresses.push(address),
                None => {
                    target.round = target.round.wrapping_add(1);
                    let asker = Asker::Target(index, target.round);
                    target.state = Dial::Resolving(self.cx.now + LINK_TIMEOUT);
                    if !self.cx.resolver.ask(&gateway.host, port, asker) {
                        self.target_lost(index, None, false);
                    }
                    return;
                }
            }
        }
        self.connect_target(ring, index);
    }

    /// Tries the next address of a target.
    pub(super) fn connect_target<R: Verbs>(&mut self, ring: &mut R, index: usize) {
        let options = ConnectOptions {
            timeout: Some(LINK_TIMEOUT / 2),
            user_timeout: Some(USER_TIMEOUT),
            ..Default::default()
        };
        let target = &mut self.cx.targets[index];
        // A host without IPv6 refuses the very socket: the name's next address is tried.
        let socket = target
            .addresses
            .iter()
            .enumerate()
            .find_map(|(tried, address)| Some((tried, ring.connect(*address, &options).ok()?)));
        let Some((tried, socket)) = socket else {
            return self.target_lost(index, None, false);
        };
        target.addresses.drain(..=tried);
        let name = self.cx.plan.gateways[target.gateway].name.clone();
        let Ok(tls) = tls::Connection::client(&self.cx.plan.gateway_tls, name) else {
            ring.abort(socket);
            return self.target_lost(index, None, false);
        };
        let stamp = self.cx.stamp();
        let key = self.links.insert(Link {
            tls,
            session: Session::new(Role::Connector, link::limits(), self.cx.now)
                .with_features(self.cx.features()),
            state: link::State {
                key: self.links.vacant_key(),
                stamp,
                socket,
                target: index,
                phase: link::Phase::Connecting,
                out: None,
                staging: Staging::default(),
                opened: self.cx.now,
                ready_since: None,
                away: None,
                refused: false,
                publish_at: None,
                notify: notify::State::default(),
                dirty: false,
                armed: None,
            },
        });
        self.cx.own(socket, Owner::Link(key));
        self.cx.targets[index].state = Dial::Up(key);
        mark_link(&mut self.links, key, &mut self.cx);
    }

    pub(super) fn target_lost(&mut self, index: usize, lasted: Option<Duration>, refused: bool) {
        let Context {
            targets,
            random,
            now,
            ..
        } = &mut self.cx;
        targets[index].lost(*now, lasted, refused, random);
        self.arm_targets();
    }

    /// What was told before the plan that names it.
    pub(super) fn learn_early(&mut self) {
        for (gateway, instance, shards) in std::mem::take(&mut self.cx.early) {
            self.learn_shards(gateway, instance, shards);
        }
    }

    /// An instance has this many shards: those that are ours get a target.
    pub(super) fn learn_shards(&mut self, gateway: usize, instance: u16, shards: u16) {
        let known = self.cx.plan.gateways.get(gateway);
        if known.is_none_or(|known| !known.wanted || instance >= known.address.instances) {
            // Of a plan that is to come, which plays it again; or of one that was, and nobody wants them any more.
            self.cx
                .early
                .retain(|early| (early.0, early.1) != (gateway, instance));
            if self.cx.early.len() < EARLY {
                self.cx.early.push((gateway, instance, shards));
            }
            return;
        }
        let ours = u16::try_from(self.siblings.len().max(1)).unwrap_or(1);
        for shard in 0..shards.min(GATEWAY_SHARDS_MAX) {
            let known = |target: &Target| {
                target.gateway == gateway && target.instance == instance && target.shard == shard
            };
            if shard % ours == self.cx.shard && !self.cx.targets.iter().any(known) {
                self.cx
                    .targets
                    .push(Target::new(gateway, instance, shard, self.cx.now));
            }
        }
        self.arm_targets();
    }
}

#[cfg(test)]
mod tests {
    use crate::connector::testing::Place;

    fn targets(connector: &super::Connector) -> Vec<(usize, u16, u16)> {
        let targets = connector.cx.targets.iter();
        targets.map(|t| (t.gateway, t.instance, t.shard)).collect()
    }

    #[test]
    fn shards_of_an_instance_that_the_plan_has_not_make_no_target() {
        let place = Place::new();
        let (_, plan) = place.load();
        let mut connector = place.shard(plan.clone(), 1, 2);
        connector.learn_shards(0, 1, 4);
        assert_eq!(targets(&connector), [(0, 1, 1), (0, 1, 3)]);
        // A gateway of a later plan, an instance of another one: a sibling had that plan first.
        connector.learn_shards(1, 0, 4);
        connector.learn_shards(0, 2, 2);
        assert_eq!(targets(&connector), [(0, 1, 1), (0, 1, 3)]);

        // Its plan comes, and they count.
        place.gateways(&[("127.0.0.1", 2), ("127.0.0.2", 1)]);
        let (_, plan) = place.load_after(Some(&plan));
        connector.cx.set_plan(plan.clone());
        connector.learn_early();
        assert_eq!(targets(&connector)[2..], [(1, 0, 1), (1, 0, 3)]);

        // A gateway that was taken away in the meantime.
        place.gateways(&[("127.0.0.1", 2)]);
        let (_, plan) = place.load_after(Some(&plan));
        connector.cx.set_plan(plan);
        connector.learn_shards(1, 0, 8);
        assert_eq!(targets(&connector).len(), 4);
    }
}
