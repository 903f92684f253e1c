//! What judging a bearer token costs, CPU time of one core: a valid token of each algorithm, an Entra ID token with 200
//! groups, forgeries that are refused before and at the signature, and reading a key set.
//!
//! Promises (`token_*` in tuning/budgets.toml): what is no token is refused before a signature is computed.

#[path = "../src/control/tokens/testing/mod.rs"]
mod tokens;

use criterion::{Criterion, criterion_group, criterion_main};
use serde_json::json;
use std::hint::black_box;
use std::sync::Arc;
use tidegate::control::tokens::{Issuer, IssuerKind, KeySet, Refusal, verify};
use tokens::{Lab, LabIssuer, jwks};

const NOW: i64 = 1_750_000_000;

fn issuer(lab: &LabIssuer) -> Issuer {
    let strings = |all: &[&str]| all.iter().map(|&one| one.to_owned()).collect();
    let keys = |text: &String| Arc::new(KeySet::parse(text.as_bytes()).expect("a good set"));
    Issuer {
        name: lab.name.into(),
        kind: if lab.is_site {
            IssuerKind::Site
        } else {
            IssuerKind::Oidc
        },
        issuer: lab.issuer.into(),
        audience: strings(lab.audience),
        tenants: strings(lab.tenants),
        id: lab.id.into(),
        keys: lab.jwks.as_ref().map(keys),
    }
}

fn verifying(criterion: &mut Criterion) {
    let lab = Lab::new();
    let issuers: Vec<Issuer> = lab.issuers().iter().map(issuer).collect();
    let (entra, idp) = (lab.entra_claims(NOW), lab.idp_claims(NOW));
    let groups: Vec<String> = (0..200)
        .map(|n| format!("{n:08x}-86f1-41af-91ab-2d7cd011db47"))
        .collect();
    let mut large = entra.clone();
    large["groups"] = json!(groups);
    let mut group = criterion.benchmark_group("token");
    for (name, token) in [
        ("rs256", lab.rsa.token(&entra)),
        ("rs256-200-groups", lab.rsa.token(&large)),
        ("es256", lab.ec.token(&idp)),
        ("eddsa", lab.ed.token(&idp)),
    ] {
        assert!(verify(&issuers, token.as_bytes(), NOW).is_ok());
        group.bench_function(name, |bencher| {
            bencher.iter(|| verify(black_box(&issuers), black_box(token.as_bytes()), NOW));
        });
    }
    let mut expired = idp.clone();
    expired["exp"] = json!(NOW);
    for (name, token) in [
        ("refused-expired", lab.ec.token(&expired)),
        ("refused-unknown-kid", lab.site.token(&idp)),
        ("refused-forged-rs256", lab.strange_rsa.token(&entra)),
        ("refused-no-json", "A".repeat(8000) + ".AAAA.AAAA"),
    ] {
        let verdict = verify(&issuers, token.as_bytes(), NOW);
        assert!(matches!(
            verdict,
            Err(Refusal::Invalid(_) | Refusal::UnknownKey { .. })
        ));
        group.bench_function(name, |bencher| {
            bencher.iter(|| verify(black_box(&issuers), black_box(token.as_bytes()), NOW));
        });
    }
    let set = jwks(&[&lab.rsa, &lab.ec, &lab.ed]);
    group.bench_function("key-set", |bencher| {
        bencher.iter(|| KeySet::parse(black_box(set.as_bytes())));
    });
    group.finish();
}

criterion_group!(benches, verifying);
criterion_main!(benches);
