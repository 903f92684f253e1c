//! Config, published settings, certificates: what runs on ordinary threads with ordinary libraries.

pub mod config;   // gateway.toml and connector.toml → resolved plans; file:line:hint errors
pub mod settings; // what a connector publishes: site settings and routes, as a JSON document; and its hash
pub mod snapshot; // what the gateway makes of all published documents: immutable, shared by Arc
