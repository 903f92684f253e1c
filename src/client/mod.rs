//! Clients: of a gateway the load generator (`load`, `channel`) and the reference client (`listen`), of a connector's
//! notification API `api`. Load runs on the same ring, TLS and HTTP cores as the product, so that what it costs is known,
//! and its shards share nothing but counters.

pub mod agent;
pub mod api;
pub mod channel;
pub mod listen;
pub mod load;
pub mod process;
pub mod result;
