//! Whom a site's settings let in: the judgement of a client's certificate chain, and of its token.
//!
//! The handshake proved that the client holds the leaf's key, nothing more (DESIGN §4). Here the chain is built to a CA
//! that the site published (RFC 5280 §6 by `rustls-webpki`), and on top of webpki's checks: the CA's own validity and
//! path length, keyUsage of leaf and issuers, clientAuth named and not merely not excluded, an id that is safe to
//! hand on, revocation lists, and the deny-lists. A token is verified by `control::tokens` and judged by the same
//! deny-lists.

use super::identity::{ClientIdentity, IssuerAndSerial, MAX_CLIENT_ID_BYTES, Proof};
use super::{DenyLists, RevocationList, RevocationLists, Source, Stock};
use crate::control::certificates::facts::{self, Facts};
use crate::control::certificates::pem;
use crate::control::settings::{IdField, KeySource, PublishedCrl, SiteSettings, sha256};
use crate::control::tokens::{self, Issuer, KeySet, Refusal};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, SignatureVerificationAlgorithm, TrustAnchor, UnixTime};
use std::collections::HashSet;
use std::sync::{Arc, LazyLock};
use std::time::Duration;
use webpki::{EndEntityCert, Error, KeyUsage, VerifiedPath};

/// Certificates a client may present. Real chains have two to four.
pub const MAX_CHAIN: usize = 10;
/// CA certificates of one site, all entries together.
pub const MAX_ANCHORS: usize = 512;

/// What the handshake's provider can verify: ECDSA, Ed25519, RSA from 2048 bits; no SHA-1.
static ALGORITHMS: LazyLock<&[&dyn SignatureVerificationAlgorithm]> = LazyLock::new(|| {
    aws_lc_rs::default_provider()
        .signature_verification_algorithms
        .all
});

/// Whom one site trusts.
#[derive(Debug, Default)]
pub struct Trust {
    /// Tells this trust from another one of the process: verdicts are remembered by it.
    pub number: u64,
    anchors: Vec<TrustAnchor<'static>>,
    /// One for each anchor.
    authorities: Vec<Authority>,
    lists: RevocationLists,
    deny: DenyLists,
    /// SHA-256 of each anchor's name and key.
    anchor_ids: HashSet<[u8; 32]>,
    /// As published, for the signatures of lists.
    certificates: Vec<CertificateDer<'static>>,
    issuers: Vec<Issuer>,
    /// One for each issuer: where its keys are fetched.
    key_sources: Vec<Option<Source>>,
}

#[derive(Debug)]
struct Authority {
    /// As published: the `<ca name>` of client ids.
    name: String,
    id: IdField,
    not_before: i64,
    not_after: i64,
    path_length: Option<u32>,
}

/// A verdict that a shard may cache by the trust's number: `Accepted` until its `not_after`, `Revoked` as long as the
/// trust lasts, `Rejected` and `Unknown` not at all, since a certificate that is not valid yet will be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    Accepted(ClientIdentity),
    /// Chain, EKU, validity, token or id is not acceptable: 401/403, reason for the error's detail.
    Rejected(String),
    Revoked(String),
    /// What is needed to judge is not there: worth a wait if it is on its way.
    Unknown(Unknown),
}

/// Why nobody can judge at the moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unknown {
    pub why: String,
    /// What a fetch might bring.
    pub source: Option<Source>,
    /// There are keys, and none of that id: unless newer ones know it, the token is no good.
    pub stale_key: bool,
}

