//! What the gateway knows of its sites: made off the shards from the published documents, immutable, swapped whole.

use super::config::SiteConfig;
use super::settings::{Auth, SiteDocument};
use std::sync::Arc;

/// All sites, newest version. Shards hold an `Arc` and look for a newer one once a turn.
pub struct Snapshot {
    /// Counts up with every change; part of the auth cache's key.
    pub number: u64,
    pub sites: Vec<Site>,
}
pub struct Site {
    pub name: String,
    /// False before the first document.
    pub published: bool,
    pub routes: RouteTable,
    pub trust: Trust,
}
/// Longest-prefix table over normalised paths.
pub struct RouteTable {}
pub struct Route {
    pub path: String,
    pub auth: Auth,
    pub methods: Vec<String>,
    pub max_body: u64,
    pub timeout_ms: u64,
    /// Index into `Registry`'s connector ids: who published this route. Bit set or sorted list.
    pub connectors: Vec<u32>,
}
impl RouteTable {
    /// Longest prefix wins; a route path that ends in `/` matches everything under it and, without the slash, itself;
    /// one that does not matches itself and what follows a `/`.
    pub fn find(&self, path: &[u8]) -> Option<(u32, &Route)> {
        todo!()
    }
}

/// Client certificates' trust of one site.
pub struct Trust {}
/// A verdict that a shard may cache by (leaf SHA-256, snapshot number).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    Accepted(ClientIdentity),
    /// Chain, EKU, validity or id is not acceptable: 401/403, reason for the error's detail.
    Rejected(String),
    Revoked(String),
}
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientIdentity {
    /// `cert:<ca name>/<field>`, at most 128 bytes.
    pub client_id: String,
    pub serial: String,
    /// Hex SHA-256 of the leaf.
    pub cert_hash: String,
    /// Device name (the field itself), for `Tidegate-Device`.
    pub device: String,
    /// Unix seconds: the verdict holds no longer than this.
    pub not_after: i64,
}
impl Trust {
    /// Judges a chain (DER, leaf first) at `unix_now`: chain to a published CA, clientAuth EKU, validity, deny-list.
    pub fn judge(&self, chain: &[Vec<u8>], unix_now: i64) -> Verdict {
        todo!()
    }
}

/// The control side's store of documents: takes publications, makes snapshots.
pub struct Registry {}
impl Registry {
    pub fn new(sites: &[SiteConfig]) -> Self {
        todo!()
    }
    pub fn current(&self) -> Arc<Snapshot> {
        todo!()
    }
    /// Interns a connector id: the index used in `Route::connectors`. The same id gives the same index for the process's
    /// life.
    pub fn connector_index(&mut self, id: &str) -> u32 {
        todo!()
    }
    /// A connector's document. Refused whole with a reason when it cannot be read, its routes are wrong, or the site's
    /// settings have the same revision as known ones but another hash; a lower revision keeps the known settings and
    /// takes the routes. On success the new snapshot is current.
    pub fn publish(&mut self, site: &str, connector: &str, hash: [u8; 32], document: &[u8]) -> Result<Arc<Snapshot>, String> {
        todo!()
    }
    /// Hash of the document last accepted from this connector.
    pub fn known_hash(&self, site: &str, connector: &str) -> [u8; 32] {
        todo!()
    }
    /// Index of the site for an SNI/Host pair (both lower-cased, port removed).
    pub fn site_for(&self, host: &str) -> Option<usize> {
        todo!()
    }
}
