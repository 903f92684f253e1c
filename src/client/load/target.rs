//! Where requests go: an origin and a path.

use rustls::pki_types::ServerName;
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::time::Duration;

/// How long each of several addresses is tried before the run.
const LOOK: Duration = Duration::from_secs(2);

/// Where requests go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    pub https: bool,
    pub host: String,
    pub port: u16,
    /// Path and query.
    pub path: String,
}

impl Target {
    /// Reads `http(s)://host[:port][/path]`.
    pub fn new(url: &str) -> Result<Target, String> {
        let (scheme, rest) = url
            .split_once("://")
            .ok_or_else(|| format!("`{url}` is not an http(s):// URL"))?;
        let https = match scheme {
            "https" => true,
            "http" => false,
            other => return Err(format!("`{other}` is neither http nor https")),
        };
        let (authority, path) = match rest.find('/') {
            Some(slash) => rest.split_at(slash),
            None => (rest, "/"),
        };
        let default = if https { 443 } else { 80 };
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => (
                host,
                port.parse()
                    .map_err(|_| format!("`{port}` is not a port"))?,
            ),
            _ => (authority, default),
        };
        if host.is_empty() {
            return Err(format!("`{url}` names no host"));
        }
        Ok(Target {
            https,
            host: host.to_owned(),
            port,
            path: path.to_owned(),
        })
    }

    /// The first address of its name that takes a connection; of one address, that.
    pub(in crate::client) fn address(&self) -> Result<SocketAddr, String> {
        let found = (self.bare_host(), self.port).to_socket_addrs();
        let all: Vec<_> = found.map_err(|e| format!("{}: {e}", self.host))?.collect();
        let first = all.first().copied();
        let open = |address: &SocketAddr| TcpStream::connect_timeout(address, LOOK).is_ok();
        let found = match all.len() {
            0 | 1 => first,
            _ => all.into_iter().find(open).or(first),
        };
        found.ok_or_else(|| format!("{} has no address", self.host))
    }

    /// `https://host:port`
    pub fn origin(&self) -> String {
        let scheme = if self.https { "https" } else { "http" };
        format!("{scheme}://{}:{}", self.host, self.port)
    }

    fn bare_host(&self) -> &str {
        self.host.trim_start_matches('[').trim_end_matches(']')
    }
}

pub(in crate::client) fn server_name(target: &Target) -> Result<ServerName<'static>, String> {
    ServerName::try_from(target.bare_host().to_owned())
        .map_err(|_| format!("`{}` is not a host name", target.host))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_read() {
        let target = Target::new("https://localhost:8443/mp/a?b=c").unwrap();
        assert_eq!(
            (target.https, target.host.as_str(), target.port),
            (true, "localhost", 8443)
        );
        assert_eq!(target.path, "/mp/a?b=c");
        let target = Target::new("http://[::1]").unwrap();
        assert_eq!(
            (target.host.as_str(), target.port, target.path.as_str()),
            ("[::1]", 80, "/")
        );
        assert!(Target::new("ftp://a").is_err());
        assert!(Target::new("localhost:1").is_err());
        assert!(Target::new("https://a:b/").is_err());
    }
}
