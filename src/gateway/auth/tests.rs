//! The table of the front page, row by row, and what a shard remembers.

use super::*;
use crate::control::config::SiteConfig;
use crate::control::settings::{
    IdField, KeySource, PublishedCa, PublishedIssuer, PublishedKind, SiteDocument, SiteSettings,
};
use crate::control::snapshot::Registry;
use crate::control::testing::{Ca, NOW, ca, leaf};
use crate::control::tokens::testing::{TestKey, jwks};
use serde_json::json;
use std::sync::Arc;

struct Lab {
    registry: Registry,
    settings: SiteSettings,
    key: TestKey,
    root: Ca,
}

impl Lab {
    fn new() -> Lab {
        let (root, key) = (ca("root"), TestKey::es256("k"));
        let settings = SiteSettings {
            revision: 1,
            client_ca: vec![PublishedCa {
                name: "corp".into(),
                pem: root.pem(),
                id: IdField::Cn,
            }],
            deny_clients: vec!["cert:corp/denied".into(), "oidc:idp/denied".into()],
            issuers: vec![PublishedIssuer {
                name: "idp".into(),
                kind: PublishedKind::Oidc,
                issuer: "https://idp.example".into(),
                audience: vec!["api".into()],
                tenants: vec![],
                id: "sub".into(),
                keys: KeySource::Set(jwks(&[&key])),
            }],
            ..SiteSettings::default()
        };
        let registry = Registry::new(&[SiteConfig {
            name: "main".into(),
            hosts: vec!["*".into()],
            connectors: vec![],
        }]);
        let mut lab = Lab {
            registry,
            settings,
            key,
            root,
        };
        lab.publish();
        lab
    }

    fn publish(&mut self) {
        let document = SiteDocument {
            site: self.settings.clone(),
            routes: vec![],
        };
        let (bytes, hash) = document.encode();
        self.registry
            .publish("main", "cp-1", hash, &bytes)
            .expect("good settings");
    }

    fn snapshot(&self) -> Arc<Snapshot> {
        self.registry.current()
    }

    fn chain(&self, name: &str) -> Chain {
        let other = ca("stranger");
        let issuer = if name == "stranger" {
            &other
        } else {
            &self.root
        };
        Chain::new(vec![leaf(name, issuer, |_| {})]).expect("a leaf")
    }

    fn token(&self, sub: &str, exp: i64) -> String {
        let claims = json!({"iss": "https://idp.example", "aud": "api", "sub": sub, "exp": exp});
        self.key.token(&claims)
    }
}

/// Who came in (empty: nobody in particular), or the fault.
fn enter(
    judge: &mut Judge,
    lab: &Lab,
    required: Auth,
    chain: Option<&Chain>,
    token: Option<&str>,
    now: i64,
) -> Result<String, Fault> {
    let shown = Credentials {
        chain,
        bearer: token.map_or(Bearer::Absent, |token| Bearer::Token(token.as_bytes())),
        last_token: &mut None,
    };
    let entry = judge.enter(&lab.snapshot(), 0, required, shown, now);
    let id = |entry: Entry| {
        entry
            .identity()
            .map_or(String::new(), |identity| identity.client_id.clone())
    };
    entry.map(id).map_err(|refused| refused.fault)
}

