//! What the shards of one connector process share: read-only after start.

use crate::control::certificates::upstream_config;
use crate::control::config::{GatewayAddress, PoolLimits, RouteConfig, Upstream, UpstreamTls};
use crate::control::snapshot::PathTable;
use crate::wire::{path, tls};
use rustls::pki_types::ServerName;
use std::net::IpAddr;
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
    /// Finds them by path.
    pub table: PathTable,
    /// Distinct upstream endpoints; routes refer to them by index.
    pub endpoints: Vec<Endpoint>,
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

/// An upstream as connections see it: where it is, how it is reached, and from where. One pool each.
pub struct Endpoint {
    pub address: Upstream,
    /// What Host says when a request names none (RFC 9110 §7.2).
    pub authority: String,
    /// None: clear TCP.
    pub tls: Option<EndpointTls>,
    /// Local addresses to dial from, of all routes that lead here; empty: any.
    pub sources: Vec<IpAddr>,
}

#[derive(Clone)]
pub struct EndpointTls {
    /// One for each distinct setting, with its sessions.
    pub config: Arc<rustls::ClientConfig>,
    /// For SNI, and what the certificate must name.
    pub name: ServerName<'static>,
}

impl std::fmt::Display for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        write!(f, "{scheme}://{}{}", self.authority, self.address.base_path)
    }
}

impl Plan {
    /// The route of a path, by the gateway's own table. The gateway checked it too; a connector trusts no gateway with a
    /// path that it did not publish, nor with a spelling that the upstream might read as another path.
    pub fn route(&self, path: &[u8]) -> Option<usize> {
        published(&self.table, path)
    }
}

fn published(table: &PathTable, path: &[u8]) -> Option<usize> {
    let normal = path::normalise(path, &mut Vec::new()).is_ok_and(|normal| normal.path == path);
    let index = if normal { table.find(path) } else { None };
    index.map(|index| index as usize)
}

/// The distinct endpoints of all routes, and each route's by index. Other TLS settings make another endpoint: what was
/// verified for one route is not lent to another. Errors name a file that cannot be used.
pub fn endpoints(routes: &[RouteConfig]) -> Result<(Vec<Endpoint>, Vec<Vec<u32>>), String> {
    let mut endpoints: Vec<(Endpoint, &UpstreamTls)> = Vec::new();
    let mut configs: Vec<(&UpstreamTls, Arc<rustls::ClientConfig>)> = Vec::new();
    let mut of_route = Vec::new();
    for route in routes {
        let mut indexes = Vec::new();
        for upstream in &route.upstream {
            let same = |(other, tls): &(Endpoint, &UpstreamTls)| {
                other.address == *upstream && (!upstream.https || **tls == route.tls)
            };
            let index = match endpoints.iter().position(same) {
                Some(index) => index,
                None => {
                    let made = endpoint(upstream, &route.tls, &mut configs)?;
                    endpoints.push((made, &route.tls));
                    endpoints.len() - 1
                }
            };
            if let Some((endpoint, _)) = endpoints.get_mut(index) {
                for source in &route.source_addresses {
                    if !endpoint.sources.contains(source) {
                        endpoint.sources.push(*source);
                    }
                }
            }
            indexes.push(index as u32);
        }
        of_route.push(indexes);
    }
    let endpoints = endpoints.into_iter().map(|(endpoint, _)| endpoint);
    Ok((endpoints.collect(), of_route))
}

