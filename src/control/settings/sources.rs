//! What a site trusts beside its CAs: revocation lists and token issuers, as a connector publishes them.
//!
//! A list or key set stands in the document, or is named by an address that the gateway fetches. What is fetched
//! changes without a new revision; what stands in the document is part of it, revocation lists excepted: they carry
//! their CA's signature and number, so the newest is right whoever brought it.

use super::{MAX_NAME_BYTES, at_most, check_name, sorted};
use crate::control::tokens::IssuerKind;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

pub const MAX_CRLS: usize = 64;
/// Base64 of one list's DER. Longer ones are named by address.
pub const MAX_CRL_BYTES: usize = 2 << 20;
pub const MAX_ISSUERS: usize = 64;
pub const MAX_AUDIENCES: usize = 16;
pub const MAX_TENANTS: usize = 1024;
/// JWKS text of one issuer; a set of 64 keys with certificate chains is below it.
pub const MAX_KEY_SET_BYTES: usize = 256 << 10;
pub const MAX_URL_BYTES: usize = 2048;
/// Stands in an issuer for the token's tenant (`tid`).
pub const TENANT_MARK: &str = "{tenantid}";

#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq, PartialOrd, Ord)]
#[serde(rename_all = "snake_case")]
pub enum PublishedCrl {
    /// Base64 of the DER.
    Der(String),
    /// Where the gateway fetches it: http or https, since the list carries its own signature.
    Url(String),
}

/// What becomes of a certificate whose revocation status nobody knows.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum CrlFail {
    /// Refused, as is one whose list is out of date.
    #[default]
    Hard,
    /// Taken, and a list that is out of date still counts.
    Soft,
}

impl CrlFail {
    pub(super) fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// Who issues tokens that the site takes.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct PublishedIssuer {
    /// Begins the client ids: `oidc:<name>/…`, `site:<name>/…`.
    pub name: String,
    pub kind: PublishedKind,
    /// The `iss` claim; may hold [`TENANT_MARK`].
    pub issuer: String,
    pub audience: Vec<String>,
    /// `tid` must be one of them; empty: any.
    pub tenants: Vec<String>,
    /// The claim that names the client.
    pub id: String,
    pub keys: KeySource,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum PublishedKind {
    Oidc,
    Site,
}

impl From<PublishedKind> for IssuerKind {
    fn from(kind: PublishedKind) -> Self {
        match kind {
            PublishedKind::Oidc => Self::Oidc,
            PublishedKind::Site => Self::Site,
        }
    }
}

#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum KeySource {
    /// The issuer's own `/.well-known/openid-configuration` says where.
    Discovery,
    /// Address of a JWKS document.
    Url(String),
    /// The JWKS document.
    Set(String),
}

impl PublishedCrl {
    pub(super) fn check(&self) -> Result<(), String> {
        match self {
            Self::Der(text) => at_most("bytes of a revocation list", text.len(), MAX_CRL_BYTES),
            Self::Url(url) => check_crl_url(url).map_err(|why| format!("crl {url:?} {why}")),
        }
    }
}

impl PublishedIssuer {
    pub(super) fn check(&self) -> Result<(), String> {
        check_name(&self.name).map_err(|why| format!("oidc name {:?} {why}", self.name))?;
        let wrong = |why: String| format!("oidc {:?} {why}", self.name);
        at_most("audiences", self.audience.len(), MAX_AUDIENCES).map_err(wrong)?;
        at_most("tenants", self.tenants.len(), MAX_TENANTS).map_err(wrong)?;
        if self.audience.is_empty() || self.audience.iter().any(String::is_empty) {
            return Err(wrong(
                "has no audience: a token for anybody would pass".into(),
            ));
        }
        if self.id.is_empty() || self.id.len() > MAX_NAME_BYTES {
            return Err(wrong(format!("names its clients by claim {:?}", self.id)));
        }
        if self.issuer.is_empty() || self.issuer.len() > MAX_URL_BYTES {
            return Err(wrong("has no issuer, or one that is too long".into()));
        }
        if self.issuer.contains(TENANT_MARK) && self.tenants.is_empty() {
            return Err(wrong(format!(
                "takes {TENANT_MARK} in its issuer and names no tenants: anybody's tenant would pass"
            )));
        }
        match &self.keys {
            KeySource::Discovery => check_key_url(&self.issuer).map_err(wrong),
            KeySource::Url(url) => check_key_url(url).map_err(wrong),
            KeySource::Set(text) => {
                at_most("bytes of a key set", text.len(), MAX_KEY_SET_BYTES).map_err(wrong)
            }
        }
    }

