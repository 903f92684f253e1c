//! Algorithms and keys: none, HMAC by the public key, strangers' keys, keys that a token brings.

use super::super::{TestKey, base64url, jwks};
use super::Verdict::{Invalid, NoKeys, UnknownKey};
use super::{IDP, Table, changed};
use aws_lc_rs::hmac;
use serde_json::{Value, json};

impl Table<'_> {
    pub(super) fn algorithms(&mut self) {
        let (lab, claims) = (self.lab, self.lab.idp_claims(self.now).to_string());
        for alg in ["none", "None", "NONE", "nOnE", "none ", ""] {
            let header = json!({"alg": alg, "typ": "JWT"}).to_string();
            let unsigned = format!("{}.{}.", base64url(&header), base64url(&claims));
            self.add(format!("alg {alg:?}, unsigned"), unsigned.clone(), Invalid);
            self.add(
                format!("alg {alg:?}, no third part"),
                unsigned.trim_end_matches('.'),
                Invalid,
            );
            self.add(
                format!("alg {alg:?}, signed"),
                lab.ec.token_of(header, &claims),
                Invalid,
            );
        }
        for alg in [
            "es256", "ES256 ", "ES384", "ES256K", "PS256", "RS512", "RS1", "Ed25519", "dir",
        ] {
            self.header(&format!("alg {alg:?}"), json!({"alg": alg}), Invalid);
        }
        for alg in [
            Value::Null,
            json!(256),
            json!(["ES256"]),
            json!({"ES256": 1}),
            json!(true),
        ] {
            self.header(&format!("alg {alg}"), json!({"alg": alg}), Invalid);
        }
        // The key decides: a name of another algorithm over the right signature, and the reverse.
        self.header("EdDSA over an ES256 key", json!({"alg": "EdDSA"}), Invalid);
        self.header("RS256 over an ES256 key", json!({"alg": "RS256"}), Invalid);
        let header = json!({"alg": "ES256", "kid": "d1"}).to_string();
        self.add(
            "ES256 with an EdDSA key's id",
            lab.ec.token_of(header, &claims),
            Invalid,
        );
        let header = json!({"alg": "ES256", "kid": "d1"}).to_string();
        self.add(
            "ES256 said, EdDSA signed",
            lab.ed.token_of(header, &claims),
            Invalid,
        );
        let header = json!({"alg": "EdDSA"}).to_string();
        self.add(
            "EdDSA said, ES256 signed",
            lab.ec.token_of(header, &claims),
            UnknownKey,
        );
    }

    /// The public key as the secret of an HMAC, in each form a careless library might take it in.
    pub(super) fn hmacs(&mut self) {
        let lab = self.lab;
        let claims = lab.entra_claims(self.now).to_string();
        let jwk = lab.rsa.jwk();
        let modulus = jwk["n"].as_str().unwrap_or_default().to_owned();
        let secrets: [(&str, Vec<u8>); 6] = [
            ("DER", lab.rsa.public().to_vec()),
            ("PEM", pem(lab.rsa.public())),
            ("JWK", jwk.to_string().into_bytes()),
            ("JWKS", jwks(&[&lab.rsa]).into_bytes()),
            ("modulus", modulus.into_bytes()),
            ("nothing", Vec::new()),
        ];
        for (form, secret) in secrets {
            for alg in ["HS256", "RS256"] {
                let header = json!({"alg": alg, "typ": "JWT", "kid": "r1"}).to_string();
                let signed = format!("{}.{}", base64url(header), base64url(&claims));
                let key = hmac::Key::new(hmac::HMAC_SHA256, &secret);
                let tag = base64url(hmac::sign(&key, signed.as_bytes()));
                self.add(
                    format!("{alg}, HMAC by {form}"),
                    format!("{signed}.{tag}"),
                    Invalid,
                );
            }
        }
    }

    /// Keys of nobody, and of the wrong one.
    pub(super) fn strangers(&mut self) {
        let (lab, now) = (self.lab, self.now);
        let (entra, idp, site) = (
            lab.entra_claims(now),
            lab.idp_claims(now),
            lab.site_claims(now),
        );
        self.add(
            "RS256 by a stranger",
            lab.strange_rsa.token(&entra),
            Invalid,
        );
        self.add("ES256 by a stranger", lab.strange_ec.token(&idp), Invalid);
        self.add("EdDSA by a stranger", lab.strange_ed.token(&idp), Invalid);
        self.add(
            "idp's claims by entra's key",
            lab.rsa.token(&idp),
            UnknownKey,
        );
        self.add(
            "idp's claims by the site's key",
            lab.site.token(&idp),
            UnknownKey,
        );
        self.add(
            "site's claims by idp's key",
            lab.ec.token(&site),
            UnknownKey,
        );
        self.add(
            "entra's claims by idp's key",
            lab.ec.token(&entra),
            UnknownKey,
        );
        let forged = |key: &TestKey, kid: &str, claims: &Value| {
            let header = json!({"alg": key.algorithm(), "kid": kid}).to_string();
            key.token_of(header, claims.to_string())
        };
        self.add(
            "site's key under idp's id",
            forged(&lab.site, "e1", &idp),
            Invalid,
        );
        self.add(
            "idp's key under the site's id",
            forged(&lab.ec, "s1", &site),
            Invalid,
        );
        self.add(
            "idp's key under entra's id",
            forged(&lab.ec, "r1", &entra),
            Invalid,
        );
        let no_kid = json!({"alg": "ES256"}).to_string();
        let stranger = lab.strange_ec.token_of(&no_kid, idp.to_string());
        self.add("stranger without kid", stranger, UnknownKey);
        let late = changed(idp, &json!({"iss": "https://late.example"}));
        self.add("keys not there yet", lab.ec.token(&late), NoKeys);
        self.add(
            "keys not there yet, stranger",
            lab.strange_ed.token(&late),
            NoKeys,
        );
    }

    /// What a token says of keys selects among the issuer's, or nothing.
    pub(super) fn keys_of_the_token(&mut self) {
        let lab = self.lab;
        let claims = lab.idp_claims(self.now).to_string();
        for (name, member, value) in [
            ("jwk", "jwk", lab.strange_ec.jwk()),
            ("jku", "jku", json!("https://evil.example/keys.json")),
            ("x5u", "x5u", json!("https://evil.example/cert.pem")),
            ("x5c", "x5c", json!(["MIIB"])),
            ("x5t", "x5t", json!("AAAA")),
        ] {
            let mut header = lab.strange_ec.header();
            header[member] = value.clone();
            let token = lab.strange_ec.token_of(header.to_string(), &claims);
            self.add(format!("own key by {name}"), token, Invalid);
            header["kid"] = json!("mine");
            let token = lab.strange_ec.token_of(header.to_string(), &claims);
            self.add(format!("own key by {name}, own kid"), token, UnknownKey);
            self.header(
                &format!("{name} beside a good key"),
                json!({ member: value }),
                IDP,
            );
        }
        for kid in [
            "",
            "E1",
            "e1 ",
            "e1\0",
            "../e1",
            "e1' or '1'='1",
            "s1",
            "r1",
            "0",
            "ｅ1",
        ] {
            self.header(&format!("kid {kid:?}"), json!({"kid": kid}), UnknownKey);
        }
        for kid in [
            json!(1),
            json!(["e1"]),
            json!({"e1": 1}),
            json!(true),
            json!("k".repeat(257)),
        ] {
            self.header(&format!("kid {kid:.20}"), json!({"kid": kid}), Invalid);
        }
        self.raw(
            "kid null",
            br#"{"alg":"ES256","kid":null}"#,
            claims.as_bytes(),
            Invalid,
        );
        self.header(
            "kid of another algorithm's key",
            json!({"kid": "d1"}),
            Invalid,
        );
    }
}

fn pem(der: &[u8]) -> Vec<u8> {
    use base64::Engine;
    let body = base64::engine::general_purpose::STANDARD.encode(der);
    format!("-----BEGIN RSA PUBLIC KEY-----\n{body}\n-----END RSA PUBLIC KEY-----\n").into_bytes()
}
