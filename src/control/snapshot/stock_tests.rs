//! Revocation lists and key sets: which ones count, and what a site makes of them when they come and go.

use super::{Registry, RevocationList, Snapshot, Source, Verdict};
use crate::control::config::SiteConfig;
use crate::control::settings::{
    CrlFail, IdField, KeySource, PublishedCa, PublishedCrl, PublishedIssuer, PublishedKind,
    SiteDocument, SiteSettings,
};
use crate::control::testing::*;
use crate::control::tokens::testing::{TestKey, jwks};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use rcgen::{CertificateRevocationListParams, KeyIdMethod, RevokedCertParams, SerialNumber};
use serde_json::json;
use std::sync::Arc;

const URL: &str = "http://crl.example/corp.crl";

/// A list of `ca` that names these serials.
fn list(ca: &Ca, number: u64, serials: &[&[u8]], until: i64) -> Vec<u8> {
    let revoked = |serial: &&[u8]| RevokedCertParams {
        serial_number: SerialNumber::from_slice(serial),
        revocation_time: at(BEGIN),
        reason_code: None,
        invalidity_date: None,
    };
    let params = CertificateRevocationListParams {
        this_update: at(BEGIN),
        next_update: at(until),
        crl_number: SerialNumber::from(number),
        issuing_distribution_point: None,
        revoked_certs: serials.iter().map(revoked).collect(),
        key_identifier_method: KeyIdMethod::Sha256,
    };
    params.signed_by(ca).unwrap().der().to_vec()
}

fn der(list: &[u8]) -> PublishedCrl {
    PublishedCrl::Der(BASE64_STANDARD.encode(list))
}

fn settings(ca: &Ca, crl: Vec<PublishedCrl>, crl_fail: CrlFail) -> SiteSettings {
    SiteSettings {
        revision: 1,
        client_ca: vec![PublishedCa {
            name: "corp".into(),
            pem: ca.pem(),
            id: IdField::Cn,
        }],
        crl,
        crl_fail,
        ..SiteSettings::default()
    }
}

fn registry() -> Registry {
    Registry::new(&[SiteConfig {
        name: "main".into(),
        hosts: vec!["*".into()],
        connectors: vec![],
    }])
}

#[track_caller]
fn publish(registry: &mut Registry, connector: &str, site: SiteSettings) -> Arc<Snapshot> {
    try_publish(registry, connector, site).unwrap()
}

fn try_publish(
    registry: &mut Registry,
    connector: &str,
    site: SiteSettings,
) -> Result<Arc<Snapshot>, String> {
    let (bytes, hash) = SiteDocument {
        site,
        routes: vec![],
    }
    .encode();
    registry.publish("main", connector, hash, &bytes)
}

fn judge(snapshot: &Snapshot, leaf: &[u8]) -> Verdict {
    snapshot.sites[0].trust.judge(&[leaf.to_vec()], NOW)
}

#[track_caller]
fn is(verdict: &Verdict, kind: &str) {
    let found = match verdict {
        Verdict::Accepted(_) => "accepted",
        Verdict::Rejected(_) => "rejected",
        Verdict::Revoked(_) => "revoked",
        Verdict::Unknown(_) => "unknown",
    };
    assert_eq!(found, kind, "{verdict:?}");
}

fn with_serial(name: &str, ca: &Ca, serial: &[u8]) -> Vec<u8> {
    leaf(name, ca, |params| {
        params.serial_number = Some(SerialNumber::from_slice(serial))
    })
}

#[test]
fn a_revoked_certificate_is_revoked_and_its_sister_is_not() {
    let root = ca("root");
    let (gone, stays) = (
        with_serial("a", &root, &[0x81, 7]),
        with_serial("b", &root, &[9]),
    );
    let mut registry = registry();
    let crl = vec![der(&list(&root, 1, &[&[0x81, 7]], END))];
    let snapshot = publish(&mut registry, "cp-1", settings(&root, crl, CrlFail::Hard));
    is(&judge(&snapshot, &gone), "revoked");
    is(&judge(&snapshot, &stays), "accepted");
}

