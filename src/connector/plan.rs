//! What the shards of one connector process share: made from the config file, replaced whole by a reload.
//!
//! Routes, endpoints and gateways are found by number, and a number means the same in every plan of the process: a
//! reload leaves what is gone in its place, unused, and what is new follows.

use crate::control::certificates::{connector_config, pem, upstream_config};
use crate::control::config::{
    ConnectorConfig, GatewayAddress, H2, PoolLimits, RouteConfig, Upstream, UpstreamTls,
};
use crate::control::settings::sha256;
use crate::control::snapshot::PathTable;
use crate::wire::{http1, path, tls};
use rustls::pki_types::ServerName;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// One connector process.
#[derive(Clone)]
pub struct Plan {
    pub id: String,
    pub site: String,
    /// Random per start: tells this process's links from an earlier one's.
    pub incarnation: u128,
    pub shards: u16,
    pub gateways: Vec<Gateway>,
    pub gateway_tls: Arc<rustls::ClientConfig>,
    pub routes: Vec<RouteConfig>,
    /// Numbers of the routes that are published, and the table that finds them by path: a number into this list.
    published: Vec<u32>,
    table: Arc<PathTable>,
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
#[derive(Clone)]
pub struct Gateway {
    pub address: GatewayAddress,
    pub name: ServerName<'static>,
    /// A reload may have taken it away.
    pub wanted: bool,
}

/// An upstream as connections see it: where it is, how it is reached, and from where. One pool each.
#[derive(Clone)]
pub struct Endpoint {
    pub address: Upstream,
    /// What Host says when a request names none (RFC 9110 §7.2).
    pub authority: String,
    /// None: clear TCP.
    pub tls: Option<EndpointTls>,
    /// `Auto` is only ever said of https.
    pub h2: H2,
    /// Local addresses to dial from, of all routes that lead here; empty: any.
    pub sources: Vec<IpAddr>,
}

#[derive(Clone)]
pub struct EndpointTls {
    /// One for each distinct setting, with its sessions.
    pub config: Arc<rustls::ClientConfig>,
    /// The same, that offers HTTP/2: alone, or before HTTP/1.1.
    pub offering: Arc<rustls::ClientConfig>,
    /// For SNI, and what the certificate must name.
    pub name: ServerName<'static>,
    setting: TlsSetting,
}

/// TLS settings with what their files held: a renewed certificate is another setting.
#[derive(Clone, PartialEq, Eq)]
struct TlsSetting {
    files: UpstreamTls,
    contents: [u8; 32],
}

impl TlsSetting {
    fn read(files: &UpstreamTls) -> Result<TlsSetting, String> {
        let identity = files
            .identity
            .iter()
            .flat_map(|own| [&own.certificate, &own.key]);
        let mut contents = Vec::new();
        for file in files.ca.iter().chain(identity) {
            contents.extend(sha256(&pem::read_bounded(file, pem::MAX_PEM_BYTES)?));
        }
        Ok(TlsSetting {
            files: files.clone(),
            contents: sha256(&contents),
        })
    }
}

impl std::fmt::Display for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        write!(f, "{scheme}://{}{}", self.authority, self.address.base_path)
    }
}

impl Plan {
    /// The same plan, but for what is published.
    pub fn publishing(&self, document: Vec<u8>, document_hash: [u8; 32]) -> Plan {
        Plan {
            document,
            document_hash,
            ..self.clone()
        }
    }

    /// The route of a path, by the gateway's own table. The gateway checked it too; a connector trusts no gateway with a
    /// path that it did not publish, nor with a spelling that the upstream might read as another path.
    pub fn route(&self, path: &[u8]) -> Option<usize> {
        let place = place(&self.table, path)?;
        self.published
            .get(place as usize)
            .map(|route| *route as usize)
    }
}

fn place(table: &PathTable, path: &[u8]) -> Option<u32> {
    let normal = path::normalise(path, &mut Vec::new()).is_ok_and(|normal| normal.path == path);
    if normal { table.find(path) } else { None }
}

/// Routes that a process keeps over all its reloads; more take a restart.
const ROUTES_KEPT: usize = 65_536;

