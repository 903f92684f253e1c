//! A scenario made ready: names looked up, certificates and tokens read, once for all shards.

use rustls::pki_types::ServerName;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::mix::Choice;
use super::scenario::words::Path;
use super::scenario::{Auth, Kind, Member, Scenario, TlsVersion, header};
use super::target::{Target, server_name};
use super::trust::{Trust, client_tls};

/// What all shards work from.
pub struct Plan {
    /// With its seed, and the shards that there will be.
    pub scenario: Scenario,
    pub seed: u64,
    pub groups: Vec<Group>,
    pub members: Vec<Asked>,
    pub sources: Vec<IpAddr>,
    /// As results name the target.
    pub url: String,
}

/// Connections that are alike: to one origin, as one client.
pub struct Group {
    pub address: SocketAddr,
    pub tls: Option<(Arc<rustls::ClientConfig>, ServerName<'static>)>,
}

/// A member as it is asked for.
pub struct Asked {
    pub group: usize,
    pub method: Vec<u8>,
    pub host: String,
    pub paths: Vec<Path>,
    /// Names and values, Authorization apart.
    pub fields: Vec<(String, String)>,
    /// Values of Authorization, by user; empty: none.
    pub tokens: Vec<String>,
    pub body: u64,
}

/// What makes two members' connections alike.
#[derive(PartialEq, Eq)]
struct Way {
    https: bool,
    host: String,
    port: u16,
    identity: Option<(PathBuf, PathBuf)>,
}

impl Plan {
    /// Reads the files that the scenario names and looks its hosts up.
    ///
    /// # Errors
    /// What is missing or unreadable.
    pub fn new(scenario: Scenario) -> Result<Plan, String> {
        let mut scenario = super::seeded(scenario);
        let seed = scenario.seed.unwrap_or_default();
        scenario.shards = scenario.shards.min(scenario.connections);
        if let Some(requests) = scenario.requests {
            scenario.shards = scenario.shards.min(requests.max(1) as usize);
        }
        let mut ways: Vec<Way> = Vec::new();
        let mut members = Vec::new();
        for member in &scenario.members {
            members.push(ask(&scenario, member, &mut ways)?);
        }
        let groups = ways.iter().map(|way| group(&scenario, way));
        let groups = groups.collect::<Result<Vec<_>, String>>()?;
        let sockets = groups.len() * scenario.connections;
        if sockets > super::scenario::CONNECTIONS_MAX as usize {
            return Err(format!(
                "{} connections to each of {} origins and identities are {sockets}: too many",
                scenario.connections,
                groups.len()
            ));
        }
        let sources = scenario.sources.addresses()?;
        let strange = |source: &IpAddr| {
            groups
                .iter()
                .any(|g| g.address.is_ipv4() != source.is_ipv4())
        };
        if let Some(source) = sources.iter().find(|source| strange(source)) {
            return Err(format!(
                "source address {source} is of another family than a target's"
            ));
        }
        let first = Target::new(&scenario.url).or_else(|_| {
            let named = scenario
                .members
                .iter()
                .find_map(|member| member.url.as_deref());
            Target::new(named.unwrap_or_default())
        })?;
        let path = match scenario.members.as_slice() {
            [only] => only.path.first().unwrap_or(&first.path).clone(),
            _ => String::new(),
        };
        Ok(Plan {
            seed,
            url: format!("{}{path}", first.origin()),
            groups,
            members,
            sources,
            scenario,
        })
    }

    /// What sequences are drawn from.
    pub fn choices(&self) -> Vec<Choice> {
        let both = self.scenario.members.iter().zip(&self.members);
        both.map(|(member, asked)| Choice {
            weight: member.weight,
            paths: asked.paths.iter().map(Path::count).collect(),
            think: member.think,
        })
        .collect()
    }

    /// From the begin of the run to what is measured.
    pub fn lead(&self) -> Duration {
        self.scenario.lead()
    }

    /// A shard's part of a number that all share.
    pub fn part(&self, whole: u64, shard: usize) -> u64 {
        let shards = self.scenario.shards as u64;
        whole / shards + u64::from((shard as u64) < whole % shards)
    }

    pub fn kind(&self) -> Kind {
        self.scenario.kind
    }
}

fn ask(scenario: &Scenario, member: &Member, ways: &mut Vec<Way>) -> Result<Asked, String> {
    let target = Target::new(member.url.as_ref().unwrap_or(&scenario.url))?;
    let tls = &scenario.tls;
    let identity = match &member.auth {
        Some(Auth::Word(_)) => None,
        Some(Auth::Certificate { certificate, key }) => Some((certificate.clone(), key.clone())),
        None | Some(Auth::Bearer { .. } | Auth::TokenFile { .. }) => {
            tls.certificate.clone().zip(tls.key.clone())
        }
    };
    let tokens = match &member.auth {
        Some(Auth::Bearer { bearer }) => vec![format!("Bearer {bearer}")],
        Some(Auth::TokenFile { token_file }) => {
            let named = |why: String| format!("{}: {why}", token_file.display());
            let text = std::fs::read_to_string(token_file).map_err(|e| named(e.to_string()))?;
            let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
            let tokens: Vec<_> = lines.map(|token| format!("Bearer {token}")).collect();
            if tokens.is_empty() {
                return Err(named("holds no token".to_owned()));
            }
            tokens
        }
        _ => Vec::new(),
    };
    for token in &tokens {
        header(&format!("Authorization: {token}"))?;
    }
    let paths = match member.path.as_slice() {
        [] => vec![Path::new(&target.path)?],
        paths => paths
            .iter()
            .map(|path| Path::new(path))
            .collect::<Result<_, _>>()?,
    };
    let fields = member
        .headers
        .iter()
        .map(|field| header(field).map(|(name, value)| (name.to_owned(), value.to_owned())));
    let way = Way {
        https: target.https,
        host: target.host.clone(),
        port: target.port,
        identity: identity.filter(|_| target.https),
    };
    let group = ways
        .iter()
        .position(|known| *known == way)
        .unwrap_or_else(|| {
            ways.push(way);
            ways.len() - 1
        });
    Ok(Asked {
        group,
        method: member.method.clone().into_bytes(),
        host: format!("{}:{}", target.host, target.port),
        paths,
        fields: fields.collect::<Result<_, String>>()?,
        tokens,
        body: member.body,
    })
}

fn group(scenario: &Scenario, way: &Way) -> Result<Group, String> {
    let target = Target {
        https: way.https,
        host: way.host.clone(),
        port: way.port,
        path: String::new(),
    };
    let tls = if way.https {
        let trust = Trust {
            ca: scenario.tls.ca.as_deref(),
            insecure: scenario.tls.insecure,
            tls12: scenario.tls.version == TlsVersion::V12,
        };
        let config = client_tls(&trust, way.identity.as_ref())?;
        Some((Arc::new(config), server_name(&target)?))
    } else {
        None
    };
    Ok(Group {
        address: target.address()?,
        tls,
    })
}