/// What was accepted before is found on the list by issuer and serial alone: for requests that are under way.
#[test]
fn an_accepted_identity_is_denied_once_its_certificate_is_on_a_list() {
    let root = ca("root");
    let leaf = with_serial("a", &root, &[0x81, 7]);
    let mut registry = registry();
    let empty = vec![der(&list(&root, 1, &[], END))];
    let snapshot = publish(&mut registry, "cp-1", settings(&root, empty, CrlFail::Hard));
    let Verdict::Accepted(identity) = judge(&snapshot, &leaf) else {
        panic!("not accepted")
    };
    assert_eq!(snapshot.sites[0].trust.denies(&identity), None);
    let newer = vec![der(&list(&root, 2, &[&[0x81, 7]], END))];
    let snapshot = publish(&mut registry, "cp-1", settings(&root, newer, CrlFail::Hard));
    assert!(snapshot.sites[0].trust.denies(&identity).is_some());
}

#[test]
fn hard_wants_a_list_in_force_and_soft_does_not() {
    let (root, other) = (ca("root"), ca("other"));
    let leaf = leaf("a", &root, |_| {});
    let old = || vec![der(&list(&root, 1, &[], NOW - 1))];
    let foreign = || vec![der(&list(&other, 1, &[], END))];
    for (crl, hard, soft) in [
        (old(), "rejected", "accepted"),
        (foreign(), "unknown", "accepted"),
    ] {
        let snapshot = publish(
            &mut registry(),
            "cp-1",
            settings(&root, crl.clone(), CrlFail::Hard),
        );
        is(&judge(&snapshot, &leaf), hard);
        let snapshot = publish(&mut registry(), "cp-1", settings(&root, crl, CrlFail::Soft));
        is(&judge(&snapshot, &leaf), soft);
    }
    let mut two = settings(&root, vec![der(&list(&root, 1, &[], END))], CrlFail::Hard);
    two.client_ca.push(PublishedCa {
        name: "other".into(),
        pem: other.pem(),
        id: IdField::Cn,
    });
    let snapshot = publish(&mut registry(), "cp-1", two);
    is(&judge(&snapshot, &leaf), "accepted");
    let without = crate::control::testing::leaf("b", &other, |_| {});
    is(&judge(&snapshot, &without), "rejected");
}

#[test]
fn a_stale_list_still_revokes_where_soft() {
    let root = ca("root");
    let gone = with_serial("a", &root, &[7]);
    let crl = vec![der(&list(&root, 1, &[&[7]], NOW - 1))];
    let snapshot = publish(&mut registry(), "cp-1", settings(&root, crl, CrlFail::Soft));
    is(&judge(&snapshot, &gone), "revoked");
}

/// A verdict must not outlive the list it rests on.
#[test]
fn an_accepted_verdict_ends_with_the_list() {
    let root = ca("root");
    let crl = vec![der(&list(&root, 1, &[], NOW + 100))];
    let snapshot = publish(&mut registry(), "cp-1", settings(&root, crl, CrlFail::Hard));
    let Verdict::Accepted(identity) = judge(&snapshot, &leaf("a", &root, |_| {})) else {
        panic!("not accepted")
    };
    assert_eq!(identity.not_after, NOW + 100);
}

#[test]
fn the_newest_list_counts_whoever_brought_it() {
    let root = ca("root");
    let gone = with_serial("a", &root, &[7]);
    let mut registry = registry();
    let newer = vec![der(&list(&root, 300, &[&[7]], END))];
    publish(&mut registry, "cp-1", settings(&root, newer, CrlFail::Hard));
    // Another connector still has an older copy: the same revision, and no alarm.
    let older = vec![der(&list(&root, 20, &[], END))];
    let snapshot = publish(&mut registry, "cp-2", settings(&root, older, CrlFail::Hard));
    is(&judge(&snapshot, &gone), "revoked");
}

