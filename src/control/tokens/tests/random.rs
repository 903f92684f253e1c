//! Chance: nothing panics, and no token but the one signed passes.

use super::*;
use crate::control::tokens::testing::base64url;
use proptest::prelude::*;

/// One valid token of each algorithm.
fn tokens() -> [String; 3] {
    let lab = lab();
    [
        lab.rsa.token(&lab.entra_claims(NOW)),
        lab.ec.token(&lab.idp_claims(NOW)),
        lab.ed.token(&lab.idp_claims(NOW)),
    ]
}

/// Each byte, in all its bits one by one, and as some other characters of the alphabet.
#[test]
fn no_token_with_one_byte_changed_verifies() {
    let issuers = issuers();
    for token in tokens() {
        assert!(verify(&issuers, token.as_bytes(), NOW).is_ok());
        let mut bytes = token.into_bytes();
        for at in 0..bytes.len() {
            let good = bytes[at];
            let bits = (0..8).map(|bit| good ^ (1 << bit));
            for other in bits.chain(*b"AZaz09-_.=+/").filter(|other| *other != good) {
                bytes[at] = other;
                let verdict = verify(&issuers, &bytes, NOW);
                assert!(verdict.is_err(), "byte {at}: {good} as {other}");
            }
            bytes[at] = good;
        }
    }
}

#[test]
fn no_token_cut_short_verifies() {
    let issuers = issuers();
    for token in tokens() {
        for end in 0..token.len() {
            assert!(
                verify(&issuers, &token.as_bytes()[..end], NOW).is_err(),
                "{end} bytes"
            );
        }
    }
}

fn json_text() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("null".to_owned()),
        Just("true".to_owned()),
        any::<i64>().prop_map(|n| n.to_string()),
        any::<f64>().prop_map(|n| format!("{n:e}")),
        any::<String>().prop_map(|text| json!(text).to_string()),
        Just("\"https://idp.example\"".to_owned()),
        Just("\"gate\"".to_owned()),
    ];
    leaf.prop_recursive(10, 64, 6, |inner| {
        let name = prop_oneof![
            proptest::sample::select(vec![
                "iss", "aud", "sub", "exp", "nbf", "iat", "tid", "alg", "kid"
            ])
            .prop_map(str::to_owned),
            any::<String>(),
        ];
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..20)
                .prop_map(|items| format!("[{}]", items.join(","))),
            proptest::collection::vec((name, inner), 0..12).prop_map(|members| {
                let members: Vec<_> = members
                    .iter()
                    .map(|(name, value)| format!("{}:{value}", json!(name)))
                    .collect();
                format!("{{{}}}", members.join(","))
            }),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn any_bytes_are_refused(bytes in proptest::collection::vec(any::<u8>(), 0..2000), now in any::<i64>()) {
        prop_assert!(verify(&issuers(), &bytes, now).is_err());
        let _ = KeySet::parse(&bytes);
    }

    /// Three parts of base64url get past the first checks.
    #[test]
    fn any_parts_are_refused(parts in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..300), 3)) {
        let token: Vec<_> = parts.iter().map(base64url).collect();
        prop_assert!(verify(&issuers(), token.join(".").as_bytes(), NOW).is_err());
    }

    /// What a trusted issuer signs may be odd too: it is judged, and an identity is always fit for a header field.
    #[test]
    fn any_signed_json_is_judged(claims in json_text(), header in json_text(), now in any::<i64>()) {
        let key = &lab().ec;
        let good = key.header().to_string();
        for (header, claims) in [(&good, &claims), (&header, &claims)] {
            if let Ok(identity) = verify(&issuers(), key.token_of(header, claims).as_bytes(), now) {
                prop_assert!(claims::is_plain(&identity.client_id));
                prop_assert!(identity.not_after > now);
            }
        }
        let _ = KeySet::parse(claims.as_bytes());
    }

    /// Any end and any clock: refused from the end on, and only then.
    #[test]
    fn the_end_is_the_end(exp in 0i64..253_402_300_799, offset in -3i64..3) {
        let mut claims = lab().idp_claims(0);
        claims["iat"] = json!(0);
        claims["exp"] = json!(exp);
        let token = lab().ec.token(&claims);
        let now = exp + offset;
        let verdict = verify(&issuers(), token.as_bytes(), now);
        // The token was issued at 0: earlier clocks refuse it too.
        prop_assert_eq!(verdict.is_ok(), now < exp && now >= -CLOCK_SKEW_SECONDS);
        if let Ok(identity) = verdict {
            prop_assert_eq!(identity.not_after, exp);
        }
    }
}
