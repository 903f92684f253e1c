//! What a run does, whole: one value, whatever it was made of.
//!
//! ```text
//!   FILE.toml ─ read.rs ──┐
//!   RESULT.json (its      ├─▶ Scenario ─▶ flags laid over it ─▶ check ─▶ the run, and `scenario` of its result
//!     `scenario`) ────────┘   (merge.rs)
//! ```
//!
//! - The words are the same in the TOML file and in the result, so that a result can be given back to `--scenario`.
//! - Paths of files are absolute in here: a run can be repeated from another folder.
//! - Secrets that stand in it (a token, a Cookie) are not written into results ([`NOT_KEPT`]); files with tokens are named.

mod merge;
mod read;
pub mod words;

pub use merge::Flags;
pub(in crate::client::load) use merge::header;
pub use read::open;

use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::time::Duration;
use words::{Sources, Think, span};

/// Stands in a result for a secret of the scenario.
pub const NOT_KEPT: &str = "(not kept)";
/// Fields whose values are secrets.
const SECRET_FIELDS: [&str; 3] = ["authorization", "cookie", "proxy-authorization"];

pub const CONNECTIONS_MAX: u64 = 100_000;
pub const SHARDS_MAX: u64 = 256;
/// A schedule of a finer grain than a shard's turns would mean nothing.
pub const RATE_MAX: f64 = 10_000_000.0;
pub const MEMBERS_MAX: usize = 200;
pub const WEIGHT_MAX: u64 = 1_000_000;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Requests on connections that stay.
    #[default]
    Requests,
    /// A connection for each handshake.
    Handshakes,
    /// Large bodies: what counts is bytes.
    Transfer,
}

/// How the arrivals of a fixed rate are spread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Spread {
    /// Equal gaps.
    #[default]
    Constant,
    /// Gaps of independent arrivals: exponential.
    Poisson,
}

/// One run. `None` of an optional key: the default, or not wanted.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Scenario {
    pub kind: Kind,
    /// `http(s)://host[:port][/path]`; its path is that of requests that name none.
    pub url: String,
    /// Users, all shards together; each has a connection to every origin, and for every identity, that is asked.
    pub connections: usize,
    pub shards: usize,
    /// Requests a second, all shards together; none: closed loop.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<f64>,
    pub arrivals: Spread,
    /// Connections are opened (with a rate: the rate is raised) evenly over this time, unmeasured.
    #[serde(with = "span")]
    pub ramp_up: Duration,
    #[serde(with = "span")]
    pub warm_up: Duration,
    #[serde(with = "span")]
    pub duration: Duration,
    /// End after so many; `duration` is the longest it may take then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requests: Option<u64>,
    #[serde(with = "span")]
    pub timeout: Duration,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    pub sources: Sources,
    pub tls: Tls,
    /// Handshakes: resume a session of an earlier connection.
    pub resumed: bool,
    /// Handshakes: ask once on each connection.
    pub ask: bool,
    #[serde(rename = "request")]
    pub members: Vec<Member>,
}

/// Towards https origins.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Tls {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca: Option<PathBuf>,
    pub insecure: bool,
    pub version: TlsVersion,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum TlsVersion {
    #[serde(rename = "1.2")]
    V12,
    #[default]
    #[serde(rename = "1.3")]
    V13,
}

/// One request of the mix.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Member {
    pub name: String,
    /// Its share is its weight over the sum of all weights.
    pub weight: u32,
    /// Another origin than the run's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    pub method: String,
    /// One is picked for each request, then a number where it has `{1..1000}`. Empty: the URL's.
    pub path: Vec<String>,
    /// `Name: value` of each.
    pub headers: Vec<String>,
    /// Bytes of request body.
    pub body: u64,
    /// Between an answer and the user's next request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub think: Option<Think>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auth: Option<Auth>,
}

/// Who a member's requests come from; absent: whom the run's `tls` names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Auth {
    Word(AuthWord),
    Certificate {
        certificate: PathBuf,
        key: PathBuf,
    },
    Bearer {
        bearer: String,
    },
    /// One token a line; user n takes line n, and over again.
    TokenFile {
        token_file: PathBuf,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AuthWord {
    /// Nobody: no certificate, no token.
    None,
}

impl Default for Member {
    fn default() -> Member {
        Member {
            name: String::new(),
            weight: 1,
            url: None,
            method: "GET".to_owned(),
            path: Vec::new(),
            headers: Vec::new(),
            body: 0,
            think: None,
            auth: None,
        }
    }
}

impl Scenario {
    /// As it goes into a result: without the secrets that stand in it.
    pub fn to_kept(&self) -> serde_json::Value {
        let mut kept = self.clone();
        for member in &mut kept.members {
            for field in &mut member.headers {
                let name = field.split(':').next().unwrap_or_default().trim();
                if SECRET_FIELDS.iter().any(|s| name.eq_ignore_ascii_case(s)) {
                    *field = format!("{name}: {NOT_KEPT}");
                }
            }
            if let Some(Auth::Bearer { bearer }) = &mut member.auth {
                *bearer = NOT_KEPT.to_owned();
            }
        }
        serde_json::to_value(kept).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests;
