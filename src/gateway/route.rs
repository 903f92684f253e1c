//! Stage `route`: which site, which published route, and what may pass. Default deny.

use crate::control::snapshot::{Route, Snapshot};
use crate::wire::http1::Framing;
use std::io::Write;
use std::net::Ipv6Addr;

use super::fault::Fault;

/// A host name is at most this long (RFC 1035 §2.3.4); a longer one belongs to no site.
const HOST_MAX: usize = 255;

/// The site of a host name in any case, or of an IPv6 address in any spelling.
fn site_of(snapshot: &Snapshot, host: &[u8]) -> Option<usize> {
    let mut canonical = [0; HOST_MAX];
    let canonical = match ipv6_of(host) {
        Some(address) => {
            let mut rest = &mut canonical[..];
            write!(rest, "[{address}]").ok()?;
            let length = HOST_MAX - rest.len();
            &canonical[..length]
        }
        None => {
            let lower = canonical.get_mut(..host.len())?;
            lower.copy_from_slice(host);
            lower.make_ascii_lowercase();
            lower
        }
    };
    snapshot.site_for(std::str::from_utf8(canonical).ok()?)
}

/// The address inside a Host's brackets.
fn ipv6_of(host: &[u8]) -> Option<Ipv6Addr> {
    let bare = host.strip_prefix(b"[")?.strip_suffix(b"]")?;
    std::str::from_utf8(bare).ok()?.parse().ok()
}

/// The site of a request: SNI picks it, and Host must agree (DESIGN §8). Without SNI, Host picks it.
pub fn site(snapshot: &Snapshot, sni: Option<&str>, host: &[u8]) -> Result<u32, Fault> {
    let by_host = site_of(snapshot, without_port(host)).ok_or(Fault::Misdirected)?;
    match sni {
        Some(sni) if site_of(snapshot, sni.as_bytes()) != Some(by_host) => Err(Fault::Misdirected),
        _ => Ok(by_host as u32),
    }
}

/// Removes `:port`; keeps an IPv6 literal's brackets.
fn without_port(host: &[u8]) -> &[u8] {
    match memchr::memrchr(b':', host) {
        Some(colon)
            if host[colon + 1..].iter().all(u8::is_ascii_digit)
                && !host[..colon].ends_with(b":") =>
        {
            // `[::1]` has colons of its own: only one behind the bracket is a port's.
            if host.first() == Some(&b'[') && !host[..colon].ends_with(b"]") {
                host
            } else {
                &host[..colon]
            }
        }
        _ => host,
    }
}

/// The route of a normalised path and its index, or what is wrong with the request.
pub fn admit<'s>(
    snapshot: &'s Snapshot,
    site: u32,
    path: &[u8],
    method: &[u8],
    framing: Framing,
) -> Result<(u32, &'s Route), Fault> {
    let site = &snapshot.sites[site as usize];
    if !site.published {
        return Err(Fault::NoConnector);
    }
    let (index, route) = site.routes.find(path).ok_or(Fault::NotPublished)?;
    if !route.allows_method(method) {
        return Err(Fault::MethodNotAllowed);
    }
    if matches!(framing, Framing::Length(n) if n > route.max_body) {
        return Err(Fault::BodyTooLarge);
    }
    Ok((index, route))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::config::SiteConfig;
    use crate::control::snapshot::Registry;
    use std::sync::Arc;

    fn snapshot(sites: &[(&str, &[&str])]) -> Arc<Snapshot> {
        let sites: Vec<_> = sites
            .iter()
            .map(|(name, hosts)| SiteConfig {
                name: (*name).into(),
                hosts: hosts.iter().map(|h| (*h).to_owned()).collect(),
                connectors: vec![],
            })
            .collect();
        Registry::new(&sites).current()
    }

    #[test]
    fn sni_and_host_agree_or_the_request_is_misdirected() {
        let sites = snapshot(&[("a", &["a.example"]), ("b", &["*.b.example"])]);
        assert_eq!(site(&sites, Some("a.example"), b"A.example:8443"), Ok(0));
        assert_eq!(site(&sites, None, b"x.b.example"), Ok(1));
        assert_eq!(
            site(&sites, Some("a.example"), b"x.b.example"),
            Err(Fault::Misdirected)
        );
        assert_eq!(
            site(&sites, Some("c.example"), b"c.example"),
            Err(Fault::Misdirected)
        );
        assert_eq!(
            site(&sites, None, b"b.example"),
            Err(Fault::Misdirected),
            "the suffix needs a label before it"
        );
        assert_eq!(site(&sites, None, &[b'a'; 300]), Err(Fault::Misdirected));
    }

    #[test]
    fn any_host_takes_what_no_other_site_names() {
        let sites = snapshot(&[("a", &["a.example"]), ("rest", &["*"])]);
        assert_eq!(site(&sites, Some("a.example"), b"a.example"), Ok(0));
        assert_eq!(site(&sites, None, b"127.0.0.1:8443"), Ok(1));
        assert_eq!(site(&sites, None, b""), Ok(1));
    }

    #[test]
    fn an_ipv6_host_is_one_in_every_spelling() {
        let sites = snapshot(&[("six", &["[2001:db8::1]"]), ("rest", &["gw.example"])]);
        for host in [
            "[2001:db8::1]",
            "[2001:DB8:0:0::1]:8443",
            "[2001:0db8::0001]:1",
        ] {
            assert_eq!(site(&sites, None, host.as_bytes()), Ok(0), "{host}");
        }
        let other = site(&sites, None, b"[2001:db8::2]");
        assert_eq!(other, Err(Fault::Misdirected));
    }

    #[test]
    fn an_unpublished_site_has_no_connector() {
        let sites = snapshot(&[("a", &["*"])]);
        let refused = admit(&sites, 0, b"/x", b"GET", Framing::None).err();
        assert_eq!(refused, Some(Fault::NoConnector));
    }

    #[test]
    fn port_is_removed_and_brackets_stay() {
        assert_eq!(without_port(b"a:1"), b"a");
        assert_eq!(without_port(b"a"), b"a");
        assert_eq!(without_port(b"[::1]:443"), b"[::1]");
        assert_eq!(without_port(b"[::1]"), b"[::1]");
    }
}
