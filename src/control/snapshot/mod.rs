//! What the gateway knows of its sites: made off the shards from the published documents, immutable, swapped whole.
//!
//! [`Registry`] lives on one control thread and takes documents; each accepted one gives a new [`Snapshot`] with a
//! higher number. Shards hold an `Arc<Snapshot>` (through `control::publication::Published`) for a whole request, so
//! that a request sees one version only.
//!
//! Invariants: a snapshot never changes; its numbers only grow; a wrong document changes nothing; a connector's
//! document reaches its own site and no other.

mod deny;
mod hosts;
mod identity;
mod overlap;
mod registry;
mod revocation;
mod routes;
mod state;
mod stock;
mod trust;

pub use deny::DenyLists;
pub use hosts::HostTable;
pub use identity::{ClientIdentity, IssuerAndSerial, MAX_CLIENT_ID_BYTES, Proof};
pub use registry::{ConnectorIds, Registry};
pub use revocation::{MAX_LIST_BYTES, RevocationList, RevocationLists};
pub use routes::{PathTable, RouteTable};
pub use stock::{Source, Stock};
pub use trust::{MAX_CHAIN, Trust, Unknown, Verdict};

use super::settings::Auth;
use std::sync::Arc;

/// All sites, newest version. Shards hold an `Arc` and look for a newer one once a turn.
#[derive(Debug)]
pub struct Snapshot {
    /// Counts up with every change.
    pub number: u64,
    /// In the order of gateway.toml: an index means the same site in every snapshot of the process.
    pub sites: Vec<Arc<Site>>,
    pub(crate) hosts: Arc<HostTable>,
}

impl Snapshot {
    /// Index of the site for a host (SNI or Host, lower case, port removed).
    pub fn site_for(&self, host: &str) -> Option<usize> {
        self.hosts.find(host)
    }
}

#[derive(Debug)]
pub struct Site {
    pub name: String,
    /// False before the first document.
    pub published: bool,
    /// Of the settings in force; 0 before the first document.
    pub revision: u64,
    pub routes: RouteTable,
    /// What a client must show to open a channel; never `Auth::None`.
    pub channels: Auth,
    pub trust: Arc<Trust>,
}

#[derive(Debug, Clone)]
pub struct Route {
    pub path: String,
    pub auth: Auth,
    /// Empty: any.
    pub methods: Vec<String>,
    pub max_body: u64,
    /// 0: none.
    pub timeout_ms: u64,
    pub case_insensitive: bool,
    /// Who published this route: numbers of [`ConnectorIds`], sorted, each once.
    pub connectors: Vec<u32>,
}

impl Route {
    /// Methods are case-sensitive (RFC 9110 §9.1).
    pub fn allows_method(&self, method: &[u8]) -> bool {
        self.methods.is_empty()
            || self
                .methods
                .iter()
                .any(|allowed| allowed.as_bytes() == method)
    }
}

#[cfg(test)]
mod stock_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod trust_tests;
