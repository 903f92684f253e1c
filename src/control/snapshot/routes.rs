//! The route table: longest prefix on segment boundaries, found in one pass over the path and without allocation.
//! Gateway and connector look routes up in the same one, so that they cannot disagree about a path.

use super::Route;
use std::cmp::Ordering;

/// The routes of a site.
#[derive(Debug, Default)]
pub struct RouteTable {
    routes: Vec<Route>,
    paths: PathTable,
}

impl RouteTable {
    /// A table of `routes`; [`find`](Self::find) gives indices into them. Two routes of one path: the first stays.
    pub fn new(routes: Vec<Route>) -> Self {
        let paths = routes.iter().map(|r| (r.path.as_str(), r.case_insensitive));
        Self {
            paths: PathTable::new(paths),
            routes,
        }
    }

    /// As [`PathTable::find`].
    pub fn find(&self, path: &[u8]) -> Option<(u32, &Route)> {
        let index = self.paths.find(path)?;
        self.routes.get(index as usize).map(|route| (index, route))
    }

    pub fn routes(&self) -> &[Route] {
        &self.routes
    }

    pub fn is_empty(&self) -> bool {
        self.routes.is_empty()
    }
}

/// Longest-prefix table over normalised paths: a tree of segments, one for routes that care for case and one for
/// those that do not. A request visits as many nodes as its path shares segments with a route, so a hostile path
/// costs no more than the deepest route.
#[derive(Debug, Default)]
pub struct PathTable {
    exact: Tree,
    folded: Tree,
}

impl PathTable {
    /// Of (path, case_insensitive), in order; [`find`](Self::find) gives their places. Of two equal paths the first
    /// stays.
    pub fn new<'p>(paths: impl Iterator<Item = (&'p str, bool)>) -> Self {
        let mut table = Self::default();
        for (index, (path, case_insensitive)) in paths.enumerate() {
            let index = u32::try_from(index).unwrap_or(u32::MAX);
            if case_insensitive {
                table.folded.insert::<Folded>(path.as_bytes(), index);
            } else {
                table.exact.insert::<Exact>(path.as_bytes(), index);
            }
        }
        table
    }

    /// Longest prefix wins; a route path that ends in `/` matches everything under it and, without the slash, itself;
    /// one that does not matches itself and what follows a `/`. At one length the route that cares for case wins.
    ///
    /// `path` is normalised and without query. What does not begin with `/` matches nothing.
    pub fn find(&self, path: &[u8]) -> Option<u32> {
        let exact = self.exact.find::<Exact>(path);
        let folded = self.folded.find::<Folded>(path);
        let (_, index) = match (exact, folded) {
            (Some(exact), Some(folded)) if folded.0 > exact.0 => folded,
            (Some(exact), _) => exact,
            (None, folded) => folded?,
        };
        Some(index)
    }
}

#[derive(Debug, Default)]
struct Tree {
    /// The root is node 0; empty when the tree holds no route.
    nodes: Vec<Node>,
}

#[derive(Debug, Default)]
struct Node {
    /// Sorted by segment, as the tree's `Compare` orders them.
    children: Vec<(Box<[u8]>, u32)>,
    route: Option<u32>,
}

trait Compare {
    fn compare(a: &[u8], b: &[u8]) -> Ordering;
}
struct Exact;
impl Compare for Exact {
    fn compare(a: &[u8], b: &[u8]) -> Ordering {
        a.cmp(b)
    }
}
struct Folded;
impl Compare for Folded {
    fn compare(a: &[u8], b: &[u8]) -> Ordering {
        let lower = u8::to_ascii_lowercase;
        a.iter().map(lower).cmp(b.iter().map(lower))
    }
}

impl Tree {
    fn insert<C: Compare>(&mut self, path: &[u8], route: u32) {
        if self.nodes.is_empty() {
            self.nodes.push(Node::default());
        }
        let mut at = 0;
        for segment in segments(path).filter(|segment| !segment.is_empty()) {
            let found = self.nodes[at]
                .children
                .binary_search_by(|(s, _)| C::compare(s, segment));
            at = match found {
                Ok(child) => self.nodes[at].children[child].1 as usize,
                Err(place) => {
                    let new = self.nodes.len();
                    self.nodes.push(Node::default());
                    self.nodes[at]
                        .children
                        .insert(place, (segment.into(), new as u32));
                    new
                }
            };
        }
        self.nodes[at].route.get_or_insert(route);
    }

    /// The deepest route on the way, with its depth in segments.
    fn find<C: Compare>(&self, path: &[u8]) -> Option<(usize, u32)> {
        if path.first() != Some(&b'/') {
            return None;
        }
        let mut node = self.nodes.first()?;
        let mut best = node.route.map(|route| (0, route));
        for (depth, segment) in segments(path).enumerate() {
            let Ok(child) = node
                .children
                .binary_search_by(|(s, _)| C::compare(s, segment))
            else {
                break;
            };
            node = self.nodes.get(node.children.get(child)?.1 as usize)?;
            if let Some(route) = node.route {
                best = Some((depth + 1, route));
            }
        }
        best
    }
}