#[test]
#[rustfmt::skip]
fn every_row_of_the_table() {
    use Auth::{Any, Certificate, None as Open, Token};
    let lab = Lab::new();
    let (good, denied, stranger) = (lab.chain("pc"), lab.chain("denied"), lab.chain("stranger"));
    let (token, bad, barred) = (lab.token("u", NOW + 100), lab.token("u", NOW - 1), lab.token("denied", NOW + 100));
    let (token, bad, barred) = (Some(token.as_str()), Some(bad.as_str()), Some(barred.as_str()));
    let cert = || Ok("cert:corp/pc".to_owned());
    let user = || Ok("oidc:idp/u".to_owned());
    let nobody = || Ok(String::new());
    let (none, forbidden, revoked) = (Err(Fault::Unauthenticated), Err(Fault::Forbidden), Err(Fault::Revoked));
    type Row<'a> = (Auth, Option<&'a Chain>, Option<&'a str>, Result<String, Fault>);
    let rows: Vec<Row<'_>> = vec![
        (Open, Some(&denied), None, revoked.clone()), (Certificate, Some(&denied), None, revoked.clone()),
        (Token, Some(&denied), token, revoked.clone()), (Any, Some(&denied), token, revoked.clone()),
        (Open, Some(&good), None, cert()), (Open, None, None, nobody()),
        (Open, Some(&stranger), None, nobody()), (Open, None, bad, nobody()),
        (Certificate, Some(&good), None, cert()), (Certificate, None, token, none.clone()),
        (Certificate, Some(&stranger), token, forbidden.clone()), (Certificate, None, None, none.clone()),
        (Any, Some(&good), token, cert()), (Any, Some(&good), bad, cert()),
        (Any, Some(&stranger), token, user()), (Any, None, token, user()),
        (Any, Some(&stranger), None, forbidden.clone()), (Any, None, None, none.clone()),
        (Any, None, barred, revoked.clone()), (Any, None, bad, none.clone()),
        (Token, None, token, user()), (Token, Some(&good), token, user()), (Token, Some(&stranger), token, user()),
        (Token, Some(&good), None, none.clone()), (Token, None, None, none.clone()),
        (Token, None, bad, none), (Token, None, barred, revoked),
    ];
    for (number, (required, chain, token, expected)) in rows.into_iter().enumerate() {
        let found = enter(&mut Judge::default(), &lab, required, chain, token, NOW);
        assert_eq!(found, expected, "row {number}: {required:?}");
    }
}

#[test]
fn a_verdict_is_remembered_until_its_end_and_not_beyond() {
    let lab = Lab::new();
    let mut judge = Judge::default();
    let token = lab.token("u", NOW + 100);
    let mut ask = |now| enter(&mut judge, &lab, Auth::Token, None, Some(&token), now);
    assert!(ask(NOW).is_ok() && ask(NOW + 99).is_ok());
    assert_eq!(ask(NOW + 100), Err(Fault::Unauthenticated));
    assert_eq!(
        (judge.counts.tokens_accepted, judge.counts.tokens_cached),
        (1, 1)
    );
}

#[test]
fn new_settings_judge_anew_and_routes_alone_do_not() {
    let mut lab = Lab::new();
    let mut judge = Judge::default();
    let (chain, token) = (lab.chain("pc"), lab.token("u", NOW + 100));
    let mut both = |lab: &Lab| {
        let certificate = enter(&mut judge, lab, Auth::Certificate, Some(&chain), None, NOW);
        let token = enter(&mut judge, lab, Auth::Token, None, Some(&token), NOW);
        (
            certificate,
            token,
            judge.counts.cached,
            judge.counts.tokens_cached,
        )
    };
    assert!(matches!(both(&lab), (Ok(_), Ok(_), 0, 0)));
    let before = lab.snapshot().number;
    // The same settings from another connector: a snapshot, and no other trust.
    let document = SiteDocument {
        site: lab.settings.clone(),
        routes: vec![],
    };
    let (bytes, hash) = document.encode();
    lab.registry
        .publish("main", "cp-2", hash, &bytes)
        .expect("good settings");
    assert!(lab.snapshot().number > before);
    assert!(matches!(both(&lab), (Ok(_), Ok(_), 1, 1)));
    lab.settings.revision = 2;
    lab.settings
        .deny_clients
        .extend(["cert:corp/pc".into(), "oidc:idp/u".into()]);
    lab.publish();
    assert!(matches!(
        both(&lab),
        (Err(Fault::Revoked), Err(Fault::Revoked), 1, 1)
    ));
}

