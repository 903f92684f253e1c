//! The compact form of a JWS (RFC 7515 §3.1, §7.1) and its header (§4.1).

use super::MAX_TOKEN_BYTES;
use super::json::{Json, Object, TWICE};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// Longest `kid` of a header or a key.
pub const MAX_KID_BYTES: usize = 256;
/// Header, decoded. Some issuers put a certificate chain in, which is not looked at.
const MAX_HEADER_BYTES: usize = 6 << 10;

/// The three signatures known (RFC 7518 §3.3 and §3.4, RFC 8037 §3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    Rs256,
    Es256,
    EdDsa,
}

impl Algorithm {
    /// Names are case-sensitive (RFC 7515 §4.1.1).
    pub fn of(name: &str) -> Option<Self> {
        match name {
            "RS256" => Some(Self::Rs256),
            "ES256" => Some(Self::Es256),
            "EdDSA" => Some(Self::EdDsa),
            _ => None,
        }
    }

    /// Whether a signature may be this long.
    fn fits(self, signature_len: usize) -> bool {
        match self {
            Self::Rs256 => (256..=1024).contains(&signature_len),
            Self::Es256 | Self::EdDsa => signature_len == 64,
        }
    }
}

/// A token cut and decoded; nothing is verified yet.
pub struct Compact<'a> {
    pub header: Vec<u8>,
    pub payload: Vec<u8>,
    pub signature: Vec<u8>,
    /// What is signed: header and payload as they stand in the token.
    pub signed: &'a [u8],
}

impl<'a> Compact<'a> {
    pub fn parse(token: &'a [u8]) -> Result<Self, &'static str> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err("the token is too long");
        }
        let mut dots = memchr::memchr_iter(b'.', token);
        let (Some(first), Some(second), None) = (dots.next(), dots.next(), dots.next()) else {
            return Err("the token is not a signed one of three parts");
        };
        let (header, payload) = (&token[..first], &token[first + 1..second]);
        let signature = &token[second + 1..];
        if header.is_empty() || payload.is_empty() {
            return Err("a part of the token is empty");
        }
        if signature.is_empty() {
            return Err("the token is not signed");
        }
        if header.len() > MAX_HEADER_BYTES.div_ceil(3) * 4 {
            return Err("the token's header is too long");
        }
        let wrong = "a part of the token is not base64url";
        Ok(Self {
            header: decode(header).ok_or(wrong)?,
            payload: decode(payload).ok_or(wrong)?,
            signature: decode(signature).ok_or(wrong)?,
            signed: &token[..second],
        })
    }
}

/// base64url without padding, blanks or trailing bits (RFC 7515 §2): each text is one byte string, each byte string one
/// text.
pub fn decode(text: &[u8]) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text).ok()
}

pub fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// What of the header counts.
#[derive(Debug)]
pub struct Header {
    pub algorithm: Algorithm,
    pub kid: Option<String>,
}

impl Header {
    /// Reads the header of a token whose signature is `signature_len` bytes long. `jwk`, `jku`, `x5c`, `x5u` and the
    /// thumbprints are passed over: they select or bring keys, and keys come from the issuer alone.
    pub fn parse(text: &[u8], signature_len: usize) -> Result<Self, &'static str> {
        let header = Object::parse(text).map_err(|why| match why {
            TWICE => "the token's header holds a member twice",
            _ => "the token's header is not a JSON object",
        })?;
        // RFC 7515 §4.1.11: what is critical and not understood refuses the token, and nothing is understood.
        if header.has("crit") {
            return Err("the token's header holds critical extensions");
        }
        // RFC 7797 would sign the payload as it is; `enc` is of encrypted tokens, `zip` of them too.
        if ["b64", "enc", "zip"].iter().any(|name| header.has(name)) {
            return Err("the token is encoded in a way that is not taken");
        }
        let algorithm = header.text("alg").ok_or("the token names no algorithm")?;
        let algorithm =
            Algorithm::of(algorithm).ok_or("the token's algorithm is not RS256, ES256 or EdDSA")?;
        if !algorithm.fits(signature_len) {
            return Err("the token's signature has the wrong length");
        }
        if !header.get("typ").is_none_or(is_jwt) {
            return Err("the token is of a type that is not taken");
        }
        let kid = match header.get("kid") {
            None => None,
            Some(Json::Text(kid)) if kid.len() <= MAX_KID_BYTES => Some(kid.clone().into_owned()),
            Some(_) => return Err("the token's key id is not a short string"),
        };
        Ok(Self { algorithm, kid })
    }
}

/// `JWT` (RFC 7519 §5.1) or `at+jwt` (RFC 9068 §2.1), also as whole media types; so that no logout token, DPoP proof or
/// other signed thing of the same issuer passes.
fn is_jwt(typ: &Json<'_>) -> bool {
    let Some(typ) = typ.text() else { return false };
    let prefix = "application/";
    let name = match typ.get(..prefix.len()) {
        Some(begin) if begin.eq_ignore_ascii_case(prefix) => &typ[prefix.len()..],
        _ => typ,
    };
    name.eq_ignore_ascii_case("JWT") || name.eq_ignore_ascii_case("at+jwt")
}
