//! One site on the control side: the documents of its connectors, the settings in force, and what is made of them.

use super::overlap::RoutesByPath;
use super::{RevocationList, Route, RouteTable, Site, Source, Trust};
use crate::control::config::SiteConfig;
use crate::control::settings::{Auth, PublishedRoute, SiteSettings};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// Routes of one site, all connectors together.
pub const MAX_ROUTES_OF_A_SITE: usize = 8192;
/// Connectors of one site with a document.
pub const MAX_CONNECTORS_OF_A_SITE: usize = 256;

#[derive(Debug)]
pub struct SiteState {
    pub config: SiteConfig,
    pub settings: Option<Settings>,
    /// Documents that were refused.
    pub refused: u64,
    /// By connector id; sorted, so that a snapshot does not depend on the order of arrival.
    pub documents: BTreeMap<String, Document>,
    pub built: Arc<Site>,
}

/// The settings in force.
#[derive(Debug)]
pub struct Settings {
    pub published: Arc<SiteSettings>,
    pub hash: [u8; 32],
    /// Who brought them, for alarms.
    pub from: String,
    pub trust: Arc<Trust>,
}

#[derive(Debug, Clone)]
pub struct Document {
    pub hash: [u8; 32],
    pub connector: u32,
    pub routes: Vec<PublishedRoute>,
    /// In force or not: they are, should those of a higher revision go with their connector.
    pub settings: Arc<SiteSettings>,
    /// Revocation lists that stand in it.
    pub lists: Vec<Arc<RevocationList>>,
}

impl SiteState {
    pub fn new(config: SiteConfig) -> Self {
        Self {
            built: Arc::new(Site {
                name: config.name.clone(),
                published: false,
                revision: 0,
                routes: RouteTable::default(),
                channels: Auth::Any,
                trust: Arc::default(),
            }),
            config,
            settings: None,
            refused: 0,
            documents: BTreeMap::new(),
        }
    }

    pub fn wants(&self, source: &Source) -> bool {
        let settings = self.settings.as_ref();
        settings.is_some_and(|settings| {
            Source::wanted(&settings.published).any(|wanted| wanted == *source)
        })
    }

    /// Of the documents that are left those of the highest revision; the first connector's, should two differ.
    pub fn best_settings(&self, before: Option<Arc<Trust>>) -> Option<Settings> {
        let mut best: Option<(&String, &Document)> = None;
        for (id, document) in &self.documents {
            if best.is_none_or(|(_, known)| document.settings.revision > known.settings.revision) {
                best = Some((id, document));
            }
        }
        best.map(|(id, document)| Settings::new(document.settings.clone(), id, before))
    }

    /// Whether these settings take the place of those in force.
    pub fn judge_settings(&self, new: &SiteSettings, from: &str) -> Result<bool, String> {
        let Some(known) = &self.settings else {
            return Ok(true);
        };
        if new.revision != known.published.revision {
            return Ok(new.revision > known.published.revision);
        }
        if new.meaning_hash() == known.hash {
            return Ok(false);
        }
        let (site, revision) = (&self.config.name, new.revision);
        Err(if from == known.from {
            format!(
                "ALARM: site {site:?}: connector {from:?} changed the settings of revision {revision}; raise `revision` with \
                 every change of [site]"
            )
        } else {
            format!(
                "ALARM: site {site:?}: settings of revision {revision} from connector {from:?} differ from those of the same \
                 revision from connector {:?}; make the [site] tables the same on every connector and raise `revision`",
                known.from
            )
        })
    }

    /// Routes of one document must be single, and agree with the same routes of other connectors.
    pub fn judge_routes(&self, routes: &[PublishedRoute], connector: &str) -> Result<(), String> {
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

    pub fn rebuild(&mut self) {
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
            channels: self
                .settings
                .as_ref()
                .map_or(Auth::Any, |settings| settings.published.channels),
            trust: self
                .settings
                .as_ref()
                .map(|settings| settings.trust.clone())
                .unwrap_or_default(),
        });
    }
}

impl Settings {
    /// Their trust is yet to be renewed; `before` has the lists in force until now.
    pub fn new(published: Arc<SiteSettings>, from: &str, before: Option<Arc<Trust>>) -> Self {
        Self {
            hash: published.meaning_hash(),
            from: from.to_string(),
            published,
            trust: before.unwrap_or_default(),
        }
    }
}

pub fn ids(lists: &[Arc<RevocationList>]) -> Vec<[u8; 32]> {
    lists.iter().map(|list| list.id()).collect()
}

pub fn ids_of(documents: &BTreeMap<String, Document>) -> Vec<[u8; 32]> {
    documents
        .values()
        .flat_map(|document| ids(&document.lists))
        .collect()
}