/// The plan of a config; `before`: the one it takes the place of.
pub fn build(config: &ConnectorConfig, before: Option<&Plan>) -> Result<Plan, String> {
    let mut gateway_tls = connector_config(&config.tls, &config.gateway_ca)?;
    tls::prepare_client_config(&mut gateway_tls);
    let known = before.map_or(&[][..], |before| &before.endpoints);
    let (endpoints, of_route) = endpoints(&config.routes, known)?;
    let (mut routes, mut route_endpoints) = match before {
        Some(before) => (before.routes.clone(), before.route_endpoints.clone()),
        None => (Vec::new(), Vec::new()),
    };
    let mut published = Vec::new();
    for (route, endpoints) in config.routes.iter().zip(of_route) {
        let known =
            (0..routes.len()).find(|at| routes[*at] == *route && route_endpoints[*at] == endpoints);
        let number = known.unwrap_or_else(|| {
            routes.push(route.clone());
            route_endpoints.push(endpoints);
            routes.len() - 1
        });
        published.push(number as u32);
    }
    if routes.len() > ROUTES_KEPT {
        return Err("the routes have changed too often since the start: restart".into());
    }
    let paths = config
        .routes
        .iter()
        .map(|route| (route.path.as_str(), route.case_insensitive));
    let (document, document_hash) = config.settings.encode();
    Ok(Plan {
        id: config.id.clone(),
        site: config.site.clone(),
        incarnation: before.map_or_else(|| fastrand::u128(..), |before| before.incarnation),
        shards: u16::try_from(config.shards).map_err(|_| "too many shards")?,
        gateways: gateways(&config.gateways, before)?,
        gateway_tls: Arc::new(gateway_tls),
        table: Arc::new(PathTable::new(paths)),
        routes,
        published,
        endpoints,
        route_endpoints,
        pool: config.pool.clone(),
        http: http1::Limits {
            head_bytes: 64 * 1024,
            header_count: 256,
            trailer_bytes: 16 * 1024,
        },
        document,
        document_hash,
    })
}

fn gateways(addresses: &[GatewayAddress], before: Option<&Plan>) -> Result<Vec<Gateway>, String> {
    let mut gateways = before.map_or_else(Vec::new, |before| before.gateways.clone());
    gateways
        .iter_mut()
        .for_each(|gateway| gateway.wanted = false);
    for address in addresses {
        let same = |known: &Gateway| {
            known.address.host == address.host && known.address.port == address.port
        };
        let bare = address
            .host
            .trim_start_matches('[')
            .trim_end_matches(']')
            .to_owned();
        let name = ServerName::try_from(bare)
            .map_err(|_| format!("`{}` is not a host name", address.host))?;
        let wanted = Gateway {
            address: address.clone(),
            name,
            wanted: true,
        };
        match gateways.iter().position(same) {
            Some(at) => gateways[at] = wanted,
            None => gateways.push(wanted),
        }
    }
    Ok(gateways)
}

/// The distinct endpoints of all routes, behind those `known` before, and each route's by index. Other TLS settings make
/// another endpoint: what was verified for one route is not lent to another. Errors name a file that cannot be used.
fn endpoints(
    routes: &[RouteConfig],
    known: &[Endpoint],
) -> Result<(Vec<Endpoint>, Vec<Vec<u32>>), String> {
    let mut endpoints = known.to_vec();
    endpoints
        .iter_mut()
        .for_each(|endpoint| endpoint.sources.clear());
    let mut of_route = Vec::new();
    for route in routes {
        let https = route.upstream.iter().any(|upstream| upstream.https);
        let setting = if https {
            Some(TlsSetting::read(&route.tls)?)
        } else {
            None
        };
        let mut indexes = Vec::new();
        for upstream in &route.upstream {
            let h2 = match route.h2 {
                H2::Auto if !upstream.https => H2::Never,
                h2 => h2,
            };
            let setting = setting.as_ref().filter(|_| upstream.https);
            let same = |other: &Endpoint| {
                other.address == *upstream
                    && other.h2 == h2
                    && other.tls.as_ref().map(|tls| &tls.setting) == setting
            };
            let index = match endpoints.iter().position(same) {
                Some(index) => index,
                None => {
                    let made = endpoint(upstream, setting, h2, &endpoints)?;
                    endpoints.push(made);
                    endpoints.len() - 1
                }
            };
            for source in &route.source_addresses {
                if !endpoints[index].sources.contains(source) {
                    endpoints[index].sources.push(*source);
                }
            }
            indexes.push(index as u32);
        }
        of_route.push(indexes);
    }
    Ok((endpoints, of_route))
}

