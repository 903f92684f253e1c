//! Stage `route`: which site, which published route, and what may pass. Default deny.

use crate::control::config::SiteConfig;
use crate::control::snapshot::{Route, Snapshot};
use crate::wire::http1::Framing;

use super::fault::Fault;

/// Host names to sites, from gateway.toml.
pub struct SiteMap {
    exact: Vec<(String, u32)>,
    /// `.example.com` for `*.example.com`.
    suffix: Vec<(String, u32)>,
    any: Option<u32>,
}

impl SiteMap {
    pub fn new(sites: &[SiteConfig]) -> SiteMap {
        let mut map = SiteMap { exact: Vec::new(), suffix: Vec::new(), any: None };
        for (index, site) in sites.iter().enumerate() {
            for host in &site.hosts {
                let index = index as u32;
                match host.strip_prefix('*') {
                    Some("") => map.any = map.any.or(Some(index)),
                    Some(suffix) => map.suffix.push((suffix.to_ascii_lowercase(), index)),
                    None => map.exact.push((host.to_ascii_lowercase(), index)),
                }
            }
        }
        map
    }

    /// The site of a host name (any case, without port).
    pub fn find(&self, host: &[u8]) -> Option<u32> {
        let exact = self.exact.iter().find(|(name, _)| name.as_bytes().eq_ignore_ascii_case(host));
        let suffix = || {
            self.suffix.iter().find(|(name, _)| {
                host.len() > name.len()
                    && host[host.len() - name.len()..].eq_ignore_ascii_case(name.as_bytes())
            })
        };
        exact.or_else(suffix).map(|(_, index)| *index).or(self.any)
    }

    /// The site of a request: SNI picks it, and Host must agree (DESIGN §8). Without SNI, Host picks it.
    pub fn of_request(&self, sni: Option<&str>, host: &[u8]) -> Result<u32, Fault> {
        let by_host = self.find(without_port(host));
        match sni {
            None => by_host.ok_or(Fault::Misdirected),
            Some(sni) => match (self.find(sni.as_bytes()), by_host) {
                (Some(a), Some(b)) if a == b => Ok(a),
                _ => Err(Fault::Misdirected),
            },
        }
    }
}

/// Removes `:port`; keeps an IPv6 literal's brackets.
fn without_port(host: &[u8]) -> &[u8] {
    match memchr::memrchr(b':', host) {
        Some(colon) if host[colon + 1..].iter().all(u8::is_ascii_digit) && !host[..colon].ends_with(b":") => {
            // `[::1]` has colons of its own: only one behind the bracket is a port's.
            if host.first() == Some(&b'[') && !host[..colon].ends_with(b"]") { host } else { &host[..colon] }
        }
        _ => host,
    }
}

/// The route of a normalised path, with what the request may not be.
pub fn admit<'s>(
    snapshot: &'s Snapshot,
    site: u32,
    path: &[u8],
    method: &[u8],
    framing: Framing,
) -> Result<&'s Route, Fault> {
    let site = &snapshot.sites[site as usize];
    if !site.published {
        return Err(Fault::NoConnector);
    }
    let (_, route) = site.routes.find(path).ok_or(Fault::NotPublished)?;
    if !route.methods.is_empty() && !route.methods.iter().any(|m| m.as_bytes() == method) {
        return Err(Fault::MethodNotAllowed);
    }
    if matches!(framing, Framing::Length(n) if n > route.max_body) {
        return Err(Fault::BodyTooLarge);
    }
    Ok(route)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn site(name: &str, hosts: &[&str]) -> SiteConfig {
        SiteConfig { name: name.into(), hosts: hosts.iter().map(|h| h.to_string()).collect(), connectors: vec![] }
    }

    #[test]
    fn sni_and_host_agree_or_the_request_is_misdirected() {
        let map = SiteMap::new(&[site("a", &["a.example"]), site("b", &["*.b.example"])]);
        assert_eq!(map.of_request(Some("a.example"), b"A.example:8443"), Ok(0));
        assert_eq!(map.of_request(None, b"x.b.example"), Ok(1));
        assert_eq!(map.of_request(Some("a.example"), b"x.b.example"), Err(Fault::Misdirected));
        assert_eq!(map.of_request(Some("c.example"), b"c.example"), Err(Fault::Misdirected));
        assert_eq!(map.of_request(None, b"b.example"), Err(Fault::Misdirected), "the suffix needs a label before it");
    }

    #[test]
    fn any_host_takes_what_no_other_site_names() {
        let map = SiteMap::new(&[site("a", &["a.example"]), site("rest", &["*"])]);
        assert_eq!(map.of_request(Some("a.example"), b"a.example"), Ok(0));
        assert_eq!(map.of_request(None, b"127.0.0.1:8443"), Ok(1));
        assert_eq!(map.of_request(None, b""), Ok(1));
    }

    #[test]
    fn port_is_removed_and_brackets_stay() {
        assert_eq!(without_port(b"a:1"), b"a");
        assert_eq!(without_port(b"a"), b"a");
        assert_eq!(without_port(b"[::1]:443"), b"[::1]");
        assert_eq!(without_port(b"[::1]"), b"[::1]");
    }
}
