//! The public keys of an issuer: a JWK set (RFC 7517), and checking a signature with it.

use super::MAX_TRIALS;
use super::jose::{Algorithm, MAX_KID_BYTES, decode};
use super::json::{Json, Object};
use crate::control::settings::MAX_KEY_SET_BYTES;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ED25519, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256,
    RsaPublicKeyComponents,
};

/// Keys in one set, usable or not.
pub const MAX_KEYS: usize = 64;
/// RSA exponents: 3 to 2³³ − 1, as aws-lc has it; nearly all are 65537.
const MAX_EXPONENT_BITS: u32 = 33;

/// Public keys of one issuer, from a JWKS document (RFC 7517).
#[derive(Debug, Default)]
pub struct KeySet {
    keys: Vec<Key>,
}

#[derive(Debug)]
struct Key {
    kid: Option<String>,
    algorithm: Algorithm,
    public: ParsedPublicKey,
}

/// What trying a signature came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Verified,
    /// A key is there and says no.
    Forged,
    /// The key named is for another algorithm.
    OtherAlgorithm,
    /// No key under this name; or no name, and no key that fits.
    Unknown,
}

impl KeySet {
    /// Reads a JWKS document. Keys of other kinds, for other uses, or out of range are passed over (§5); a document that
    /// is no JWK set, or that gives a private key away, is an error.
    pub fn parse(jwks: &[u8]) -> Result<KeySet, String> {
        if jwks.len() > MAX_KEY_SET_BYTES {
            return Err(format!("has over {} KiB", MAX_KEY_SET_BYTES >> 10));
        }
        let document = Object::parse(jwks)?;
        let Some(Json::List(keys)) = document.get("keys") else {
            return Err("holds no list `keys`".into());
        };
        if keys.len() > MAX_KEYS {
            return Err(format!("holds over {MAX_KEYS} keys"));
        }
        let mut set = KeySet::default();
        for (number, key) in keys.iter().enumerate() {
            let Json::Object(key) = key else {
                return Err(format!("key {} is not an object", number + 1));
            };
            if is_private(key) {
                let number = number + 1;
                return Err(format!("key {number} is private and must never be here"));
            }
            set.keys.extend(Key::of(key));
        }
        Ok(set)
    }

    /// Keys that can verify.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Checks `signature` of `signed` with the keys named `kid`, or with all where none is named; of the right
    /// algorithm, at most [`MAX_TRIALS`].
    pub(super) fn check(
        &self,
        algorithm: Algorithm,
        kid: Option<&str>,
        signed: &[u8],
        signature: &[u8],
    ) -> Outcome {
        let named = |key: &&Key| kid.is_none() || key.kid.as_deref() == kid;
        let mut fitting = self
            .keys
            .iter()
            .filter(named)
            .filter(|key| key.algorithm == algorithm)
            .take(MAX_TRIALS)
            .peekable();
        if fitting.peek().is_none() {
            let other = kid.is_some() && self.keys.iter().any(|key| named(&key));
            return if other {
                Outcome::OtherAlgorithm
            } else {
                Outcome::Unknown
            };
        }
        if fitting.any(|key| key.public.verify_sig(signed, signature).is_ok()) {
            return Outcome::Verified;
        }
        // An issuer that names no keys may have changed them.
        if kid.is_some() {
            Outcome::Forged
        } else {
            Outcome::Unknown
        }
    }
}

/// Members that only a private or a shared key has (RFC 7518 §6.2.2, §6.3.2, §6.4.1; RFC 8037 §2).
fn is_private(key: &Object<'_>) -> bool {
    let rsa = ["p", "q", "dp", "dq", "qi", "oth"];
    ["d", "k", "priv"].iter().any(|name| key.has(name))
        || (key.text("kty") == Some("RSA") && rsa.iter().any(|name| key.has(name)))
}

impl Key {
    /// `None`: not a key that can verify tokens here.
    fn of(key: &Object<'_>) -> Option<Self> {
        let (algorithm, public) = match key.text("kty")? {
            "RSA" => (Algorithm::Rs256, rsa(key)?),
            "EC" => (Algorithm::Es256, p256(key)?),
            "OKP" => (Algorithm::EdDsa, ed25519(key)?),
            _ => return None,
        };
        let kid = match key.get("kid") {
            None => None,
            Some(Json::Text(kid)) if kid.len() <= MAX_KID_BYTES => Some(kid.clone().into_owned()),
            Some(_) => return None,
        };
        may_verify(key, algorithm).then_some(Self {
            kid,
            algorithm,
            public,
        })
    }
}

/// `alg`, `use` and `key_ops` (RFC 7517 §4.2 to §4.4), where they are given, must agree with the key's one purpose here.
fn may_verify(key: &Object<'_>, algorithm: Algorithm) -> bool {
    let alg = match key.get("alg") {
        None => true,
        Some(alg) => alg.text().and_then(Algorithm::of) == Some(algorithm),
    };
    let usage = key
        .get("use")
        .is_none_or(|usage| usage.text() == Some("sig"));
    let operations = match key.get("key_ops") {
        None => true,
        Some(Json::List(all)) => all.iter().any(|one| one.text() == Some("verify")),
        Some(_) => false,
    };
    alg && usage && operations
}

fn member(key: &Object<'_>, name: &str) -> Option<Vec<u8>> {
    decode(key.text(name)?.as_bytes())
}

/// RFC 7518 §6.3.1. Some issuers put a zero byte before the modulus, which §6.3.1.1 warns of: it changes nothing.
fn rsa(key: &Object<'_>) -> Option<ParsedPublicKey> {
    let without_zeros =
        |bytes: Vec<u8>| -> Vec<u8> { bytes.into_iter().skip_while(|byte| *byte == 0).collect() };
    let (n, e) = (
        without_zeros(member(key, "n")?),
        without_zeros(member(key, "e")?),
    );
    let odd = |bytes: &[u8]| bytes.last().is_some_and(|low| low & 1 == 1);
    let small = e.as_slice() == [1] || bits(&e) > MAX_EXPONENT_BITS;
    if !(2048..=8192).contains(&bits(&n)) || !odd(&n) || !odd(&e) || small {
        return None;
    }
    let components = RsaPublicKeyComponents { n, e };
    components
        .to_parsed_public_key(&RSA_PKCS1_2048_8192_SHA256)
        .ok()
}

/// Of a big-endian number without leading zeros; saturates.
fn bits(number: &[u8]) -> u32 {
    let Some(high) = number.first() else { return 0 };
    let bytes = u32::try_from(number.len()).unwrap_or(u32::MAX);
    bytes.saturating_mul(8).saturating_sub(high.leading_zeros())
}

/// RFC 7518 §6.2.1: both coordinates at full length; aws-lc checks that the point lies on the curve.
fn p256(key: &Object<'_>) -> Option<ParsedPublicKey> {
    let (x, y) = (member(key, "x")?, member(key, "y")?);
    if key.text("crv") != Some("P-256") || x.len() != 32 || y.len() != 32 {
        return None;
    }
    let point = [&[4][..], &x, &y].concat();
    ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).ok()
}

/// RFC 8037 §2.
fn ed25519(key: &Object<'_>) -> Option<ParsedPublicKey> {
    let x = member(key, "x")?;
    if key.text("crv") != Some("Ed25519") || x.len() != 32 {
        return None;
    }
    ParsedPublicKey::new(&ED25519, x).ok()
}
