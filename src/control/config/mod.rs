//! The two config files: raw, spanned TOML, then a resolved plan.
//!
//! [`load_gateway`] and [`load_connector`] read a file (`reader`), complain of all that is wrong with it at once, and
//! give a plan in which nothing is left to decide: paths are absolute or relative to the working folder, defaults are
//! filled in, files were found and fit together. `tuning/gateway.toml` and `tuning/connector.toml` document every key.
//!
//! Invariants: an unknown key is an error; a key of the contract whose function this version does not have is an error
//! when it protects something or is needed, else a warning; it is never silently ignored.

mod common; // what both files have
mod configmgr; // what the preset of that name publishes
mod connector;
mod files; // what the files that a config names must hold
mod gateway;
mod notify;
mod preset; // [[preset]]
pub(crate) mod reader; // a spanned TOML tree, read key by key
mod routes; // [[route]]
mod site_settings; // [site] of a connector
mod site_trust; // its revocation lists, token issuers, deny-lists
mod sites; // [[site]] of a gateway
pub(crate) mod source; // a file's text, lines and complaints
pub mod units; // "60s", "1 GiB"
mod words; // "did you mean …?"

pub use site_trust::{ListToPublish, list_to_publish, read_list_file};

use ipnet::IpNet;
use source::Source;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// One complaint about a config file, printed as `file:line: text (hint)`.
#[derive(Debug, Clone)]
pub struct Complaint {
    pub file: PathBuf,
    pub line: usize,
    pub text: String,
    pub hint: String,
    /// Warnings do not fail `check`.
    pub warning: bool,
}

#[derive(Debug, Clone)]
pub struct GatewayConfig {
    pub name: String,
    pub instance: u16,
    pub shards: usize,
    /// How long a shard looks for more to do before it sleeps.
    pub busy_poll: Duration,
    pub listen_clients: Vec<SocketAddr>,
    pub listen_relay: Vec<SocketAddr>,
    /// Balancers: client connections from here begin with a PROXY protocol v2 header. Canonical, IPv4 never as IPv6.
    pub proxy_protocol_from: Vec<IpNet>,
    pub admin: Option<SocketAddr>,
    pub tls: TlsFiles,
    pub sni: Vec<(Vec<String>, TlsFiles)>,
    pub ticket_keys: Option<PathBuf>,
    pub connector_ca: PathBuf,
    pub sites: Vec<SiteConfig>,
    pub limits: Limits,
    pub channels: ChannelLimits,
    /// How keys and revocation lists are fetched.
    pub fetch: super::fetch::Plan,
    pub access_log: AccessLog,
}
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    pub certificate: PathBuf,
    pub key: PathBuf,
}
#[derive(Debug, Clone)]
pub struct SiteConfig {
    pub name: String,
    /// Lower-case host names, `*` for any, `*.example.com`.
    pub hosts: Vec<String>,
    /// Empty: any connector under connector_ca.
    pub connectors: Vec<String>,
}
#[derive(Debug, Clone)]
pub struct Limits {
    pub connections: usize,
    pub connections_per_address: usize,
    pub memory_mib: usize,
    pub head_kib: usize,
    pub head_seconds: u64,
    pub body_idle_seconds: u64,
    pub idle_seconds: u64,
    pub headers: usize,
    pub half_close: bool,
}
/// Notification channels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChannelLimits {
    /// Of the process.
    pub most: usize,
    /// Between two signs of life on an idle channel; each is up to a fifth earlier or later.
    pub keep_alive_seconds: u64,
    /// Pushes that wait for a client that does not read.
    pub backlog: usize,
    pub slow: Slow,
}
/// What happens to a channel whose backlog is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Slow {
    /// The push that has waited longest goes.
    DropOldest,
    Close,
}
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AccessLog {
    Off,
    Errors,
    Sample(u32),
    All,
}

#[derive(Debug, Clone)]
pub struct ConnectorConfig {
    pub id: String,
    pub site: String,
    pub shards: usize,
    /// How long a shard looks for more to do before it sleeps.
    pub busy_poll: Duration,
    pub admin: Option<SocketAddr>,
    pub tls: TlsFiles,
    pub gateway_ca: PathBuf,
    pub gateways: Vec<GatewayAddress>,
    pub routes: Vec<RouteConfig>,
    /// How many of them, the last ones, presets made.
    pub preset_routes: usize,
    /// What is published (control::settings builds it from the file).
    pub settings: super::settings::SiteDocument,
    /// Where the revocation lists in it come from, in their order.
    pub crl_files: Vec<PathBuf>,
    pub pool: PoolLimits,
    /// None: no part in notifications.
    pub notify: Option<NotifyConfig>,
}
/// The notification API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotifyConfig {
    pub listen: SocketAddr,
    /// What callers must show as `Authorization: Bearer`.
    pub token: Option<String>,
    pub tls: Option<NotifyTls>,
    pub store: PathBuf,
    pub channels_per_client: usize,
}
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotifyTls {
    pub identity: TlsFiles,
    /// Callers must have a certificate under these.
    pub client_ca: Option<PathBuf>,
}
#[derive(Debug, Clone)]
pub struct GatewayAddress {
    pub host: String,
    pub port: u16,
    pub instances: u16,
}
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteConfig {
    pub path: String,
    pub upstream: Vec<Upstream>,
    /// For those of them that are https.
    pub tls: UpstreamTls,
    /// Bytes at the front of a request's path that the upstream does not see.
    pub strip: usize,
    pub case_insensitive: bool,
    pub timeout: Option<Duration>,
    pub connect_timeout: Duration,
    pub idle_timeout: Duration,
    pub h2: H2,
    pub source_addresses: Vec<IpAddr>,
}
/// Whether upstreams are spoken to in HTTP/2.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum H2 {
    /// Over TLS as the server chooses (ALPN); in clear text never.
    #[default]
    Auto,
    /// In clear text too, with prior knowledge (RFC 9113 §3.3).
    Always,
    Never,
}
/// How https upstreams are reached. Equal settings may share connections, others must not.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UpstreamTls {
    /// CAs that may issue the upstream's certificate; none: the host's trusted ones.
    pub ca: Option<PathBuf>,
    /// What is presented to the upstream.
    pub identity: Option<TlsFiles>,
}
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upstream {
    pub https: bool,
    pub host: String,
    pub port: u16,
    /// Prefix of the upstream URL's path, without trailing slash; usually empty.
    pub base_path: String,
}
#[derive(Debug, Clone)]
pub struct PoolLimits {
    /// Idle connections kept per upstream and shard.
    pub idle_per_upstream: usize,
    pub idle_seconds: u64,
    /// Connections per upstream and shard; more requests go elsewhere or are RESET(refused).
    pub connections_per_upstream: usize,
}

