//! What the gateway fetched for its sites: key sets and revocation lists, by where they came from.

use super::RevocationList;
use crate::control::settings::{KeySource, PublishedCrl, PublishedIssuer, SiteSettings, sha256};
use crate::control::tokens::KeySet;
use std::collections::HashMap;
use std::sync::Arc;

/// Something to fetch. Sites that name the same address share what came from it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Source {
    /// The key set that this issuer's discovery document names.
    Discovery(String),
    KeySet(String),
    RevocationList(String),
}

impl Source {
    /// Where an issuer's keys come from; `None`: they stand in its settings.
    pub fn of_keys(issuer: &PublishedIssuer) -> Option<Self> {
        match &issuer.keys {
            KeySource::Discovery => Some(Self::Discovery(issuer.issuer.clone())),
            KeySource::Url(url) => Some(Self::KeySet(url.clone())),
            KeySource::Set(_) => None,
        }
    }

    /// All that settings want fetched.
    pub fn wanted(settings: &SiteSettings) -> impl Iterator<Item = Self> {
        let keys = settings.issuers.iter().filter_map(Self::of_keys);
        let lists = settings.crl.iter().filter_map(|list| match list {
            PublishedCrl::Url(url) => Some(Self::RevocationList(url.clone())),
            PublishedCrl::Der(_) => None,
        });
        keys.chain(lists)
    }

    pub fn address(&self) -> &str {
        match self {
            Self::Discovery(address) | Self::KeySet(address) | Self::RevocationList(address) => {
                address
            }
        }
    }

    /// The address for labels and log lines: a query may hold a secret.
    pub fn shown(&self) -> &str {
        let address = self.address();
        address.split(['?', '#']).next().unwrap_or(address)
    }

    /// For labels and log lines.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Discovery(_) | Self::KeySet(_) => "keys",
            Self::RevocationList(_) => "crl",
        }
    }
}

/// All that was fetched and is still wanted.
#[derive(Debug, Default)]
pub struct Stock {
    /// SHA-256 of what was fetched.
    hashes: HashMap<Source, [u8; 32]>,
    keys: HashMap<Source, Arc<KeySet>>,
    lists: HashMap<Source, Arc<RevocationList>>,
}

impl Stock {
    /// Reads what was fetched and keeps it. False: it is what was here already. The error is one line.
    pub fn put(&mut self, source: &Source, bytes: &[u8]) -> Result<bool, String> {
        let hash = sha256(bytes);
        if self.hashes.get(source) == Some(&hash) {
            return Ok(false);
        }
        match source {
            Source::Discovery(_) | Source::KeySet(_) => {
                let keys = KeySet::parse(bytes)?;
                if keys.is_empty() {
                    return Err("holds no key that verifies tokens (RS256, ES256, EdDSA)".into());
                }
                self.keys.insert(source.clone(), Arc::new(keys));
            }
            Source::RevocationList(_) => {
                let list = RevocationList::read(bytes)?;
                self.lists.insert(source.clone(), Arc::new(list));
            }
        }
        self.hashes.insert(source.clone(), hash);
        Ok(true)
    }

    /// Drops what is too old to be believed. False: there was nothing.
    pub fn expire(&mut self, source: &Source) -> bool {
        self.keys.remove(source);
        self.lists.remove(source);
        self.hashes.remove(source).is_some()
    }

    /// Forgets what nobody wants any more.
    pub fn keep(&mut self, wanted: impl Fn(&Source) -> bool) {
        self.hashes.retain(|source, _| wanted(source));
        self.keys.retain(|source, _| wanted(source));
        self.lists.retain(|source, _| wanted(source));
    }

    /// What a list takes, as it was fetched.
    pub fn list_bytes(&self, source: &Source) -> usize {
        self.lists.get(source).map_or(0, |list| list.der().len())
    }

    pub fn keys(&self, source: &Source) -> Option<Arc<KeySet>> {
        self.keys.get(source).cloned()
    }

    pub fn list(&self, source: &Source) -> Option<Arc<RevocationList>> {
        self.lists.get(source).cloned()
    }
}
