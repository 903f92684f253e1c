//! What operators see: metrics, readiness, logs.
//!
//! Shards only count plain integers of their own ([`metrics::ShardStats`]) and push finished records into bounded
//! queues ([`access`]); everything else, formatting included, happens on ordinary threads.
//!
//! What never happens here: no lock and no system call on a shard but the one wake-up of a sleeping writer, no wait for
//! a slow reader of a log (what does not fit is dropped and counted), no client-given text in a metric label.

pub mod access;
pub mod admin;
pub mod lines;
pub mod log;
pub mod metrics;
pub mod process;
