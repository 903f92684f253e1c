//! `[[route]]` of connector.toml: what the connector does with a request, and what it publishes of it.

use super::files::{self, Purpose};
use super::reader::{At, Section};
use super::site_settings::Accepts;
use super::source::Source;
use super::{H2, RouteConfig, Upstream, UpstreamTls};
use crate::control::certificates::system_roots;
use crate::control::settings::{Auth, MAX_ROUTES, PublishedRoute, check_route_path, is_method};
use std::net::IpAddr;
use std::time::Duration;

const TIMEOUT: Duration = Duration::from_secs(60);
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
const MAX_BODY: u64 = 1 << 30;
pub const MAX_UPSTREAMS: usize = 64;

/// Both views of all routes, in the file's order, the presets' behind the others: index i of one is index i of the other.
#[derive(Default)]
pub struct Routes {
    pub routes: Vec<RouteConfig>,
    pub published: Vec<PublishedRoute>,
    /// How many of them, the last ones, presets made.
    pub by_presets: usize,
    /// Paths of the [[route]]s, with their lines.
    pub written: Vec<At<String>>,
}

impl Routes {
    pub fn push(&mut self, route: RouteConfig, publication: PublishedRoute) {
        self.routes.push(route);
        self.published.push(publication);
    }

    /// A route of the same path. Where one of two does not care for case, both are one.
    pub fn same(&self, path: &str, case_insensitive: bool) -> Option<&PublishedRoute> {
        let trimmed = path.trim_end_matches('/');
        self.published.iter().find(|other| {
            let other_trimmed = other.path.trim_end_matches('/');
            if case_insensitive || other.case_insensitive {
                other_trimmed.eq_ignore_ascii_case(trimmed)
            } else {
                other_trimmed == trimmed
            }
        })
    }
}

/// The [[route]]s.
pub fn read(top: &Section<'_>, accepts: Accepts) -> Routes {
    let source = top.source();
    let sections = top.sections("route");
    if sections.is_empty() && top.items("preset").is_empty() {
        source.warn(
            top.line_of("route"),
            "no [[route]]: nothing is published",
            "[[route]] with path and upstream",
        );
    }
    if sections.len() > MAX_ROUTES {
        source.error(
            top.line_of("route"),
            format!("{} routes", sections.len()),
            format!("{MAX_ROUTES} at most"),
        );
    }
    let mut routes = Routes::default();
    for section in sections {
        if let Some((route, publication, path)) = read_one(&section, accepts, &routes) {
            routes.push(route, publication);
            routes.written.push(path);
        }
    }
    routes
}

fn read_one(
    section: &Section<'_>,
    accepts: Accepts,
    before: &Routes,
) -> Option<(RouteConfig, PublishedRoute, At<String>)> {
    let source = section.source();
    let path = section.require(
        "path",
        section.text("path"),
        "path = \"/app/\": what is published",
    );
    let upstream = read_upstreams(section, "upstream");
    if upstream.is_none() && section.line_of("upstream") == section.line() {
        let hint = "upstream = [\"http://127.0.0.1:9080\"]";
        source.error(section.line(), "[[route]] needs `upstream`", hint);
    }
    let upstream = upstream.unwrap_or_default();
    let auth = read_auth(section, accepts);
    let methods = read_methods(section);
    let max_body = section.size("max_body").map_or(MAX_BODY, |at| at.value);
    let timeout = section.duration("timeout").map_or(TIMEOUT, |at| at.value);
    let connect_timeout = positive(section, "connect_timeout", CONNECT_TIMEOUT);
    let idle_timeout = positive(section, "idle_timeout", IDLE_TIMEOUT);
    let case_insensitive = section
        .boolean("case_insensitive")
        .is_some_and(|at| at.value);
    let strip_prefix = section.boolean("strip_prefix").is_some_and(|at| at.value);
    let h2 = read_h2(section);
    let tls = read_tls(section, &upstream);
    let source_addresses = read_source_addresses(section);

    let path = path?;
    check_path(source, &path, case_insensitive, before);
    let route = RouteConfig {
        path: path.value.clone(),
        upstream,
        tls,
        strip: if strip_prefix {
            path.value.trim_end_matches('/').len()
        } else {
            0
        },
        case_insensitive,
        timeout: (timeout != Duration::ZERO).then_some(timeout),
        connect_timeout,
        idle_timeout,
        h2,
        source_addresses,
    };
    let publication = PublishedRoute {
        path: path.value.clone(),
        auth,
        methods,
        max_body,
        timeout_ms: u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX),
        case_insensitive,
    };
    Some((route, publication, path))
}