    /// The same for whoever wrote it in whatever order.
    pub(super) fn canonical(&self) -> Self {
        Self {
            audience: sorted(self.audience.clone()),
            tenants: sorted(
                self.tenants
                    .iter()
                    .map(|t| t.to_ascii_lowercase())
                    .collect(),
            ),
            ..self.clone()
        }
    }
}

/// Key sets decide who may come in: they are fetched over https only, over http from this very host only.
pub fn check_key_url(url: &str) -> Result<(), String> {
    let parsed = parse(url)?;
    match parsed.scheme() {
        "https" => Ok(()),
        "http" if is_loopback(&parsed) => Ok(()),
        _ => Err(format!(
            "has address {:?}; https is wanted (http on loopback only)",
            without_query(url)
        )),
    }
}

pub fn check_crl_url(url: &str) -> Result<(), String> {
    match parse(url)?.scheme() {
        "http" | "https" => Ok(()),
        other => Err(format!("has scheme {other:?}; http and https are known")),
    }
}

/// Whether the host of an address is this host's own loopback, by its spelling.
pub fn is_loopback(url: &reqwest::Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost")
        || bare
            .parse::<IpAddr>()
            .is_ok_and(|ip| ip.to_canonical().is_loopback())
}

/// An address as it may be shown, in logs and labels: what stands behind `?` may be a secret.
pub fn without_query(url: &str) -> &str {
    url.split(['?', '#']).next().unwrap_or(url)
}

fn parse(url: &str) -> Result<reqwest::Url, String> {
    if url.len() > MAX_URL_BYTES {
        return Err(format!("has an address of over {MAX_URL_BYTES} bytes"));
    }
    let shown = without_query(url);
    let parsed =
        reqwest::Url::parse(url).map_err(|error| format!("has address {shown:?}: {error}"))?;
    if parsed.host_str().is_none_or(str::is_empty) {
        return Err(format!("has address {shown:?}, which names no host"));
    }
    if !parsed.username().is_empty() || parsed.password().is_some() {
        return Err("has an address with user information, which would be published".into());
    }
    Ok(parsed)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub fn issuer(name: &str, keys: KeySource) -> PublishedIssuer {
        PublishedIssuer {
            name: name.into(),
            kind: PublishedKind::Oidc,
            issuer: format!("https://{name}.example"),
            audience: vec!["api".into()],
            tenants: vec![],
            id: "sub".into(),
            keys,
        }
    }

    #[test]
    fn keys_come_over_https_or_from_this_host() {
        for good in [
            "https://login.example/x",
            "http://127.0.0.1:8080/",
            "http://localhost/k",
            "http://[::1]:81/k",
        ] {
            assert_eq!(check_key_url(good), Ok(()), "{good}");
        }
        for bad in [
            "http://login.example/",
            "http://127.0.0.1.example/",
            "http://localhost.example/",
            "http://169.254.169.254/latest",
            "ftp://a/",
            "file:///etc/passwd",
            "https://u:p@a/",
            "https://",
            "x",
            "",
        ] {
            assert!(check_key_url(bad).is_err(), "{bad:?} was taken");
        }
        assert_eq!(check_crl_url("http://crl.example/a.crl"), Ok(()));
        assert!(check_crl_url("ldap://crl.example/a").is_err());
    }

    #[test]
    fn complaints_and_labels_show_no_query() {
        assert_eq!(without_query("https://a/k?code=S#x"), "https://a/k");
        assert_eq!(without_query("https://a/k#x?y"), "https://a/k");
        assert_eq!(without_query("https://a/k"), "https://a/k");
        for bad in [
            "http://login.example/k?code=SECRET",
            "https://?code=SECRET",
            "/k?code=SECRET",
        ] {
            let why = check_key_url(bad).unwrap_err();
            assert!(!why.contains("SECRET"), "{why}");
        }
    }

    #[test]
    fn an_issuer_that_would_let_anybody_in_is_refused() {
        let good = issuer("a", KeySource::Discovery);
        assert_eq!(good.check(), Ok(()));
        let wrong: [fn(&mut PublishedIssuer); 8] = [
            |i| i.audience.clear(),
            |i| i.audience.push(String::new()),
            |i| i.issuer = format!("https://login.example/{TENANT_MARK}/v2.0"),
            |i| i.issuer.clear(),
            |i| i.issuer = "http://login.example".into(),
            |i| i.id.clear(),
            |i| i.name = "a/b".into(),
            |i| i.keys = KeySource::Url("http://elsewhere/".into()),
        ];
        for (index, change) in wrong.iter().enumerate() {
            let mut issuer = good.clone();
            change(&mut issuer);
            assert!(issuer.check().is_err(), "change {index} was taken");
        }
    }
}
