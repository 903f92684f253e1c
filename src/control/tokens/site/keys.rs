//! The signing key and the published key set.

use super::super::KeySet;
use super::super::jose::encode;
use super::{JWKS, KEY};
use crate::control::certificates::pem;
use crate::control::pki::files;
use crate::control::settings::MAX_KEY_SET_BYTES;
use crate::control::settings::sha256;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use rustls::pki_types::PrivateKeyDer;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// Public keys kept when the signing key is rotated; with one rotation a month, more than a year of them.
const MAX_PUBLISHED: usize = 16;

/// `site-tokens.jwks`: a JWK set that also says whose it is (RFC 7517 §5 lets it).
#[derive(Debug, Serialize, Deserialize)]
struct Published {
    site: String,
    /// The signing key first.
    keys: Vec<Jwk>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Jwk {
    kty: String,
    crv: String,
    x: String,
    y: String,
    kid: String,
    alg: String,
    #[serde(rename = "use")]
    usage: String,
}

impl Jwk {
    /// Of an uncompressed point: 4, x, y.
    fn of(point: &[u8]) -> Result<Self, String> {
        let (Some(&4), 65) = (point.first(), point.len()) else {
            return Err("the key is not one of P-256".into());
        };
        let (x, y) = (encode(&point[1..33]), encode(&point[33..]));
        Ok(Self {
            kid: thumbprint(&format!(
                r#"{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}"#
            )),
            kty: "EC".into(),
            crv: "P-256".into(),
            x,
            y,
            alg: "ES256".into(),
            usage: "sig".into(),
        })
    }
}

/// Of a key's required members in lexical order without blanks (RFC 7638 §3).
pub(super) fn thumbprint(canonical: &str) -> String {
    encode(sha256(canonical.as_bytes()))
}

/// What issuing takes.
pub struct Signer {
    pub site: String,
    pub kid: String,
    /// What the gateway will verify with.
    pub published: KeySet,
    pair: EcdsaKeyPair,
}

impl Signer {
    pub fn open(dir: &Path) -> Result<Self, String> {
        let pair = read_key(dir)?;
        let (published, text) = read_published(dir)?;
        let wrong = |why: &str| format!("{}: {why}", dir.join(JWKS).display());
        let kid = Jwk::of(pair.public_key().as_ref())?.kid;
        if !published.keys.iter().any(|key| key.kid == kid) {
            return Err(wrong(
                "does not hold the key of site-tokens.key (hint: --rotate makes a new one and keeps the others)",
            ));
        }
        let keys = KeySet::parse(&text).map_err(|why| wrong(&why))?;
        Ok(Self {
            site: published.site,
            kid,
            published: keys,
            pair,
        })
    }

    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, String> {
        let signed = self.pair.sign(&SystemRandom::new(), message);
        signed
            .map(|signature| signature.as_ref().to_vec())
            .map_err(|_| "cannot sign".into())
    }
}

/// The first key of a site; nothing may be there.
pub fn create(dir: &Path, site: &str) -> Result<(), String> {
    for name in [KEY, JWKS] {
        let file = dir.join(name);
        if file.symlink_metadata().is_ok() {
            return Err(format!(
                "{} is there already (hint: --rotate makes a new signing key and keeps issued tokens valid)",
                file.display()
            ));
        }
    }
    let (pem, jwk) = new_key()?;
    files::write(&dir.join(KEY), pem.as_bytes(), 0o600, false)?;
    publish(
        dir,
        &Published {
            site: site.into(),
            keys: vec![jwk],
        },
        false,
    )
}

/// A new signing key. The public keys are written first: what is signed can be verified at any time between. Either file
/// may be lost: a set is enough to go on from, and so is a key.
pub fn rotate(dir: &Path, site: Option<&str>, drop_old: bool) -> Result<(), String> {
    let is_published = dir.join(JWKS).symlink_metadata().is_ok();
    let old = expect_key(dir).and_then(|()| read_key(dir));
    let old = old.and_then(|pair| Jwk::of(pair.public_key().as_ref()));
    let mut published = match is_published {
        true => read_published(dir)?.0,
        false => Published {
            site: site.unwrap_or("main").into(),
            keys: vec![old.clone()?],
        },
    };
    check_site(&published.site, site)?;
    if drop_old {
        published.keys.clear();
    } else if let Ok(old) = old
        && !published.keys.contains(&old)
    {
        published.keys.insert(0, old);
    }
    if published.keys.len() >= MAX_PUBLISHED {
        return Err(format!(
            "{} holds {MAX_PUBLISHED} keys (hint: take out the last ones, whose tokens have long expired; the newest is the first)",
            dir.join(JWKS).display()
        ));
    }
    let (pem, jwk) = new_key()?;
    published.keys.insert(0, jwk);
    publish(dir, &published, true)?;
    files::write(&dir.join(KEY), pem.as_bytes(), 0o600, true)
}

/// Fails where no key was made: before anything else is written there.
pub fn expect_key(dir: &Path) -> Result<(), String> {
    let file = dir.join(KEY);
    if file.symlink_metadata().is_err() {
        let hint = format!(
            "(hint: `tidegate token init --dir {}` makes the key)",
            dir.display()
        );
        return Err(format!("{} does not exist {hint}", file.display()));
    }
    Ok(())
}

/// A folder is one site's.
pub fn check_site(own: &str, asked: Option<&str>) -> Result<(), String> {
    match asked {
        Some(asked) if asked != own => Err(format!(
            "the keys here are of the site {own:?}, not {asked:?}"
        )),
        _ => Ok(()),
    }
}

/// A private key in PEM and its public half.
fn new_key() -> Result<(String, Jwk), String> {
    let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)
        .map_err(|error| format!("cannot make a key: {error}"))?;
    Ok((pair.serialize_pem(), Jwk::of(pair.public_key_raw())?))
}

fn read_key(dir: &Path) -> Result<EcdsaKeyPair, String> {
    let file = dir.join(KEY);
    let wrong = format!("{} holds no P-256 key in PKCS#8", file.display());
    match pem::private_key(&file).map_err(|wrong| wrong.text)? {
        PrivateKeyDer::Pkcs8(der) => {
            let der = der.secret_pkcs8_der();
            EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der).map_err(|_| wrong)
        }
        _ => Err(wrong),
    }
}

/// The published keys, and the text they were read from.
fn read_published(dir: &Path) -> Result<(Published, Vec<u8>), String> {
    let file = dir.join(JWKS);
    let text = pem::read_bounded(&file, MAX_KEY_SET_BYTES as u64)?;
    let published: Published = serde_json::from_slice(&text).map_err(|error| {
        format!(
            "{} is not as this command wrote it: {error}",
            file.display()
        )
    })?;
    Ok((published, text))
}

fn publish(dir: &Path, published: &Published, replace: bool) -> Result<(), String> {
    let mut text = serde_json::to_string_pretty(published).map_err(|error| error.to_string())?;
    text.push('\n');
    files::write(&dir.join(JWKS), text.as_bytes(), 0o644, replace)
}
