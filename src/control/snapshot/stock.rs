//! What the gateway fetched for its sites: key sets and revocation lists, by where they came from.

use super::RevocationList;
use crate::control::settings::{KeySource, PublishedCrl, PublishedIssuer, SiteSettings};
use crate::control::tokens::KeySet;
use rustls::pki_types::CertificateDer;
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
    keys: HashMap<Source, Arc<KeySet>>,
    lists: HashMap<Source, Arc<RevocationList>>,
}

impl Stock {
    /// Reads what was fetched and keeps it; the error is one line, and what was known stays. A list may travel over http,
    /// so it takes the known one's place only if one of `cas` (of the sites that want it) signed it, and not by going
    /// back: an old list, played again, would forgive whom a newer one revokes.
    pub fn put(
        &mut self,
        source: &Source,
        bytes: &[u8],
        cas: &[CertificateDer<'_>],
    ) -> Result<(), String> {
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
                if !list.is_signed_by_any(cas) {
                    let issuer = &list.issuer;
                    return Err(format!("is signed by no CA of client_ca ({issuer})"));
                }
                if self
                    .lists
                    .get(source)
                    .is_some_and(|known| list.is_older_than(known) && known.is_signed_by_any(cas))
                {
                    return Err("is older than the list that came from there before".into());
                }
                self.lists.insert(source.clone(), Arc::new(list));
            }
        }
        Ok(())
    }

    /// Drops what is too old to be believed.
    pub fn expire(&mut self, source: &Source) {
        self.keys.remove(source);
        self.lists.remove(source);
    }

    /// Forgets what nobody wants any more.
    pub fn keep(&mut self, wanted: &[Source]) {
        self.keys.retain(|source, _| wanted.contains(source));
        self.lists.retain(|source, _| wanted.contains(source));
    }

    pub fn keys(&self, source: &Source) -> Option<Arc<KeySet>> {
        self.keys.get(source).cloned()
    }

    pub fn list(&self, source: &Source) -> Option<Arc<RevocationList>> {
        self.lists.get(source).cloned()
    }
}