impl std::fmt::Display for Upstream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let scheme = if self.https { "https" } else { "http" };
        let (open, close) = match self.host.contains(':') {
            true => ("[", "]"),
            false => ("", ""),
        };
        let (host, port) = (&self.host, self.port);
        write!(f, "{scheme}://{open}{host}{close}:{port}{}", self.base_path)
    }
}

impl std::fmt::Display for Complaint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kind = if self.warning { "warning: " } else { "" };
        write!(
            f,
            "{}:{}: {kind}{}",
            self.file.display(),
            self.line,
            self.text
        )?;
        if self.hint.is_empty() {
            Ok(())
        } else {
            write!(f, " (hint: {})", self.hint)
        }
    }
}

impl Default for ChannelLimits {
    fn default() -> Self {
        Self {
            most: 2_000_000,
            keep_alive_seconds: 45,
            backlog: 16,
            slow: Slow::DropOldest,
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 100_000,
            connections_per_address: usize::MAX,
            memory_mib: 1024,
            head_kib: 64,
            head_seconds: 10,
            body_idle_seconds: 60,
            idle_seconds: 300,
            headers: 100,
            half_close: false,
        }
    }
}

impl Default for PoolLimits {
    fn default() -> Self {
        Self {
            idle_per_upstream: 256,
            idle_seconds: 50,
            connections_per_upstream: 4096,
        }
    }
}

impl AccessLog {
    /// Whether a request is logged: decided before anything of its line is built. `counter` counts the requests of the
    /// shard; `status` is 0 when the client got no answer.
    pub fn wants(self, status: u16, counter: u64) -> bool {
        match self {
            Self::Off => false,
            Self::Errors => status >= 400 || status == 0,
            Self::Sample(every) => counter.is_multiple_of(u64::from(every.max(1))),
            Self::All => true,
        }
    }
}

/// What reading a file gives: a plan and its warnings, or all complaints, warnings included, in the order of lines.
pub type Loaded<T> = Result<(T, Vec<Complaint>), Vec<Complaint>>;

/// Reads, validates and resolves (paths relative to the file); all complaints at once.
pub fn load_gateway(path: &Path) -> Loaded<GatewayConfig> {
    load(path, gateway::read)
}

pub fn load_connector(path: &Path) -> Loaded<ConnectorConfig> {
    load(path, connector::read)
}

/// Which of the two files a text is, by its tables; `None` when it is neither or both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Gateway,
    Connector,
}

impl Kind {
    /// `[gateway]` is a table in one file and a list of tables in the other.
    pub fn of(path: &Path) -> Result<Self, Vec<Complaint>> {
        let source = Source::open(path).map_err(|complaint| vec![complaint])?;
        let table = source.parse();
        let table = table.get_ref();
        let gateway = table
            .get("gateway")
            .is_some_and(|value| value.get_ref().is_table());
        match (gateway, table.get("connector").is_some()) {
            (true, false) => Ok(Self::Gateway),
            (false, true) => Ok(Self::Connector),
            (both, _) => {
                let text = if both {
                    "is a gateway's and a connector's file at once"
                } else {
                    "is neither a gateway's nor a connector's file"
                };
                source.error(
                    1,
                    text,
                    "gateway.toml has [gateway], connector.toml has [connector]",
                );
                Err(source.into_complaints())
            }
        }
    }
}

fn load<T>(path: &Path, read: impl FnOnce(&reader::Section<'_>) -> Option<T>) -> Loaded<T> {
    let source = Source::open(path).map_err(|complaint| vec![complaint])?;
    let plan = {
        let table = source.parse();
        // After a syntax error, what is missing may merely stand in the part that could not be read: say only what
        // is certain.
        if source.has_errors() {
            None
        } else {
            read(&reader::Section::top(&source, table.get_ref()))
        }
    };
    let failed = source.has_errors();
    let complaints = source.into_complaints();
    match plan {
        Some(plan) if !failed => Ok((plan, complaints)),
        _ => Err(complaints),
    }
}

#[cfg(test)]
mod tests;
