//! Stage `auth`: who the client is, judged against the current snapshot.
//!
//! The handshake proved possession of the key only. Chain, usage, validity, revocation and deny-lists are judged here,
//! for full and resumed sessions alike, and the verdict is remembered by the chain as it was sent, site and the
//! trust's number: new settings, keys or lists judge anew, and so does a chain whose intermediates were missing before. A
//! token is judged once for all connections of the shard, and a connection keeps its last one, so that the next request
//! costs a comparison.
//!
//! | route's `auth` | certificate | token | outcome |
//! |---|---|---|---|
//! | any of the four | revoked | – | 403 `revoked` |
//! | `none` | accepted | not read | known by it |
//! | `none` | none, or one that does not do | not read | anonymous |
//! | `certificate`, `any` | accepted | not read | known by it |
//! | `certificate` | none / does not do | – | 401 / 403 `forbidden` |
//! | `token`, `any` | none, or one that does not do | accepted | known by it |
//! | `token`, `any` | the same | revoked / does not do | 403 `revoked` / 401 |
//! | `token` | whatever | none | 401 |
//! | `any` | none / does not do | none | 401 / 403 `forbidden` |
//!
//! Where keys or revocation lists are not there yet, the request waits for them a while (`trust_unavailable`).

use crate::control::settings::{Auth, sha256};
use crate::control::snapshot::{ClientIdentity, Snapshot, Source, Trust, Verdict};
use crate::control::tokens::MAX_TOKEN_BYTES;
use crate::wire::Field;
use std::cell::RefCell;
use std::rc::Rc;

use super::fault::Fault;
use memory::Memory;

/// Verdicts on certificates, and on tokens, that a shard remembers; some 500 bytes each. The process remembers as many as
/// a few shards would.
const REMEMBERED_MAX: usize = 16_384;
const REMEMBERED_BY_ALL: usize = 4 * REMEMBERED_MAX;
const REMEMBERED_MIN: usize = 1_024;
/// A rejection may be due to the clock (issued this very second, by a CA whose clock is ahead): it is remembered no longer
/// than this. To judge again costs some 200 µs.
const REJECTED_SECONDS: i64 = 2;

/// A presented chain (DER, leaf first) with its hash.
pub struct Chain {
    hash: [u8; 32],
    certificates: Vec<Vec<u8>>,
    /// The last rejection, by site. It stays with the connection: anybody can make chains that are no good.
    rejected: RefCell<Option<(u32, Remembered)>>,
}

impl Chain {
    /// `None` when the client presented no certificate.
    pub fn new(certificates: Vec<Vec<u8>>) -> Option<Chain> {
        certificates.first()?;
        let mut bytes = Vec::with_capacity(certificates.iter().map(|der| der.len() + 8).sum());
        for der in &certificates {
            bytes.extend_from_slice(&(der.len() as u64).to_be_bytes());
            bytes.extend_from_slice(der);
        }
        let hash = sha256(&bytes);
        Some(Chain {
            hash,
            certificates,
            rejected: RefCell::default(),
        })
    }
}

/// A token and what was found of it.
pub struct JudgedToken {
    site: u32,
    token: Box<[u8]>,
    remembered: Remembered,
}

#[derive(Clone)]
struct Remembered {
    /// Number of the trust that judged.
    trust: u64,
    /// Unix seconds.
    until: i64,
    verdict: Rc<Verdict>,
}

impl Remembered {
    fn new(trust: &Trust, verdict: Verdict, unix_now: i64) -> Remembered {
        let until = match &verdict {
            Verdict::Accepted(identity) => identity.not_after,
            Verdict::Revoked(_) => i64::MAX,
            Verdict::Rejected(_) => unix_now.saturating_add(REJECTED_SECONDS),
            Verdict::Unknown(_) => i64::MIN,
        };
        Remembered {
            trust: trust.number,
            until,
            verdict: Rc::new(verdict),
        }
    }

    fn holds(&self, trust: &Trust, unix_now: i64) -> bool {
        self.trust == trust.number && unix_now < self.until
    }
}

/// One shard's memory of verdicts.
pub struct Judge {
    certificates: Memory<([u8; 32], u32), Remembered>,
    tokens: Memory<([u8; 32], u32), Rc<JudgedToken>>,
    pub counts: Counts,
}

impl Default for Judge {
    fn default() -> Judge {
        Judge::of_one(1)
    }
}

/// Judgements, for metrics.
#[derive(Default, Clone, Copy)]
pub struct Counts {
    pub accepted: u64,
    pub rejected: u64,
    pub revoked: u64,
    pub cached: u64,
    pub tokens_accepted: u64,
    pub tokens_rejected: u64,
    pub tokens_revoked: u64,
    pub tokens_cached: u64,
}

/// What a client shows.
pub struct Credentials<'a> {
    pub chain: Option<&'a Chain>,
    pub bearer: Bearer<'a>,
    /// The connection's last token.
    pub last_token: &'a mut Option<Rc<JudgedToken>>,
}

