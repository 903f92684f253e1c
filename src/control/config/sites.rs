//! `[[site]]` of gateway.toml, and host names.

use super::SiteConfig;
use super::common::checked_name;
use super::reader::{At, Section};
use super::source::Source;
use crate::control::certificates::facts::Facts;
use std::net::{IpAddr, Ipv6Addr};

/// The sites; without any, one site takes every host and every connector. `certificates` are those under `[tls]`.
pub fn read(top: &Section<'_>, certificates: &[Facts]) -> Vec<SiteConfig> {
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
            let lower = canonical_host(&host.value);
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

/// A host name, `*.example.com`, or `*` where `any` allows it.
pub fn check_host(source: &Source, host: &At<String>, any: bool) {
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
    if any && ipv6_of(&host.value).is_some() {
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

/// An IPv6 address as a host: with brackets, as Host has it, or without.
fn ipv6_of(host: &str) -> Option<Ipv6Addr> {
    let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
    bare.unwrap_or(host).parse().ok()
}

/// The one form of a host by which it is found: small letters; IPv6 shortest and in brackets.
fn canonical_host(host: &str) -> String {
    match ipv6_of(host) {
        Some(address) => format!("[{address}]"),
        None => host.to_ascii_lowercase(),
    }
}

/// Whether a certificate names a host; a wildcard site is covered by the same wildcard.
pub fn covers(facts: &Facts, host: &str) -> bool {
    let host = host.to_ascii_lowercase();
    let address = ipv6_of(&host).map(IpAddr::from).or(host.parse().ok());
    if let Some(address) = address {
        return facts.addresses.contains(&address);
    }
    let parent = host
        .split_once('.')
        .map(|(_, parent)| format!("*.{parent}"));
    facts
        .dns_names
        .iter()
        .map(|name| name.to_ascii_lowercase())
        .any(|name| name == host || Some(&name) == parent.as_ref())
}