fn endpoint(
    upstream: &Upstream,
    setting: Option<&TlsSetting>,
    h2: H2,
    made: &[Endpoint],
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
    let tls = match setting {
        Some(setting) => Some(endpoint_tls(upstream, setting, h2, made)?),
        None => None,
    };
    Ok(Endpoint {
        address: upstream.clone(),
        authority,
        tls,
        h2,
        sources: Vec::new(),
    })
}

fn endpoint_tls(
    upstream: &Upstream,
    setting: &TlsSetting,
    h2: H2,
    made: &[Endpoint],
) -> Result<EndpointTls, String> {
    let known = made.iter().filter_map(|endpoint| endpoint.tls.as_ref());
    let config = match known.into_iter().find(|tls| tls.setting == *setting) {
        Some(tls) => tls.config.clone(),
        None => {
            let mut config = upstream_config(&setting.files)?;
            tls::prepare_client_config(&mut config);
            Arc::new(config)
        }
    };
    let mut offering = rustls::ClientConfig::clone(&config);
    offering.alpn_protocols = match h2 {
        H2::Always => vec![b"h2".to_vec()],
        _ => vec![b"h2".to_vec(), b"http/1.1".to_vec()],
    };
    let name = ServerName::try_from(upstream.host.clone())
        .map_err(|_| format!("`{}` is not a host name", upstream.host))?;
    Ok(EndpointTls {
        config,
        offering: Arc::new(offering),
        name,
        setting: setting.clone(),
    })
}

/// Request bytes staged for an upstream before more wait in the exchange (and hold back the stream's credit): what one
/// receive from a link brings.
pub const UPSTREAM_STAGE: usize = 256 * 1024;
/// An answer of at most so many bytes fits into one small buffer.
pub const SMALL_ANSWER: usize = 2 * 1024;
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

/// An upstream that chose HTTP/1.1 is offered HTTP/2 again after this.
pub const OFFER_AGAIN: Duration = Duration::from_secs(300);
/// Requests of one endpoint that wait for a connection to share.
pub const WAITING_MAX: usize = 65_536;
/// Connections on which one request is tried in turn, when upstreams refuse it unseen.
pub const REFUSALS_MAX: u8 = 3;

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
            h2: H2::Auto,
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
        let (endpoints, of_route) = endpoints(&routes, &[]).unwrap();
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
            assert_eq!(place(&table, path.as_bytes()), expected, "{path}");
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
        let (endpoints, of_route) = endpoints(&[route(&http, None), other], &[]).unwrap();
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
        let (endpoints, _) = endpoints(&routes, &[]).unwrap();
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

    #[test]
    fn numbers_last_over_reloads_and_renewed_files_are_another_endpoint() {
        let folder = Folder::new();
        let ca = ca_file(&folder, "ca");
        let old = [route(
            &[(true, "a", 443), (false, "b", 80)],
            Some(ca.clone()),
        )];
        let (before, _) = endpoints(&old, &[]).unwrap();
        let new = [route(
            &[(false, "c", 80), (false, "b", 80), (true, "a", 443)],
            Some(ca.clone()),
        )];
        let (after, of_route) = endpoints(&new, &before).unwrap();
        assert_eq!((after.len(), of_route), (3, vec![vec![2, 1, 0]]));
        folder.write("ca", &testing::ca("another").pem());
        let (renewed, of_route) = endpoints(&new, &after).unwrap();
        assert_eq!((renewed.len(), of_route), (4, vec![vec![2, 1, 3]]));
    }
}
