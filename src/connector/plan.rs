//! What the shards of one connector process share: read-only after start.

use crate::control::config::{GatewayAddress, PoolLimits, RouteConfig, Upstream};
use rustls::pki_types::ServerName;
use std::sync::Arc;
use std::time::Duration;

/// One connector process.
pub struct Plan {
    pub id: String,
    pub site: String,
    /// Random per start: tells this process's links from an earlier one's.
    pub incarnation: u128,
    pub shards: u16,
    pub gateways: Vec<Gateway>,
    pub gateway_tls: Arc<rustls::ClientConfig>,
    pub routes: Vec<RouteConfig>,
    /// Distinct upstream endpoints; routes refer to them by index.
    pub endpoints: Vec<Upstream>,
    /// Per route: its endpoints.
    pub route_endpoints: Vec<Vec<u32>>,
    pub pool: PoolLimits,
    pub http: crate::wire::http1::Limits,
    /// What is published, and its hash.
    pub document: Vec<u8>,
    pub document_hash: [u8; 32],
}

/// One gateway service: `instances` ports from `port` on.
pub struct Gateway {
    pub address: GatewayAddress,
    pub name: ServerName<'static>,
}

impl Plan {
    /// The route of a path: the longest prefix that ends on a segment's border. The gateway checked it too; a
    /// connector trusts no gateway with a path that it did not publish.
    pub fn route(&self, path: &[u8]) -> Option<usize> {
        let matches = |prefix: &[u8]| {
            let rest = match path.get(..prefix.len()) {
                Some(head) if head == prefix => &path[prefix.len()..],
                _ => return prefix.ends_with(b"/") && path == &prefix[..prefix.len() - 1],
            };
            prefix.ends_with(b"/") || rest.is_empty() || rest[0] == b'/'
        };
        let candidates = self
            .routes
            .iter()
            .enumerate()
            .filter(|(_, route)| matches(route.path.as_bytes()));
        candidates
            .max_by_key(|(_, route)| route.path.len())
            .map(|(index, _)| index)
    }
}

/// Indexes the distinct upstreams of all routes.
pub fn endpoints(routes: &[RouteConfig]) -> (Vec<Upstream>, Vec<Vec<u32>>) {
    let mut distinct: Vec<Upstream> = Vec::new();
    let mut of_route = Vec::new();
    for route in routes {
        let mut indexes = Vec::new();
        for upstream in &route.upstream {
            let same = |other: &Upstream| {
                other.host == upstream.host
                    && other.port == upstream.port
                    && other.https == upstream.https
                    && other.base_path == upstream.base_path
            };
            let index = distinct.iter().position(same).unwrap_or_else(|| {
                distinct.push(upstream.clone());
                distinct.len() - 1
            });
            indexes.push(index as u32);
        }
        of_route.push(indexes);
    }
    (distinct, of_route)
}

/// Request bytes staged for an upstream before more wait in the exchange (and hold back the stream's credit).
pub const UPSTREAM_STAGE: usize = 64 * 1024;
/// Response bytes queued in a stream above which the upstream is not read.
pub const STREAM_QUEUE: usize = 64 * 1024;
/// A pooled connection idle for longer than this carries no request that may not be repeated.
pub const FRESH: Duration = Duration::from_secs(1);
/// Dial, handshake and READY of a link.
pub const LINK_TIMEOUT: Duration = Duration::from_secs(10);
/// Full-jitter back-off between dials: `random(0, min(cap, base · 2ⁿ))`.
pub const BACKOFF_BASE: Duration = Duration::from_millis(50);
/// A second at most, so that a gateway that returns has its links within two.
pub const BACKOFF_CAP: Duration = Duration::from_secs(1);
/// The cap after a refusal, which only a human mends.
pub const BACKOFF_REFUSED: Duration = Duration::from_secs(10);
/// A link that lasted this long was stable: the next back-off starts over.
pub const STABLE: Duration = Duration::from_secs(10);
