//! connector.toml.

use super::common::{admin, busy_poll, checked_name, name, read_log, shards};
use super::files::{self, Purpose};
use super::reader::{At, Section};
use super::{
    AccessLog, ConnectorConfig, GatewayAddress, PoolLimits, TlsFiles, notify, preset, routes,
    site_settings,
};
use crate::control::certificates::connector_id;
use crate::control::certificates::pem;
use crate::control::settings::{MAX_DOCUMENT_BYTES, SiteDocument};
use std::path::PathBuf;

const ADMIN: &str = "127.0.0.1:9442";
const RELAY_PORT: u64 = 10_140;
pub const MAX_GATEWAYS: usize = 64;

pub fn read(top: &Section<'_>) -> Option<ConnectorConfig> {
    let source = top.source();
    let connector = top.section("connector");
    if !connector.is_present() {
        source.error(
            1,
            "the file has no [connector] table",
            "begin with [connector] and id = \"cp-1\"",
        );
    }
    let id = name(&connector, "id", "cp");
    let id_line = connector.line_of("id");
    let site_line = connector.line_of("site");
    let site = checked_name(
        source,
        connector.text("site").unwrap_or(At {
            value: "main".into(),
            line: site_line,
        }),
        "site",
    );
    let shards = shards(&connector);
    let busy_poll = busy_poll(&connector);
    let admin = admin(&connector, ADMIN).map(|at| at.value);
    let tls = read_tls(&connector, &id, id_line);
    let pool = read_pool(&connector.section("pool"));

    let gateways = read_gateways(top);
    let (settings, routes, crl_files) = {
        let (settings, accepts, crl_files) = site_settings::read(top, &site);
        let mut routes = routes::read(top, accepts);
        preset::read(top, accepts, &mut routes);
        let published = std::mem::take(&mut routes.published);
        (
            SiteDocument {
                site: settings,
                routes: published,
            },
            routes,
            crl_files,
        )
    };
    let notify = notify::read(top);
    if read_log(top, AccessLog::Off) != AccessLog::Off {
        source.warn(
            top.section("log").line_of("access"),
            "the connector writes no access log, and `access` changes nothing here",
            "leave it out, or \"off\"; the gateway's log has every request, with the connector that served it",
        );
    }
    if !source.has_errors() {
        if let Err(why) = settings.check() {
            source.error(1, why, "the gateway would refuse the settings");
        }
        let (bytes, _) = settings.encode();
        if bytes.len() > MAX_DOCUMENT_BYTES {
            source.error(
                1,
                format!(
                    "the published settings have {} bytes, over 4 MiB",
                    bytes.len()
                ),
                "shorten CA files or deny-lists",
            );
        }
    }
    let (tls, gateway_ca) = tls?;
    Some(ConnectorConfig {
        id,
        site,
        shards,
        busy_poll,
        admin,
        tls,
        gateway_ca,
        gateways,
        preset_routes: routes.by_presets,
        routes: routes.routes,
        settings,
        crl_files,
        pool,
        notify,
    })
}

fn read_tls(connector: &Section<'_>, id: &str, id_line: usize) -> Option<(TlsFiles, PathBuf)> {
    let tls = connector.section("tls");
    if !tls.is_present() {
        tls.source().error(
            connector.line(),
            "[connector] needs `tls`",
            "tls = { certificate = \"cp.pem\", key = \"cp.key\", gateway_ca = \"ca.pem\" }",
        );
        return None;
    }
    let identity = files::identity(&tls, Purpose::Connector);
    let gateway_ca = files::roots(
        &tls,
        "gateway_ca",
        "the CA that issues the gateway's certificate",
    );
    if let Some((files, _)) = &identity {
        check_id(&tls, files, id, id_line);
    }
    Some((identity?.0, gateway_ca?))
}

