//! What the shards of one gateway process share: made from the config file, replaced whole by a reload.

use crate::control::certificates::{self, clients_config, relay_config, relay_verifier};
use crate::control::config::{AccessLog, GatewayConfig, SiteConfig, Slow};
use crate::control::settings::sha256;
use crate::wire::http1;
use crate::wire::tls;
use rustls::server::ProducesTickets;
use rustls::server::danger::ClientCertVerifier;
use std::path::Path;
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
    /// Judges connectors' certificates: in the handshake, and those of standing links after a reload.
    pub relay_verifier: Arc<dyn ClientCertVerifier>,
    /// Hash of the CA file that it judges by: a link whose chain was judged by the same needs no second look.
    pub connector_ca: [u8; 32],
    /// By the index that a site has for the process's life; one that a reload took away has no name.
    pub sites: Vec<SiteConfig>,
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
    pub channels: Channels,
}

/// Notification channels of one shard.
#[derive(Clone, Copy, Debug)]
pub struct Channels {
    pub most: usize,
    pub keep_alive: Duration,
    /// Pushes that wait for one client.
    pub backlog: usize,
    pub slow: Slow,
}

/// What a reload keeps: tickets that were given out stay good.
pub struct Secrets {
    ticketer: Arc<dyn ProducesTickets>,
}

impl Secrets {
    pub fn new() -> Result<Secrets, String> {
        Ok(Secrets {
            ticketer: certificates::random_ticketer()?,
        })
    }
}

impl Plan {
    /// Whether a connector may serve a site, by its name: the site's index, or why not.
    pub fn site_of(&self, site: &str, connector: &str) -> Result<usize, SiteRefusal> {
        let named = |known: &SiteConfig| !known.name.is_empty() && known.name == site;
        let index = self
            .sites
            .iter()
            .position(named)
            .ok_or(SiteRefusal::Unknown)?;
        let allowed = &self.sites[index].connectors;
        if allowed.is_empty() || allowed.iter().any(|id| id == connector) {
            Ok(index)
        } else {
            Err(SiteRefusal::NotServedBy)
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SiteRefusal {
    Unknown,
    NotServedBy,
}

/// The plan of a config; `sites` are those of the config as the registry numbers them.
pub fn build(
    config: &GatewayConfig,
    sites: &[SiteConfig],
    secrets: &Secrets,
    boot_id: u128,
) -> Result<Plan, String> {
    let possession = Arc::new(tls::verifier::PossessionOnly::new());
    let ticketer = match config.ticket_keys.as_deref() {
        Some(file) => certificates::shared_ticketer(file)?,
        None => secrets.ticketer.clone(),
    };
    let mut server_tls = clients_config(&config.tls, &config.sni, ticketer, possession)?;
    tls::prepare_server_config(&mut server_tls);
    let (relay_verifier, connector_ca) = judge_of_links(&config.connector_ca)?;
    let mut relay_tls = relay_config(&config.tls, relay_verifier.clone())?;
    tls::prepare_server_config(&mut relay_tls);
    let limits = &config.limits;
    let share = |n: usize| n.div_ceil(config.shards.max(1));
    Ok(Plan {
        instance: config.instance,
        boot_id,
        shards: u16::try_from(config.shards).map_err(|_| "too many shards")?,
        server_tls: Arc::new(server_tls),
        relay_tls: Arc::new(relay_tls),
        relay_verifier,
        connector_ca,
        sites: sites.to_vec(),
        http: http1::Limits {
            head_bytes: limits.head_kib * 1024,
            header_count: limits.headers,
            trailer_bytes: 16 * 1024,
        },
        timeouts: Timeouts {
            head: Duration::from_secs(limits.head_seconds),
            body_idle: Duration::from_secs(limits.body_idle_seconds),
            idle: Duration::from_secs(limits.idle_seconds),
            hold: Duration::from_secs(2),
            close: Duration::from_secs(10),
            drain: Duration::from_secs(2),
            grace: Duration::from_secs(5),
        },
        half_close: limits.half_close,
        connections: share(limits.connections),
        balancers: config.proxy_protocol_from.clone(),
        connections_per_address: limits.connections_per_address,
        memory: share(limits.memory_mib * 1024 * 1024),
        access: config.access_log,
        channels: Channels {
            most: share(config.channels.most),
            keep_alive: Duration::from_secs(config.channels.keep_alive_seconds),
            backlog: config.channels.backlog,
            slow: config.channels.slow,
        },
    })
}

/// The judge of connectors' chains and the hash of the file that it was made from.
fn judge_of_links(file: &Path) -> Result<(Arc<dyn ClientCertVerifier>, [u8; 32]), String> {
    let hash = || {
        let bytes = std::fs::read(file).map_err(|e| format!("{}: {e}", file.display()))?;
        Ok::<_, String>(sha256(&bytes))
    };
    let before = hash()?;
    let verifier = relay_verifier(file)?;
    if hash()? != before {
        return Err(format!("{} changed while it was read", file.display()));
    }
    Ok((verifier, before))
}

/// A client connection without a request for so long gives up its expanded keys, 1.2 KB, which the next one makes again
/// in 2 to 4 µs.
pub const KEYS_IDLE: Duration = Duration::from_secs(1);
/// Response bytes staged for a client before more wait in the exchange: what one receive from a link brings.
pub const CLIENT_STAGE: usize = 256 * 1024;
/// The same for a client that does not take at once what it is sent.
pub const SLOW_CLIENT_STAGE: usize = 64 * 1024;
/// Request bytes queued in a stream above which the client is not read.
pub const STREAM_QUEUE: usize = 64 * 1024;
/// Requests that a shard holds for want of a link or of keys; of one site, half of them; of those whose token has a key
/// that nobody knows so far, which anybody can send, a few.
pub const HELD_MAX: usize = 1024;
pub const HELD_OF_SITE: usize = HELD_MAX / 2;
pub const HELD_FOR_KEY: usize = 64;
/// Body bytes that a held request may keep.
pub const HELD_BODY: usize = 64 * 1024;
/// Body bytes of a request that are kept, so that another connector can be asked.
pub const KEPT_BODY: usize = 16 * 1024;
/// Input discarded after the last response, before the connection is cut.
pub const DRAIN_BYTES: usize = 1024 * 1024;
/// A request body above this is received in large buffers.
pub const LARGE_BODY: u64 = 16 * 1024;
/// Pipelined bytes kept inside the HTTP core above which the client is not read.
pub const PIPELINED: usize = 8 * 1024;
