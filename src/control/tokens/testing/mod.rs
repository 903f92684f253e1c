//! Keys that sign, for tests: tokens of all three algorithms, and a lab of issuers whom [`attacks`] are made against.
//!
//! Nothing here needs the rest of the crate, so that benches and end-to-end tests can take it in by its path.
#![allow(dead_code)] // each user needs another part

pub mod attacks;

use aws_lc_rs::encoding::AsBigEndian;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeySize, PublicKeyComponents};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256,
    RsaKeyPair,
};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

pub fn base64url(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

enum Pair {
    Rsa(RsaKeyPair),
    Ec(EcdsaKeyPair),
    Ed(Ed25519KeyPair),
}

/// A key pair and the name it is published under.
pub struct TestKey {
    pub kid: String,
    pair: Pair,
}

impl TestKey {
    pub fn rs256(kid: &str) -> Self {
        Self::new(
            kid,
            Pair::Rsa(RsaKeyPair::generate(KeySize::Rsa2048).unwrap()),
        )
    }
    pub fn es256(kid: &str) -> Self {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        Self::new(kid, Pair::Ec(pair))
    }
    pub fn eddsa(kid: &str) -> Self {
        Self::new(kid, Pair::Ed(Ed25519KeyPair::generate().unwrap()))
    }
    fn new(kid: &str, pair: Pair) -> Self {
        Self {
            kid: kid.into(),
            pair,
        }
    }

    pub fn algorithm(&self) -> &'static str {
        match self.pair {
            Pair::Rsa(_) => "RS256",
            Pair::Ec(_) => "ES256",
            Pair::Ed(_) => "EdDSA",
        }
    }

    /// The public key as aws-lc encodes it: RSAPublicKey in DER, a point, 32 bytes.
    pub fn public(&self) -> &[u8] {
        match &self.pair {
            Pair::Rsa(pair) => pair.public_key().as_ref(),
            Pair::Ec(pair) => pair.public_key().as_ref(),
            Pair::Ed(pair) => pair.public_key().as_ref(),
        }
    }

    /// The private scalar or seed; of RSA nothing is told.
    pub fn private(&self) -> Vec<u8> {
        match &self.pair {
            Pair::Rsa(_) => vec![1],
            Pair::Ec(pair) => {
                let key: aws_lc_rs::encoding::EcPrivateKeyBin<'_> =
                    pair.private_key().as_be_bytes().unwrap();
                key.as_ref().to_vec()
            }
            Pair::Ed(pair) => {
                let seed = pair.seed().unwrap();
                let seed: aws_lc_rs::encoding::Curve25519SeedBin<'_> = seed.as_be_bytes().unwrap();
                seed.as_ref().to_vec()
            }
        }
    }

    /// The public JWK with `kid`, `alg` and `use`.
    pub fn jwk(&self) -> Value {
        let public = self.public();
        let mut jwk = match &self.pair {
            Pair::Rsa(pair) => {
                let parts: PublicKeyComponents<Vec<u8>> = pair.public_key().into();
                json!({"kty": "RSA", "n": base64url(parts.n), "e": base64url(parts.e)})
            }
            Pair::Ec(_) => json!({"kty": "EC", "crv": "P-256",
                "x": base64url(&public[1..33]), "y": base64url(&public[33..])}),
            Pair::Ed(_) => json!({"kty": "OKP", "crv": "Ed25519", "x": base64url(public)}),
        };
        jwk["kid"] = json!(self.kid);
        jwk["alg"] = json!(self.algorithm());
        jwk["use"] = json!("sig");
        jwk
    }

    pub fn sign(&self, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match &self.pair {
            Pair::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature)
                    .unwrap();
                signature
            }
            Pair::Ec(pair) => pair.sign(&random, message).unwrap().as_ref().to_vec(),
            Pair::Ed(pair) => pair.sign(message).as_ref().to_vec(),
        }
    }

    /// The header as issuers write it.
    pub fn header(&self) -> Value {
        json!({"alg": self.algorithm(), "typ": "JWT", "kid": self.kid})
    }

    /// A token with these claims.
    pub fn token(&self, claims: &Value) -> String {
        self.token_of(self.header().to_string(), claims.to_string())
    }

    /// A token with this header and these claims, byte for byte.
    pub fn token_of(&self, header: impl AsRef<[u8]>, claims: impl AsRef<[u8]>) -> String {
        let signed = format!("{}.{}", base64url(header), base64url(claims));
        let signature = base64url(self.sign(signed.as_bytes()));
        format!("{signed}.{signature}")
    }
}

