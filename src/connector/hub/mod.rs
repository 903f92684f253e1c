//! The notification hub of a connector: which client has which channel, and what was pushed to whom.
//!
//! ```text
//! shards ▸ message::FromShard ▸ presence ▸ message::ToShard ▸ shards
//! ```
//!
//! Here stand the parts that need no thread: what the shards and the hub say to each other (`message`), every maximum
//! (`limits`), and the memory in which presence lies (`slab`, `names`, `index`).
//!
//! Invariants: the hub knows no frame and the shards no presence; everything that a gateway can make grow has a maximum
//! in `limits`; memory falls when clients leave.

pub mod index;
pub mod limits;
pub mod message;
pub mod names;
pub mod slab;
pub mod store;