#[test]
fn a_forged_list_changes_nothing() {
    let (root, forger) = (ca("root"), ca("root"));
    let leaf = with_serial("a", &root, &[7]);
    let mut registry = registry();
    let crl = vec![
        der(&list(&root, 1, &[], END)),
        PublishedCrl::Url(URL.into()),
    ];
    publish(&mut registry, "cp-1", settings(&root, crl, CrlFail::Hard));
    let source = Source::RevocationList(URL.into());
    let forged = list(&forger, 99, &[&[7]], END);
    let why = registry.fetched(&source, &forged).unwrap_err();
    assert!(why.contains("signed by no CA"), "{why}");
    is(&judge(&registry.current(), &leaf), "accepted");
    let genuine = list(&root, 2, &[&[7]], END);
    let snapshot = registry.fetched(&source, &genuine).unwrap().unwrap();
    is(&judge(&snapshot, &leaf), "revoked");
    let older = list(&root, 1, &[], END);
    let forged = list(&forger, 99, &[], END);
    for bad in [b"junk".as_slice(), &forged, &older] {
        assert!(registry.fetched(&source, bad).is_err());
        is(&judge(&registry.current(), &leaf), "revoked");
    }
    // The same again is no step back.
    assert!(registry.fetched(&source, &genuine).is_ok());
    is(&judge(&registry.current(), &leaf), "revoked");
}

/// A CA that is replaced begins its numbers anew: what the old one signed does not stand in the way.
#[test]
fn a_new_ca_of_the_same_name_begins_anew() {
    let (old, new) = (ca("root"), ca("root"));
    let leaf = with_serial("a", &new, &[7]);
    let mut registry = registry();
    let crl = vec![PublishedCrl::Url(URL.into())];
    let source = Source::RevocationList(URL.into());
    publish(
        &mut registry,
        "cp-1",
        settings(&old, crl.clone(), CrlFail::Soft),
    );
    let list_of_old = list(&old, 300, &[], END);
    registry.fetched(&source, &list_of_old).unwrap();
    let mut site = settings(&new, crl, CrlFail::Soft);
    site.revision = 2;
    publish(&mut registry, "cp-1", site);
    let list_of_new = list(&new, 1, &[&[7]], END);
    registry.fetched(&source, &list_of_new).unwrap();
    is(&judge(&registry.current(), &leaf), "revoked");
}

/// Who stands between gateway and list can only repeat what the CA once signed: an older list un-revokes nobody.
#[test]
fn an_older_list_replayed_changes_nothing() {
    let root = ca("root");
    let leaf = with_serial("a", &root, &[7]);
    let mut registry = registry();
    let crl = vec![PublishedCrl::Url(URL.into())];
    publish(&mut registry, "cp-1", settings(&root, crl, CrlFail::Hard));
    let source = Source::RevocationList(URL.into());
    let (old, new) = (list(&root, 1, &[], END), list(&root, 2, &[&[7]], END));
    registry.fetched(&source, &old).unwrap();
    is(&judge(&registry.current(), &leaf), "accepted");
    registry.fetched(&source, &new).unwrap();
    is(&judge(&registry.current(), &leaf), "revoked");
    assert!(registry.fetched(&source, &old).is_err());
    is(&judge(&registry.current(), &leaf), "revoked");
    let mut raised = settings(&root, vec![PublishedCrl::Url(URL.into())], CrlFail::Hard);
    raised.revision = 2;
    publish(&mut registry, "cp-1", raised);
    is(&judge(&registry.current(), &leaf), "revoked");
}

/// With two CAs, the list of one that runs out is nothing to the clients of the other.
#[test]
fn a_verdict_rests_on_the_lists_of_its_own_path() {
    let (root, other) = (ca("root"), ca("other"));
    let crl = vec![
        der(&list(&root, 1, &[], END)),
        der(&list(&other, 1, &[], NOW + 5)),
    ];
    let mut site = settings(&root, crl, CrlFail::Hard);
    site.client_ca.push(PublishedCa {
        name: "other".into(),
        pem: other.pem(),
        id: IdField::Cn,
    });
    let snapshot = publish(&mut registry(), "cp-1", site);
    let until = |ca: &Ca| match judge(&snapshot, &crate::control::testing::leaf("a", ca, |_| {})) {
        Verdict::Accepted(identity) => identity.not_after,
        other => panic!("{other:?}"),
    };
    assert_eq!((until(&root), until(&other)), (END, NOW + 5));
}