/// A JWKS document.
pub fn jwks(keys: &[&TestKey]) -> String {
    let keys: Vec<Value> = keys.iter().map(|key| key.jwk()).collect();
    json!({ "keys": keys }).to_string()
}

/// An issuer as its config would have it.
pub struct LabIssuer {
    pub name: &'static str,
    pub is_site: bool,
    pub issuer: &'static str,
    pub audience: &'static [&'static str],
    pub tenants: &'static [&'static str],
    pub id: &'static str,
    pub jwks: Option<String>,
}

pub const TENANT: &str = "72f988bf-86f1-41af-91ab-2d7cd011db47";
pub const OTHER_TENANT: &str = "9188040d-6c67-4c5b-b112-36a304b66dad";

/// Issuers with their keys, and keys of strangers.
pub struct Lab {
    /// `entra`'s one key, RS256.
    pub rsa: TestKey,
    /// `idp`'s and `apps`'s keys, ES256 and EdDSA.
    pub ec: TestKey,
    pub ed: TestKey,
    /// The site's.
    pub site: TestKey,
    /// Published by nobody, under the names of published ones.
    pub strange_rsa: TestKey,
    pub strange_ec: TestKey,
    pub strange_ed: TestKey,
}

impl Lab {
    pub fn new() -> Self {
        Self {
            rsa: TestKey::rs256("r1"),
            ec: TestKey::es256("e1"),
            ed: TestKey::eddsa("d1"),
            site: TestKey::es256("s1"),
            strange_rsa: TestKey::rs256("r1"),
            strange_ec: TestKey::es256("e1"),
            strange_ed: TestKey::eddsa("d1"),
        }
    }

    /// `entra` (tenants in `iss`), `idp`, `apps` (the same `iss` and keys, another audience and claim), the site `main`,
    /// and `late`, whose keys are not there.
    #[rustfmt::skip]
    pub fn issuers(&self) -> Vec<LabIssuer> {
        let oidc = |name, issuer, audience, id, jwks| LabIssuer {
            name, is_site: false, issuer, audience, tenants: &[], id, jwks,
        };
        let shared = || Some(jwks(&[&self.ec, &self.ed]));
        vec![
            LabIssuer {
                tenants: &[TENANT],
                ..oidc("entra", "https://login.example/{tenantid}/v2.0", &["api://gate"], "oid", Some(jwks(&[&self.rsa])))
            },
            oidc("idp", "https://idp.example", &["gate", "gate-2"], "sub", shared()),
            oidc("apps", "https://idp.example", &["apps"], "client", shared()),
            LabIssuer {
                is_site: true,
                ..oidc("main", "urn:tidegate:site:main", &["tidegate"], "sub", Some(jwks(&[&self.site])))
            },
            oidc("late", "https://late.example", &["gate"], "sub", None),
        ]
    }

    /// Claims that `entra` would make, valid for an hour at `now`.
    pub fn entra_claims(&self, now: i64) -> Value {
        json!({"iss": format!("https://login.example/{TENANT}/v2.0"), "aud": "api://gate", "tid": TENANT,
            "oid": "0f1e2d3c", "sub": "pairwise", "uti": "u-1", "preferred_username": "ann@corp.example",
            "deviceid": "dev-1", "iat": now, "nbf": now, "exp": now + 3600})
    }

    /// Claims that `idp` would make.
    pub fn idp_claims(&self, now: i64) -> Value {
        json!({"iss": "https://idp.example", "aud": "gate", "sub": "pc-1", "jti": "j-1", "email": "bob@corp.example", "email_verified": true,
            "iat": now, "exp": now + 3600})
    }

    /// Claims that the site makes.
    pub fn site_claims(&self, now: i64) -> Value {
        json!({"iss": "urn:tidegate:site:main", "aud": "tidegate", "sub": "pc-1", "jti": "0011", "kind": "client",
            "iat": now, "nbf": now, "exp": now + 3600})
    }
}
