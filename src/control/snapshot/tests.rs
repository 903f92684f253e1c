//! Publications: what is taken, what is refused, and what the snapshots then say.

use super::{Registry, Snapshot, Verdict};
use crate::control::config::SiteConfig;
use crate::control::settings::tests::{document, route};
use crate::control::settings::{Auth, IdField, PublishedCa, SiteDocument};
use crate::control::testing::{NOW, ca, leaf};
use std::sync::Arc;

fn site(name: &str, hosts: &[&str], connectors: &[&str]) -> SiteConfig {
    let texts = |list: &[&str]| list.iter().map(|text| text.to_string()).collect();
    SiteConfig {
        name: name.into(),
        hosts: texts(hosts),
        connectors: texts(connectors),
    }
}

fn registry() -> Registry {
    Registry::new(&[
        site("main", &["*"], &["cp-1", "cp-2"]),
        site("lab", &["lab.example.com", "*.lab.example.com"], &[]),
    ])
}

fn publish(
    registry: &mut Registry,
    connector: &str,
    document: &SiteDocument,
) -> Result<Arc<Snapshot>, String> {
    let (bytes, hash) = document.encode();
    registry.publish("main", connector, hash, &bytes)
}

/// The connectors of the route that serves a path.
fn serving(snapshot: &Snapshot, path: &str) -> Option<Vec<u32>> {
    snapshot.sites[0]
        .routes
        .find(path.as_bytes())
        .map(|(_, route)| route.connectors.clone())
}

#[test]
fn a_site_begins_unpublished_and_empty() {
    let registry = registry();
    let snapshot = registry.current();
    assert_eq!(snapshot.sites.len(), 2);
    assert!(!snapshot.sites[0].published && snapshot.sites[0].routes.is_empty());
    assert_eq!(registry.known_hash("main", "cp-1"), [0; 32]);
    let root = ca("root");
    assert!(matches!(
        snapshot.sites[0]
            .trust
            .judge(&[leaf("x", &root, |_| {})], NOW),
        Verdict::Rejected(_)
    ));
}

#[test]
fn a_sites_table_is_the_union_of_its_connectors() {
    let mut registry = registry();
    let (one, two) = (registry.ids().index("cp-1"), registry.ids().index("cp-2"));
    publish(&mut registry, "cp-2", &document(1, &["/b/", "/both/"])).unwrap();
    let snapshot = publish(&mut registry, "cp-1", &document(1, &["/a/", "/both"])).unwrap();
    assert!(snapshot.sites[0].published);
    assert_eq!(serving(&snapshot, "/a/x"), Some(vec![one]));
    assert_eq!(serving(&snapshot, "/b/x"), Some(vec![two]));
    assert_eq!(serving(&snapshot, "/both/x"), Some(vec![one, two]));
    assert_eq!(serving(&snapshot, "/c"), None);
    assert!(!snapshot.sites[1].published, "the other site is untouched");
}

#[test]
fn numbers_only_grow_and_old_snapshots_stay_as_they_were() {
    let mut registry = registry();
    let before = registry.current();
    let first = publish(&mut registry, "cp-1", &document(1, &["/a/"])).unwrap();
    let second = publish(&mut registry, "cp-1", &document(1, &["/b/"])).unwrap();
    assert!(before.number < first.number && first.number < second.number);
    assert!(
        serving(&before, "/a/").is_none()
            && serving(&first, "/a/").is_some()
            && serving(&second, "/a/").is_none()
    );
    // The same document again changes nothing.
    let again = publish(&mut registry, "cp-1", &document(1, &["/b/"])).unwrap();
    assert_eq!(again.number, second.number);
}

#[test]
fn the_higher_revision_wins_and_a_lower_one_brings_only_its_routes() {
    let root = ca("root");
    let chain = [leaf("pc1", &root, |_| {})];
    let with_ca = |revision, path: &str| {
        let mut document = document(revision, &[path]);
        document.site.client_ca = vec![PublishedCa {
            name: "corp".into(),
            pem: root.pem(),
            id: IdField::DnsSan,
        }];
        document
    };
    let mut registry = registry();
    publish(&mut registry, "cp-1", &with_ca(5, "/a/")).unwrap();
    let snapshot = publish(&mut registry, "cp-2", &document(4, &["/b/"])).unwrap();
    assert!(
        matches!(
            snapshot.sites[0].trust.judge(&chain, NOW),
            Verdict::Accepted(_)
        ),
        "revision 5 stays"
    );
    assert_eq!(snapshot.sites[0].revision, 5);
    assert!(serving(&snapshot, "/b/").is_some());
    let snapshot = publish(&mut registry, "cp-2", &document(6, &["/b/"])).unwrap();
    assert!(
        matches!(
            snapshot.sites[0].trust.judge(&chain, NOW),
            Verdict::Rejected(_)
        ),
        "revision 6 took it out"
    );
    // A rollback to 5 by the first connector does not bring trust back.
    let snapshot = publish(&mut registry, "cp-1", &with_ca(5, "/a2/")).unwrap();
    assert!(matches!(
        snapshot.sites[0].trust.judge(&chain, NOW),
        Verdict::Rejected(_)
    ));
    assert!(serving(&snapshot, "/a2/").is_some());
}