fn check_path(source: &Source, path: &At<String>, case_insensitive: bool, before: &Routes) {
    if let Err(why) = check_route_path(&path.value) {
        let hint = "write it as requests arrive after normalisation: \"/app/\", \"/a%20b/\"";
        source.error(path.line, format!("path {:?} {why}", path.value), hint);
    }
    if let Some(other) = before.same(&path.value, case_insensitive) {
        let text = format!("routes {:?} and {:?} are one", other.path, path.value);
        source.error(
            path.line,
            text,
            "one [[route]] a path; several upstreams go into its list",
        );
    }
}

fn read_auth(section: &Section<'_>, accepts: Accepts) -> Auth {
    let word = section.word("auth", &["certificate", "token", "any", "none"]);
    let line = word.as_ref().map_or(section.line(), |at| at.line);
    let auth = match word.map_or("certificate", |at| at.value) {
        "token" => Auth::Token,
        "any" => Auth::Any,
        "none" => Auth::None,
        _ => Auth::Certificate,
    };
    const CA: &str = "client_ca = [{ name = \"corp\", file = \"clients-ca.pem\" }]";
    const OPEN: &str = "or auth = \"none\" for an open route";
    let Accepts {
        certificates,
        tokens,
    } = accepts;
    let missing = match auth {
        Auth::Certificate if !certificates => (
            "client certificates, and [site] client_ca names no CA",
            format!("{CA}, {OPEN}"),
        ),
        Auth::Token if !tokens => (
            "tokens, and [site] names no issuer",
            format!("[[site.oidc]], or tokens = [\"site-tokens.jwks\"], {OPEN}"),
        ),
        Auth::Any if !certificates && !tokens => (
            "certificates or tokens, and [site] names neither a CA nor an issuer",
            format!("{CA}, [[site.oidc]], {OPEN}"),
        ),
        _ => return auth,
    };
    let (what, hint) = missing;
    section.source().error(
        line,
        format!("the route wants {what}: nobody could pass"),
        hint,
    );
    auth
}

fn read_methods(section: &Section<'_>) -> Vec<String> {
    let mut methods = Vec::new();
    for method in section.texts("methods").unwrap_or_default() {
        if !is_method(&method.value) {
            section.source().error(
                method.line,
                format!("{:?} is no HTTP method", method.value),
                "[\"GET\", \"POST\"]; empty: any",
            );
        } else if method.value.bytes().any(|b| b.is_ascii_lowercase()) {
            let hint = format!(
                "methods are case-sensitive; most likely {:?}",
                method.value.to_ascii_uppercase()
            );
            section.source().warn(
                method.line,
                format!("method {:?} has small letters", method.value),
                hint,
            );
        }
        methods.push(method.value);
    }
    methods
}

fn positive(section: &Section<'_>, key: &'static str, default: Duration) -> Duration {
    match section.duration(key) {
        Some(at) if at.value == Duration::ZERO => {
            section.source().error(
                at.line,
                format!("`{key}` is 0"),
                "this wait must have an end",
            );
            default
        }
        Some(at) => at.value,
        None => default,
    }
}

/// `tls = { ca, certificate, key }`, for the https upstreams of the route; empty texts are as absent ones.
pub fn read_tls(section: &Section<'_>, upstreams: &[Upstream]) -> UpstreamTls {
    let source = section.source();
    let tls = section.section("tls");
    let given = |key| tls.text(key).filter(|at| !at.value.is_empty());
    let [ca, certificate, key] = ["ca", "certificate", "key"].map(given);
    if !upstreams.iter().any(|upstream| upstream.https) {
        if let Some(at) = ca.or(certificate).or(key) {
            source.warn(
                at.line,
                "`tls` has no effect: no upstream of this route is https",
                "upstream = [\"https://app.corp\"], or take `tls` out",
            );
        }
        return UpstreamTls::default();
    }
    let ca = match ca {
        Some(_) => files::roots(&tls, "ca", "the CA that issues the upstream's certificate"),
        None => {
            if let Err(wrong) = system_roots() {
                source.error(section.line_of("upstream"), wrong.text, wrong.hint);
            }
            None
        }
    };
    let identity = (certificate.is_some() || key.is_some())
        .then(|| files::identity(&tls, Purpose::UpstreamClient))
        .flatten()
        .map(|(files, _)| files);
    UpstreamTls { ca, identity }
}

pub fn read_h2(section: &Section<'_>) -> H2 {
    let word = section.word("h2", &["auto", "always", "never"]);
    match word.map_or("auto", |at| at.value) {
        "always" => H2::Always,
        "never" => H2::Never,
        _ => H2::Auto,
    }
}

pub fn read_source_addresses(section: &Section<'_>) -> Vec<IpAddr> {
    let mut addresses: Vec<IpAddr> = Vec::new();
    for text in section.texts("source_addresses").unwrap_or_default() {
        match text.value.parse() {
            Ok(address) if addresses.contains(&address) => {
                section.source().error(
                    text.line,
                    format!("source address {address} stands twice"),
                    "name each address once",
                );
            }
            Ok(address) => addresses.push(address),
            Err(_) => section.source().error(
                text.line,
                format!("{:?} is no IP address", text.value),
                "addresses of this host without port: [\"10.0.0.5\"]",
            ),
        }
    }
    addresses
}

