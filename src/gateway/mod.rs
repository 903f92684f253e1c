//! The gateway: ends TLS, authenticates, routes, and carries each request over a relay link. One file a stage, in the
//! order of the path:
//!
//! ```text
//! client ═HTTPS═▶ accept ▸ balancer ▸ (wire::tls ▸ wire::http1) ▸ route ▸ auth ▸ relay ═link═▶ connector
//!                 accept.rs balancer.rs client_life.rs request.rs ───────┘  ▲
//!                 ◀────────────────── response.rs ◀── links.rs ◀────┘
//! ```
//!
//! `shard.rs` gives each event of the ring to whose it is; `client_life.rs` and `link_life.rs` say what it does there.
//!
//! What a connector could not finish another one is asked, once (`retry.rs`); what has no link, or no keys to be judged
//! by, waits a moment (`hold.rs`).
//!
//! The gateway's own paths, and the clients that hold a channel open for pushes, are `channel/`'s.
//!
//! Settings come in over links (`publishing.rs`), become snapshots and plans on one thread (`control.rs`), and reach what
//! is open already (`change.rs`, `sweep.rs`).
//!
//! Invariants: a client, its exchange and its stream live on one shard; a request sees one snapshot only; what a client
//! has not read waits in its exchange, bounded by the stream's credit; at most one send is in flight per socket, and the
//! next record is sealed when it has completed. Nothing here blocks, locks on a request's path, or reads the clock.

pub mod accept;
pub mod auth;
pub mod balancer;
pub mod change;
pub mod channel;
pub mod client;
pub mod client_life;
pub mod context;
pub mod control;
pub mod fault;
pub mod hold;
pub mod link_life;
pub mod links;
pub mod plan;
pub mod publishing;
pub mod relay;
pub mod request;
pub mod response;
pub mod retry;
pub mod route;
pub mod server;
pub mod shard;
pub mod sweep;
