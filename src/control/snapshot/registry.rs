//! The control side's store of documents: takes publications, makes snapshots.

use super::state::{Document, Settings, SiteState, ids, ids_of};
use super::{HostTable, RevocationList, Snapshot, Source, Stock, Trust};
use crate::control::config::SiteConfig;
use crate::control::settings::{SiteDocument, check_name, sha256};
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

/// Ids interned for the process's life: a fence against certificates that vary their CN.
pub const MAX_CONNECTOR_IDS: usize = 65_536;
/// Bytes of the revocation lists that are fetched for one site.
pub const MAX_LISTS_OF_A_SITE: usize = 64 << 20;

/// One per gateway process, on the control thread.
#[derive(Debug)]
pub struct Registry {
    sites: Vec<SiteState>,
    hosts: Arc<HostTable>,
    ids: ConnectorIds,
    stock: Stock,
    /// Of the trust last made.
    trusts: u64,
    current: Arc<Snapshot>,
}

/// Numbers of connector ids: the same id has the same number for the process's life.
#[derive(Debug, Clone, Default)]
pub struct ConnectorIds(Arc<Mutex<HashMap<String, u32>>>);

impl ConnectorIds {
    /// `u32::MAX`, which no route ever names, once [`MAX_CONNECTOR_IDS`] are taken.
    pub fn index(&self, id: &str) -> u32 {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(index) = known.get(id) {
            return *index;
        }
        if known.len() >= MAX_CONNECTOR_IDS {
            return u32::MAX;
        }
        let index = known.len() as u32;
        known.insert(id.to_string(), index);
        index
    }
}

impl Registry {
    pub fn new(sites: &[SiteConfig]) -> Self {
        let hosts = Arc::new(HostTable::new(sites));
        let sites: Vec<_> = sites.iter().cloned().map(SiteState::new).collect();
        let built = sites.iter().map(|site| site.built.clone()).collect();
        let current = Arc::new(Snapshot {
            number: 1,
            sites: built,
            hosts: hosts.clone(),
        });
        Self {
            sites,
            hosts,
            ids: ConnectorIds::default(),
            stock: Stock::default(),
            trusts: 0,
            current,
        }
    }

    pub fn current(&self) -> Arc<Snapshot> {
        self.current.clone()
    }

    /// Numbers of connector ids, as `Route::connectors` uses them. Shards ask it when a link says HELLO: a handle of its
    /// own, so that they never wait for a document that is being judged.
    pub fn ids(&self) -> ConnectorIds {
        self.ids.clone()
    }

    /// Index of a site by its name. A place without a name, whose site a reload took away, is nobody's.
    pub fn site_index(&self, name: &str) -> Option<usize> {
        if name.is_empty() {
            return None;
        }
        self.sites.iter().position(|site| site.config.name == name)
    }

    /// Whether a connector may serve a site: HELLO and PUBLISH are refused with the reason.
    pub fn may_serve(&self, site: &str, connector: &str) -> Result<(), String> {
        check_name(connector).map_err(|why| format!("connector id {connector:?} {why}"))?;
        let index = self
            .site_index(site)
            .ok_or_else(|| format!("this gateway has no site {site:?}"))?;
        let allowed = &self.sites[index].config.connectors;
        if allowed.is_empty() || allowed.iter().any(|id| id == connector) {
            return Ok(());
        }
        Err(format!(
            "connector {connector:?} is not among the connectors of site {site:?} in gateway.toml"
        ))
    }

    /// A connector's document. Refused whole with a reason when it cannot be read, its routes are wrong or disagree
    /// with another connector's, or the site's settings have the same revision as known ones but another hash; a lower
    /// revision keeps the known settings and takes the routes. On success the new snapshot is current.
    pub fn publish(
        &mut self,
        site: &str,
        connector: &str,
        hash: [u8; 32],
        document: &[u8],
    ) -> Result<Arc<Snapshot>, String> {
        let outcome = self.take(site, connector, hash, document);
        if outcome.is_err()
            && let Some(index) = self.site_index(site)
        {
            self.sites[index].refused += 1;
        }
        outcome
    }

    /// That other settings than this connector's are in force, where that is so: it was accepted, and should know.
    pub fn overruled(&self, site: &str, connector: &str) -> Option<String> {
        let state = self.sites.get(self.site_index(site)?)?;
        let (known, own) = (state.settings.as_ref()?, state.documents.get(connector)?);
        let (known_revision, own_revision) = (known.published.revision, own.settings.revision);
        (own_revision < known_revision).then(|| {
            format!(
                "the settings are of revision {own_revision}; those of revision {known_revision} from connector {:?} stay \
                 in force",
                known.from
            )
        })
    }