impl Trust {
    /// Reads CAs, lists and key sets; the error is one line for the settings' author. `published` are lists that stand
    /// in connectors' documents, this one's included.
    pub fn new(
        settings: &SiteSettings,
        published: &[Arc<RevocationList>],
        stock: &Stock,
    ) -> Result<Self, String> {
        let mut trust = Self {
            deny: DenyLists::new(settings),
            ..Self::default()
        };
        let mut certificates = Vec::new();
        for ca in &settings.client_ca {
            let wrong = |why: String| format!("client_ca {:?} {why}", ca.name);
            for certificate in pem::certificates_in(&ca.pem).map_err(wrong)? {
                trust
                    .add(&ca.name, ca.id, &certificate)
                    .map_err(|why| wrong(format!(": {why}")))?;
                certificates.push(certificate);
            }
        }
        let fetched = Source::wanted(settings).filter_map(|source| stock.list(&source));
        let candidates = published.iter().cloned().chain(fetched);
        trust.lists = RevocationLists::new(
            !settings.crl.is_empty(),
            settings.crl_fail,
            candidates,
            &certificates,
        );
        trust.drop_revoked(&certificates);
        trust.anchor_ids = trust.anchors.iter().map(anchor_id).collect();
        trust.certificates = certificates;
        for issuer in &settings.issuers {
            let source = Source::of_keys(issuer);
            let keys = match &issuer.keys {
                KeySource::Set(text) => {
                    let keys = KeySet::parse(text.as_bytes());
                    Some(Arc::new(keys.map_err(|why| {
                        format!("oidc {:?}: jwks {why}", issuer.name)
                    })?))
                }
                KeySource::Discovery | KeySource::Url(_) => {
                    source.as_ref().and_then(|s| stock.keys(s))
                }
            };
            trust.issuers.push(Issuer {
                name: issuer.name.clone(),
                kind: issuer.kind.into(),
                issuer: issuer.issuer.clone(),
                audience: issuer.audience.clone(),
                tenants: issuer.tenants.clone(),
                id: issuer.id.clone(),
                keys,
            });
            trust.key_sources.push(source);
        }
        Ok(trust)
    }

    /// Reads the lists that stand in a document; the error is one line for its author.
    pub fn read_lists(settings: &SiteSettings) -> Result<Vec<Arc<RevocationList>>, String> {
        let mut lists = Vec::new();
        for list in &settings.crl {
            let PublishedCrl::Der(text) = list else {
                continue;
            };
            let der = BASE64_STANDARD
                .decode(text)
                .map_err(|error| format!("crl: {error}"))?;
            let list = RevocationList::read(&der).map_err(|why| format!("crl {why}"))?;
            lists.push(Arc::new(list));
        }
        Ok(lists)
    }

