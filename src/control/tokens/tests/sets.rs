//! Key sets: what is taken, what is passed over, what is an error.

use super::*;
use crate::control::settings::MAX_KEY_SET_BYTES;
use crate::control::tokens::testing::base64url;
use serde_json::Value;

fn set(keys: Vec<Value>) -> Result<KeySet, String> {
    KeySet::parse(json!({ "keys": keys }).to_string().as_bytes())
}

/// Keys taken of a set that holds this one.
fn taken(key: Value) -> usize {
    set(vec![key]).unwrap().len()
}

fn with(mut key: Value, name: &str, value: Value) -> Value {
    key[name] = value;
    key
}

fn without(mut key: Value, name: &str) -> Value {
    key.as_object_mut().unwrap().remove(name);
    key
}

#[test]
fn keys_of_all_three_kinds_are_taken() {
    let lab = lab();
    let set = KeySet::parse(jwks(&[&lab.rsa, &lab.ec, &lab.ed]).as_bytes()).unwrap();
    assert_eq!((set.len(), set.is_empty()), (3, false));
    for key in [lab.rsa.jwk(), lab.ec.jwk(), lab.ed.jwk()] {
        for name in ["kid", "alg", "use"] {
            assert_eq!(taken(without(key.clone(), name)), 1, "without {name}");
        }
        let extra = with(key.clone(), "x5c", json!(["MIIB"]));
        assert_eq!(taken(with(extra, "x5t", json!("AA"))), 1);
        assert_eq!(taken(with(key.clone(), "key_ops", json!(["verify"]))), 1);
        assert_eq!(taken(with(key, "key_ops", json!(["sign", "verify"]))), 1);
    }
}

#[test]
fn what_a_key_says_of_its_use_must_agree() {
    let lab = lab();
    for key in [lab.rsa.jwk(), lab.ec.jwk(), lab.ed.jwk()] {
        for (name, value) in [
            ("alg", json!("HS256")),
            ("alg", json!("RS512")),
            ("alg", json!("none")),
            ("alg", json!("RSA-OAEP")),
            ("alg", json!(5)),
            ("alg", json!(null)),
            ("use", json!("enc")),
            ("use", json!("")),
            ("use", json!(["sig"])),
            ("key_ops", json!([])),
            ("key_ops", json!(["sign"])),
            ("key_ops", json!(["encrypt", "wrapKey"])),
            ("key_ops", json!("verify")),
            ("kid", json!(5)),
            ("kid", json!("k".repeat(257))),
            ("kty", json!("oct")),
            ("kty", json!("rsa")),
            ("kty", json!(5)),
            ("kty", json!("AKP")),
        ] {
            assert_eq!(
                taken(with(key.clone(), name, value.clone())),
                0,
                "{name} {value}"
            );
        }
        assert_eq!(taken(without(key, "kty")), 0);
    }
    let of_another = with(lab.ec.jwk(), "alg", json!("RS256"));
    assert_eq!(taken(of_another), 0);
}

#[test]
fn points_and_lengths_are_checked() {
    let (ec, ed) = (lab().ec.jwk(), lab().ed.jwk());
    let x = |key: &Value| key["x"].as_str().unwrap().to_owned();
    for (name, value) in [
        ("crv", json!("P-384")),
        ("crv", json!("secp256k1")),
        ("crv", json!("Ed25519")),
        ("x", json!(base64url([0; 32]))),
        ("x", json!(base64url([0xff; 32]))),
        ("x", json!(format!("{}=", x(&ec)))),
        ("x", json!(base64url([1; 31]))),
        ("x", json!(base64url([1; 33]))),
        ("x", json!("")),
        ("x", json!(7)),
        ("y", json!(x(&ec))),
        ("y", json!("!")),
    ] {
        assert_eq!(
            taken(with(ec.clone(), name, value.clone())),
            0,
            "{name} {value}"
        );
    }
    for (name, value) in [
        ("crv", json!("X25519")),
        ("crv", json!("Ed448")),
        ("x", json!(base64url([1; 31]))),
        ("x", json!(base64url([1; 64]))),
        ("x", json!(format!("{} ", x(&ed)))),
    ] {
        assert_eq!(
            taken(with(ed.clone(), name, value.clone())),
            0,
            "{name} {value}"
        );
    }
    assert_eq!(taken(without(ec, "y")), 0);
    assert_eq!(taken(without(ed, "x")), 0);
}

/// A modulus of this many bits with this last byte.
fn modulus(bits: usize, last: u8) -> String {
    let mut bytes = vec![0xa5; bits.div_ceil(8)];
    bytes[0] = 0x80 >> (bytes.len() * 8 - bits);
    *bytes.last_mut().unwrap() = last;
    base64url(bytes)
}

#[test]
fn rsa_keys_are_neither_short_nor_long_nor_weak() {
    let rsa = lab().rsa.jwk();
    for (bits, expected) in [
        (512, 0),
        (1024, 0),
        (2047, 0),
        (2048, 1),
        (3072, 1),
        (8192, 1),
        (8193, 0),
        (16_384, 0),
    ] {
        let key = with(rsa.clone(), "n", json!(modulus(bits, 1)));
        assert_eq!(taken(key), expected, "{bits} bits");
    }
    assert_eq!(
        taken(with(rsa.clone(), "n", json!(modulus(2048, 2)))),
        0,
        "even"
    );
    assert_eq!(
        taken(with(rsa.clone(), "n", json!(base64url([0; 256])))),
        0,
        "zero"
    );
    for (e, expected) in [
        (&[1, 0, 1][..], 1),
        (&[3], 1),
        (&[0, 1, 0, 1], 1),
        (&[1], 0),
        (&[0], 0),
        (&[], 0),
        (&[2], 0),
        (&[1, 0, 0], 0),
        (&[0xff; 6], 0),
        (&[0xff; 256], 0),
    ] {
        assert_eq!(
            taken(with(rsa.clone(), "e", json!(base64url(e)))),
            expected,
            "{e:?}"
        );
    }
}