/// A list of servers; `None` when it is absent, or no list.
pub fn read_upstreams(section: &Section<'_>, key: &'static str) -> Option<Vec<Upstream>> {
    let source = section.source();
    let hint = format!("{key} = [\"http://127.0.0.1:9080\"]");
    let texts = section.texts(key)?;
    if texts.is_empty() || texts.len() > MAX_UPSTREAMS {
        let text = format!("`{key}` names {} servers", texts.len());
        source.error(
            section.line_of(key),
            text,
            format!("1 to {MAX_UPSTREAMS}: {hint}"),
        );
    }
    let mut upstreams: Vec<Upstream> = Vec::new();
    for text in texts {
        match parse_upstream(&text.value) {
            Ok(upstream) => {
                let same = |u: &Upstream| {
                    (&u.host, u.port, &u.base_path)
                        == (&upstream.host, upstream.port, &upstream.base_path)
                };
                if upstreams.iter().any(same) {
                    source.error(
                        text.line,
                        format!("{key} {:?} stands twice", text.value),
                        "name each server once",
                    );
                }
                upstreams.push(upstream);
            }
            Err(why) => {
                source.error(text.line, format!("{key} {:?} {why}", text.value), &*hint);
            }
        }
    }
    Some(upstreams)
}

/// `http://host[:port][/base]` or `https://…`.
fn parse_upstream(url: &str) -> Result<Upstream, String> {
    let (scheme, rest) = url
        .split_once("://")
        .ok_or("has no scheme (http:// or https://)")?;
    let https = match scheme.to_ascii_lowercase().as_str() {
        "http" => false,
        "https" => true,
        _ => return Err(format!("has scheme {scheme:?}; http and https are known")),
    };
    if rest.contains(['?', '#']) {
        return Err("has a query or fragment".into());
    }
    let (authority, path) = match rest.find('/') {
        Some(slash) => rest.split_at(slash),
        None => (rest, ""),
    };
    if authority.contains('@') {
        return Err("holds user information".into());
    }
    let (host, port) = split_port(authority)?;
    let port = match port {
        None => {
            if https {
                443
            } else {
                80
            }
        }
        Some(digits) => digits
            .parse()
            .ok()
            .filter(|port| *port != 0)
            .ok_or_else(|| format!("has port {digits:?}"))?,
    };
    if rustls::pki_types::ServerName::try_from(host).is_err() {
        return Err(format!("has host {host:?}, which is no host"));
    }
    let base_path = path.trim_end_matches('/');
    if !base_path.is_empty() {
        check_route_path(base_path).map_err(|why| format!("has a path that {why}"))?;
    }
    Ok(Upstream {
        https,
        host: host.to_ascii_lowercase(),
        port,
        base_path: base_path.to_string(),
    })
}

fn split_port(authority: &str) -> Result<(&str, Option<&str>), String> {
    if let Some(rest) = authority.strip_prefix('[') {
        let (host, after) = rest.split_once(']').ok_or("has an unclosed `[`")?;
        return match after.strip_prefix(':') {
            Some(port) => Ok((host, Some(port))),
            None if after.is_empty() => Ok((host, None)),
            None => Err(format!("has {after:?} behind its address")),
        };
    }
    match authority.split_once(':') {
        Some((_, port)) if port.contains(':') => Err("is an IPv6 address without brackets".into()),
        Some((host, port)) => Ok((host, Some(port))),
        None => Ok((authority, None)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn upstreams_are_read() {
        let read = |url| parse_upstream(url).map(|u| (u.host, u.port, u.base_path));
        let is = |host: &str, port, base: &str| Ok((host.to_string(), port, base.to_string()));
        assert_eq!(read("http://127.0.0.1:9080"), is("127.0.0.1", 9080, ""));
        assert_eq!(read("http://App.corp/"), is("app.corp", 80, ""));
        assert_eq!(read("HTTP://[::1]:81/base/x/"), is("::1", 81, "/base/x"));
        assert_eq!(read("https://app.corp"), is("app.corp", 443, ""));
        for wrong in [
            "",
            "app:80",
            "ftp://a",
            "http://",
            "http://a:0",
            "http://a:99999",
            "http://a:x",
            "http://u:p@a",
            "http://a?x",
            "http://a/#x",
            "http://::1",
            "http://[::1",
            "http://[::1]x",
            "http://a b",
            "http://a//b",
            "http://a/../b",
            "http://a:80:90",
            "http://-a-",
        ] {
            assert!(read(wrong).is_err(), "{wrong:?} was taken");
        }
    }
}