/// The gateway takes the id from the certificate: a file that says otherwise would be refused at the first link.
fn check_id(tls: &Section<'_>, files: &TlsFiles, id: &str, id_line: usize) {
    let leaf = pem::certificates(&files.certificate)
        .ok()
        .and_then(|chain| chain.into_iter().next());
    let Some(leaf) = leaf else { return };
    let hint = "the id is the connector certificate's CN: issue one with `tidegate pki connector`";
    match connector_id(&leaf) {
        Ok(named) if named == id || id.is_empty() => {}
        Ok(named) => {
            let text = format!(
                "id {id:?}, but {} is for {named:?}",
                files.certificate.display()
            );
            tls.source().error(id_line, text, hint);
        }
        Err(why) => tls.source().error(
            tls.line_of("certificate"),
            format!("{}: {why}", files.certificate.display()),
            hint,
        ),
    }
}

fn read_pool(section: &Section<'_>) -> PoolLimits {
    let default = PoolLimits::default();
    let number = |key, default: usize| {
        section
            .integer(key, 1..=1_000_000)
            .map_or(default, |at| at.value as usize)
    };
    let pool = PoolLimits {
        idle_per_upstream: section
            .integer("idle_per_upstream", 0..=1_000_000)
            .map_or(default.idle_per_upstream, |at| at.value as usize),
        idle_seconds: section
            .integer("idle_seconds", 1..=3600)
            .map_or(default.idle_seconds, |at| at.value),
        connections_per_upstream: number(
            "connections_per_upstream",
            default.connections_per_upstream,
        ),
    };
    if pool.idle_per_upstream > pool.connections_per_upstream {
        section.source().warn(
            section.line_of("idle_per_upstream"),
            "`idle_per_upstream` is above `connections_per_upstream` and never reached",
            "lower the one or raise the other",
        );
    }
    pool
}

fn read_gateways(top: &Section<'_>) -> Vec<GatewayAddress> {
    let source = top.source();
    let sections = top.sections("gateway");
    if sections.is_empty() {
        source.error(
            top.line_of("gateway"),
            "the file names no gateway",
            "[[gateway]] with host = \"gw.example.com\"",
        );
    }
    if sections.len() > MAX_GATEWAYS {
        source.error(
            top.line_of("gateway"),
            format!("{} gateways", sections.len()),
            format!("{MAX_GATEWAYS} at most"),
        );
    }
    let mut gateways: Vec<GatewayAddress> = Vec::new();
    for section in sections {
        let host = section.require("host", section.text("host"), "host = \"gw.example.com\"");
        let port = section
            .integer("port", 1..=65_535)
            .map_or(RELAY_PORT, |at| at.value);
        let instances = section
            .integer("instances", 1..=16)
            .map_or(1, |at| at.value);
        if port + instances - 1 > 65_535 {
            let line = section.line_of("port");
            source.error(
                line,
                format!("port {port} leaves no room for {instances} instances"),
                "instance i is at port + i",
            );
        }
        if let Some(proxy) = section.text("proxy").filter(|at| !at.value.is_empty()) {
            source.error(
                proxy.line,
                "`proxy`: this version does not dial through a web proxy",
                "leave it empty and let the firewall pass the relay port outwards",
            );
        }
        if let Some(host) = host {
            let name = host.value.trim_matches(['[', ']']).to_ascii_lowercase();
            if rustls::pki_types::ServerName::try_from(name.clone()).is_err() {
                let text = format!("{:?} is neither a host name nor an IP address", host.value);
                source.error(
                    host.line,
                    text,
                    "host = \"gw.example.com\", without scheme or port",
                );
            }
            let gateway = GatewayAddress {
                host: name,
                port: port as u16,
                instances: instances as u16,
            };
            let range =
                |g: &GatewayAddress| u32::from(g.port)..u32::from(g.port) + u32::from(g.instances);
            let twice = |other: &GatewayAddress| {
                other.host == gateway.host
                    && range(other).start < range(&gateway).end
                    && range(&gateway).start < range(other).end
            };
            if gateways.iter().any(twice) {
                let text = format!("gateway {} at port {port} stands twice", gateway.host);
                source.error(
                    host.line,
                    text,
                    "one [[gateway]] with `instances`, or other ports",
                );
            }
            gateways.push(gateway);
        }
    }
    gateways
}
