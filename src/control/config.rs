//! The two config files: raw, spanned TOML, then a resolved plan.

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
    pub listen_clients: Vec<SocketAddr>,
    pub listen_relay: Vec<SocketAddr>,
    pub admin: Option<SocketAddr>,
    pub tls: TlsFiles,
    pub sni: Vec<(Vec<String>, TlsFiles)>,
    pub ticket_keys: Option<PathBuf>,
    pub connector_ca: PathBuf,
    pub sites: Vec<SiteConfig>,
    pub limits: Limits,
    pub access_log: AccessLog,
}
#[derive(Debug, Clone)]
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
    pub admin: Option<SocketAddr>,
    pub tls: TlsFiles,
    pub gateway_ca: PathBuf,
    pub gateways: Vec<GatewayAddress>,
    pub routes: Vec<RouteConfig>,
    /// What is published (control::settings builds it from the file).
    pub settings: super::settings::SiteDocument,
    pub pool: PoolLimits,
    pub access_log: AccessLog,
}
#[derive(Debug, Clone)]
pub struct GatewayAddress {
    pub host: String,
    pub port: u16,
    pub instances: u16,
}
#[derive(Debug, Clone)]
pub struct RouteConfig {
    pub path: String,
    pub upstream: Vec<Upstream>,
    pub strip_prefix: bool,
    pub timeout: Option<Duration>,
    pub connect_timeout: Duration,
    pub idle_timeout: Duration,
    pub source_addresses: Vec<IpAddr>,
}
#[derive(Debug, Clone)]
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
    /// Connections per upstream and shard; more requests are RESET(overloaded).
    pub connections_per_upstream: usize,
}

/// Reads, validates and resolves (paths relative to the file); all complaints at once.
pub fn load_gateway(path: &Path) -> Result<(GatewayConfig, Vec<Complaint>), Vec<Complaint>> {
    todo!()
}
pub fn load_connector(path: &Path) -> Result<(ConnectorConfig, Vec<Complaint>), Vec<Complaint>> {
    todo!()
}