/// What the `Authorization` field holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bearer<'a> {
    Absent,
    Token(&'a [u8]),
    Malformed(&'static str),
}

impl<'a> Bearer<'a> {
    /// Reads `Authorization: Bearer …` (RFC 6750 §2.1). Another scheme is for the upstream to judge; two fields are for
    /// nobody, since what checks one might forward the other.
    pub fn of(fields: impl Iterator<Item = Field<'a>>) -> Bearer<'a> {
        let mut found = Bearer::Absent;
        let mut seen = false;
        for field in fields.filter(|field| field.name.eq_ignore_ascii_case(b"authorization")) {
            if std::mem::replace(&mut seen, true) {
                return Bearer::Malformed("the request has two Authorization fields");
            }
            found = Bearer::of_value(field.value);
        }
        found
    }

    fn of_value(value: &'a [u8]) -> Bearer<'a> {
        const SCHEME: &[u8] = b"bearer";
        let value = value.trim_ascii();
        let Some((scheme, rest)) = value.split_at_checked(SCHEME.len()) else {
            return Bearer::Absent;
        };
        if !scheme.eq_ignore_ascii_case(SCHEME) || !(rest.is_empty() || rest.starts_with(b" ")) {
            return Bearer::Absent;
        }
        match rest.trim_ascii_start() {
            [] => Bearer::Malformed("the Authorization field holds no token"),
            token if token.len() > MAX_TOKEN_BYTES => Bearer::Malformed("the token is too long"),
            token => Bearer::Token(token),
        }
    }
}

/// The outcome of stage `auth` for one request.
pub enum Entry {
    /// A client with this identity.
    Known(Rc<Verdict>),
    /// The route asks for nobody; the client is whoever it is.
    Anonymous,
}

impl Entry {
    /// The identity, where there is one.
    pub fn identity(&self) -> Option<&ClientIdentity> {
        match self {
            Entry::Known(verdict) => match &**verdict {
                Verdict::Accepted(identity) => Some(identity),
                _ => None,
            },
            Entry::Anonymous => None,
        }
    }
}

/// Why a client may not enter.
#[derive(Debug)]
pub struct Refused {
    pub fault: Fault,
    pub detail: String,
    /// A token would help (RFC 6750 §3): none was shown, or one that does not do.
    pub challenge: Option<Challenge>,
    /// What is not there yet, with `TrustUnavailable`.
    pub missing: Option<Missing>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Challenge {
    NoToken,
    InvalidToken,
}

#[derive(Debug)]
pub struct Missing {
    pub source: Option<Source>,
    /// Keys are there, and none is the token's: unless newer ones come, it is no good.
    pub stale_key: bool,
}

impl Challenge {
    /// Value of `WWW-Authenticate`.
    pub fn value(self) -> &'static str {
        match self {
            Challenge::NoToken => "Bearer",
            Challenge::InvalidToken => "Bearer error=\"invalid_token\"",
        }
    }
}

impl Refused {
    fn new(fault: Fault, detail: impl Into<String>) -> Refused {
        Refused {
            fault,
            detail: detail.into(),
            challenge: None,
            missing: None,
        }
    }

    fn challenging(self, challenge: Challenge) -> Refused {
        Refused {
            challenge: Some(challenge),
            ..self
        }
    }
}

impl Judge {
    /// Of one of so many shards.
    pub fn of_one(shards: usize) -> Judge {
        let share = REMEMBERED_BY_ALL / shards.max(1);
        let most = share.clamp(REMEMBERED_MIN, REMEMBERED_MAX);
        Judge {
            certificates: Memory::new(most),
            tokens: Memory::new(most),
            counts: Counts::default(),
        }
    }

    /// Judges a client for a route.
    pub fn enter(
        &mut self,
        snapshot: &Snapshot,
        site: u32,
        required: Auth,
        shown: Credentials<'_>,
        unix_now: i64,
    ) -> Result<Entry, Refused> {
        let trust = &*snapshot.sites[site as usize].trust;
        let certificate = shown
            .chain
            .map(|chain| self.certificate(trust, site, chain, unix_now));
        match (certificate.as_deref(), required) {
            (Some(Verdict::Revoked(why)), _) => {
                return Err(Refused::new(Fault::Revoked, why.clone()));
            }
            (Some(Verdict::Accepted(_)), Auth::None | Auth::Certificate | Auth::Any) => {
                return Ok(certificate.map_or(Entry::Anonymous, Entry::Known));
            }
            (_, Auth::None) => return Ok(Entry::Anonymous),
            (other, Auth::Certificate) => {
                return Err(without_certificate(other, Auth::Certificate));
            }
            (other, Auth::Any) if shown.bearer == Bearer::Absent => {
                return Err(without_certificate(other, Auth::Any));
            }
            (_, Auth::Token | Auth::Any) => {}
        }
        let token = match shown.bearer {
            Bearer::Token(token) => token,
            Bearer::Malformed(why) => {
                return Err(
                    Refused::new(Fault::Unauthenticated, why).challenging(Challenge::InvalidToken)
                );
            }
            Bearer::Absent => {
                let why = "this path needs a token (Authorization: Bearer), and none was sent";
                return Err(
                    Refused::new(Fault::Unauthenticated, why).challenging(Challenge::NoToken)
                );
            }
        };
        let verdict = self.token(trust, site, token, shown.last_token, unix_now);
        match &*verdict {
            Verdict::Accepted(_) => Ok(Entry::Known(verdict)),
            Verdict::Revoked(why) => Err(Refused::new(Fault::Revoked, why.clone())),
            Verdict::Rejected(why) => Err(Refused::new(Fault::Unauthenticated, why.clone())
                .challenging(Challenge::InvalidToken)),
            Verdict::Unknown(_) => Err(unavailable(&verdict)),
        }
    }

    /// Forgets a client that will not ask again soon: it holds a channel, which keeps what it needs to know of it. Its
    /// verdict would take more room than the channel.
    pub fn forget(&mut self, site: u32, chain: Option<&Chain>, token: Option<&JudgedToken>) {
        if let Some(chain) = chain {
            self.certificates.remove(&(chain.hash, site));
        }
        if let Some(token) = token {
            self.tokens.remove(&(sha256(&token.token), site));
        }
    }

    fn certificate(
        &mut self,
        trust: &Trust,
        site: u32,
        chain: &Chain,
        unix_now: i64,
    ) -> Rc<Verdict> {
        let key = (chain.hash, site);
        if let Some(known) = self.certificates.get(&key)
            && known.holds(trust, unix_now)
        {
            self.counts.cached += 1;
            return known.verdict.clone();
        }
        if let Some((at, known)) = &*chain.rejected.borrow()
            && *at == site
            && known.holds(trust, unix_now)
        {
            self.counts.cached += 1;
            return known.verdict.clone();
        }
        let judged = Remembered::new(trust, trust.judge(&chain.certificates, unix_now), unix_now);
        let verdict = judged.verdict.clone();
        match &*judged.verdict {
            Verdict::Accepted(_) => self.counts.accepted += 1,
            Verdict::Revoked(_) => self.counts.revoked += 1,
            Verdict::Rejected(_) | Verdict::Unknown(_) => self.counts.rejected += 1,
        }
        match &*verdict {
            Verdict::Accepted(_) | Verdict::Revoked(_) => self.certificates.insert(key, judged),
            Verdict::Rejected(_) => *chain.rejected.borrow_mut() = Some((site, judged)),
            Verdict::Unknown(_) => {}
        }
        verdict
    }

    fn token(
        &mut self,
        trust: &Trust,
        site: u32,
        token: &[u8],
        last: &mut Option<Rc<JudgedToken>>,
        unix_now: i64,
    ) -> Rc<Verdict> {
        if let Some(known) = last
            && known.site == site
            && *known.token == *token
            && known.remembered.holds(trust, unix_now)
        {
            self.counts.tokens_cached += 1;
            return known.remembered.verdict.clone();
        }
        let key = (sha256(token), site);
        if let Some(known) = self.tokens.get(&key)
            && known.remembered.holds(trust, unix_now)
        {
            self.counts.tokens_cached += 1;
            *last = Some(known.clone());
            return known.remembered.verdict.clone();
        }
        let remembered = Remembered::new(trust, trust.judge_token(token, unix_now), unix_now);
        let verdict = remembered.verdict.clone();
        match &*verdict {
            Verdict::Accepted(_) => self.counts.tokens_accepted += 1,
            Verdict::Revoked(_) => self.counts.tokens_revoked += 1,
            Verdict::Rejected(_) | Verdict::Unknown(_) => self.counts.tokens_rejected += 1,
        }
        // Only what was signed by an issuer takes room: anybody can make tokens that are no good.
        if matches!(&*verdict, Verdict::Accepted(_) | Verdict::Revoked(_)) {
            let judged = Rc::new(JudgedToken {
                site,
                token: token.into(),
                remembered,
            });
            self.tokens.insert(key, judged.clone());
            *last = Some(judged);
        }
        verdict
    }
}

fn without_certificate(verdict: Option<&Verdict>, required: Auth) -> Refused {
    match verdict {
        Some(Verdict::Rejected(why)) => Refused::new(Fault::Forbidden, why.clone()),
        Some(verdict @ Verdict::Unknown(_)) => unavailable(verdict),
        _ if required == Auth::Any => {
            let why = "this path needs a client certificate or a token, and neither was presented";
            Refused::new(Fault::Unauthenticated, why).challenging(Challenge::NoToken)
        }
        _ => {
            let why = "this path needs a client certificate, and none was presented";
            Refused::new(Fault::Unauthenticated, why)
        }
    }
}

fn unavailable(verdict: &Verdict) -> Refused {
    let Verdict::Unknown(unknown) = verdict else {
        return Refused::new(Fault::Internal, "");
    };
    Refused {
        missing: Some(Missing {
            source: unknown.source.clone(),
            stale_key: unknown.stale_key,
        }),
        ..Refused::new(Fault::TrustUnavailable, unknown.why.clone())
    }
}

mod memory;
#[cfg(test)]
mod tests;