#[test]
fn one_revision_with_other_settings_is_refused_with_an_alarm() {
    let mut registry = registry();
    publish(&mut registry, "cp-1", &document(3, &["/a/"])).unwrap();
    let mut other = document(3, &["/b/"]);
    other.site.deny_serials.push("0a".into());
    let number = registry.current().number;
    let alarm = publish(&mut registry, "cp-2", &other).unwrap_err();
    assert!(
        alarm.starts_with("ALARM") && alarm.contains("cp-1") && alarm.contains("cp-2"),
        "{alarm}"
    );
    // So is the same connector's own changed file without a new revision.
    assert!(publish(&mut registry, "cp-1", &other).is_err());
    assert_eq!(registry.current().number, number);
    assert_eq!(registry.known_hash("main", "cp-2"), [0; 32]);
    assert!(serving(&registry.current(), "/b/").is_none());
}

#[test]
fn the_same_settings_written_otherwise_are_the_same() {
    let mut registry = registry();
    let mut one = document(3, &["/a/"]);
    one.site.deny_serials = vec!["0A".into(), "0b".into()];
    let mut two = document(3, &["/b/"]);
    two.site.deny_serials = vec!["b".into(), "0x0a".into()];
    publish(&mut registry, "cp-1", &one).unwrap();
    publish(&mut registry, "cp-2", &two).unwrap();
}

#[test]
fn a_route_that_disagrees_with_another_connectors_is_refused() {
    let mut registry = registry();
    publish(&mut registry, "cp-1", &document(1, &["/a/", "/Big/"])).unwrap();
    let changes: [fn(&mut SiteDocument); 5] = [
        |d| d.routes[0].auth = Auth::None,
        |d| d.routes[0].max_body = 1,
        |d| d.routes[0].timeout_ms = 1,
        |d| d.routes[0].methods = vec!["GET".into()],
        |d| d.routes[0].case_insensitive = true,
    ];
    for change in changes {
        let mut other = document(1, &["/a"]);
        change(&mut other);
        let why = publish(&mut registry, "cp-2", &other).unwrap_err();
        assert!(why.contains("\"cp-1\"") && why.contains("\"/a/\""), "{why}");
    }
    // A route that ignores case next to one of the same letters that does not.
    let mut folded = document(1, &["/bIG"]);
    folded.routes[0].case_insensitive = true;
    assert!(publish(&mut registry, "cp-2", &folded).is_err());
    publish(&mut registry, "cp-2", &document(1, &["/A/", "/big"])).unwrap();
    // A connector may change its own route when nobody else has it.
    let mut changed = document(1, &["/a/"]);
    changed.routes[0].auth = Auth::None;
    publish(&mut registry, "cp-1", &changed).unwrap();
}

#[test]
fn routes_that_ignore_case_merge_whatever_their_letters() {
    let mut registry = registry();
    for (connector, path) in [("cp-1", "/CCM/"), ("cp-2", "/ccm")] {
        let mut document = document(1, &[path]);
        document.routes[0].case_insensitive = true;
        publish(&mut registry, connector, &document).unwrap();
    }
    assert_eq!(
        serving(&registry.current(), "/Ccm/x").map(|c| c.len()),
        Some(2)
    );
}

#[test]
fn a_document_must_be_whole_single_and_true_to_its_hash() {
    let mut registry = registry();
    let (bytes, hash) = document(1, &["/a/"]).encode();
    let refused = |registry: &mut Registry, hash, bytes: &[u8]| {
        registry.publish("main", "cp-1", hash, bytes).unwrap_err()
    };
    assert!(refused(&mut registry, [1; 32], &bytes).contains("hash"));
    let cut = &bytes[..bytes.len() - 1];
    assert!(
        refused(&mut registry, crate::control::settings::sha256(cut), cut)
            .contains("cannot be read")
    );
    for paths in [
        &["/a/", "/a"][..],
        &["/a/", "/a/"],
        &["a"],
        &["/../x"],
        &["/.tidegate/"],
    ] {
        assert!(
            publish(&mut registry, "cp-1", &document(1, paths)).is_err(),
            "{paths:?}"
        );
    }
    let mut bad_ca = document(1, &["/a/"]);
    bad_ca.site.client_ca = vec![PublishedCa {
        name: "corp".into(),
        pem: "nonsense".into(),
        id: IdField::Cn,
    }];
    assert!(
        publish(&mut registry, "cp-1", &bad_ca)
            .unwrap_err()
            .contains("corp")
    );
    assert_eq!(registry.current().number, 1, "nothing changed");
    assert_eq!(
        registry
            .publish("main", "cp-1", hash, &bytes)
            .unwrap()
            .number,
        2
    );
    assert_eq!(registry.known_hash("main", "cp-1"), hash);
}