    /// A published CA that another published CA's list names is none.
    fn drop_revoked(&mut self, certificates: &[CertificateDer<'_>]) {
        for certificate in certificates {
            let revoked = Facts::of(certificate)
                .is_ok_and(|facts| self.lists.revokes(&facts.issuer_der, &facts.serial_der));
            if revoked
                && let Ok(anchor) = webpki::anchor_from_trusted_cert(certificate)
                && let Some(at) = self
                    .anchors
                    .iter()
                    .position(|known| same_ca(known, &anchor))
            {
                self.anchors.remove(at);
                self.authorities.remove(at);
            }
        }
    }

    fn add(
        &mut self,
        name: &str,
        id: IdField,
        certificate: &CertificateDer<'_>,
    ) -> Result<(), String> {
        let facts = facts::check_ca(certificate)?;
        let anchor = webpki::anchor_from_trusted_cert(certificate)
            .map_err(|error| format!("{} cannot be used: {error}", facts.subject))?
            .to_owned();
        // One CA under two names would give one client two ids.
        if let Some(known) = self.anchors.iter().position(|a| same_ca(a, &anchor)) {
            return match &self.authorities[known] {
                same if same.name == name => Ok(()),
                other => Err(format!(
                    "{} is published as {:?} already",
                    facts.subject, other.name
                )),
            };
        }
        if self.anchors.len() == MAX_ANCHORS {
            return Err(format!("more than {MAX_ANCHORS} CA certificates"));
        }
        self.anchors.push(anchor);
        self.authorities.push(Authority {
            name: name.to_string(),
            id,
            not_before: facts.not_before,
            not_after: facts.not_after,
            path_length: facts.path_length,
        });
        Ok(())
    }

    /// True when no certificate could be accepted.
    pub fn is_empty(&self) -> bool {
        self.anchors.is_empty()
    }

    /// Whether one of the published CAs signed a list.
    pub fn has_signed(&self, list: &RevocationList) -> bool {
        self.certificates.iter().any(|ca| list.is_signed_by(ca))
    }

    /// The lists in force.
    pub fn revocation_lists(&self) -> &[Arc<RevocationList>] {
        self.lists.in_force()
    }

    /// Judges a chain (DER, leaf first) at `unix_now`: chain to a published CA, clientAuth EKU, validity, revocation,
    /// deny-list. Some 200 µs for a chain of ECDSA P-256; the caller caches.
    pub fn judge(&self, chain: &[Vec<u8>], unix_now: i64) -> Verdict {
        if self.lists.is_missing() && !self.is_empty() {
            return Verdict::Unknown(Unknown {
                why: "no revocation list of the site's CAs is there yet".into(),
                source: None,
                stale_key: false,
            });
        }
        match self.verify(chain, unix_now) {
            Ok(identity) => match self.denies(&identity) {
                Some(why) => Verdict::Revoked(why),
                None => Verdict::Accepted(identity),
            },
            Err(Bad::Rejected(why)) => Verdict::Rejected(why),
            Err(Bad::Revoked(why)) => Verdict::Revoked(why),
        }
    }

    /// Judges a token (the text behind `Bearer`) at `unix_now`. Some 20 to 60 µs; the caller caches.
    pub fn judge_token(&self, token: &[u8], unix_now: i64) -> Verdict {
        let unknown = |issuer: usize, why: &str, stale_key| {
            let name = self.issuers.get(issuer).map_or("", |issuer| &issuer.name);
            Verdict::Unknown(Unknown {
                why: format!("{why} of issuer {name:?}"),
                source: self.key_sources.get(issuer).cloned().flatten(),
                stale_key,
            })
        };
        match tokens::verify(&self.issuers, token, unix_now) {
            Ok(token) => {
                let identity = ClientIdentity::of_token(token);
                match self.denies(&identity) {
                    Some(why) => Verdict::Revoked(why),
                    None => Verdict::Accepted(identity),
                }
            }
            Err(Refusal::Invalid(why)) => Verdict::Rejected(why),
            Err(Refusal::UnknownKey { issuer }) => {
                unknown(issuer, "the token's key is not among those", true)
            }
            Err(Refusal::NoKeys { issuer }) => {
                unknown(issuer, "the keys have not been fetched yet", false)
            }
        }
    }

    /// Why an identity that was accepted before may stay no longer: deny-lists, revocation lists, its CA or issuer gone.
    /// Cheap enough to ask for every live connection when these change.
    pub fn denies(&self, identity: &ClientIdentity) -> Option<String> {
        match &identity.proof {
            Proof::Certificate { path, anchor, .. } => {
                if path
                    .iter()
                    .any(|of| self.lists.revokes(&of.issuer, &of.serial))
                {
                    return Some("a certificate of the chain was revoked by its issuer".into());
                }
                if !self.anchor_ids.contains(anchor) {
                    return Some("the site trusts the certificate's authority no longer".into());
                }
            }
            Proof::Token { issuer, .. } => {
                let known = |known: &Issuer| {
                    issuer.split_once(':') == Some((known.kind.prefix(), known.name.as_str()))
                };
                if !self.issuers.iter().any(known) {
                    return Some("the site takes tokens of the issuer no longer".into());
                }
            }
        }
        self.deny.denies(identity)
    }

    fn verify(&self, chain: &[Vec<u8>], unix_now: i64) -> Result<ClientIdentity, Bad> {
        let reject = Bad::Rejected;
        let (leaf, rest) = chain
            .split_first()
            .ok_or_else(|| reject("no client certificate was presented".into()))?;
        if chain.len() > MAX_CHAIN {
            let text = format!(
                "the chain has {} certificates, over {MAX_CHAIN}",
                chain.len()
            );
            return Err(reject(text));
        }
        if self.is_empty() {
            return Err(reject(
                "the site trusts no certificate authority for clients".into(),
            ));
        }
        let der = CertificateDer::from(leaf.as_slice());
        let intermediates: Vec<_> = rest
            .iter()
            .map(|der| CertificateDer::from(der.as_slice()))
            .collect();
        let certificate = EndEntityCert::try_from(&der).map_err(|error| explain(&error))?;
        let seconds = Duration::from_secs(u64::try_from(unix_now).unwrap_or(0));
        let path = self
            .lists
            .with_options(|revocation| {
                certificate.verify_for_usage(
                    &ALGORITHMS,
                    &self.anchors,
                    &intermediates,
                    UnixTime::since_unix_epoch(seconds),
                    KeyUsage::client_auth(),
                    revocation,
                    Some(&|path| self.check_path(path, unix_now)),
                )
            })
            .map_err(|error| explain(&error))?;
        let authority = self
            .authority(&path)
            .ok_or_else(|| reject("the chain's end is not known".into()))?;
        let facts =
            Facts::of(leaf).map_err(|why| reject(format!("the client certificate {why}")))?;
        check_leaf(&facts).map_err(reject)?;
        let of = |facts: &Facts| IssuerAndSerial {
            issuer: facts.issuer_der.clone(),
            serial: facts.serial_der.clone(),
        };
        let mut not_after = facts.not_after.min(authority.not_after);
        let mut certificates = vec![of(&facts)];
        for issuer in path.intermediate_certificates() {
            let issuer =
                Facts::of(&issuer.der()).map_err(|why| reject(format!("an intermediate {why}")))?;
            not_after = not_after.min(issuer.not_after);
            certificates.push(of(&issuer));
        }
        let issuers = certificates.iter().map(|of| of.issuer.as_slice());
        let not_after = not_after.min(self.lists.good_until(issuers));
        let anchor = anchor_id(path.anchor());
        let proof = Proof::Certificate {
            serial: facts.serial.clone(),
            hash: facts::hex(&sha256(leaf)),
            path: certificates,
            anchor,
        };
        identity(authority, &facts, proof, not_after).map_err(reject)
    }

    fn authority(&self, path: &VerifiedPath<'_>) -> Option<&Authority> {
        let index = self
            .anchors
            .iter()
            .position(|anchor| same_ca(anchor, path.anchor()))?;
        self.authorities.get(index)
    }

    /// What webpki leaves to its caller: the anchor's own dates and path length, issuers' keyUsage. An error makes it
    /// try the next path.
    fn check_path(&self, path: &VerifiedPath<'_>, unix_now: i64) -> Result<(), Error> {
        let authority = self.authority(path).ok_or(Error::UnknownIssuer)?;
        let time = |seconds: i64| {
            UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(seconds).unwrap_or(0)))
        };
        if unix_now > authority.not_after {
            return Err(Error::CertExpired {
                time: time(unix_now),
                not_after: time(authority.not_after),
            });
        }
        if unix_now < authority.not_before {
            return Err(Error::CertNotValidYet {
                time: time(unix_now),
                not_before: time(authority.not_before),
            });
        }
        let issuers = path.intermediate_certificates().count();
        if authority
            .path_length
            .is_some_and(|most| issuers > most as usize)
        {
            return Err(Error::PathLenConstraintViolated);
        }
        for issuer in path.intermediate_certificates() {
            facts::check_ca(&issuer.der()).map_err(|_| Error::EndEntityUsedAsCa)?;
        }
        Ok(())
    }
}

