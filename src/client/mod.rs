//! Clients of a gateway: so far the load generator. It runs on the same ring, TLS and HTTP cores as the product, so that
//! what it costs is known, and its shards share nothing but counters.

pub mod channel;
pub mod listen;
pub mod load;
pub mod process;
pub mod report;
pub mod requests;
