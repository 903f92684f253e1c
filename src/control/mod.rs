//! Config, published settings, certificates: what runs on ordinary threads with ordinary libraries.
//!
//! The shards get from here only finished, immutable values ([`publication::Published`]): rustls configs, snapshots of
//! the sites, limits. Nothing here runs on a shard but `snapshot::{RouteTable::find, Trust::judge}` and the one load
//! that asks for a newer value.

pub mod certificates; // PEM files → rustls configs; tickets; expiry
pub mod check; // `tidegate check`
pub mod config; // gateway.toml and connector.toml → resolved plans; file:line:hint errors
pub mod fetch; // key sets and revocation lists, fetched off the data path
pub mod pki; // `tidegate pki`: a small CA for labs and tests
pub mod publication; // how a new value reaches the shards
pub mod settings; // what a connector publishes: site settings and routes, as a JSON document; and its hash
pub mod snapshot; // what the gateway makes of all published documents: immutable, shared by Arc
pub mod tokens; // bearer tokens: judging them, and `tidegate token`

#[cfg(test)]
pub(crate) mod testing; // CAs, leaves and folders for tests
