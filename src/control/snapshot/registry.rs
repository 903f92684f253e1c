//! The control side's store of documents: takes publications, makes snapshots.

use super::{RevocationList, Route, RouteTable, Site, Snapshot, Source, Stock, Trust};
use crate::control::certificates::pem;
use crate::control::config::SiteConfig;
use crate::control::settings::{PublishedRoute, SiteDocument, SiteSettings, check_name, sha256};
use rustls::pki_types::CertificateDer;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// Connectors of one site with a document.
pub const MAX_CONNECTORS_OF_A_SITE: usize = 256;
/// Ids interned for the process's life: a fence against certificates that vary their CN.
pub const MAX_CONNECTOR_IDS: usize = 65_536;
/// Routes of one site, all connectors together.
pub const MAX_ROUTES_OF_A_SITE: usize = 8192;

/// Host names to sites, fixed for the life of a config.
#[derive(Debug, Default)]
pub struct HostTable {
    exact: HashMap<Box<str>, usize>,
    /// Under `example.com` for `*.example.com`.
    wildcard: HashMap<Box<str>, usize>,
    any: Option<usize>,
}

impl HostTable {
    fn new(sites: &[SiteConfig]) -> Self {
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

/// One per gateway process, on the control thread.
#[derive(Debug)]
pub struct Registry {
    sites: Vec<SiteState>,
    hosts: Arc<HostTable>,
    indices: HashMap<String, u32>,
    stock: Stock,
    /// Of the trust last made.
    trusts: u64,
    current: Arc<Snapshot>,
}

#[derive(Debug)]
struct SiteState {
    config: SiteConfig,
    settings: Option<Settings>,
    /// By connector id; sorted, so that a snapshot does not depend on the order of arrival.
    documents: BTreeMap<String, Document>,
    built: Arc<Site>,
}

/// The settings in force.
#[derive(Debug)]
struct Settings {
    published: SiteSettings,
    hash: [u8; 32],
    /// Who brought them, for alarms.
    from: String,
    trust: Arc<Trust>,
}

#[derive(Debug, Clone)]
struct Document {
    hash: [u8; 32],
    connector: u32,
    routes: Vec<PublishedRoute>,
    /// Revocation lists that stand in it.
    lists: Vec<Arc<RevocationList>>,
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
            indices: HashMap::new(),
            stock: Stock::default(),
            trusts: 0,
            current,
        }
    }

    pub fn current(&self) -> Arc<Snapshot> {
        self.current.clone()
    }

    /// Interns a connector id: the index used in `Route::connectors`. The same id gives the same index for the
    /// process's life. `u32::MAX`, which no route ever names, once [`MAX_CONNECTOR_IDS`] are taken.
    pub fn connector_index(&mut self, id: &str) -> u32 {
        if let Some(index) = self.indices.get(id) {
            return *index;
        }
        if self.indices.len() >= MAX_CONNECTOR_IDS {
            return u32::MAX;
        }
        let index = self.indices.len() as u32;
        self.indices.insert(id.to_string(), index);
        index
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
        let state = &self.sites[index];
        let newer = state.judge_settings(&settings, connector)?;
        state.judge_routes(&routes, connector)?;
        let lists = Trust::read_lists(&settings)?;
        // Made once here, so that wrong settings are refused before anything of them is taken.
        if newer {
            Trust::new(&settings, &lists, &self.stock)?;
        }

        let connector_index = self.connector_index(connector);
        if connector_index == u32::MAX {
            return Err(format!(
                "more than {MAX_CONNECTOR_IDS} connector ids were seen"
            ));
        }
        let state = &mut self.sites[index];
        let same_lists = state
            .documents
            .get(connector)
            .is_some_and(|known| ids(&known.lists) == ids(&lists));
        state.documents.insert(
            connector.to_string(),
            Document {
                hash,
                connector: connector_index,
                routes,
                lists,
            },
        );
        if newer {
            state.settings = Some(Settings {
                hash: settings.meaning_hash(),
                from: connector.to_string(),
                published: settings,
                trust: Arc::default(),
            });
        }
        if newer || !same_lists {
            self.renew_trust(index)?;
        }
        self.sites[index].rebuild();
        Ok(self.advance())
    }

