//! One fetch: a bounded GET, and for an issuer its discovery document first (OpenID Connect Discovery 1.0 §4).

use crate::control::certificates::pem;
use crate::control::settings::{MAX_KEY_SET_BYTES, TENANT_MARK, check_key_url, without_query};
use crate::control::snapshot::{MAX_LIST_BYTES, Source};
use serde::Deserialize;
use std::error::Error;
use std::path::PathBuf;
use std::time::Duration;

const CONNECT: Duration = Duration::from_secs(5);
/// Of a whole answer.
const TOTAL: Duration = Duration::from_secs(20);
const MAX_DISCOVERY_BYTES: usize = 256 << 10;
const WELL_KNOWN: &str = "/.well-known/openid-configuration";
/// Where an issuer of many tenants has its own discovery document.
const ANY_TENANT: &str = "common";

/// Whom to trust when fetching: the system's CAs, and these.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    pub ca: Option<PathBuf>,
}

/// The HTTP client, made anew when its options change.
#[derive(Default)]
pub struct Client {
    made: Option<(Options, Result<reqwest::Client, String>)>,
}

impl Client {
    pub fn with(&mut self, options: &Options) -> Result<reqwest::Client, String> {
        match &self.made {
            Some((known, Ok(client))) if known == options => Ok(client.clone()),
            _ => {
                let client = build(options);
                self.made = Some((options.clone(), client.clone()));
                client
            }
        }
    }
}

/// Redirects are not followed: what may be fetched was checked by its address.
fn build(options: &Options) -> Result<reqwest::Client, String> {
    let builder = || {
        reqwest::Client::builder()
            .user_agent(concat!("tidegate/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT)
            .timeout(TOTAL)
    };
    let mut own = Vec::new();
    if let Some(file) = &options.ca {
        for certificate in pem::certificates(file).map_err(|wrong| wrong.text)? {
            let certificate = reqwest::Certificate::from_der(&certificate)
                .map_err(|error| format!("{}: {}", file.display(), explain(&error)))?;
            own.push(certificate);
        }
    }
    // A host without a store of CAs still fetches by the given ones, and from its own loopback.
    builder()
        .tls_certs_merge(own.clone())
        .build()
        .or_else(|_| builder().tls_certs_only(own).build())
        .map_err(|error| format!("no HTTP client: {}", explain(&error)))
}

/// The bytes of a key set or list; the error is one line that names what was asked for.
pub async fn fetch(client: &reqwest::Client, source: &Source) -> Result<Vec<u8>, String> {
    match source {
        Source::KeySet(url) => get(client, url, MAX_KEY_SET_BYTES).await,
        Source::RevocationList(url) => get(client, url, MAX_LIST_BYTES).await,
        Source::Discovery(issuer) => {
            let address = discovery_address(issuer);
            let document = get(client, &address, MAX_DISCOVERY_BYTES).await?;
            let keys = keys_of(&document, issuer)
                .map_err(|why| format!("{}: {why}", without_query(&address)))?;
            get(client, &keys, MAX_KEY_SET_BYTES).await
        }
    }
}

fn discovery_address(issuer: &str) -> String {
    let base = issuer.replace(TENANT_MARK, ANY_TENANT);
    format!("{}{WELL_KNOWN}", base.trim_end_matches('/'))
}

/// `jwks_uri` of a discovery document, which must be this issuer's own.
fn keys_of(document: &[u8], issuer: &str) -> Result<String, String> {
    #[derive(Deserialize)]
    struct Discovery {
        issuer: String,
        jwks_uri: String,
    }
    let found: Discovery = serde_json::from_slice(document)
        .map_err(|error| format!("is no discovery document: {error}"))?;
    // OpenID Connect Discovery §4.3: else one issuer could hand out the keys of another.
    if found.issuer != issuer {
        return Err(format!(
            "is of issuer {:?}, and {issuer:?} is configured",
            found.issuer
        ));
    }
    check_key_url(&found.jwks_uri).map_err(|why| format!("its jwks_uri {why}"))?;
    Ok(found.jwks_uri)
}

async fn get(client: &reqwest::Client, url: &str, limit: usize) -> Result<Vec<u8>, String> {
    let wrong = |why: String| format!("{}: {why}", without_query(url));
    let mut answer = client
        .get(url)
        .send()
        .await
        .map_err(|error| wrong(explain(&error)))?;
    let status = answer.status();
    if status.is_redirection() {
        return Err(wrong(format!(
            "answers {status}: name the address that it leads to"
        )));
    }
    if status.as_u16() != 200 {
        return Err(wrong(format!("answers {status}")));
    }
    let mut body = Vec::new();
    while let Some(chunk) = answer
        .chunk()
        .await
        .map_err(|error| wrong(explain(&error)))?
    {
        if body.len() + chunk.len() > limit {
            return Err(wrong(format!("answers with over {} KiB", limit >> 10)));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// An error with its causes; the address, which the caller names, at most without its query.
pub fn explain(error: &reqwest::Error) -> String {
    let mut text = String::new();
    let mut cause = error.source();
    while let Some(error) = cause {
        let this = error.to_string();
        if !text.ends_with(&this) {
            if !text.is_empty() {
                text.push_str(": ");
            }
            text.push_str(&this);
        }
        cause = error.source();
    }
    match () {
        () if error.is_timeout() => format!("no answer in time {text}").trim_end().to_owned(),
        () if text.is_empty() => match error.url().map(reqwest::Url::as_str) {
            Some(url) => error.to_string().replace(url, without_query(url)),
            None => error.to_string(),
        },
        () => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_discovery_document_is_its_issuers_own() {
        let of = |issuer: &str, keys: &str| {
            let text = format!("{{\"issuer\":{issuer:?},\"jwks_uri\":{keys:?},\"x\":1}}");
            keys_of(text.as_bytes(), "https://a.example")
        };
        assert_eq!(
            of("https://a.example", "https://k.example/k"),
            Ok("https://k.example/k".into())
        );
        assert!(of("https://b.example", "https://k.example/k").is_err());
        assert!(of("https://a.example/", "https://k.example/k").is_err());
        assert!(of("https://a.example", "http://k.example/k").is_err());
        assert!(of("https://a.example", "file:///k").is_err());
        assert!(keys_of(b"[]", "https://a.example").is_err());
        assert!(keys_of(b"{}", "https://a.example").is_err());
    }

    #[test]
    fn an_issuer_of_many_tenants_is_asked_for_all() {
        let address = discovery_address("https://login.example/{tenantid}/v2.0");
        assert_eq!(
            address,
            "https://login.example/common/v2.0/.well-known/openid-configuration"
        );
        assert_eq!(
            discovery_address("https://a.example/"),
            "https://a.example/.well-known/openid-configuration"
        );
    }
}
