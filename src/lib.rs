//! Tidegate: an HTTPS gateway on io_uring that reaches services behind a firewall with no inbound port.

pub mod cli;
pub mod client;
pub mod connector;
pub mod control;
pub mod gateway;
pub mod observe;
pub mod ring;
pub mod shard;
pub mod wire;
