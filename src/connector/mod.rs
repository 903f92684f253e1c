//! The connector: dials out to every shard of every gateway instance, publishes the site's settings and its routes, and
//! forwards each stream by route to an HTTP/1.1 upstream.
//!
//! ```text
//! link ▸ stream ▸ route ▸ pool ▸ upstream        (exchange.rs reads this aloud)
//!   ▲ dial (dial.rs): back-off with full jitter, one link to each gateway shard
//! ```
//!
//! Invariants: a link belongs to one shard and never moves here; an exchange has at most one upstream connection, and a
//! busy upstream connection exactly one exchange; bytes that neither side can take wait in the exchange, bounded by the
//! stream's credit. Nothing here listens on a port but the admin listener.

pub mod context;
pub mod dial;
pub mod exchange;
pub mod link;
pub mod plan;
pub mod resolve;
pub mod server;
pub mod shard;
pub mod upstream;
