//! The judgement against the table of attacks, the RFCs' vectors, key sets of all kinds, and chance.

mod known;
mod random;
mod sets;

use super::testing::attacks::{self, Verdict};
use super::testing::{Lab, OTHER_TENANT, TENANT, TestKey, jwks};
use super::*;
use serde_json::json;
use std::sync::OnceLock;

pub const NOW: i64 = 1_750_000_000;

pub fn lab() -> &'static Lab {
    static LAB: OnceLock<Lab> = OnceLock::new();
    LAB.get_or_init(Lab::new)
}

pub fn issuers() -> Vec<Issuer> {
    let strings = |all: &[&str]| all.iter().map(|&one| one.to_owned()).collect();
    let lab = lab().issuers();
    lab.iter()
        .map(|issuer| Issuer {
            name: issuer.name.into(),
            kind: if issuer.is_site {
                IssuerKind::Site
            } else {
                IssuerKind::Oidc
            },
            issuer: issuer.issuer.into(),
            audience: strings(issuer.audience),
            tenants: strings(issuer.tenants),
            id: issuer.id.into(),
            keys: issuer
                .jwks
                .as_ref()
                .map(|keys| Arc::new(KeySet::parse(keys.as_bytes()).unwrap())),
        })
        .collect()
}

#[test]
fn every_attack_meets_its_verdict() {
    let issuers = issuers();
    let cases = attacks::all(lab(), NOW);
    assert!(cases.len() > 300, "only {} cases", cases.len());
    let mut wrong = Vec::new();
    for case in &cases {
        let verdict = verify(&issuers, &case.token, NOW);
        let met = match (&verdict, &case.verdict) {
            (Ok(identity), Verdict::Valid(id)) => {
                let user = identity.user.as_deref().unwrap_or_default();
                identity.client_id == *id && case.user.is_none_or(|expected| user == expected)
            }
            (Err(Refusal::Invalid(_)), Verdict::Invalid) => true,
            (Err(Refusal::UnknownKey { issuer }), Verdict::UnknownKey) => *issuer < 4,
            (Err(Refusal::NoKeys { issuer }), Verdict::NoKeys) => *issuer == 4,
            _ => false,
        };
        if !met {
            wrong.push(format!(
                "{}: {verdict:?}, not {:?}",
                case.name, case.verdict
            ));
        }
        // What is said of it is one line and never what the token brought.
        if let Err(Refusal::Invalid(why)) = &verdict {
            assert!(
                why.is_ascii() && !why.contains('\n') && why.len() < 80,
                "{why:?}"
            );
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The canary: the table tells a verifier that takes everything from one that takes nothing.
#[test]
fn the_table_has_both_sides() {
    let cases = attacks::all(lab(), NOW);
    let valid = cases
        .iter()
        .filter(|case| matches!(case.verdict, Verdict::Valid(_)));
    let valid = valid.count();
    assert!(
        valid > 30 && cases.len() - valid > 250,
        "{valid} of {}",
        cases.len()
    );
    let mut names: Vec<_> = cases.iter().map(|case| &case.name).collect();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), cases.len(), "two cases share a name");
}

#[test]
fn an_identity_says_what_the_token_says() {
    let (lab, issuers) = (lab(), issuers());
    let token = lab.rsa.token(&lab.entra_claims(NOW));
    let text = |text: &str| Some(text.to_owned());
    let expected = TokenIdentity {
        client_id: "oidc:entra/0f1e2d3c".into(),
        issuer: 0,
        token_id: text("u-1"),
        user: text("ann@corp.example"),
        device: text("dev-1"),
        tenant: text(TENANT),
        not_after: NOW + 3600,
    };
    assert_eq!(verify(&issuers, token.as_bytes(), NOW), Ok(expected));

    let mut claims = lab.idp_claims(NOW);
    claims["uti"] = json!("not this");
    claims["tid"] = json!(OTHER_TENANT);
    claims["device_id"] = json!("d 2");
    claims["exp"] = json!(NOW as f64 + 60.75);
    let expected = TokenIdentity {
        client_id: "oidc:idp/pc-1".into(),
        issuer: 1,
        token_id: text("j-1"),
        user: text("bob@corp.example"),
        device: text("d 2"),
        tenant: text(OTHER_TENANT),
        not_after: NOW + 60,
    };
    let token = lab.ed.token(&claims);
    assert_eq!(verify(&issuers, token.as_bytes(), NOW), Ok(expected));
}

#[test]
fn optional_claims_are_the_first_that_can_be_used() {
    let (lab, issuers) = (lab(), issuers());
    let judged = |changes: &[(&str, serde_json::Value)]| {
        let mut claims = lab.idp_claims(NOW);
        for (name, value) in changes {
            claims[*name] = value.clone();
        }
        verify(&issuers, lab.ec.token(&claims).as_bytes(), NOW).unwrap()
    };
    let user = |changes: &[(&str, serde_json::Value)]| judged(changes).user.unwrap_or_default();
    assert_eq!(
        user(&[("upn", json!("u")), ("unique_name", json!("n"))]),
        "u"
    );
    assert_eq!(
        user(&[("preferred_username", json!("p")), ("upn", json!("u"))]),
        "p"
    );
    assert_eq!(
        user(&[("preferred_username", json!("jürgen")), ("upn", json!("u"))]),
        "u"
    );
    assert_eq!(user(&[("email", json!("x\r\ny"))]), "");
    assert_eq!(user(&[("email", json!("x".repeat(128)))]).len(), 128);
    assert_eq!(user(&[("email", json!("x".repeat(129)))]), "");
    assert_eq!(
        judged(&[("jti", json!(7)), ("uti", json!("u"))])
            .token_id
            .as_deref(),
        Some("u")
    );
    assert_eq!(judged(&[("jti", json!(""))]).token_id, None);
    assert_eq!(
        judged(&[("deviceid", json!("")), ("device_id", json!("b"))])
            .device
            .as_deref(),
        Some("b")
    );
}

#[test]
fn client_ids_end_at_128_bytes_on_both_sides() {
    let (lab, issuers) = (lab(), issuers());
    let judged = |len: usize| {
        let mut claims = lab.idp_claims(NOW);
        claims["sub"] = json!("x".repeat(len - "oidc:idp/".len()));
        verify(&issuers, lab.ec.token(&claims).as_bytes(), NOW)
    };
    assert_eq!(judged(128).unwrap().client_id.len(), 128);
    assert!(matches!(judged(129), Err(Refusal::Invalid(_))));
}

#[test]
fn a_site_without_audience_takes_any_and_an_oidc_issuer_none() {
    let lab = lab();
    let mut issuers = issuers();
    for issuer in &mut issuers {
        issuer.audience.clear();
    }
    let mut claims = lab.site_claims(NOW);
    assert!(verify(&issuers, lab.site.token(&claims).as_bytes(), NOW).is_ok());
    claims["aud"] = json!([1]);
    assert!(verify(&issuers, lab.site.token(&claims).as_bytes(), NOW).is_ok());
    let idp = lab.ec.token(&lab.idp_claims(NOW));
    assert!(matches!(
        verify(&issuers, idp.as_bytes(), NOW),
        Err(Refusal::Invalid(_))
    ));
}

#[test]
fn a_placeholder_without_tenants_fits_nothing_and_a_sites_is_plain_text() {
    let lab = lab();
    let mut issuers = issuers();
    let token = lab.rsa.token(&lab.entra_claims(NOW));
    issuers[0].tenants.clear();
    let why = verify(&issuers, token.as_bytes(), NOW).unwrap_err();
    assert_eq!(
        why,
        Refusal::Invalid("the token's issuer is not one of ours".into())
    );
    issuers[3].issuer = "urn:{tenantid}".into();
    issuers[3].tenants = vec![TENANT.into()];
    let mut claims = lab.site_claims(NOW);
    claims["tid"] = json!(TENANT);
    for (iss, fits) in [
        ("urn:{tenantid}".to_owned(), true),
        (format!("urn:{TENANT}"), false),
    ] {
        claims["iss"] = json!(iss);
        assert_eq!(
            verify(&issuers, lab.site.token(&claims).as_bytes(), NOW).is_ok(),
            fits
        );
    }
}

/// The refusal that newer keys may turn counts, whatever the order of the issuers.
#[test]
fn of_several_issuers_the_one_that_fits_best_speaks() {
    let lab = lab();
    let mut claims = lab.idp_claims(NOW);
    claims["aud"] = json!(["gate", "apps"]);
    claims["client"] = json!("app-7");
    let token = lab.ec.token(&claims);
    let mut issuers = issuers();
    issuers[1].keys = None;
    assert_eq!(
        verify(&issuers, token.as_bytes(), NOW).unwrap().client_id,
        "oidc:apps/app-7"
    );
    issuers[2].keys = Some(Arc::new(
        KeySet::parse(jwks(&[&lab.strange_ec]).as_bytes()).unwrap(),
    ));
    assert_eq!(
        verify(&issuers, token.as_bytes(), NOW),
        Err(Refusal::NoKeys { issuer: 1 })
    );
    issuers.swap(1, 2);
    assert_eq!(
        verify(&issuers, token.as_bytes(), NOW),
        Err(Refusal::NoKeys { issuer: 2 })
    );
    claims["aud"] = json!(["x"]);
    let token = lab.ec.token(&claims);
    let why = Refusal::Invalid("the token is for another audience".into());
    assert_eq!(verify(&issuers, token.as_bytes(), NOW), Err(why));
}

#[test]
fn clocks_at_their_ends_overflow_nothing() {
    let (lab, issuers) = (lab(), issuers());
    let token = lab.ec.token(&lab.idp_claims(NOW));
    for now in [i64::MIN, i64::MIN + 1, -1, 0, i64::MAX - 1, i64::MAX] {
        assert!(verify(&issuers, token.as_bytes(), now).is_err());
    }
    assert!(verify(&[], token.as_bytes(), NOW).is_err());
}

/// Shards share one set of keys and verify with it at the same time.
#[test]
fn many_threads_verify_with_one_set() {
    let (lab, issuers) = (lab(), issuers());
    let tokens = [
        lab.rsa.token(&lab.entra_claims(NOW)),
        lab.ec.token(&lab.idp_claims(NOW)),
        lab.ed.token(&lab.idp_claims(NOW)),
    ];
    let forged = lab.strange_rsa.token(&lab.entra_claims(NOW));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..100 {
                    for token in &tokens {
                        assert!(verify(&issuers, token.as_bytes(), NOW).is_ok());
                    }
                    assert!(verify(&issuers, forged.as_bytes(), NOW).is_err());
                }
            });
        }
    });
}

#[test]
fn at_most_four_keys_are_tried() {
    let lab = lab();
    let keys: Vec<TestKey> = (0..5).map(|_| TestKey::es256("same")).collect();
    let named = jwks(&keys.iter().collect::<Vec<_>>());
    let mut issuers = issuers();
    issuers[1].keys = Some(Arc::new(KeySet::parse(named.as_bytes()).unwrap()));
    let claims = lab.idp_claims(NOW);
    let no_kid = json!({"alg": "ES256"}).to_string();
    for (number, key) in keys.iter().enumerate() {
        let by_kid = verify(&issuers, key.token(&claims).as_bytes(), NOW);
        assert_eq!(by_kid.is_ok(), number < MAX_TRIALS, "{number}: {by_kid:?}");
        let without = key.token_of(&no_kid, claims.to_string());
        assert_eq!(
            verify(&issuers, without.as_bytes(), NOW).is_ok(),
            number < MAX_TRIALS
        );
    }
}
