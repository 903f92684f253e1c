//! The document a connector publishes: its site's settings (the same on each connector of the site) and its own routes.

use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct SiteDocument {
    pub site: SiteSettings,
    pub routes: Vec<PublishedRoute>,
}
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct SiteSettings {
    pub revision: u64,
    pub client_ca: Vec<PublishedCa>,
    pub deny_serials: Vec<String>,
    pub deny_clients: Vec<String>,
}
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct PublishedCa {
    pub name: String,
    /// PEM of one or more CA certificates.
    pub pem: String,
    pub id: IdField,
}
#[derive(Debug, Clone, Copy, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum IdField {
    DnsSan,
    Cn,
    UriSan,
    Serial,
}
#[derive(Debug, Clone, Copy, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum Auth {
    Certificate,
    Token,
    Any,
    None,
}
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct PublishedRoute {
    pub path: String,
    pub auth: Auth,
    pub methods: Vec<String>,
    pub max_body: u64,
    pub timeout_ms: u64,
    pub case_insensitive: bool,
}

impl SiteDocument {
    /// Canonical bytes (JSON) and their SHA-256.
    pub fn encode(&self) -> (Vec<u8>, [u8; 32]) {
        todo!()
    }
    pub fn decode(bytes: &[u8]) -> Result<Self, String> {
        todo!()
    }
}