/// The last token of a connection is no key to another's site, nor to another token that begins alike.
#[test]
fn a_connections_last_token_is_compared_whole() {
    let lab = Lab::new();
    let mut judge = Judge::default();
    let mut last = None;
    let good = lab.token("u", NOW + 100);
    let mut ask = |token: &str| {
        let shown = Credentials {
            chain: None,
            bearer: Bearer::Token(token.as_bytes()),
            last_token: &mut last,
        };
        judge
            .enter(&lab.snapshot(), 0, Auth::Token, shown, NOW)
            .is_ok()
    };
    assert!(ask(&good) && ask(&good));
    assert!(!ask(&good[..good.len() - 1]) && !ask(&format!("{good}A")) && !ask("x"));
    assert!(ask(&good), "a bad one between changes nothing");
}

#[test]
fn tokens_that_nobody_signed_take_no_room() {
    let lab = Lab::new();
    let mut judge = Judge::default();
    for n in 0..1000 {
        assert!(
            enter(
                &mut judge,
                &lab,
                Auth::Token,
                None,
                Some(&format!("{n}")),
                NOW
            )
            .is_err()
        );
    }
    assert_eq!(judge.tokens.len(), 0);
}

fn bearer<'a>(values: &[&'a str]) -> Bearer<'a> {
    Bearer::of(values.iter().map(|value| Field {
        name: b"Authorization",
        value: value.as_bytes(),
    }))
}

#[test]
fn bearer_tokens_are_found_and_other_schemes_left_alone() {
    assert_eq!(bearer(&[]), Bearer::Absent);
    assert_eq!(bearer(&["Bearer a.b.c"]), Bearer::Token(b"a.b.c"));
    assert_eq!(bearer(&["bEARER   a.b.c "]), Bearer::Token(b"a.b.c"));
    assert_eq!(bearer(&["Basic dTpw"]), Bearer::Absent);
    assert_eq!(bearer(&["Bearerx"]), Bearer::Absent);
    assert_eq!(bearer(&[""]), Bearer::Absent);
    assert!(matches!(bearer(&["Bearer"]), Bearer::Malformed(_)));
    assert!(matches!(bearer(&["Bearer  "]), Bearer::Malformed(_)));
    assert!(matches!(
        bearer(&["Bearer a", "Bearer a"]),
        Bearer::Malformed(_)
    ));
    assert!(matches!(
        bearer(&["Basic a", "Bearer a"]),
        Bearer::Malformed(_)
    ));
    let long = format!("Bearer {}", "a".repeat(MAX_TOKEN_BYTES + 1));
    assert!(matches!(bearer(&[&long]), Bearer::Malformed(_)));
}

#[test]
fn chains_of_one_leaf_are_told_apart() {
    let hash = |chain: &[&[u8]]| {
        let chain = chain.iter().map(|der| der.to_vec()).collect();
        Chain::new(chain).map(|chain| chain.hash)
    };
    assert_eq!(hash(&[]), None);
    assert_eq!(hash(&[b"ab", b"c"]), hash(&[b"ab", b"c"]));
    assert_ne!(hash(&[b"ab", b"c"]), hash(&[b"ab"]));
    assert_ne!(hash(&[b"ab", b"c"]), hash(&[b"a", b"bc"]));
    assert_ne!(hash(&[b"ab", b"c"]), hash(&[b"abc"]));
}

/// Anybody can connect with certificates of his own making: they take nothing from those that are known.
#[test]
fn strangers_certificates_push_no_verdict_out() {
    let (lab, mut judge) = (Lab::new(), Judge::default());
    let mut come = |chain: &Chain| {
        let came = enter(&mut judge, &lab, Auth::Certificate, Some(chain), None, NOW);
        (came, judge.counts)
    };
    let good = lab.chain("pc");
    assert_eq!(come(&good).1.accepted, 1);
    for n in 0..2 * REMEMBERED_MAX {
        let chain = Chain::new(vec![n.to_be_bytes().to_vec()]).unwrap();
        assert_eq!(come(&chain).0, Err(Fault::Forbidden));
        // On its connection the rejection is remembered.
        if n == 0 {
            let counts = come(&chain).1;
            assert_eq!((counts.rejected, counts.cached), (1, 1));
        }
    }
    let (_, counts) = come(&good);
    assert_eq!((counts.accepted, counts.cached), (1, 2));
}