/// The segments behind the leading slash.
fn segments(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.get(1..)
        .unwrap_or_default()
        .split(|byte| *byte == b'/')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::settings::Auth;
    use proptest::prelude::*;

    fn route(path: &str, case_insensitive: bool) -> Route {
        Route {
            path: path.into(),
            auth: Auth::None,
            methods: vec![],
            max_body: 0,
            timeout_ms: 0,
            case_insensitive,
            connectors: vec![],
        }
    }

    fn found(table: &RouteTable, path: &str) -> Option<String> {
        table
            .find(path.as_bytes())
            .map(|(_, route)| route.path.clone())
    }

    #[test]
    fn the_longest_prefix_on_a_segment_boundary_wins() {
        let paths = ["/mp/", "/mp/deep", "/a", "/A/b/"];
        let table = RouteTable::new(paths.iter().map(|path| route(path, false)).collect());
        let check = |path, expected: Option<&str>| {
            assert_eq!(found(&table, path).as_deref(), expected, "{path}")
        };
        check("/mp", Some("/mp/"));
        check("/mp/", Some("/mp/"));
        check("/mp/x", Some("/mp/"));
        check("/mp/deep", Some("/mp/deep"));
        check("/mp/deep/er", Some("/mp/deep"));
        check("/mp/deeper", Some("/mp/"));
        check("/mpx", None);
        check("/a", Some("/a"));
        check("/a/", Some("/a"));
        check("/a/b", Some("/a"));
        check("/ab", None);
        check("/A", None);
        check("/A/b", Some("/A/b/"));
        check("/", None);
        check("", None);
        check("*", None);
        check("mp/", None);
    }

    #[test]
    fn the_root_matches_what_nothing_else_does() {
        let table = RouteTable::new(vec![route("/", false), route("/a/", false)]);
        assert_eq!(found(&table, "/").as_deref(), Some("/"));
        assert_eq!(found(&table, "/x/y").as_deref(), Some("/"));
        assert_eq!(found(&table, "/a/y").as_deref(), Some("/a/"));
        assert_eq!(found(&table, "*"), None);
    }

    #[test]
    fn case_is_folded_only_where_the_route_says_so() {
        let table = RouteTable::new(vec![
            route("/CCM/", true),
            route("/mp/", false),
            route("/ccm/Exact", false),
        ]);
        assert_eq!(found(&table, "/ccm/x").as_deref(), Some("/CCM/"));
        assert_eq!(found(&table, "/cCm").as_deref(), Some("/CCM/"));
        assert_eq!(found(&table, "/MP/"), None);
        assert_eq!(found(&table, "/ccm/Exact").as_deref(), Some("/ccm/Exact"));
        assert_eq!(found(&table, "/ccm/exact").as_deref(), Some("/CCM/"));
    }

    #[test]
    fn an_empty_table_finds_nothing() {
        assert!(RouteTable::default().find(b"/").is_none());
        assert!(RouteTable::new(vec![]).find(b"/").is_none());
    }

    /// What `find` promises, written the slow way.
    fn slow(routes: &[Route], path: &str) -> Option<u32> {
        let matches = |route: &Route| {
            let trimmed = route.path.trim_end_matches('/');
            let (mut prefix, mut whole) = (trimmed.to_string(), path.to_string());
            if route.case_insensitive {
                prefix.make_ascii_lowercase();
                whole.make_ascii_lowercase();
            }
            whole
                .strip_prefix(&prefix)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        let depth = |route: &Route| route.path.trim_end_matches('/').split('/').count();
        let all = routes
            .iter()
            .enumerate()
            .filter(|(_, route)| matches(route));
        all.max_by_key(|(i, r)| (depth(r), !r.case_insensitive, std::cmp::Reverse(*i)))
            .map(|(i, _)| i as u32)
    }

    proptest! {
        #[test]
        fn find_agrees_with_the_slow_search(
            routes in proptest::collection::vec(("(/[abAB]{1,2}){0,3}/?", any::<bool>()), 0..12),
            path in "(/[abAB]{1,2}){0,4}/?",
        ) {
            let routes: Vec<_> = routes.iter().map(|(path, ci)| {
                let path = if path.starts_with('/') { path.clone() } else { format!("/{path}") };
                route(&path, *ci)
            }).collect();
            let path = if path.is_empty() { "/".to_string() } else { path };
            let expected = slow(&routes, &path);
            let table = RouteTable::new(routes);
            prop_assert_eq!(table.find(path.as_bytes()).map(|(i, _)| i), expected);
        }

        #[test]
        fn any_bytes_are_a_path(path in proptest::collection::vec(any::<u8>(), 0..60)) {
            let table = RouteTable::new(vec![route("/a/", true), route("/", false)]);
            let _ = table.find(&path);
        }
    }
}
