//! gateway.toml.

use super::files::{self, Purpose};
use super::reader::{At, Section, Source};
use super::{AccessLog, GatewayConfig, Limits, SiteConfig, TlsFiles};
use crate::control::certificates::facts::Facts;
use crate::control::certificates::tickets::SharedTicketer;
use crate::control::settings::check_name;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

const RELAY_PORT: u16 = 10_140;
const ADMIN: &str = "127.0.0.1:9441";
/// A process runs no more; more cores get more instances.
pub const MAX_SHARDS: u64 = 256;

pub fn read(top: &Section<'_>) -> Option<GatewayConfig> {
    let gateway = top.section("gateway");
    if !gateway.is_present() {
        top.source().error(
            1,
            "the file has no [gateway] table",
            "begin with [gateway] and name = \"…\"",
        );
    }
    let name = name(&gateway, "name", "gateway");
    let instance = gateway
        .integer("instance", 0..=15)
        .map_or(0, |at| at.value as u16);
    let shards = shards(&gateway);

    let listen = top.section("listen");
    let listen_clients = addresses(&listen, "clients", &["0.0.0.0:443", "[::]:443"]);
    let relay_default = SocketAddr::new(IpAddr::from([0; 4]), RELAY_PORT + instance).to_string();
    let listen_relay = addresses(&listen, "relay", &[&relay_default]);
    let admin = admin(&listen, ADMIN);
    check_collisions(&listen, &listen_clients, &listen_relay, &admin);
    refuse_list(
        &listen,
        "relay_https",
        "relay links over HTTPS",
        "leave it empty and open `relay` to the connectors",
    );
    refuse_list(
        &listen,
        "proxy_protocol_from",
        "the PROXY protocol",
        "leave it empty and have the balancer keep the clients' addresses (L4 without PROXY protocol)",
    );

    let (tls, sni, ticket_keys, certificates) = read_tls(top);
    let relay = top.section("relay");
    let connector_ca = files::roots(
        &relay,
        "connector_ca",
        "[relay] connector_ca = \"ca.pem\": the CA that issues connectors' certificates",
    );

    let sites = read_sites(top, &certificates);
    let limits = read_limits(&top.section("limits"));
    let access_log = read_log(top, AccessLog::Errors);
    Some(GatewayConfig {
        name,
        instance,
        shards,
        listen_clients: values(listen_clients),
        listen_relay: values(listen_relay),
        admin: admin.map(|at| at.value),
        tls: tls?,
        sni,
        ticket_keys,
        connector_ca: connector_ca?,
        sites,
        limits,
        access_log,
    })
}

type Tls = (
    Option<TlsFiles>,
    Vec<(Vec<String>, TlsFiles)>,
    Option<PathBuf>,
    Vec<Facts>,
);

fn read_tls(top: &Section<'_>) -> Tls {
    let section = top.section("tls");
    let mut certificates = Vec::new();
    let tls = files::identity(&section, Purpose::Server).map(|(files, facts)| {
        certificates.push(facts);
        files
    });
    let mut sni = Vec::new();
    for entry in section.sections("sni") {
        let hosts = entry.texts("hosts").unwrap_or_default();
        if hosts.is_empty() {
            entry.source().error(
                entry.line_of("hosts"),
                "[[tls.sni]] names no host",
                "hosts = [\"a.example.com\"]",
            );
        }
        for host in &hosts {
            check_host(entry.source(), host, false);
        }
        if let Some((files, facts)) = files::identity(&entry, Purpose::Server) {
            for host in hosts.iter().filter(|host| !covers(&facts, &host.value)) {
                let text = format!(
                    "{} does not name {:?}",
                    files.certificate.display(),
                    host.value
                );
                entry.source().warn(
                    host.line,
                    text,
                    "clients of that host will refuse the certificate",
                );
            }
            certificates.push(facts);
            sni.push((
                hosts
                    .iter()
                    .map(|host| host.value.to_ascii_lowercase())
                    .collect(),
                files,
            ));
        }
    }
    let ticket_keys = section
        .text("ticket_keys")
        .filter(|at| !at.value.is_empty())
        .map(|at| {
            let file = section.source().resolve(&at.value);
            if let Err(wrong) = SharedTicketer::load(&file) {
                files::complain(&section, at.line, wrong);
            }
            file
        });
    (tls, sni, ticket_keys, certificates)
}

