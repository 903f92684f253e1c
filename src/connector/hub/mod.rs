//! The notification hub of a connector: which client has which channel, and what was pushed to whom.
//!
//! ```text
//! shards ─ FromShard ─▶┐                                   ┌─ ToShard ─▶ shards
//! API ──── Request ───▶┤ thread ▸ core ─┬ listing  presence ├─ Answer, HubEvent ─▶ API
//! store ── News ──────▶┘                ├ deliver  push     └─ Command ─▶ store
//!                                       ├ queue    calls
//!                                       └ keeping  gateways
//! ```
//! - `core` and its parts need no thread: messages in, messages out, the time passed in. `listing` says who is there,
//!   `deliver` what is sent and what came of it, `queue` what waits for a client, `calls` what the API asks, `keeping` what
//!   the store tells.
//! - `thread` runs it; `store` keeps queued pushes on disk; `api` speaks HTTP.
//! - `presence` is the table of clients and channels, in the memory of `shard::paged`, `names` and `index`; `gateways` knows links.
//! - `message`, `call`: what is said to shards and to the API. `limits`: every maximum.
//!
//! Invariants: the hub knows no frame and the shards no presence; everything that a gateway or a caller can make grow has a
//! maximum in `limits`; memory falls when clients leave. A queued push is answered 202 when it is on disk, and stays until
//! its client's receipt or its end. A client gets a push again only marked as a repeat.

pub mod api;
pub mod call;
mod calls;
pub mod core;
mod deliver;
mod gateways;
pub mod index;
mod keeping;
pub mod limits;
mod listing;
pub mod message;
pub mod names;
mod presence;
mod push;
mod queue;
pub mod stats;
pub mod store;
pub mod thread;

#[cfg(test)]
mod measure;
#[cfg(test)]
mod tests;