#[test]
fn a_request_under_way_is_denied_when_its_ca_issuer_or_intermediate_goes() {
    let root = ca("root");
    let below = intermediate("below", &root, |params| {
        params.serial_number = Some(SerialNumber::from_slice(&[5]));
    });
    let chain = [leaf("a", &below, |_| {}), below.der().to_vec()];
    let mut registry = registry();
    let mut site = settings(&root, vec![], CrlFail::Soft);
    let snapshot = publish(&mut registry, "cp-1", site.clone());
    let Verdict::Accepted(identity) = snapshot.sites[0].trust.judge(&chain, NOW) else {
        panic!("not accepted")
    };
    let mut denies = |site: &SiteSettings| {
        let snapshot = publish(&mut registry, "cp-1", site.clone());
        snapshot.sites[0].trust.denies(&identity)
    };
    site.revision = 2;
    site.crl = vec![der(&list(&root, 1, &[&[6]], END))];
    assert_eq!(denies(&site), None);
    site.revision = 3;
    site.crl = vec![der(&list(&root, 2, &[&[5]], END))];
    assert!(denies(&site).unwrap().contains("revoked"));
    site.revision = 4;
    site.crl = vec![];
    site.client_ca[0].pem = ca("root").pem();
    assert!(denies(&site).unwrap().contains("authority"));
}

/// A connector that was taken off its site takes its settings along, whatever revision it gave them.
#[test]
fn settings_go_with_the_connector_that_brought_them() {
    let site = |connectors: &[&str]| SiteConfig {
        name: "main".into(),
        hosts: vec!["*".into()],
        connectors: connectors.iter().map(|id| id.to_string()).collect(),
    };
    let (good, evil) = (ca("good"), ca("evil"));
    let mut registry = Registry::new(&[site(&["cp-1", "cp-2"])]);
    publish(
        &mut registry,
        "cp-1",
        settings(&good, vec![], CrlFail::Hard),
    );
    let mut bad = settings(&evil, vec![], CrlFail::Hard);
    bad.revision = 1 << 53;
    let snapshot = publish(&mut registry, "cp-2", bad);
    is(&judge(&snapshot, &leaf("a", &evil, |_| {})), "accepted");
    assert!(registry.overruled("main", "cp-1").unwrap().contains("cp-2"));
    let sites = registry.numbered(&[site(&["cp-1"])]);
    let snapshot = registry.reconfigure(sites);
    is(&judge(&snapshot, &leaf("a", &evil, |_| {})), "rejected");
    is(&judge(&snapshot, &leaf("a", &good, |_| {})), "accepted");
    assert_eq!(
        (
            snapshot.sites[0].revision,
            registry.overruled("main", "cp-1")
        ),
        (1, None)
    );
    let sites = registry.numbered(&[site(&["cp-9"])]);
    assert!(
        !registry.reconfigure(sites).sites[0].published,
        "nobody's settings are left"
    );
}

#[test]
fn a_reload_that_changes_nothing_judges_nobody_anew() {
    let root = ca("root");
    let mut registry = registry();
    let crl = vec![der(&list(&root, 1, &[], END))];
    let before = publish(&mut registry, "cp-1", settings(&root, crl, CrlFail::Hard));
    let sites = registry.numbered(&[SiteConfig {
        name: "main".into(),
        hosts: vec!["*".into()],
        connectors: vec!["cp-1".into()],
    }]);
    let after = registry.reconfigure(sites);
    assert_eq!(before.sites[0].trust.number, after.sites[0].trust.number);
}

