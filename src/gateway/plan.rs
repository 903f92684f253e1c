//! What the shards of one gateway process share: read-only after start.

use crate::control::config::AccessLog;
use std::sync::Arc;
use std::time::Duration;

/// Clocks of client connections.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// Handshake, and each request head from its first byte.
    pub head: Duration,
    /// No byte of a body, either way, for this long.
    pub body_idle: Duration,
    /// Between requests.
    pub idle: Duration,
    /// A request waits this long for a link of its site.
    pub hold: Duration,
    /// Staged bytes of a closing connection.
    pub close: Duration,
    /// A closed connection's remaining input.
    pub drain: Duration,
    /// How much later than the connector the gateway gives up on an upstream.
    pub grace: Duration,
}

/// One gateway process.
pub struct Plan {
    pub instance: u16,
    pub boot_id: u128,
    pub shards: u16,
    pub server_tls: Arc<rustls::ServerConfig>,
    pub relay_tls: Arc<rustls::ServerConfig>,
    pub site_names: Vec<String>,
    /// Per site: connector ids that may serve it; empty: any.
    pub site_connectors: Vec<Vec<String>>,
    pub http: crate::wire::http1::Limits,
    pub timeouts: Timeouts,
    pub half_close: bool,
    /// Client connections a shard.
    pub connections: usize,
    /// Peers whose connections begin with a PROXY header.
    pub balancers: Vec<ipnet::IpNet>,
    /// Client connections from one address, a shard; `usize::MAX`: no limit.
    pub connections_per_address: usize,
    /// Bytes that a shard may hold for slow readers.
    pub memory: usize,
    pub access: AccessLog,
}

/// Response bytes staged for a client before more wait in the exchange: four full records.
pub const CLIENT_STAGE: usize = 64 * 1024;
/// Request bytes queued in a stream above which the client is not read.
pub const STREAM_QUEUE: usize = 64 * 1024;
/// Requests that a shard holds for want of a link.
pub const HELD_MAX: usize = 1024;
/// Body bytes that a held request may keep.
pub const HELD_BODY: usize = 64 * 1024;
/// Input discarded after the last response, before the connection is cut.
pub const DRAIN_BYTES: usize = 1024 * 1024;
/// A request body above this is received in large buffers.
pub const LARGE_BODY: u64 = 16 * 1024;
/// Pipelined bytes kept inside the HTTP core above which the client is not read.
pub const PIPELINED: usize = 8 * 1024;
/// A settings document.
pub const DOCUMENT_MAX: u32 = 8 * 1024 * 1024;