#[test]
fn a_zero_before_the_modulus_changes_nothing() {
    let lab = lab();
    let mut key = lab.rsa.jwk();
    let n = super::super::jose::decode(key["n"].as_str().unwrap().as_bytes()).unwrap();
    key["n"] = json!(base64url([&[0], &n[..]].concat()));
    let mut issuers = issuers();
    issuers[0].keys = Some(Arc::new(set(vec![key]).unwrap()));
    let token = lab.rsa.token(&lab.entra_claims(NOW));
    assert!(verify(&issuers, token.as_bytes(), NOW).is_ok());
}

#[test]
fn keys_of_other_kinds_hide_none() {
    let lab = lab();
    let others = [
        json!({"kty": "AKP", "alg": "ML-DSA-44", "pub": "AAAA"}),
        with(lab.strange_rsa.jwk(), "use", json!("enc")),
        json!({}),
        json!({"kty": "EC", "crv": "P-521", "x": "AA", "y": "AA"}),
    ];
    let keys = set(others.into_iter().chain([lab.ec.jwk()]).collect()).unwrap();
    assert_eq!(keys.len(), 1);
    let mut issuers = issuers();
    issuers[1].keys = Some(Arc::new(keys));
    let token = lab.ec.token(&lab.idp_claims(NOW));
    assert!(verify(&issuers, token.as_bytes(), NOW).is_ok());
    // None is left: the issuer is there, its key is not.
    issuers[1].keys = Some(Arc::new(
        set(vec![with(lab.ec.jwk(), "use", json!("enc"))]).unwrap(),
    ));
    let unknown = Refusal::UnknownKey { issuer: 1 };
    assert_eq!(verify(&issuers, token.as_bytes(), NOW), Err(unknown));
}

#[test]
fn one_kid_may_name_keys_of_two_algorithms() {
    let lab = lab();
    let (ec, ed) = (lab.ec.jwk(), with(lab.ed.jwk(), "kid", json!("e1")));
    let mut issuers = issuers();
    issuers[1].keys = Some(Arc::new(set(vec![ed, lab.strange_ec.jwk(), ec]).unwrap()));
    let claims = lab.idp_claims(NOW);
    assert!(verify(&issuers, lab.ec.token(&claims).as_bytes(), NOW).is_ok());
    let header = json!({"alg": "EdDSA", "kid": "e1"}).to_string();
    let token = lab.ed.token_of(header, claims.to_string());
    assert!(verify(&issuers, token.as_bytes(), NOW).is_ok());
}

#[test]
fn a_private_key_makes_the_document_an_error() {
    let lab = lab();
    let private = |key: &TestKey| with(key.jwk(), "d", json!(base64url(key.private())));
    for (key, name) in [
        (private(&lab.ec), "EC"),
        (private(&lab.ed), "OKP"),
        (private(&lab.rsa), "RSA"),
        (with(lab.rsa.jwk(), "p", json!("AA")), "RSA p"),
        (with(lab.rsa.jwk(), "oth", json!([])), "RSA oth"),
        (json!({"kty": "oct", "k": "AAAA"}), "oct"),
        (json!({"kty": "AKP", "priv": "AAAA"}), "AKP"),
        (
            with(with(lab.ec.jwk(), "use", json!("enc")), "d", json!(null)),
            "for another use",
        ),
    ] {
        let why = set(vec![lab.ed.jwk(), key]).unwrap_err();
        assert!(why.contains("key 2 is private"), "{name}: {why}");
    }
}

#[test]
fn a_document_that_is_no_key_set_is_an_error() {
    for text in [
        "",
        "[]",
        "{}",
        "null",
        r#"{"keys":{}}"#,
        r#"{"keys":null}"#,
        r#"{"keys":[1]}"#,
        r#"{"keys":[[]]}"#,
        r#"{"Keys":[]}"#,
        r#"{"keys":[],"keys":[]}"#,
        r#"{"keys":[{"kty":"EC","kty":"RSA"}]}"#,
        r#"{"keys":[]} x"#,
        r#"{"keys":["#,
        "<html>",
    ] {
        assert!(KeySet::parse(text.as_bytes()).is_err(), "{text}");
    }
    assert!(KeySet::parse(b"{\"keys\":[],\"x\":\"\xff\"}").is_err());
    assert!(
        KeySet::parse(br#"{"keys":[],"issuer":"x"}"#)
            .unwrap()
            .is_empty()
    );
}

#[test]
fn sizes_end_on_both_sides_of_their_limits() {
    let keys = |count: usize| set(vec![json!({"kty": "x"}); count]);
    assert!(keys(MAX_KEYS).unwrap().is_empty());
    assert!(keys(MAX_KEYS + 1).unwrap_err().contains("64 keys"));
    let padded = |len: usize| {
        let frame = r#"{"keys":[],"x":""}"#;
        let x = "y".repeat(len - frame.len());
        KeySet::parse(json!({"keys": [], "x": x}).to_string().as_bytes())
    };
    assert!(padded(MAX_KEY_SET_BYTES).is_ok());
    assert!(
        padded(MAX_KEY_SET_BYTES + 1)
            .unwrap_err()
            .contains("256 KiB")
    );
}
