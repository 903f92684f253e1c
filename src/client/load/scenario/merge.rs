//! Defaults, flags laid over a file, and what must hold of the whole.

use std::path::PathBuf;
use std::time::Duration;

use super::words::{self, Sources, Think};
use super::{Auth, Kind, Member, NOT_KEPT, Scenario, Spread, TlsVersion};
use crate::client::load::target::Target;

/// What the command line says; `None`, or empty, where it says nothing.
#[derive(Clone, Debug, Default)]
pub struct Flags {
    pub url: Option<String>,
    pub ca: Option<PathBuf>,
    pub insecure: bool,
    pub tls12: bool,
    pub certificate: Option<PathBuf>,
    pub key: Option<PathBuf>,
    pub connections: Option<usize>,
    pub shards: Option<usize>,
    pub rate: Option<f64>,
    pub arrivals: Option<Spread>,
    pub ramp_up: Option<Duration>,
    pub warm_up: Option<Duration>,
    pub duration: Option<Duration>,
    pub requests: Option<u64>,
    pub timeout: Option<Duration>,
    pub seed: Option<u64>,
    pub sources: Vec<String>,
    pub think: Option<Think>,
    pub method: Option<String>,
    pub body: Option<u64>,
    pub headers: Vec<String>,
    pub resumed: bool,
    pub ask: bool,
}

impl Scenario {
    /// What a run of this kind is when nobody says anything.
    pub fn unset(kind: Kind) -> Scenario {
        Scenario {
            kind,
            connections: match kind {
                Kind::Requests => 64,
                Kind::Handshakes => 16,
                Kind::Transfer => 4,
            },
            shards: 1,
            warm_up: Duration::from_secs(1),
            duration: Duration::from_secs(10),
            timeout: Duration::from_secs(30),
            ..Scenario::default()
        }
    }

    /// The warm-up that nobody asked for. A closed loop that is counted is counted from its first request on; with a rate
    /// the connections should be open first.
    pub(super) fn warm_up_of(&self, requests: Option<u64>, rate: Option<f64>) -> Duration {
        match (requests, rate) {
            (Some(_), None) => Duration::ZERO,
            _ => self.warm_up,
        }
    }

    /// Takes numbers that are 0 from `unset`.
    pub(super) fn or_unset(mut self, unset: &Scenario) -> Scenario {
        for (number, unset) in [
            (&mut self.connections, unset.connections),
            (&mut self.shards, unset.shards),
        ] {
            if *number == 0 {
                *number = unset;
            }
        }
        self
    }

    /// The run that flags alone, or a file with flags laid over it, ask for.
    ///
    /// # Errors
    /// What does not fit together.
    pub fn of(kind: Kind, file: Option<Scenario>, flags: Flags) -> Result<Scenario, String> {
        let mut run = match file {
            Some(file) if file.kind != kind => {
                let name = |kind| match kind {
                    Kind::Requests => "requests",
                    Kind::Handshakes => "handshakes",
                    Kind::Transfer => "transfer",
                };
                return Err(format!(
                    "the scenario is one of `load {0}` (kind = \"{0}\" in the file), not of `load {1}`",
                    name(file.kind),
                    name(kind)
                ));
            }
            Some(file) => file,
            None => {
                let unset = Scenario::unset(kind);
                Scenario {
                    warm_up: unset.warm_up_of(flags.requests, flags.rate),
                    ..unset
                }
            }
        };
        run.lay(flags)?;
        run.check()?;
        Ok(run)
    }

