//! The claims of a token (RFC 7519 §4.1): which issuer it is of, when it is valid, whom it names.

use super::json::{Json, Object, TWICE};
use super::{CLOCK_SKEW_SECONDS, Issuer, IssuerKind, MAX_IDENTITY_BYTES, TokenIdentity};
use crate::control::settings::TENANT_MARK;

/// Audiences in one token.
const MAX_AUDIENCES: usize = 16;
/// The end of the year 9999: a later `exp` is a slip of unit, and what adds to it must not overflow.
const MAX_EXP: f64 = 253_402_300_799.0;

/// First of these that can be used; the first two are Entra ID's. `email` follows, where the issuer has verified it.
const USER: [&str; 3] = ["preferred_username", "upn", "unique_name"];
/// What the `kind` of a site's token must be. Its registration tokens are signed by the same key and name no client.
const CLIENT_KIND: &str = "client";
const DEVICE: [&str; 2] = ["deviceid", "device_id"];
const TOKEN_ID: [&str; 2] = ["jti", "uti"];

pub struct Claims<'a>(Object<'a>);

impl<'a> Claims<'a> {
    pub fn parse(text: &'a [u8]) -> Result<Self, &'static str> {
        let object = Object::parse(text).map_err(|why| match why {
            TWICE => "the token holds a claim twice",
            _ => "the token's claims are not a JSON object",
        })?;
        Ok(Self(object))
    }

    /// Checks `exp`, `nbf` and `iat`; the first, rounded down.
    pub fn not_after(&self, unix_now: i64) -> Result<i64, &'static str> {
        let exp = self.date("exp")?.ok_or("the token has no end (`exp`)")?;
        if exp > MAX_EXP {
            return Err("the token's end (`exp`) is no date");
        }
        // In range, or a very negative number, which saturates: both are right.
        let not_after = exp.floor() as i64;
        if unix_now >= not_after {
            return Err("the token has expired");
        }
        let latest = unix_now.saturating_add(CLOCK_SKEW_SECONDS) as f64;
        if self.date("nbf")?.is_some_and(|nbf| nbf > latest) {
            return Err("the token is not valid yet (`nbf`)");
        }
        if self.date("iat")?.is_some_and(|iat| iat > latest) {
            return Err("the token was issued in the future (`iat`)");
        }
        Ok(not_after)
    }

    /// A NumericDate (RFC 7519 §2), whole or not.
    fn date(&self, name: &str) -> Result<Option<f64>, &'static str> {
        match self.0.get(name) {
            None => Ok(None),
            Some(Json::Number(seconds)) => Ok(Some(*seconds)),
            Some(_) => Err("a date of the token is not a number"),
        }
    }

    /// Whether `iss` is this issuer's.
    pub fn is_of(&self, issuer: &Issuer) -> bool {
        let Some(iss) = self.0.text("iss") else {
            return false;
        };
        if issuer.kind == IssuerKind::Site || !issuer.issuer.contains(TENANT_MARK) {
            return iss == issuer.issuer;
        }
        let tenant = self.0.text("tid").filter(|tid| is_tenant(issuer, tid));
        tenant.is_some_and(|tid| iss == issuer.issuer.replace(TENANT_MARK, tid))
    }

    /// Whether the token is for us, as this issuer's.
    pub fn fits(&self, issuer: &Issuer) -> Result<(), &'static str> {
        if issuer.kind == IssuerKind::Site && self.0.text("kind") != Some(CLIENT_KIND) {
            return Err("the site's token is not a client's (`kind`)");
        }
        if !(issuer.kind == IssuerKind::Site && issuer.audience.is_empty()) {
            self.fits_audience(&issuer.audience)?;
        }
        let tenant = self.0.text("tid");
        if !issuer.tenants.is_empty() && !tenant.is_some_and(|tid| is_tenant(issuer, tid)) {
            return Err("the token's tenant is not one of ours");
        }
        Ok(())
    }

    fn fits_audience(&self, ours: &[String]) -> Result<(), &'static str> {
        let is_ours = |audience: &str| ours.iter().any(|our| our == audience);
        let found = match self.0.get("aud") {
            Some(Json::Text(audience)) => is_ours(audience),
            Some(Json::List(all)) if all.len() > MAX_AUDIENCES => {
                return Err("the token has too many audiences");
            }
            Some(Json::List(all)) => {
                // One that is no string makes the whole claim something else than RFC 7519 §4.1.3 has.
                if all.iter().any(|one| one.text().is_none()) {
                    return Err("the token's audience is not a string");
                }
                all.iter().filter_map(Json::text).any(is_ours)
            }
            Some(_) => return Err("the token's audience is not a string"),
            None => return Err("the token has no audience"),
        };
        if found {
            Ok(())
        } else {
            Err("the token is for another audience")
        }
    }

    /// Whom the token names, as this issuer's.
    pub fn identity(
        &self,
        index: usize,
        issuer: &Issuer,
        not_after: i64,
    ) -> Result<TokenIdentity, &'static str> {
        let claim = self.0.text(&issuer.id).filter(|claim| is_plain(claim));
        let claim = claim.ok_or("the claim that names the client is not there or not plain")?;
        let client_id = format!("{}:{}/{claim}", issuer.kind.prefix(), issuer.name);
        if !is_plain(&client_id) {
            return Err("the client id would be too long");
        }
        Ok(TokenIdentity {
            client_id,
            issuer: index,
            token_id: self.first(&TOKEN_ID),
            user: self.first(&USER).or_else(|| self.verified_email()),
            device: self.first(&DEVICE),
            tenant: self.first(&["tid"]),
            not_after,
        })
    }

    /// Many providers let people type their own e-mail address: without `email_verified` (OpenID Connect Core §5.1) it is
    /// anybody's.
    fn verified_email(&self) -> Option<String> {
        match self.0.get("email_verified") {
            Some(Json::Bool(true)) => self.first(&["email"]),
            _ => None,
        }
    }

    fn first(&self, names: &[&str]) -> Option<String> {
        let texts = names.iter().filter_map(|name| self.0.text(name));
        texts
            .filter(|text| is_plain(text))
            .map(str::to_owned)
            .next()
    }
}

/// Entra ID's tenants are GUIDs, whose case means nothing.
fn is_tenant(issuer: &Issuer, tid: &str) -> bool {
    let mut tenants = issuer.tenants.iter();
    tenants.any(|tenant| tenant.eq_ignore_ascii_case(tid))
}

/// Fit for a header field and a log line: printable ASCII, no blank at either end, neither empty nor too long.
pub fn is_plain(text: &str) -> bool {
    let printable = text.bytes().all(|byte| (b' '..=b'~').contains(&byte));
    printable && !text.is_empty() && text.len() <= MAX_IDENTITY_BYTES && text.trim() == text
}
