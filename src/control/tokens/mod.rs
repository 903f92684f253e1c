//! Tokens: what makes a bearer token the proof of a client, and the site's own tokens.
//!
//! [`verify`] judges one JSON Web Token (RFC 7519) in its compact form (RFC 7515 §3.1) against the configured issuers:
//! no I/O, no clock of its own, the same answer for the same input. [`site`] is `tidegate token`.
//!
//! What holds:
//! - The key decides the algorithm: RSA keys verify RS256, P-256 keys ES256, Ed25519 keys EdDSA, and nothing else is
//!   known. There is no way to `none`, to an HMAC or to a key that the token itself brings (`jwk`, `jku`, `x5c`, `x5u`).
//! - A key belongs to one issuer; the issuer is found by `iss` and `aud` first, and only its keys are tried.
//! - A site's own token counts only with `kind` "client": its registration tokens open no route.
//! - What may be read in two ways is refused: names twice, padding, trailing bits, more than one JSON value.
//! - All cheap checks come before the signature, and at most [`MAX_TRIALS`] signatures are checked for each issuer that
//!   the token fits.
//! - No text of a [`Refusal`] quotes the token.
//!
//! Why this and not a JWT crate: the usual ones read header and claims with serde structs, where the last or the first
//! of two equal names wins or names twice go unseen among those not read; they leave `crit` and `typ`, what `kid` may
//! select and how many keys are tried to the caller, who must then parse the token a second time, perhaps otherwise
//! than the crate did; and their clock tolerance and claim types are looser than wanted here. What is left beside these
//! rules is splitting at dots and one call to aws-lc-rs, which the gateway has anyway.

mod claims;
mod jose;
mod json;
mod keys;
pub mod site;
mod verify;

pub use keys::{KeySet, MAX_KEYS};
pub use verify::verify;

use std::sync::Arc;

/// A token with the 200 groups that Entra ID puts into one has some 12 KiB; the gateway's limit on heads is met before.
pub const MAX_TOKEN_BYTES: usize = 16 << 10;
/// Signatures checked against one issuer's keys: more than one only where a token names no key, or a name has two.
pub const MAX_TRIALS: usize = 4;
/// Client ids, and what is known of user, device and tenant: they become header fields.
pub const MAX_IDENTITY_BYTES: usize = 128;
/// `nbf` and `iat` may lie this far ahead: clocks differ. `exp` has no tolerance.
pub const CLOCK_SKEW_SECONDS: i64 = 5;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IssuerKind {
    /// Entra ID, or any OpenID provider.
    Oidc,
    /// The site itself: `tidegate token`.
    Site,
}

impl IssuerKind {
    /// The word that client ids begin with.
    pub fn prefix(self) -> &'static str {
        match self {
            Self::Oidc => "oidc",
            Self::Site => "site",
        }
    }
}

/// Whose tokens are taken, and which of them.
#[derive(Debug, Clone)]
pub struct Issuer {
    /// Stands in client ids.
    pub name: String,
    pub kind: IssuerKind,
    /// Exactly the token's `iss`. For [`IssuerKind::Oidc`] it may hold `{tenantid}`: then `iss` must be this text with
    /// the token's `tid` put in, and `tenants` must not be empty (or nothing fits).
    pub issuer: String,
    /// One of them must be among the token's `aud`. Empty: nothing fits, but for [`IssuerKind::Site`] everything does.
    pub audience: Vec<String>,
    /// When not empty, `tid` must be one of them, in any case.
    pub tenants: Vec<String>,
    /// The claim that names the client, usually `sub`.
    pub id: String,
    /// `None`: not fetched yet.
    pub keys: Option<Arc<KeySet>>,
}

/// What a valid token says of its bearer. All texts are printable ASCII without blanks at the ends, of at most
/// [`MAX_IDENTITY_BYTES`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenIdentity {
    /// `oidc:<issuer name>/<claim>` or `site:<issuer name>/<claim>`.
    pub client_id: String,
    /// Index into the issuers given.
    pub issuer: usize,
    /// `jti`, else `uti` (Entra ID).
    pub token_id: Option<String>,
    /// A name to show, not an identity: only `client_id` is one to authorise by. `preferred_username`, `upn` and
    /// `unique_name` are what the issuer lets them be and may change hands; an `email` is taken only when verified.
    pub user: Option<String>,
    pub device: Option<String>,
    pub tenant: Option<String>,
    /// Unix seconds, `exp` rounded down: from then on the token is refused.
    pub not_after: i64,
}

/// Why a token is not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// One line for the error's detail. It never quotes the token.
    Invalid(String),
    /// An issuer (its index) with the right `iss` and `aud`, which has no key under the token's `kid`, or no key that
    /// fits a token without `kid`: newer keys may.
    UnknownKey { issuer: usize },
    /// This issuer's keys are not there yet.
    NoKeys { issuer: usize },
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Invalid(why) => f.write_str(why),
            Self::UnknownKey { .. } => f.write_str("the token's issuer has no such key"),
            Self::NoKeys { .. } => f.write_str("the keys of the token's issuer are not there yet"),
        }
    }
}

#[cfg(test)]
pub(crate) mod testing; // keys, signing and forgeries; on its own, so that benches and end-to-end tests can include it
#[cfg(test)]
mod tests;
