//! Which published routes are one, and which contradict each other.

use crate::control::settings::PublishedRoute;
use std::collections::HashMap;

/// Routes by what they match: `/a` and `/a/` are one; letter case does not count where the route says so.
#[derive(Default)]
pub struct RoutesByPath<'r> {
    /// (path as matched, cares for case)
    same: HashMap<(String, bool), &'r PublishedRoute>,
    /// Lower-case path: one route that cares for case, one that does not.
    folded: HashMap<String, [Option<&'r PublishedRoute>; 2]>,
}

impl<'r> RoutesByPath<'r> {
    pub fn key(route: &PublishedRoute) -> (String, bool) {
        let path = route.path.trim_end_matches('/');
        if route.case_insensitive {
            (path.to_ascii_lowercase(), false)
        } else {
            (path.to_string(), true)
        }
    }

    pub fn add(&mut self, route: &'r PublishedRoute) {
        let key = Self::key(route);
        let folded = self.folded.entry(key.0.to_ascii_lowercase()).or_default();
        folded[usize::from(key.1)].get_or_insert(route);
        self.same.entry(key).or_insert(route);
    }

    /// The same route, by path and letter case.
    pub fn same(&self, route: &PublishedRoute) -> Option<&'r PublishedRoute> {
        self.same.get(&Self::key(route)).copied()
    }

    /// A route of the same letters, one caring for case and the other not: which one is meant is anyone's guess.
    pub fn clash(&self, route: &PublishedRoute) -> Option<&'r PublishedRoute> {
        let (path, cares) = Self::key(route);
        self.folded
            .get(&path.to_ascii_lowercase())
            .and_then(|both| both[usize::from(!cares)])
    }

    pub fn len(&self) -> usize {
        self.same.len()
    }
}
