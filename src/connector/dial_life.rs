//! Keeping links up: dials what is due, address by address, and learns how many shards an instance has.

use crate::ring::{ConnectOptions, Verbs};
use crate::wire::relay::{Role, Session};
use crate::wire::tls::{self};
use std::time::Duration;

use super::context::{Context, Owner};
use super::dial::{Dial, Target};
use super::link::{self, Link};
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
            source: None,
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
            session: Session::new(Role::Connector, link::limits(), self.cx.now),
            state: link::State {
                key: self.links.vacant_key(),
                stamp,
                socket,
                target: index,
                phase: link::Phase::Connecting,
                out: None,
                opened: self.cx.now,
                ready_since: None,
                away: None,
                refused: false,
                publish_at: None,
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

    /// An instance has this many shards: those that are ours get a target.
    pub(super) fn learn_shards(&mut self, gateway: usize, instance: u16, shards: u16) {
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