#[test]
fn a_list_may_not_come_from_a_ca_without_that_right() {
    let root = ca_with("root", |params| {
        params.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign]
    });
    let bytes = CertificateRevocationListParams {
        this_update: at(BEGIN),
        next_update: at(END),
        crl_number: SerialNumber::from(1u64),
        issuing_distribution_point: None,
        revoked_certs: vec![],
        key_identifier_method: KeyIdMethod::Sha256,
    }
    .signed_by(&root);
    // The library refuses to sign one already; a CA that does anyway is refused by the usage it names.
    if let Ok(signed) = bytes {
        let read = RevocationList::read(signed.der()).unwrap();
        assert!(!read.is_signed_by(root.der()));
    }
}

#[test]
fn a_published_ca_that_another_ones_list_names_is_none() {
    let root = ca("root");
    let below = intermediate("below", &root, |params| {
        params.serial_number = Some(SerialNumber::from_slice(&[5]))
    });
    let mut site = settings(
        &root,
        vec![
            der(&list(&root, 1, &[&[5]], END)),
            der(&list(&below, 1, &[], END)),
        ],
        CrlFail::Hard,
    );
    site.client_ca.push(PublishedCa {
        name: "below".into(),
        pem: below.pem(),
        id: IdField::Cn,
    });
    let snapshot = publish(&mut registry(), "cp-1", site);
    let leaf = leaf("a", &below, |_| {});
    let verdict = snapshot.sites[0]
        .trust
        .judge(&[leaf, below.der().to_vec()], NOW);
    is(&verdict, "revoked");
}

#[test]
fn lists_come_as_pem_or_der_and_junk_does_not() {
    let root = ca("root");
    let der = list(&root, 1, &[&[7], &[8]], END);
    let read = RevocationList::read(&der).unwrap();
    assert_eq!((read.entries, read.next_update()), (2, END));
    let text = format!(
        "-----BEGIN X509 CRL-----\n{}\n-----END X509 CRL-----\n",
        BASE64_STANDARD.encode(&der)
    );
    assert_eq!(
        RevocationList::read(text.as_bytes()).unwrap().id(),
        read.id()
    );
    for junk in [
        &b""[..],
        b"x",
        &der[..der.len() - 1],
        root.pem().as_bytes(),
        root.der(),
    ] {
        assert!(RevocationList::read(junk).is_err());
    }
}

fn oidc(keys: KeySource) -> PublishedIssuer {
    PublishedIssuer {
        name: "idp".into(),
        kind: PublishedKind::Oidc,
        issuer: "https://idp.example".into(),
        audience: vec!["api".into()],
        tenants: vec![],
        id: "sub".into(),
        keys,
    }
}

fn token(key: &TestKey, id: &str) -> Vec<u8> {
    let claims = json!({"iss": "https://idp.example", "aud": "api", "sub": "u1", "exp": NOW + 100, "jti": id});
    key.token(&claims).into_bytes()
}

#[test]
fn keys_come_later_rotate_and_go() {
    let mut registry = registry();
    let site = SiteSettings {
        revision: 1,
        issuers: vec![oidc(KeySource::Discovery)],
        ..SiteSettings::default()
    };
    let snapshot = publish(&mut registry, "cp-1", site);
    let (old, new) = (TestKey::es256("old"), TestKey::rs256("new"));
    let source = Source::Discovery("https://idp.example".into());
    assert_eq!(registry.wanted(), [(source.clone(), 0)]);
    let judge = |snapshot: &Snapshot, key: &TestKey| {
        snapshot.sites[0].trust.judge_token(&token(key, "t1"), NOW)
    };
    match judge(&snapshot, &old) {
        Verdict::Unknown(unknown) => {
            assert_eq!(unknown.source, Some(source.clone()));
            assert!(!unknown.stale_key);
        }
        other => panic!("{other:?}"),
    }
    let snapshot = registry
        .fetched(&source, jwks(&[&old]).as_bytes())
        .unwrap()
        .unwrap();
    is(&judge(&snapshot, &old), "accepted");
    assert!(matches!(judge(&snapshot, &new), Verdict::Unknown(unknown) if unknown.stale_key));
    let snapshot = registry
        .fetched(&source, jwks(&[&new]).as_bytes())
        .unwrap()
        .unwrap();
    is(&judge(&snapshot, &new), "accepted");
    is(&judge(&snapshot, &old), "unknown");
    for wrong in ["junk", "{\"keys\":[]}", "{}"] {
        assert!(
            registry.fetched(&source, wrong.as_bytes()).is_err(),
            "{wrong}"
        );
    }
    is(&judge(&registry.current(), &new), "accepted");
    let snapshot = registry.expired(&source).unwrap();
    is(&judge(&snapshot, &new), "unknown");
}