    /// What was fetched; the snapshot with it, where a site uses it. The error is one line: what is known stays.
    pub fn fetched(
        &mut self,
        source: &Source,
        bytes: &[u8],
    ) -> Result<Option<Arc<Snapshot>>, String> {
        let cas = self.users(source).flat_map(|(_, site)| site.cas());
        let cas: Vec<_> = cas.collect();
        self.stock.put(source, bytes, &cas)?;
        Ok(self.renew_users(source))
    }

    /// What was fetched once and could not be fetched again for too long is believed no more.
    pub fn expired(&mut self, source: &Source) -> Option<Arc<Snapshot>> {
        self.stock.expire(source);
        self.renew_users(source)
    }

    /// All that the sites' settings want fetched, sorted, each once.
    pub fn wanted(&mut self) -> Vec<Source> {
        let settings = self.sites.iter().filter_map(|site| site.settings.as_ref());
        let mut wanted: Vec<_> = settings
            .flat_map(|settings| Source::wanted(&settings.published))
            .collect();
        wanted.sort();
        wanted.dedup();
        self.stock.keep(&wanted);
        wanted
    }

    /// The sites whose settings want it, with their indices.
    fn users(&self, source: &Source) -> impl Iterator<Item = (usize, &SiteState)> {
        self.sites.iter().enumerate().filter(move |(_, site)| {
            let settings = site.settings.as_ref();
            settings.is_some_and(|settings| {
                Source::wanted(&settings.published).any(|wanted| wanted == *source)
            })
        })
    }

