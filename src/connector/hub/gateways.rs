//! Gateway shards and the links to them. A shard may have several links (two `[[gateway]]` entries may lead to it); they
//! all mean the same channels, and those are gone when the last link has been away for a grace.

use super::limits::{GATEWAY_SHARDS, GRACE};
use super::message::{GatewayShard, LinkId};
use crate::wire::relay::PushId;
use std::collections::{HashMap, VecDeque};
use std::time::Instant;

/// A gateway shard that has links, or had until lately.
pub struct Gateway {
    pub shard: GatewayShard,
    /// The first of them takes all pushes, so that they keep their order.
    links: Vec<LinkId>,
    /// When the last link went.
    lost: Option<Instant>,
    /// Channels in the presence table.
    pub channels: u32,
    /// Number of the newest full list.
    pub mark: u16,
    /// The link whose list is under way.
    pub listing: Option<LinkId>,
    /// Pushes to all that wait for a link.
    pub held: Vec<PushId>,
}

struct Link {
    /// Of the connector.
    shard: usize,
    gateway: u16,
}

impl Gateway {
    /// Its last link went, and the grace is over.
    pub fn is_gone(&self, now: Instant) -> bool {
        let over = |since| now.saturating_duration_since(since) >= GRACE;
        self.links.is_empty() && self.lost.is_some_and(over)
    }
}

#[derive(Default)]
pub struct Gateways {
    /// A free place is another's next.
    places: Vec<Option<Gateway>>,
    links: HashMap<LinkId, Link>,
    /// Shards without link, in the order in which their grace ends.
    lost: VecDeque<(Instant, u16)>,
}

impl Gateways {
    /// A link is there. `None`: more gateway shards than can be known.
    pub fn link_up(&mut self, link: LinkId, shard: usize, gateway: GatewayShard) -> Option<u16> {
        let same = |known: &Option<Gateway>| known.as_ref().is_some_and(|g| g.shard == gateway);
        let at = match self.places.iter().position(same) {
            Some(at) => at,
            None => self.add(gateway)?,
        };
        let known = self.places[at].as_mut()?;
        known.links.push(link);
        known.lost = None;
        let gateway = at as u16;
        self.links.insert(link, Link { shard, gateway });
        Some(gateway)
    }

    fn add(&mut self, shard: GatewayShard) -> Option<usize> {
        let at = match self.places.iter().position(Option::is_none) {
            Some(at) => at,
            None if self.places.len() < GATEWAY_SHARDS => {
                self.places.push(None);
                self.places.len() - 1
            }
            None => return None,
        };
        self.places[at] = Some(Gateway {
            shard,
            links: Vec::new(),
            lost: None,
            channels: 0,
            mark: 0,
            listing: None,
            held: Vec::new(),
        });
        Some(at)
    }

    /// The gateway shard of a link that is gone.
    pub fn link_lost(&mut self, link: LinkId, now: Instant) -> Option<u16> {
        let at = self.links.remove(&link)?.gateway;
        let gateway = self.get_mut(at)?;
        gateway.links.retain(|other| *other != link);
        if gateway.listing == Some(link) {
            gateway.listing = None;
        }
        if gateway.links.is_empty() {
            gateway.lost = Some(now);
            self.lost.push_back((now, at));
        }
        Some(at)
    }

    pub fn get(&self, gateway: u16) -> Option<&Gateway> {
        self.places.get(usize::from(gateway))?.as_ref()
    }

    pub fn get_mut(&mut self, gateway: u16) -> Option<&mut Gateway> {
        self.places.get_mut(usize::from(gateway))?.as_mut()
    }

    pub fn of_link(&self, link: LinkId) -> Option<u16> {
        self.links.get(&link).map(|link| link.gateway)
    }

    /// The connector shard that has a link.
    pub fn shard_of(&self, link: LinkId) -> Option<usize> {
        self.links.get(&link).map(|link| link.shard)
    }

    /// The link that takes pushes for a gateway shard.
    pub fn link_to(&self, gateway: u16) -> Option<LinkId> {
        self.get(gateway)?.links.first().copied()
    }

    pub fn all(&self) -> impl Iterator<Item = u16> {
        let known = |(at, gateway): (usize, &Option<Gateway>)| gateway.as_ref().map(|_| at as u16);
        self.places.iter().enumerate().filter_map(known)
    }

    /// Links that are up, and gateway shards that have one.
    pub fn counts(&self) -> (usize, usize) {
        let linked = |gateway: &&Gateway| !gateway.links.is_empty();
        let shards = self.places.iter().flatten().filter(linked).count();
        (self.links.len(), shards)
    }

    /// A gateway shard whose grace is over; its channels are gone. [`Gateways::forget`] it when they are.
    pub fn poll_gone(&mut self, now: Instant) -> Option<u16> {
        while let Some((since, gateway)) = self.lost.front().copied() {
            if now.saturating_duration_since(since) < GRACE {
                return None;
            }
            self.lost.pop_front();
            if self.get(gateway).is_some_and(|g| g.lost == Some(since)) {
                return Some(gateway);
            }
        }
        None
    }

    pub fn forget(&mut self, gateway: u16) {
        if let Some(place) = self.places.get_mut(usize::from(gateway)) {
            *place = None;
        }
    }

    pub fn next_deadline(&self) -> Option<Instant> {
        self.lost.front().map(|(since, _)| *since + GRACE)
    }
}
