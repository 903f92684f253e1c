//! What the tests stand on: processes, ports, a PKI, upstreams, and clients that can misbehave.

pub mod ca;
pub mod channel;
pub mod curl;
pub mod fleet;
pub mod http;
pub mod lab;
pub mod load;
pub mod nginx;
pub mod pattern;
pub mod plan;
pub mod ports;
pub mod process;
pub mod provider;
pub mod talk;
pub mod tls;
pub mod tls_server;
pub mod upstream;
pub mod wait;

pub use curl::Curl;
pub use http::Answer;
pub use lab::Lab;
pub use tls::Tls;
pub use wait::until;