#[test]
fn a_denied_token_is_revoked_and_live_ones_are_found() {
    let key = TestKey::eddsa("k");
    let mut registry = registry();
    let mut site = SiteSettings {
        revision: 1,
        issuers: vec![oidc(KeySource::Set(jwks(&[&key])))],
        ..SiteSettings::default()
    };
    let snapshot = publish(&mut registry, "cp-1", site.clone());
    let Verdict::Accepted(identity) = snapshot.sites[0].trust.judge_token(&token(&key, "t1"), NOW)
    else {
        panic!("not accepted")
    };
    assert_eq!(identity.client_id, "oidc:idp/u1");
    assert_eq!(
        (identity.means(), identity.token_id(), identity.serial()),
        ("token", Some("t1"), None)
    );
    site.deny_tokens = vec!["t1".into()];
    let why = try_publish(&mut registry, "cp-1", site.clone()).unwrap_err();
    assert!(why.contains("ALARM"), "the revision must be raised: {why}");
    site.revision = 2;
    let snapshot = publish(&mut registry, "cp-1", site);
    let trust = &snapshot.sites[0].trust;
    is(&trust.judge_token(&token(&key, "t1"), NOW), "revoked");
    is(&trust.judge_token(&token(&key, "t2"), NOW), "accepted");
    assert!(trust.denies(&identity).is_some());
}

#[test]
fn wrong_key_sets_are_refused_with_their_settings() {
    let mut registry = registry();
    let site = SiteSettings {
        revision: 1,
        issuers: vec![oidc(KeySource::Set("{".into()))],
        ..SiteSettings::default()
    };
    let why = try_publish(&mut registry, "cp-1", site).unwrap_err();
    assert!(why.contains("oidc \"idp\""), "{why}");
    assert!(!registry.current().sites[0].published);
}

#[test]
fn reconfigured_sites_keep_their_places_and_settings() {
    let site = |name: &str, host: &str, connectors: &[&str]| SiteConfig {
        name: name.into(),
        hosts: vec![host.into()],
        connectors: connectors.iter().map(|id| id.to_string()).collect(),
    };
    let mut registry = Registry::new(&[
        site("a", "a.example", &[]),
        site("b", "b.example", &["cp-1", "cp-2"]),
    ]);
    let (bytes, hash) = crate::control::settings::tests::document(3, &["/x/"]).encode();
    for connector in ["cp-1", "cp-2"] {
        registry.publish("b", connector, hash, &bytes).unwrap();
    }
    // Site a goes, b loses a connector and gets another host, c is new.
    let sites = registry.numbered(&[site("c", "c.example", &[]), site("b", "*", &["cp-2"])]);
    let snapshot = registry.reconfigure(sites);
    assert_eq!(snapshot.site_for("a.example"), Some(1), "b takes any host");
    assert_eq!(snapshot.site_for("c.example"), Some(2));
    assert!(snapshot.sites[1].published && snapshot.sites[1].revision == 3);
    let (_, route) = snapshot.sites[1].routes.find(b"/x/y").unwrap();
    assert_eq!(route.connectors.len(), 1);
    assert!(
        registry.publish("b", "cp-1", hash, &bytes).is_err(),
        "it serves b no longer"
    );
    assert!(
        registry.publish("a", "cp-1", hash, &bytes).is_err(),
        "a is gone"
    );
    registry.publish("c", "cp-1", hash, &bytes).unwrap();
    assert!(
        registry.publish("", "cp-1", hash, &bytes).is_err(),
        "a place without a name is nobody's"
    );
}
