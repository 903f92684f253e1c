//! The connector: dials out to every shard of every gateway instance, publishes the site's settings and its routes, and
//! forwards each stream by route to an HTTP/1.1 upstream, over TCP or TLS.
//!
//! ```text
//! link ▸ stream ▸ route ▸ endpoint ▸ pool ▸ upstream        (exchange.rs and reach.rs read this aloud)
//!   ▲ dial (dial.rs)        ▲ health (health.rs): what fails is left out for a while
//!     back-off with full jitter, one link to each gateway shard
//! ```
//!
//! `shard.rs` gives each event of the ring to whose it is; the `…_life.rs` files say what it does there.
//!
//! The file read again (`reload.rs`, and `lists.rs` for revocation lists alone) becomes a plan that keeps all numbers
//! (`plan.rs`), and `change.rs` says what it means to what is open.
//!
//! Invariants: a link belongs to one shard and never moves here; an exchange has at most one upstream connection, and a
//! busy upstream connection exactly one exchange; bytes that neither side can take wait in the exchange, bounded by the
//! stream's credit. Nothing here listens on a port but the admin listener.

pub mod change;
pub mod context;
pub mod dial;
pub mod dial_life;
pub mod exchange;
pub mod health;
pub mod hub;
pub mod link;
pub mod link_life;
pub mod lists;
pub mod notify;
pub mod plan;
pub mod reach;
pub mod reload;
pub mod resolve;
pub mod server;
pub mod shard;
pub mod upstream;
pub mod upstream_life;
pub mod upstream_tls;

#[cfg(test)]
mod testing; // a config with its files