    /// Documents that were refused, by site.
    pub fn refusals(&self) -> impl Iterator<Item = (&str, u64)> {
        let named = self
            .sites
            .iter()
            .filter(|site| !site.config.name.is_empty());
        named.map(|site| (site.config.name.as_str(), site.refused))
    }

    fn take(
        &mut self,
        site: &str,
        connector: &str,
        hash: [u8; 32],
        document: &[u8],
    ) -> Result<Arc<Snapshot>, String> {
        self.may_serve(site, connector)?;
        let index = self.site_index(site).ok_or("no such site")?;
        if self.known_hash(site, connector) == hash && sha256(document) == hash {
            return Ok(self.current());
        }
        if sha256(document) != hash {
            return Err("the document's bytes and its hash do not belong together".into());
        }
        let SiteDocument {
            site: settings,
            routes,
        } = SiteDocument::decode(document)?;
        let settings = Arc::new(settings);
        let state = &self.sites[index];
        let newer = state.judge_settings(&settings, connector)?;
        state.judge_routes(&routes, connector)?;
        let lists = Trust::read_lists(&settings)?;
        // Made once here, so that wrong settings are refused before anything of them is taken.
        if newer {
            Trust::new(&settings, &lists, &self.stock)?;
        }

        let connector_index = self.ids.index(connector);
        if connector_index == u32::MAX {
            return Err(format!(
                "more than {MAX_CONNECTOR_IDS} connector ids were seen"
            ));
        }
        let state = &mut self.sites[index];
        let known = state.documents.get(connector);
        let same_lists = known.map_or(lists.is_empty(), |known| ids(&known.lists) == ids(&lists));
        state.documents.insert(
            connector.to_string(),
            Document {
                hash,
                connector: connector_index,
                routes,
                settings: settings.clone(),
                lists,
            },
        );
        if newer {
            let before = state.settings.take().map(|settings| settings.trust);
            state.settings = Some(Settings::new(settings, connector, before));
        }
        if newer || !same_lists {
            self.renew_trust(index)?;
        }
        self.sites[index].rebuild();
        Ok(self.advance())
    }

    /// What was fetched; the snapshot with it, where a site uses it and it is news. The error is one line: what is known
    /// stays.
    pub fn fetched(
        &mut self,
        source: &Source,
        bytes: &[u8],
    ) -> Result<Option<Arc<Snapshot>>, String> {
        if let Source::RevocationList(_) = source {
            self.check_list(source, bytes)?;
        }
        if !self.stock.put(source, bytes)? {
            return Ok(None);
        }
        Ok(self.renew_users(source))
    }

    /// A list that no CA of the sites that name it has signed takes nobody's place, and no room; nor does one that is
    /// too much for a site.
    fn check_list(&self, source: &Source, bytes: &[u8]) -> Result<(), String> {
        let list = RevocationList::read(bytes)?;
        let known = self.stock.list(source);
        let named = |site: &&SiteState| site.wants(source);
        let mut signed = false;
        for settings in self
            .sites
            .iter()
            .filter(named)
            .filter_map(|site| site.settings.as_ref())
        {
            let trust = &settings.trust;
            signed |= trust.has_signed(&list);
            if known
                .as_ref()
                .is_some_and(|known| list.is_older_than(known) && trust.has_signed(known))
            {
                return Err("is older than the list that came from there before".into());
            }
            let others = Source::wanted(&settings.published).filter(|other| other != source);
            let held: usize = others.map(|other| self.stock.list_bytes(&other)).sum();
            if held + bytes.len() > MAX_LISTS_OF_A_SITE {
                return Err(format!(
                    "a site's revocation lists have over {} MiB",
                    MAX_LISTS_OF_A_SITE >> 20
                ));
            }
        }
        if signed {
            Ok(())
        } else {
            Err(format!("is signed by no CA of client_ca ({})", list.issuer))
        }
    }

    /// What was fetched once and could not be fetched again for too long is believed no more.
    pub fn expired(&mut self, source: &Source) -> Option<Arc<Snapshot>> {
        if self.stock.expire(source) {
            self.renew_users(source)
        } else {
            None
        }
    }

    /// All that the sites' settings want fetched, each once, with the first site that wants it.
    pub fn wanted(&mut self) -> Vec<(Source, usize)> {
        let mut wanted = BTreeMap::new();
        for (index, site) in self.sites.iter().enumerate() {
            let sources = site
                .settings
                .iter()
                .flat_map(|settings| Source::wanted(&settings.published));
            sources.for_each(|source| {
                wanted.entry(source).or_insert(index);
            });
        }
        self.stock.keep(|source| wanted.contains_key(source));
        wanted.into_iter().collect()
    }