    fn renew_users(&mut self, source: &Source) -> Option<Arc<Snapshot>> {
        let users: Vec<usize> = self.users(source).map(|(at, _)| at).collect();
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

    /// Makes a site's trust anew from its settings, all documents' lists, and what was fetched.
    fn renew_trust(&mut self, index: usize) -> Result<(), String> {
        let state = &mut self.sites[index];
        let Some(settings) = state.settings.as_mut() else {
            return Ok(());
        };
        let lists: Vec<_> = state
            .documents
            .values()
            .flat_map(|document| document.lists.iter().cloned())
            .collect();
        let mut trust = Trust::new(&settings.published, &lists, &self.stock)?;
        self.trusts += 1;
        trust.number = self.trusts;
        settings.trust = Arc::new(trust);
        Ok(())
    }

    /// A connector left for good (taken out of the config, or revoked): its routes go, the site's settings stay. A
    /// connector that merely lost its links is not forgotten: its routes answer `no_connector`, not `not_published`.
    /// The new snapshot, or `None` when nothing was known.
    pub fn forget(&mut self, site: &str, connector: &str) -> Option<Arc<Snapshot>> {
        let index = self.site_index(site)?;
        let state = self.sites.get_mut(index)?;
        let gone = state.documents.remove(connector)?;
        if !gone.lists.is_empty() {
            // Settings that were taken once are good: only lists go.
            let _ = self.renew_trust(index);
        }
        self.sites[index].rebuild();
        Some(self.advance())
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
            state.documents.retain(|id, _| serves(id));
            if config.name.is_empty() {
                state.settings = None;
            }
            state.config = config;
            // Settings that were taken once are good.
            let _ = self.renew_trust(index);
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

impl SiteState {
    /// The CAs that the settings publish. These were read before.
    fn cas(&self) -> Vec<CertificateDer<'static>> {
        let settings = self.settings.iter();
        let cas = settings.flat_map(|settings| &settings.published.client_ca);
        cas.filter_map(|ca| pem::certificates_in(&ca.pem).ok())
            .flatten()
            .collect()
    }

    fn new(config: SiteConfig) -> Self {
        Self {
            built: Arc::new(Site {
                name: config.name.clone(),
                published: false,
                revision: 0,
                routes: RouteTable::default(),
                trust: Arc::default(),
            }),
            config,
            settings: None,
            documents: BTreeMap::new(),
        }
    }

    /// Whether these settings take the place of those in force.
    fn judge_settings(&self, new: &SiteSettings, from: &str) -> Result<bool, String> {
        let Some(known) = &self.settings else {
            return Ok(true);
        };
        if new.revision != known.published.revision {
            return Ok(new.revision > known.published.revision);
        }
        if new.meaning_hash() == known.hash {
            return Ok(false);
        }
        Err(format!(
            "ALARM: site {:?}: settings of revision {} from connector {from:?} differ from those of the same revision \
             from connector {:?}; make the [site] tables the same on every connector and raise `revision`",
            self.config.name, new.revision, known.from
        ))
    }

    /// Routes of one document must be single, and agree with the same routes of other connectors.
    fn judge_routes(&self, routes: &[PublishedRoute], connector: &str) -> Result<(), String> {
        if !self.documents.contains_key(connector)
            && self.documents.len() >= MAX_CONNECTORS_OF_A_SITE
        {
            return Err(format!(
                "the site has {MAX_CONNECTORS_OF_A_SITE} connectors already"
            ));
        }
        let mut seen = RoutesByPath::default();
        for route in routes {
            if let Some(other) = seen.clash(route).or(seen.same(route)) {
                return Err(format!(
                    "routes {:?} and {:?} are one",
                    other.path, route.path
                ));
            }
            seen.add(route);
        }
        let others = self.documents.iter().filter(|(id, _)| *id != connector);
        let mut all = RoutesByPath::default();
        for (id, document) in others {
            for route in &document.routes {
                if seen.clash(route).is_some()
                    || seen.same(route).is_some_and(|mine| !mine.agrees(route))
                {
                    return Err(format!(
                        "route {:?} is published by connector {id:?} with other auth, methods, limits or letter case; \
                         make them the same on both",
                        route.path
                    ));
                }
                all.add(route);
            }
        }
        routes.iter().for_each(|route| all.add(route));
        if all.len() > MAX_ROUTES_OF_A_SITE {
            return Err(format!(
                "the site would have over {MAX_ROUTES_OF_A_SITE} routes"
            ));
        }
        Ok(())
    }

    fn rebuild(&mut self) {
        let mut routes: Vec<Route> = Vec::new();
        let mut places = HashMap::new();
        for document in self.documents.values() {
            for published in &document.routes {
                let place = *places
                    .entry(RoutesByPath::key(published))
                    .or_insert(routes.len());
                if place == routes.len() {
                    routes.push(Route {
                        path: published.path.clone(),
                        auth: published.auth,
                        methods: published.methods.clone(),
                        max_body: published.max_body,
                        timeout_ms: published.timeout_ms,
                        case_insensitive: published.case_insensitive,
                        connectors: Vec::new(),
                    });
                }
                let connectors = &mut routes[place].connectors;
                if let Err(at) = connectors.binary_search(&document.connector) {
                    connectors.insert(at, document.connector);
                }
            }
        }
        self.built = Arc::new(Site {
            name: self.config.name.clone(),
            published: self.settings.is_some(),
            revision: self
                .settings
                .as_ref()
                .map_or(0, |settings| settings.published.revision),
            routes: RouteTable::new(routes),
            trust: self
                .settings
                .as_ref()
                .map(|settings| settings.trust.clone())
                .unwrap_or_default(),
        });
    }
}

fn ids(lists: &[Arc<RevocationList>]) -> Vec<String> {
    lists.iter().map(|list| list.id()).collect()
}

/// Routes by what they match: `/a` and `/a/` are one; letter case does not count where the route says so.
#[derive(Default)]
struct RoutesByPath<'r> {
    /// (path as matched, cares for case)
    same: HashMap<(String, bool), &'r PublishedRoute>,
    /// Lower-case path: one route that cares for case, one that does not.
    folded: HashMap<String, [Option<&'r PublishedRoute>; 2]>,
}

impl<'r> RoutesByPath<'r> {
    fn key(route: &PublishedRoute) -> (String, bool) {
        let path = route.path.trim_end_matches('/');
        if route.case_insensitive {
            (path.to_ascii_lowercase(), false)
        } else {
            (path.to_string(), true)
        }
    }

    fn add(&mut self, route: &'r PublishedRoute) {
        let key = Self::key(route);
        let folded = self.folded.entry(key.0.to_ascii_lowercase()).or_default();
        folded[usize::from(key.1)].get_or_insert(route);
        self.same.entry(key).or_insert(route);
    }

    /// The same route, by path and letter case.
    fn same(&self, route: &PublishedRoute) -> Option<&'r PublishedRoute> {
        self.same.get(&Self::key(route)).copied()
    }

    /// A route of the same letters, one caring for case and the other not: which one is meant is anyone's guess.
    fn clash(&self, route: &PublishedRoute) -> Option<&'r PublishedRoute> {
        let (path, cares) = Self::key(route);
        self.folded
            .get(&path.to_ascii_lowercase())
            .and_then(|both| both[usize::from(!cares)])
    }

    fn len(&self) -> usize {
        self.same.len()
    }
}