    fn lay(&mut self, flags: Flags) -> Result<(), String> {
        fn lay<T>(over: &mut T, flag: Option<T>) {
            if let Some(flag) = flag {
                *over = flag;
            }
        }
        let absolute = |file: PathBuf| std::path::absolute(&file).unwrap_or(file);
        lay(&mut self.url, flags.url);
        if flags.ca.is_some() {
            (self.tls.ca, self.tls.insecure) = (flags.ca.map(absolute), false);
        }
        if flags.insecure {
            (self.tls.ca, self.tls.insecure) = (None, true);
        }
        if flags.tls12 {
            self.tls.version = TlsVersion::V12;
        }
        if flags.certificate.is_some() {
            self.tls.certificate = flags.certificate.map(absolute);
            self.tls.key = flags.key.map(absolute);
        }
        lay(&mut self.connections, flags.connections);
        lay(&mut self.shards, flags.shards);
        lay(&mut self.rate, flags.rate.map(Some));
        lay(&mut self.arrivals, flags.arrivals);
        lay(&mut self.ramp_up, flags.ramp_up);
        lay(&mut self.warm_up, flags.warm_up);
        lay(&mut self.duration, flags.duration);
        lay(&mut self.requests, flags.requests.map(Some));
        lay(&mut self.timeout, flags.timeout);
        lay(&mut self.seed, flags.seed.map(Some));
        if !flags.sources.is_empty() {
            self.sources = Sources(flags.sources);
        }
        self.resumed |= flags.resumed;
        self.ask |= flags.ask;
        if self.members.is_empty() {
            self.members.push(Member {
                name: "request".to_owned(),
                ..Member::default()
            });
        }
        for field in &flags.headers {
            header(field)?;
        }
        for member in &mut self.members {
            lay(&mut member.think, flags.think.map(Some));
            lay(&mut member.method, flags.method.clone());
            lay(&mut member.body, flags.body);
            // Those of flags take the place of the file's.
            let from_flag = |known: &String| flags.headers.iter().any(|flag| is_same(flag, known));
            member.headers.retain(|known| !from_flag(known));
            member.headers.extend(flags.headers.iter().cloned());
        }
        Ok(())
    }

    fn check(&self) -> Result<(), String> {
        if self.url.is_empty() && self.members.iter().any(|member| member.url.is_none()) {
            return Err("where to? --url URL, or `url` in the scenario".to_owned());
        }
        self.sources.addresses()?;
        if self.connections < 1 || self.shards < 1 {
            return Err("a run needs a connection and a shard at least".to_owned());
        }
        if self.duration.is_zero() {
            return Err("the duration is 0: a run takes some time (--duration 10s)".to_owned());
        }
        if self.timeout.is_zero() {
            return Err("the timeout is 0: every request would fail (--timeout 30s)".to_owned());
        }
        if self.rate.is_none() && self.arrivals == Spread::Poisson {
            return Err("arrivals are spread where there is a rate: --rate N".to_owned());
        }
        for member in &self.members {
            self.check_member(member).map_err(|why| {
                if self.members.len() > 1 {
                    format!("{}: {why}", member.name)
                } else {
                    why
                }
            })?;
        }
        Ok(())
    }

    fn check_member(&self, member: &Member) -> Result<(), String> {
        if member.weight == 0 {
            return Err("its weight is 0".to_owned());
        }
        let target = Target::new(member.url.as_ref().unwrap_or(&self.url))?;
        for path in &member.path {
            words::Path::new(path)?;
        }
        if member.path.is_empty() {
            words::Path::new(&target.path)?;
        }
        if self.kind == Kind::Handshakes && !target.https {
            return Err("handshakes need an https:// URL".to_owned());
        }
        if self.rate.is_some() && member.think.is_some_and(|think| !think.to.is_zero()) {
            return Err(
                "with a rate, requests are due by the clock: nobody thinks (no --think)".to_owned(),
            );
        }
        for field in &member.headers {
            let (name, value) = header(field)?;
            if value == NOT_KEPT {
                return Err(format!(
                    "results do not keep the value of {name}: give it again, --header '{name}: …'"
                ));
            }
        }
        match &member.auth {
            Some(Auth::Bearer { bearer }) if bearer == NOT_KEPT => Err(
                "results do not keep tokens: put it into a file, auth = { token_file = \"…\" }"
                    .to_owned(),
            ),
            Some(Auth::Certificate { .. }) if !target.https => {
                Err("a client certificate needs an https:// URL".to_owned())
            }
            _ => Ok(()),
        }
    }
}

/// Both are fields of the same name.
fn is_same(one: &str, other: &str) -> bool {
    let names = header(one).ok().zip(header(other).ok());
    names.is_some_and(|((one, _), (other, _))| one.eq_ignore_ascii_case(other))
}

/// Name and value of `Name: value`.
pub(in crate::client::load) fn header(field: &str) -> Result<(&str, &str), String> {
    let wrong = || format!("`{field}` is not `Name: value`");
    let (name, value) = field.split_once(':').ok_or_else(wrong)?;
    let (name, value) = (name.trim(), value.trim());
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if name.is_empty() || !name.bytes().all(is_token) {
        return Err(format!("{} is no header's name", name.escape_debug()));
    }
    if value
        .bytes()
        .any(|byte| byte < b' ' && byte != b'\t' || byte == 0x7f)
    {
        return Err(format!("the value of {name} has a control character"));
    }
    Ok((name, value))
}