    fn renew_users(&mut self, source: &Source) -> Option<Arc<Snapshot>> {
        let users: Vec<usize> = (0..self.sites.len())
            .filter(|at| self.sites[*at].wants(source))
            .collect();
        for at in &users {
            if let Err(why) = self.renew_trust(*at) {
                tracing::error!(
                    site = self.sites[*at].config.name,
                    why,
                    "the site's trust cannot be renewed"
                );
            }
            self.sites[*at].rebuild();
        }
        (!users.is_empty()).then(|| self.advance())
    }

    /// Makes a site's trust anew from its settings, all documents' lists, what was fetched, and the lists in force: an
    /// older list, replayed by whoever stands between, takes nobody's place.
    fn renew_trust(&mut self, index: usize) -> Result<(), String> {
        let state = &mut self.sites[index];
        let Some(settings) = state.settings.as_mut() else {
            return Ok(());
        };
        // Settings that name no lists any more end them.
        let in_force = match settings.published.crl.is_empty() {
            true => &[],
            false => settings.trust.revocation_lists(),
        };
        let lists: Vec<_> = state
            .documents
            .values()
            .flat_map(|document| document.lists.iter())
            .chain(in_force)
            .cloned()
            .collect();
        let mut trust = Trust::new(&settings.published, &lists, &self.stock)?;
        self.trusts += 1;
        trust.number = self.trusts;
        settings.trust = Arc::new(trust);
        Ok(())
    }

    /// These sites by the indices that they have, or will have, here: known ones keep theirs, new ones follow, and one
    /// that is gone leaves a nameless place that no host leads to.
    pub fn numbered(&self, sites: &[SiteConfig]) -> Vec<SiteConfig> {
        let gone = || SiteConfig {
            name: String::new(),
            hosts: Vec::new(),
            connectors: Vec::new(),
        };
        let find = |name: &str| sites.iter().find(|site| site.name == name).cloned();
        let mut numbered: Vec<_> = self
            .sites
            .iter()
            .map(|known| find(&known.config.name).unwrap_or_else(gone))
            .collect();
        let known = |site: &&SiteConfig| {
            self.sites
                .iter()
                .any(|known| known.config.name == site.name)
        };
        numbered.extend(sites.iter().filter(|site| !known(site)).cloned());
        numbered
    }

    /// Takes the sites of a reloaded config, as [`numbered`](Self::numbered) gave them. Settings and documents stay,
    /// those of connectors that may serve no longer excepted.
    pub fn reconfigure(&mut self, sites: Vec<SiteConfig>) -> Arc<Snapshot> {
        self.hosts = Arc::new(HostTable::new(&sites));
        for (index, config) in sites.into_iter().enumerate() {
            let Some(state) = self.sites.get_mut(index) else {
                self.sites.push(SiteState::new(config));
                continue;
            };
            let serves = |id: &String| {
                !config.name.is_empty()
                    && (config.connectors.is_empty() || config.connectors.contains(id))
            };
            let before = (ids_of(&state.documents), state.settings.is_some());
            state.documents.retain(|id, _| serves(id));
            // Settings go with the connector that brought them.
            let gone = state
                .settings
                .as_ref()
                .is_some_and(|settings| !serves(&settings.from));
            if gone {
                let before = state.settings.take().map(|settings| settings.trust);
                state.settings = state.best_settings(before);
            }
            state.config = config;
            if gone || before != (ids_of(&state.documents), state.settings.is_some()) {
                // Settings that were taken once are good.
                let _ = self.renew_trust(index);
            }
            self.sites[index].rebuild();
        }
        self.advance()
    }

    /// Hash of the document last accepted from this connector; zeros when there is none.
    pub fn known_hash(&self, site: &str, connector: &str) -> [u8; 32] {
        let state = self
            .site_index(site)
            .and_then(|index| self.sites.get(index));
        state
            .and_then(|state| state.documents.get(connector))
            .map_or([0; 32], |document| document.hash)
    }

    /// Index of the site for an SNI/Host pair (both lower-cased, port removed).
    pub fn site_for(&self, host: &str) -> Option<usize> {
        self.hosts.find(host)
    }

    fn advance(&mut self) -> Arc<Snapshot> {
        let sites = self.sites.iter().map(|site| site.built.clone()).collect();
        let number = self.current.number + 1;
        self.current = Arc::new(Snapshot {
            number,
            sites,
            hosts: self.hosts.clone(),
        });
        self.current()
    }
}
