//! Stage `auth`: who the client is, judged against the current snapshot.
//!
//! The handshake proved possession of the key only. Chain, usage, validity and deny-lists are judged here, for full and
//! resumed sessions alike, and the verdict is cached by leaf hash, site and snapshot number: a new snapshot judges anew.

use crate::control::settings::Auth;
use crate::control::snapshot::{ClientIdentity, Snapshot, Verdict};
use std::collections::HashMap;
use std::rc::Rc;

use super::fault::Fault;

/// Certificates whose verdicts a shard remembers; at the maximum the cache is emptied and fills again.
const VERDICTS_MAX: usize = 16_384;

/// A presented chain (DER, leaf first) with the hash of its leaf.
pub struct Chain {
    leaf_hash: [u8; 32],
    certificates: Vec<Vec<u8>>,
}

impl Chain {
    /// `None` when the client presented no certificate.
    pub fn new(certificates: Vec<Vec<u8>>) -> Option<Chain> {
        let leaf = certificates.first()?;
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, leaf);
        let mut leaf_hash = [0; 32];
        leaf_hash.copy_from_slice(digest.as_ref());
        Some(Chain {
            leaf_hash,
            certificates,
        })
    }
}

/// One shard's memory of verdicts.
#[derive(Default)]
pub struct Judge {
    verdicts: HashMap<([u8; 32], u32), (u64, Rc<Verdict>)>,
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

impl Judge {
    fn verdict(
        &mut self,
        snapshot: &Snapshot,
        site: u32,
        chain: &Chain,
        unix_now: i64,
    ) -> Rc<Verdict> {
        let key = (chain.leaf_hash, site);
        if let Some((number, verdict)) = self.verdicts.get(&key)
            && *number == snapshot.number
            && !matches!(&**verdict, Verdict::Accepted(id) if id.not_after < unix_now)
        {
            return verdict.clone();
        }
        let trust = &snapshot.sites[site as usize].trust;
        let verdict = Rc::new(trust.judge(&chain.certificates, unix_now));
        // A rejection may be due to the clock (not valid before), so only acceptance and revocation are remembered.
        if !matches!(&*verdict, Verdict::Rejected(_)) {
            if self.verdicts.len() >= VERDICTS_MAX {
                self.verdicts.clear();
            }
            self.verdicts
                .insert(key, (snapshot.number, verdict.clone()));
        }
        verdict
    }

    /// Judges a client for a route: its entry, or the fault and one line of detail.
    pub fn enter(
        &mut self,
        snapshot: &Snapshot,
        site: u32,
        required: Auth,
        chain: Option<&Chain>,
        unix_now: i64,
    ) -> Result<Entry, (Fault, String)> {
        let Some(chain) = chain else {
            return match required {
                Auth::None => Ok(Entry::Anonymous),
                Auth::Certificate | Auth::Any | Auth::Token => Err((
                    Fault::Unauthenticated,
                    "this path needs a client certificate, and none was presented".into(),
                )),
            };
        };
        let verdict = self.verdict(snapshot, site, chain, unix_now);
        match (&*verdict, required) {
            // A route for anybody takes no notice of a certificate that is good for nothing, a revoked one excepted.
            (Verdict::Revoked(why), _) => Err((Fault::Revoked, why.clone())),
            (Verdict::Accepted(_), _) => Ok(Entry::Known(verdict)),
            (Verdict::Rejected(_), Auth::None) => Ok(Entry::Anonymous),
            (Verdict::Rejected(why), _) => Err((Fault::Forbidden, why.clone())),
        }
    }
}
