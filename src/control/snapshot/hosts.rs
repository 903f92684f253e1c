//! Which site a host name belongs to.

use crate::control::config::SiteConfig;
use std::collections::HashMap;

/// Host names to sites, fixed for the life of a config.
#[derive(Debug, Default)]
pub struct HostTable {
    exact: HashMap<Box<str>, usize>,
    /// Under `example.com` for `*.example.com`.
    wildcard: HashMap<Box<str>, usize>,
    any: Option<usize>,
}

impl HostTable {
    pub fn new(sites: &[SiteConfig]) -> Self {
        let mut table = Self::default();
        for (index, site) in sites.iter().enumerate() {
            for host in &site.hosts {
                let host = host.to_ascii_lowercase();
                if host == "*" {
                    table.any.get_or_insert(index);
                } else if let Some(parent) = host.strip_prefix("*.") {
                    table.wildcard.entry(parent.into()).or_insert(index);
                } else {
                    table.exact.entry(host.into()).or_insert(index);
                }
            }
        }
        table
    }

    /// Exact names first, then `*.parent` (one label), then `*`. A trailing dot is ignored.
    pub fn find(&self, host: &str) -> Option<usize> {
        let host = host.strip_suffix('.').unwrap_or(host);
        let parent = || {
            host.split_once('.')
                .and_then(|(_, parent)| self.wildcard.get(parent))
        };
        self.exact.get(host).or_else(parent).copied().or(self.any)
    }
}
