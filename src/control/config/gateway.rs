//! gateway.toml.

use super::common::{address, admin, busy_poll, name, read_log, shards};
use super::files::{self, Purpose};
use super::reader::{At, Section, Wrong};
use super::sites::{self, check_host, covers};
use super::{AccessLog, ChannelLimits, GatewayConfig, Limits, Slow, TlsFiles};
use crate::control::certificates::facts::Facts;
use crate::control::certificates::pem;
use crate::control::certificates::tickets::SharedTicketer;
use crate::control::fetch;
use ipnet::IpNet;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

const RELAY_PORT: u16 = 10_140;
const ADMIN: &str = "127.0.0.1:9441";

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
    let busy_poll = busy_poll(&gateway);

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
    let proxy_protocol_from = networks(&listen, "proxy_protocol_from");

    let (tls, sni, ticket_keys, certificates) = read_tls(top);
    let relay = top.section("relay");
    let connector_ca = files::roots(
        &relay,
        "connector_ca",
        "[relay] connector_ca = \"ca.pem\": the CA that issues connectors' certificates",
    );

    let sites = sites::read(top, &certificates);
    let limits = read_limits(&top.section("limits"));
    let channels = read_channels(&top.section("channels"));
    let fetch = read_fetch(&top.section("fetch"));
    let access_log = read_log(top, AccessLog::Errors);
    Some(GatewayConfig {
        name,
        instance,
        shards,
        busy_poll,
        listen_clients: values(listen_clients),
        listen_relay: values(listen_relay),
        proxy_protocol_from,
        admin: admin.map(|at| at.value),
        tls: tls?,
        sni,
        ticket_keys,
        connector_ca: connector_ca?,
        sites,
        limits,
        channels,
        fetch,
        access_log,
    })
}

/// `[fetch]`: how the sites' key sets and revocation lists are got.
fn read_fetch(section: &Section<'_>) -> fetch::Plan {
    let default = fetch::Plan::default();
    let seconds = |key, default| {
        let read = section.integer(key, 1..=86_400);
        read.map_or(default, |at| Duration::from_secs(at.value))
    };
    let ca = section.text("ca").filter(|at| !at.value.is_empty());
    let ca = ca.and_then(|_| files::roots(section, "ca", "the CA of issuers inside the company"));
    let cas = ca
        .and_then(|file| pem::certificates(&file).ok())
        .unwrap_or_default();
    let hosts = section.texts("hosts").unwrap_or_default();
    for host in &hosts {
        check_host(section.source(), host, false);
    }
    fetch::Plan {
        keys_every: seconds("keys_seconds", default.keys_every),
        lists_every: seconds("crl_seconds", default.lists_every),
        http: fetch::Options {
            cas: cas.iter().map(|der| der.to_vec()).collect(),
            hosts: hosts
                .iter()
                .map(|host| host.value.to_ascii_lowercase())
                .collect(),
        },
    }
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

fn read_channels(section: &Section<'_>) -> ChannelLimits {
    let default = ChannelLimits::default();
    let number = |key, range, default: usize| {
        section.integer(key, range).map_or(default, |at| {
            usize::try_from(at.value).unwrap_or(usize::MAX)
        })
    };
    let keep_alive = section.integer("keep_alive_seconds", 5..=400);
    ChannelLimits {
        most: number("most", 1..=16_000_000, default.most),
        keep_alive_seconds: keep_alive.map_or(default.keep_alive_seconds, |at| at.value),
        backlog: number("backlog", 1..=1024, default.backlog),
        slow: match section.word("slow", &["drop_oldest", "close"]) {
            Some(word) if word.value == "close" => Slow::Close,
            _ => Slow::DropOldest,
        },
    }
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

/// Entries of a list of address ranges: each accept looks through all of them.
const NETWORKS_MAX: usize = 256;

/// `["10.0.0.0/8", "fd00::/8", "127.0.0.1"]`; a bare address is a range of one.
fn networks(section: &Section<'_>, key: &'static str) -> Vec<IpNet> {
    let texts = section.texts(key).unwrap_or_default();
    if texts.len() > NETWORKS_MAX {
        section.source().error(
            section.line_of(key),
            format!("`{key}` has more than {NETWORKS_MAX} entries"),
            "join neighbours to larger ranges",
        );
    }
    let read = |text: &At<String>| match network(&text.value) {
        Ok(net) => {
            if net.prefix_len() == 0 {
                section.source().warn(
                    text.line,
                    format!("`{key}`: {net} is everybody"),
                    "who is listed may give any client's address as its own: list the balancers only",
                );
            }
            Some(net)
        }
        Err((why, hint)) => {
            let text_of = format!("`{key}`: {:?} {why}", text.value);
            section.source().error(text.line, text_of, hint);
            None
        }
    };
    texts.iter().filter_map(read).collect()
}

fn network(text: &str) -> Result<IpNet, Wrong> {
    const HINT: &str = "an address or a range: \"10.0.0.7\", \"10.0.0.0/8\", \"fd00::/8\"";
    let net = match text.parse::<IpAddr>() {
        Ok(address) => IpNet::from(address.to_canonical()),
        Err(_) => text
            .parse::<IpNet>()
            .map_err(|_| ("is no address range".to_string(), HINT.to_string()))?,
    };
    let IpNet::V6(six) = net else {
        return Ok(net.trunc());
    };
    if six.addr().to_ipv4_mapped().is_some() {
        let hint = "write it as IPv4: peers are compared in that form";
        return Err(("is IPv4 inside IPv6".to_string(), hint.to_string()));
    }
    Ok(net.trunc())
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