#[test]
fn a_connector_speaks_for_its_own_site_only() {
    let mut registry = registry();
    let (bytes, hash) = document(1, &["/a/"]).encode();
    assert!(
        registry
            .publish("main", "cp-9", hash, &bytes)
            .unwrap_err()
            .contains("not among")
    );
    assert!(
        registry
            .publish("nowhere", "cp-1", hash, &bytes)
            .unwrap_err()
            .contains("no site")
    );
    assert!(registry.publish("main", "cp 1", hash, &bytes).is_err());
    assert!(
        registry.publish("lab", "anyone", hash, &bytes).is_ok(),
        "no list: any id"
    );
    assert!(registry.may_serve("main", "cp-2").is_ok());
}

#[test]
fn hosts_find_their_site_exact_before_wildcard_before_any() {
    let registry = registry();
    let snapshot = registry.current();
    for (host, site) in [
        ("lab.example.com", 1),
        ("lab.example.com.", 1),
        ("x.lab.example.com", 1),
        ("a.x.lab.example.com", 0),
        ("example.com", 0),
        ("", 0),
        (".", 0),
    ] {
        assert_eq!(registry.site_for(host), Some(site), "{host}");
        assert_eq!(snapshot.site_for(host), Some(site), "{host}");
    }
    let strict = Registry::new(&[site("main", &["GW.example.com"], &[])]);
    assert_eq!(strict.site_for("gw.example.com"), Some(0));
    assert_eq!(strict.site_for("other.example.com"), None);
}

#[test]
fn connector_ids_are_interned_up_to_their_limit() {
    let mut registry = registry();
    for i in 0..super::registry::MAX_CONNECTOR_IDS {
        assert_eq!(registry.ids().index(&format!("c{i}")), i as u32);
    }
    assert_eq!(registry.ids().index("c5"), 5);
    assert_eq!(registry.ids().index("one-more"), u32::MAX);
    assert!(publish(&mut registry, "cp-1", &document(1, &["/a/"])).is_err());
}

#[test]
fn methods_are_case_sensitive() {
    let mut registry = registry();
    let mut document = document(1, &["/a/"]);
    document.routes = vec![route("/a/")];
    document.routes[0].methods = vec!["GET".into(), "CCM_POST".into()];
    let snapshot = publish(&mut registry, "cp-1", &document).unwrap();
    let (_, route) = snapshot.sites[0].routes.find(b"/a/").unwrap();
    assert!(route.allows_method(b"CCM_POST") && !route.allows_method(b"get"));
}

/// A publication as random as the property wants it: who, which revision, which settings, which routes.
type Step = (u8, u64, u8, Vec<u8>);

proptest::proptest! {
    /// Whatever is published in whatever order: numbers grow by one for each change, a refused document changes
    /// nothing, the settings in force are those of the highest revision, first come, and the table is the union of
    /// the documents in force.
    #[test]
    fn publications_keep_the_rules(steps in proptest::collection::vec(
        (0u8..3, 0u64..4, 0u8..3, proptest::collection::vec(0u8..5, 0..4)), 1..25,
    )) {
        let ids = ["a", "b", "c"];
        let mut registry = Registry::new(&[site("main", &["*"], &[])]);
        let mut force: Option<(u64, u8)> = None;
        let mut routes: [Vec<u8>; 3] = Default::default();
        let steps: Vec<Step> = steps;
        for (who, revision, settings, mut paths) in steps {
            paths.sort();
            paths.dedup();
            let mut document = document(revision, &[]);
            document.site.deny_serials = vec![format!("{:x}", settings + 1)];
            document.routes = paths.iter().map(|p| route(&format!("/r{p}/"))).collect();
            let (bytes, hash) = document.encode();
            let before = registry.current();
            let result = registry.publish("main", ids[usize::from(who)], hash, &bytes);
            let refused = force.is_some_and(|(r, s)| r == revision && s != settings);
            proptest::prop_assert_eq!(result.is_err(), refused);
            let now = registry.current();
            if refused {
                proptest::prop_assert!(Arc::ptr_eq(&before, &now));
                continue;
            }
            if force.is_none_or(|(r, _)| revision > r) {
                force = Some((revision, settings));
            }
            routes[usize::from(who)] = paths;
            proptest::prop_assert!(now.number == before.number + 1 || Arc::ptr_eq(&before, &now));
            proptest::prop_assert_eq!(now.sites[0].revision, force.map_or(0, |(r, _)| r));
            for path in 0..5u8 {
                let serving = serving(&now, &format!("/r{path}/x")).unwrap_or_default();
                let expected = routes.iter().filter(|of| of.contains(&path)).count();
                proptest::prop_assert_eq!(serving.len(), expected);
            }
        }
    }
}