/// A CA by its name and key.
fn anchor_id(anchor: &TrustAnchor<'_>) -> [u8; 32] {
    let mut both = sha256(&anchor.subject).to_vec();
    both.extend(sha256(&anchor.subject_public_key_info));
    sha256(&both)
}

/// Why a chain does not do.
enum Bad {
    Rejected(String),
    Revoked(String),
}

/// A CA is its name and its key, whatever the certificate around them.
fn same_ca(a: &TrustAnchor<'_>, b: &TrustAnchor<'_>) -> bool {
    a.subject == b.subject && a.subject_public_key_info == b.subject_public_key_info
}

fn check_leaf(facts: &Facts) -> Result<(), String> {
    match facts.purposes {
        Some(purposes) if purposes.client => {}
        _ => {
            return Err(
                "the certificate is not for client authentication (extended key usage)".into(),
            );
        }
    }
    if facts.key_usage.is_some_and(|usage| !usage.signs) {
        return Err("the certificate may not be used for signatures (key usage)".into());
    }
    Ok(())
}

fn identity(
    authority: &Authority,
    facts: &Facts,
    proof: Proof,
    not_after: i64,
) -> Result<ClientIdentity, String> {
    let field = field(authority.id, facts)?;
    if let Some(bad) = field.chars().find(|c| !matches!(c, ' '..='~')) {
        return Err(format!(
            "the certificate's name holds {bad:?}; printable ASCII is wanted"
        ));
    }
    if field.is_empty() || field.starts_with(' ') || field.ends_with(' ') {
        return Err("the certificate's name is empty, or begins or ends with a blank".into());
    }
    let client_id = format!("cert:{}/{field}", authority.name);
    if client_id.len() > MAX_CLIENT_ID_BYTES {
        return Err(format!(
            "the client id would have over {MAX_CLIENT_ID_BYTES} bytes"
        ));
    }
    Ok(ClientIdentity {
        client_id,
        device: Some(field),
        user: None,
        tenant: None,
        not_after,
        proof,
    })
}

