//! Which link of a connector counts: replacement, retirement, and two processes under one id.
//!
//! One registry a gateway process; it decides, its owner acts. A connector's *incarnation* is one run of its process; the
//! newest one counts. An older one that comes back while the newer has links shows that both processes live: it is
//! refused, and stays refused until the newer has been without links for [`REMEMBERED`].

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Connectors remembered at once; one more is refused.
pub const MAX_CONNECTORS: usize = 4096;
/// Links of one connector to this instance; one more is refused.
pub const MAX_LINKS: usize = 1024;
/// Retired incarnations remembered for one connector; the oldest is forgotten first.
pub const MAX_RETIRED: usize = 16;
/// How long a connector is remembered that has no link.
pub const REMEMBERED: Duration = Duration::from_secs(60);

/// What to do with a link that said HELLO. `K` is the owner's key for a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision<K> {
    /// Send READY. The link in `replace` had the same incarnation and index: close it at once. Those in `retire` belong
    /// to older incarnations: close them too, unless they said GOAWAY and have streams to finish. Each with its shard.
    Accept {
        replace: Option<(u16, K)>,
        retire: Vec<(u16, K)>,
    },
    /// REFUSE with this code of [`super::refusal`]: `DUPLICATE_CONNECTOR_ID` or `OVERLOADED`.
    Refuse(u16),
}

#[derive(Debug)]
struct Link<K> {
    index: u16,
    shard: u16,
    key: K,
}

#[derive(Debug)]
struct Connector<K> {
    incarnation: u128,
    links: Vec<Link<K>>,
    /// Oldest first.
    retired: Vec<u128>,
    /// When its last link went; meaningful while it has none.
    left_at: Instant,
}

#[derive(Debug)]
pub struct Incarnations<K> {
    connectors: BTreeMap<String, Connector<K>>,
}

impl<K: Copy + Eq> Default for Incarnations<K> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K: Copy + Eq> Incarnations<K> {
    pub fn new() -> Self {
        Incarnations {
            connectors: BTreeMap::new(),
        }
    }

    /// A link said HELLO and its connector id is the one in its certificate.
    pub fn arrive(
        &mut self,
        connector: &str,
        incarnation: u128,
        index: u16,
        shard: u16,
        key: K,
        now: Instant,
    ) -> Decision<K> {
        let link = Link { index, shard, key };
        let Some(known) = self.connectors.get_mut(connector) else {
            return self.first(connector, incarnation, link, now);
        };
        if known.links.is_empty() && now.saturating_duration_since(known.left_at) >= REMEMBERED {
            known.retired.clear();
        }
        if known.incarnation == incarnation {
            return known.same(link);
        }
        if known.retired.contains(&incarnation) && !known.links.is_empty() {
            return Decision::Refuse(super::refusal::DUPLICATE_CONNECTOR_ID);
        }
        Decision::Accept {
            replace: None,
            retire: known.renew(incarnation, link),
        }
    }

    /// A link is closed, whoever closed it. One that was replaced or retired meanwhile changes nothing.
    pub fn leave(&mut self, connector: &str, key: K, now: Instant) {
        if let Some(known) = self.connectors.get_mut(connector) {
            let before = known.links.len();
            known.links.retain(|link| link.key != key);
            if known.links.is_empty() && before > 0 {
                known.left_at = now;
            }
        }
    }

    /// Links that count, of all connectors.
    pub fn links(&self) -> usize {
        self.connectors.values().map(|c| c.links.len()).sum()
    }

    fn first(
        &mut self,
        connector: &str,
        incarnation: u128,
        link: Link<K>,
        now: Instant,
    ) -> Decision<K> {
        if self.connectors.len() >= MAX_CONNECTORS {
            self.connectors.retain(|_, c| {
                !c.links.is_empty() || now.saturating_duration_since(c.left_at) < REMEMBERED
            });
        }
        if self.connectors.len() >= MAX_CONNECTORS {
            return Decision::Refuse(super::refusal::OVERLOADED);
        }
        let new = Connector {
            incarnation,
            links: vec![link],
            retired: Vec::new(),
            left_at: now,
        };
        self.connectors.insert(connector.to_owned(), new);
        Decision::Accept {
            replace: None,
            retire: Vec::new(),
        }
    }
}

impl<K: Copy + Eq> Connector<K> {
    /// Another link of the incarnation that counts.
    fn same(&mut self, link: Link<K>) -> Decision<K> {
        if let Some(old) = self.links.iter_mut().find(|l| l.index == link.index) {
            let replaced = std::mem::replace(old, link);
            let replace = Some((replaced.shard, replaced.key));
            return Decision::Accept {
                replace,
                retire: Vec::new(),
            };
        }
        if self.links.len() >= MAX_LINKS {
            return Decision::Refuse(super::refusal::OVERLOADED);
        }
        self.links.push(link);
        Decision::Accept {
            replace: None,
            retire: Vec::new(),
        }
    }

    /// The first link of an incarnation that counts from now on; gives the links that no longer do.
    fn renew(&mut self, incarnation: u128, link: Link<K>) -> Vec<(u16, K)> {
        self.retired.retain(|old| *old != incarnation);
        if self.retired.len() >= MAX_RETIRED {
            self.retired.remove(0);
        }
        self.retired.push(self.incarnation);
        self.incarnation = incarnation;
        std::mem::replace(&mut self.links, vec![link])
            .into_iter()
            .map(|old| (old.shard, old.key))
            .collect()
    }
}
