//! Where fetches may go. Addresses come from connectors: a gateway must not be sent to what answers its own host only.
//!
//! Link-local addresses, and the few others under which clouds hand out a machine's credentials, are never asked,
//! whatever name leads there; `[fetch] hosts` narrows it down to what an operator lists. Private networks stay
//! reachable, since issuers and lists of a company often live there.

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Metadata services that are not link-local: Azure's host, Alibaba's, and EC2's over IPv6.
const METADATA: [IpAddr; 3] = [
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
];

/// Whether an address may be asked: by its host's name, or by the address itself where it is one.
pub fn check(url: &str, hosts: &[String]) -> Result<(), String> {
    let url = reqwest::Url::parse(url).map_err(|error| error.to_string())?;
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    if let Ok(ip) = host.parse()
        && is_forbidden(ip)
    {
        return Err(format!(
            "{ip} may not be asked (a link-local or metadata address)"
        ));
    }
    let listed = |listed: &String| match listed.strip_prefix("*.") {
        Some(domain) => {
            host.len() > domain.len() && host.to_ascii_lowercase().ends_with(&format!(".{domain}"))
        }
        None => host.eq_ignore_ascii_case(listed),
    };
    if hosts.is_empty() || hosts.iter().any(listed) {
        Ok(())
    } else {
        Err(format!(
            "host {host:?} is not among [fetch] hosts in gateway.toml"
        ))
    }
}

fn is_forbidden(ip: IpAddr) -> bool {
    let ip = ip.to_canonical();
    let link_local = match ip {
        IpAddr::V4(v4) => v4.is_link_local() || v4.is_unspecified(),
        IpAddr::V6(v6) => v6.is_unicast_link_local() || v6.is_unspecified(),
    };
    link_local || METADATA.contains(&ip)
}

/// The system's resolver, without the addresses that may not be asked.
#[derive(Clone, Copy)]
pub struct Public;

impl Resolve for Public {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let good: Vec<SocketAddr> = found
                .filter(|address| !is_forbidden(address.ip()))
                .collect();
            if good.is_empty() {
                return Err(format!("{} has no address that may be asked", name.as_str()).into());
            }
            let addresses: Addrs = Box::new(good.into_iter());
            Ok(addresses)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_answers_only_this_host_is_not_asked() {
        let none: &[String] = &[];
        for good in [
            "http://127.0.0.1:80/",
            "https://10.1.2.3/",
            "https://login.example/",
            "http://[::1]/",
        ] {
            assert_eq!(check(good, none), Ok(()), "{good}");
        }
        for bad in [
            "http://169.254.169.254/latest/meta-data/",
            "http://[::ffff:169.254.169.254]/",
            "http://[fe80::1]/",
            "http://[fd00:ec2::254]/",
            "http://168.63.129.16/",
            "http://0.0.0.0:9441/",
            "http://[::]/",
            "http://0xa9fea9fe/",
            "http://2852039166/",
        ] {
            assert!(check(bad, none).is_err(), "{bad}");
        }
    }

    #[test]
    fn listed_hosts_only() {
        let hosts = ["login.example".to_owned(), "*.corp.example".to_owned()];
        for good in [
            "https://login.example/",
            "https://LOGIN.example:81/",
            "https://crl.corp.example/x",
        ] {
            assert_eq!(check(good, &hosts), Ok(()), "{good}");
        }
        for bad in [
            "https://x.login.example/",
            "https://corp.example/",
            "https://evilcorp.example/",
            "http://127.0.0.1/",
        ] {
            assert!(check(bad, &hosts).is_err(), "{bad}");
        }
    }
}