fn field(id: IdField, facts: &Facts) -> Result<String, String> {
    let none = |what: &str| format!("the certificate has no {what}, which names clients here");
    match id {
        IdField::DnsSan => {
            let name = facts.dns_names.first().or(facts.common_name.as_ref());
            name.cloned().ok_or_else(|| none("DNS name and no CN"))
        }
        IdField::Cn => facts.common_name.clone().ok_or_else(|| none("CN")),
        IdField::UriSan => facts.uris.first().cloned().ok_or_else(|| none("URI name")),
        IdField::Serial => Ok(facts.serial.clone()),
    }
}

/// webpki's verdict in the words of an operator.
fn explain(error: &Error) -> Bad {
    let text = match error {
        Error::CertRevoked => return Bad::Revoked("a certificate of the chain was revoked by its issuer".into()),
        Error::UnknownRevocationStatus => {
            "no revocation list of a CA in the chain is there, and the site wants one (crl_fail = \"hard\")".into()
        }
        Error::CrlExpired { .. } => "the revocation list of a CA in the chain is out of date".into(),
        Error::UnknownIssuer => {
            "no published CA issued the certificate, or intermediates are missing".into()
        }
        Error::CertExpired { .. } => "a certificate of the chain has expired".into(),
        Error::CertNotValidYet { .. } => "a certificate of the chain is not valid yet".into(),
        Error::CaUsedAsEndEntity => "a CA's certificate cannot stand for a client".into(),
        Error::EndEntityUsedAsCa => "a certificate that is not a CA issued another one".into(),
        Error::PathLenConstraintViolated => "the chain is longer than a CA in it allows".into(),
        Error::RequiredEkuNotFoundContext(_) => {
            "the certificate is not for client authentication (extended key usage)".into()
        }
        Error::InvalidSignatureForPublicKey => {
            "no published CA issued the certificate: a signature in the chain is wrong".into()
        }
        Error::NameConstraintViolation => "a name is outside of what its CA may certify".into(),
        Error::MaximumPathBuildCallsExceeded
        | Error::MaximumPathDepthExceeded
        | Error::MaximumSignatureChecksExceeded
        | Error::MaximumNameConstraintComparisonsExceeded => "the chain is too complicated".into(),
        other => format!("the certificate cannot be used: {other}"),
    };
    Bad::Rejected(text)
}
