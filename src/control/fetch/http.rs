//! One fetch: a bounded GET, and for an issuer its discovery document first (OpenID Connect Discovery 1.0 §4).

use super::places;
use crate::control::settings::{MAX_KEY_SET_BYTES, TENANT_MARK, check_key_url, without_query};
use crate::control::snapshot::{MAX_LIST_BYTES, Source};
use serde::Deserialize;
use std::error::Error;
use std::time::Duration;

const CONNECT: Duration = Duration::from_secs(5);
/// Of a whole answer.
const TOTAL: Duration = Duration::from_secs(20);
const MAX_DISCOVERY_BYTES: usize = 256 << 10;
const WELL_KNOWN: &str = "/.well-known/openid-configuration";
/// Where an issuer of many tenants has its own discovery document.
const ANY_TENANT: &str = "common";

/// Whom to trust when fetching, and where fetches may go.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    /// CAs beside the system's, DER. Their bytes, since a renewed file is another one.
    pub cas: Vec<Vec<u8>>,
    /// Hosts that may be asked, `*.example.com` for those of a domain; empty: any.
    pub hosts: Vec<String>,
}

/// The HTTP client, made anew when its options change.
#[derive(Default)]
pub struct Clients {
    made: Option<Client>,
}

/// What fetches, by one set of options.
#[derive(Clone)]
pub struct Client {
    options: Options,
    http: reqwest::Client,
}

impl Clients {
    pub fn with(&mut self, options: &Options) -> Result<Client, String> {
        if let Some(client) = self.made.as_ref().filter(|made| made.options == *options) {
            return Ok(client.clone());
        }
        let client = Client {
            options: options.clone(),
            http: build(options)?,
        };
        self.made = Some(client.clone());
        Ok(client)
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
            .dns_resolver(places::Public)
    };
    let own = options.cas.iter().map(|der| {
        reqwest::Certificate::from_der(der)
            .map_err(|error| format!("[fetch] ca: {}", explain(&error)))
    });
    let own = own.collect::<Result<Vec<_>, _>>()?;
    // A host without a store of CAs still fetches by the given ones, and from its own loopback.
    builder()
        .tls_certs_merge(own.clone())
        .build()
        .or_else(|_| builder().tls_certs_only(own).build())
        .map_err(|error| format!("no HTTP client: {}", explain(&error)))
}

/// The bytes of a key set or list; the error is one line that names what was asked for.
pub async fn fetch(client: &Client, source: &Source) -> Result<Vec<u8>, String> {
    match source {
        Source::KeySet(url) => client.get(url, MAX_KEY_SET_BYTES).await,
        Source::RevocationList(url) => client.get(url, MAX_LIST_BYTES).await,
        Source::Discovery(issuer) => {
            let address = discovery_address(issuer);
            let document = client.get(&address, MAX_DISCOVERY_BYTES).await?;
            let keys = keys_of(&document, issuer)
                .map_err(|why| format!("{}: {why}", without_query(&address)))?;
            client.get(&keys, MAX_KEY_SET_BYTES).await
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

impl Client {
    async fn get(&self, url: &str, limit: usize) -> Result<Vec<u8>, String> {
        let shown = without_query(url);
        let fetched = match places::check(url, &self.options.hosts) {
            Ok(()) => get(&self.http, url, limit).await,
            Err(why) => Err(why),
        };
        fetched.map_err(|why| format!("{shown}: {why}"))
    }
}

async fn get(http: &reqwest::Client, url: &str, limit: usize) -> Result<Vec<u8>, String> {
    let mut answer = http
        .get(url)
        .send()
        .await
        .map_err(|error| explain(&error))?;
    let status = answer.status();
    if status.is_redirection() {
        return Err(format!(
            "answers {status}: name the address that it leads to"
        ));
    }
    if status.as_u16() != 200 {
        return Err(format!("answers {status}"));
    }
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(|error| explain(&error))? {
        if body.len() + chunk.len() > limit {
            return Err(format!("answers with over {} KiB", limit >> 10));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// An error with its causes; without the address, which the caller names.
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