fn read_sites(top: &Section<'_>, certificates: &[Facts]) -> Vec<SiteConfig> {
    let sections = top.sections("site");
    if sections.is_empty() {
        return vec![SiteConfig {
            name: "main".into(),
            hosts: vec!["*".into()],
            connectors: vec![],
        }];
    }
    let mut sites: Vec<SiteConfig> = Vec::new();
    for section in sections {
        let source = section.source();
        let name = section.require(
            "name",
            section.text("name"),
            "name = \"main\": what connectors call the site",
        );
        let name = name
            .map(|at| checked_name(source, at, "site"))
            .unwrap_or_default();
        if !name.is_empty() && sites.iter().any(|site| site.name == name) {
            source.error(
                section.line_of("name"),
                format!("site {name:?} stands twice"),
                "one [[site]] a site",
            );
        }
        let hosts = section.texts("hosts").unwrap_or_else(|| {
            vec![At {
                value: "*".into(),
                line: section.line(),
            }]
        });
        if hosts.is_empty() {
            source.error(
                section.line_of("hosts"),
                format!("site {name:?} has no host"),
                "hosts = [\"*\"] takes every host",
            );
        }
        let mut names: Vec<String> = Vec::new();
        for host in &hosts {
            check_host(source, host, true);
            let lower = host.value.to_ascii_lowercase();
            let owner = sites
                .iter()
                .find(|site| site.hosts.contains(&lower))
                .map(|site| site.name.clone());
            if let Some(owner) = owner.or(names.contains(&lower).then(|| name.clone())) {
                source.error(
                    host.line,
                    format!("host {lower:?} belongs to site {owner:?} already"),
                    "a host has one site",
                );
            }
            if lower != "*"
                && !certificates.is_empty()
                && !certificates.iter().any(|facts| covers(facts, &lower))
            {
                let text = format!("no certificate under [tls] names host {lower:?}");
                source.warn(
                    host.line,
                    text,
                    "clients of that host will refuse the gateway; add a [[tls.sni]]",
                );
            }
            names.push(lower);
        }
        let mut connectors = Vec::new();
        for id in section.texts("connectors").unwrap_or_default() {
            let line = id.line;
            let id = checked_name(source, id, "connector");
            if connectors.contains(&id) {
                source.error(
                    line,
                    format!("connector {id:?} stands twice"),
                    "name each connector once",
                );
            }
            connectors.push(id);
        }
        sites.push(SiteConfig {
            name,
            hosts: names,
            connectors,
        });
    }
    sites
}

fn read_limits(section: &Section<'_>) -> Limits {
    let default = Limits::default();
    let number = |key, range, default: usize| {
        section.integer(key, range).map_or(default, |at| {
            usize::try_from(at.value).unwrap_or(usize::MAX)
        })
    };
    let seconds = |key, default| {
        section
            .integer(key, 1..=86_400)
            .map_or(default, |at| at.value)
    };
    let per_address = section.integer("connections_per_address", 0..=u64::MAX);
    if let Some(share) = section.integer("handshake_share", 1..=100) {
        section.source().warn(
            share.line,
            "`handshake_share` has no effect in this version",
            "take it out",
        );
    }
    Limits {
        connections: number("connections", 1..=10_000_000, default.connections),
        // 0 reads "no limit", and what compares gets a number that it never reaches.
        connections_per_address: per_address
            .map(|at| usize::try_from(at.value).unwrap_or(usize::MAX))
            .filter(|limit| *limit != 0)
            .unwrap_or(default.connections_per_address),
        memory_mib: number("memory_mib", 64..=1 << 20, default.memory_mib),
        // An OPEN frame carries the head to the connector and holds 64 KiB.
        head_kib: number("head_kib", 4..=64, default.head_kib),
        head_seconds: seconds("head_seconds", default.head_seconds),
        body_idle_seconds: seconds("body_idle_seconds", default.body_idle_seconds),
        idle_seconds: seconds("idle_seconds", default.idle_seconds),
        headers: number("headers", 8..=1000, default.headers),
        half_close: section
            .boolean("half_close")
            .map_or(default.half_close, |at| at.value),
    }
}

/// `[log] access = off | errors | sample:N | all`.
pub fn read_log(top: &Section<'_>, default: AccessLog) -> AccessLog {
    const HINT: &str = "off | errors | sample:N (every Nth request) | all";
    let section = top.section("log");
    let access = section.read("access", |value| {
        let text = super::reader::text(value)?;
        match text.as_str() {
            "off" => Ok(AccessLog::Off),
            "errors" => Ok(AccessLog::Errors),
            "all" => Ok(AccessLog::All),
            other => other
                .strip_prefix("sample:")
                .and_then(|n| n.trim().parse().ok())
                .filter(|n| *n > 0)
                .map(AccessLog::Sample)
                .ok_or_else(|| (format!("is {text:?}"), HINT.to_string())),
        }
    });
    access.map_or(default, |at| at.value)
}

/// `shards = "auto"` or a number.
pub fn shards(section: &Section<'_>) -> usize {
    let auto = || std::thread::available_parallelism().map_or(1, usize::from);
    let read = section.read("shards", |value| match value.as_str() {
        Some("auto") => Ok(None),
        Some(other) => Err((
            format!("is {other:?}"),
            format!("\"auto\", or a number from 1 to {MAX_SHARDS} without quotes"),
        )),
        None => super::reader::integer(value, &(1..=MAX_SHARDS)).map(|n| Some(n as usize)),
    });
    read.and_then(|at| at.value).unwrap_or_else(auto)
}