fn endpoint<'r>(
    upstream: &Upstream,
    tls: &'r UpstreamTls,
    configs: &mut Vec<(&'r UpstreamTls, Arc<rustls::ClientConfig>)>,
) -> Result<Endpoint, String> {
    let host = if upstream.host.contains(':') {
        format!("[{}]", upstream.host)
    } else {
        upstream.host.clone()
    };
    let usual = if upstream.https { 443 } else { 80 };
    let authority = if upstream.port == usual {
        host
    } else {
        format!("{host}:{}", upstream.port)
    };
    let tls = if upstream.https {
        let config = match configs.iter().find(|(known, _)| *known == tls) {
            Some((_, config)) => config.clone(),
            None => {
                let mut config = upstream_config(tls)?;
                tls::prepare_client_config(&mut config);
                let config = Arc::new(config);
                configs.push((tls, config.clone()));
                config
            }
        };
        let name = ServerName::try_from(upstream.host.clone())
            .map_err(|_| format!("`{}` is not a host name", upstream.host))?;
        Some(EndpointTls { config, name })
    } else {
        None
    };
    Ok(Endpoint {
        address: upstream.clone(),
        authority,
        tls,
        sources: Vec::new(),
    })
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::config::TlsFiles;
    use crate::control::testing::{self, Folder};
    use std::path::PathBuf;

    fn route(urls: &[(bool, &str, u16)], ca: Option<PathBuf>) -> RouteConfig {
        let upstream = urls.iter().map(|(https, host, port)| Upstream {
            https: *https,
            host: (*host).into(),
            port: *port,
            base_path: String::new(),
        });
        RouteConfig {
            path: "/".into(),
            upstream: upstream.collect(),
            tls: UpstreamTls { ca, identity: None },
            strip: 0,
            case_insensitive: false,
            timeout: None,
            connect_timeout: Duration::from_secs(1),
            idle_timeout: Duration::from_secs(1),
            source_addresses: Vec::new(),
        }
    }

    /// A CA file; tests share no name.
    fn ca_file(folder: &Folder, name: &str) -> PathBuf {
        folder.write(name, &testing::ca(name).pem())
    }

    #[test]
    fn other_tls_settings_are_another_endpoint_and_equal_ones_share_a_config() {
        let folder = Folder::new();
        let (one, two) = (ca_file(&folder, "one"), ca_file(&folder, "two"));
        let https = [(true, "a", 443), (true, "b", 443)];
        let routes = [
            route(&https, Some(one.clone())),
            route(&https, Some(two)),
            route(&https, Some(one)),
        ];
        let (endpoints, of_route) = endpoints(&routes).unwrap();
        assert_eq!(of_route, [vec![0, 1], vec![2, 3], vec![0, 1]]);
        let config = |index: usize| endpoints[index].tls.as_ref().unwrap().config.clone();
        assert!(Arc::ptr_eq(&config(0), &config(1)));
        assert!(!Arc::ptr_eq(&config(0), &config(2)));
    }

    #[test]
    fn a_gateway_is_trusted_with_published_paths_alone() {
        let routes = [("/a/", false), ("/Deep/er", true), ("/a/b", true)];
        let table = PathTable::new(routes.into_iter());
        let check = |path: &str, expected| {
            assert_eq!(published(&table, path.as_bytes()), expected, "{path}");
        };
        check("/a", Some(0));
        check("/a/x", Some(0));
        check("/A/x", None);
        check("/A/B/x", Some(2));
        check("/deep/ER/x", Some(1));
        check("/deep", None);
        // What a gateway of ours never sends: an upstream might read another path.
        let doubtful = [
            "/a/../b",
            "/a/./x",
            "/a//x",
            "/a/%2e%2e/b",
            "/a/%62",
            "/a/..;/b",
            "/a\\x",
        ];
        for path in doubtful.into_iter().chain(["*", ""]) {
            check(path, None);
        }
    }

    #[test]
    fn clear_upstreams_share_whatever_the_tls_settings_say() {
        let http = [(false, "a", 80)];
        let mut other = route(&http, None);
        other.tls.identity = Some(TlsFiles {
            certificate: "x".into(),
            key: "y".into(),
        });
        let (endpoints, of_route) = endpoints(&[route(&http, None), other]).unwrap();
        assert_eq!((endpoints.len(), of_route), (1, vec![vec![0], vec![0]]));
    }

    #[test]
    fn an_authority_names_the_port_only_when_it_must() {
        let folder = Folder::new();
        let urls = [
            (false, "a", 80),
            (false, "a", 443),
            (true, "a", 443),
            (true, "::1", 8443),
        ];
        let routes = [route(&urls, Some(ca_file(&folder, "ca")))];
        let (endpoints, _) = endpoints(&routes).unwrap();
        let names: Vec<_> = endpoints.iter().map(Endpoint::to_string).collect();
        assert_eq!(
            names,
            [
                "http://a",
                "http://a:443",
                "https://a",
                "https://[::1]:8443"
            ]
        );
    }
}