/// `admin = "127.0.0.1:9441"`; empty: none.
pub fn admin(section: &Section<'_>, default: &str) -> Option<At<SocketAddr>> {
    let line = section.line();
    let text = section.text("admin").unwrap_or(At {
        value: default.into(),
        line,
    });
    if text.value.is_empty() {
        return None;
    }
    let address = address(section.source(), &text)?;
    if !address.ip().is_loopback() {
        section.source().warn(
            text.line,
            format!("admin listens on {address}, where others can read metrics and readiness"),
            "listen on 127.0.0.1, or let a firewall guard it",
        );
    }
    Some(At {
        value: address,
        line: text.line,
    })
}

fn addresses(section: &Section<'_>, key: &'static str, default: &[&str]) -> Vec<At<SocketAddr>> {
    let line = section.line();
    let texts = section.texts(key).unwrap_or_else(|| {
        default
            .iter()
            .map(|text| At {
                value: text.to_string(),
                line,
            })
            .collect()
    });
    if texts.is_empty() {
        section.source().error(
            section.line_of(key),
            format!("`{key}` names no address"),
            format!("{key} = [\"0.0.0.0:443\"]"),
        );
    }
    let read = |text: At<String>| {
        address(section.source(), &text).map(|value| At {
            value,
            line: text.line,
        })
    };
    texts.into_iter().filter_map(read).collect()
}

fn address(source: &Source, text: &At<String>) -> Option<SocketAddr> {
    match text.value.parse() {
        Ok(address) => Some(address),
        Err(_) => {
            let hint = if text.value.parse::<IpAddr>().is_ok() {
                "the port is missing: \"0.0.0.0:443\", \"[::]:443\""
            } else {
                "an IP address and a port: \"0.0.0.0:443\", \"[::]:443\", \"127.0.0.1:9441\""
            };
            source.error(
                text.line,
                format!("{:?} is no address to listen on", text.value),
                hint,
            );
            None
        }
    }
}

/// Two listeners of one address: the second would fail at start, or worse share connections at random.
fn check_collisions(
    section: &Section<'_>,
    clients: &[At<SocketAddr>],
    relay: &[At<SocketAddr>],
    admin: &Option<At<SocketAddr>>,
) {
    let mut taken: Vec<SocketAddr> = Vec::new();
    for at in clients.iter().chain(relay).chain(admin) {
        // Port 0: the kernel picks another each time.
        if at.value.port() != 0 && taken.contains(&at.value) {
            section.source().error(
                at.line,
                format!("{} is listened on twice", at.value),
                "give each listener its own port",
            );
        }
        taken.push(at.value);
    }
}

/// A list whose function this version does not have: an error when it holds anything.
fn refuse_list(section: &Section<'_>, key: &'static str, what: &str, hint: &str) {
    if let Some(first) = section.texts(key).unwrap_or_default().first() {
        section.source().error(
            first.line,
            format!("`{key}`: this version does not have {what}"),
            hint,
        );
    }
}

fn values<T>(list: Vec<At<T>>) -> Vec<T> {
    list.into_iter().map(|at| at.value).collect()
}

/// A name that must be given.
pub fn name(section: &Section<'_>, key: &'static str, what: &str) -> String {
    let hint = format!("{key} = \"{what}-1\"");
    let read = section.require(key, section.text(key), &hint);
    read.map(|at| checked_name(section.source(), at, what))
        .unwrap_or_default()
}

pub fn checked_name(source: &Source, at: At<String>, what: &str) -> String {
    if let Err(why) = check_name(&at.value) {
        source.error(
            at.line,
            format!("{what} name {:?} {why}", at.value),
            "a short name such as \"main\" or \"cp-1\"",
        );
    }
    at.value
}

/// A host name, `*.example.com`, or `*` where `any` allows it.
fn check_host(source: &Source, host: &At<String>, any: bool) {
    const HINT: &str = "\"gw.example.com\", \"*.example.com\"; no scheme, no port";
    if host.value == "*" {
        if !any {
            source.error(
                host.line,
                "\"*\" cannot stand under [[tls.sni]]",
                "[tls] certificate is for all other hosts",
            );
        }
        return;
    }
    let name = host.value.strip_prefix("*.").unwrap_or(&host.value);
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if name.len() > 253 || !name.split('.').all(label) {
        source.error(host.line, format!("{:?} is no host name", host.value), HINT);
    }
}

/// Whether a certificate names a host; a wildcard site is covered by the same wildcard.
fn covers(facts: &Facts, host: &str) -> bool {
    let host = host.to_ascii_lowercase();
    let parent = host
        .split_once('.')
        .map(|(_, parent)| format!("*.{parent}"));
    facts
        .dns_names
        .iter()
        .map(|name| name.to_ascii_lowercase())
        .any(|name| name == host || Some(&name) == parent.as_ref())
}
