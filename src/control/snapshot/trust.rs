//! Whom a site's settings let in: the judgement of a client's certificate chain.
//!
//! The handshake proved that the client holds the leaf's key, nothing more (DESIGN §4). Here the chain is built to a CA
//! that the site published (RFC 5280 §6 by `rustls-webpki`), and on top of webpki's checks: the CA's own validity and
//! path length, keyUsage of leaf and issuers, clientAuth named and not merely not excluded, an id that is safe to
//! hand on, and the deny-lists.

use crate::control::certificates::facts::{self, Facts};
use crate::control::certificates::pem;
use crate::control::settings::{IdField, SiteSettings, serial_key, sha256};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, SignatureVerificationAlgorithm, TrustAnchor, UnixTime};
use std::collections::HashSet;
use std::sync::LazyLock;
use std::time::Duration;
use webpki::{EndEntityCert, Error, KeyUsage, VerifiedPath};

/// Certificates a client may present. Real chains have two to four.
pub const MAX_CHAIN: usize = 10;
/// `cert:<ca name>/<field>`.
pub const MAX_CLIENT_ID_BYTES: usize = 128;
/// CA certificates of one site, all entries together.
pub const MAX_ANCHORS: usize = 512;

/// What the handshake's provider can verify: ECDSA, Ed25519, RSA from 2048 bits; no SHA-1.
static ALGORITHMS: LazyLock<&[&dyn SignatureVerificationAlgorithm]> = LazyLock::new(|| {
    aws_lc_rs::default_provider()
        .signature_verification_algorithms
        .all
});

/// Client certificates' trust of one site.
#[derive(Debug, Default)]
pub struct Trust {
    anchors: Vec<TrustAnchor<'static>>,
    /// One for each anchor.
    authorities: Vec<Authority>,
    denied_serials: HashSet<String>,
    /// Lower case.
    denied_clients: HashSet<String>,
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

/// A verdict that a shard may cache by (leaf SHA-256, snapshot number): `Accepted` until its `not_after`, `Revoked` as
/// long as the snapshot lasts, `Rejected` for a minute at most, since a certificate that is not valid yet will be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    Accepted(ClientIdentity),
    /// Chain, EKU, validity or id is not acceptable: 401/403, reason for the error's detail.
    Rejected(String),
    Revoked(String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientIdentity {
    /// `cert:<ca name>/<field>`, at most 128 bytes, printable ASCII.
    pub client_id: String,
    /// Hex, lower case.
    pub serial: String,
    /// Hex SHA-256 of the leaf.
    pub cert_hash: String,
    /// Device name (the field itself), for `Tidegate-Device`.
    pub device: String,
    /// Unix seconds: the verdict holds no longer than this. The earliest end in the chain, CA included.
    pub not_after: i64,
}

impl Trust {
    /// Reads the CAs; the error is one line for the settings' author.
    pub fn new(settings: &SiteSettings) -> Result<Self, String> {
        let mut trust = Self {
            denied_serials: settings
                .deny_serials
                .iter()
                .filter_map(|s| serial_key(s))
                .collect(),
            denied_clients: settings
                .deny_clients
                .iter()
                .map(|c| c.to_ascii_lowercase())
                .collect(),
            ..Self::default()
        };
        for ca in &settings.client_ca {
            let wrong = |why: String| format!("client_ca {:?} {why}", ca.name);
            for certificate in pem::certificates_in(&ca.pem).map_err(wrong)? {
                trust
                    .add(&ca.name, ca.id, &certificate)
                    .map_err(|why| wrong(format!(": {why}")))?;
            }
        }
        Ok(trust)
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

    /// Judges a chain (DER, leaf first) at `unix_now`: chain to a published CA, clientAuth EKU, validity, deny-list.
    /// Some 200 µs for a chain of ECDSA P-256; the caller caches.
    pub fn judge(&self, chain: &[Vec<u8>], unix_now: i64) -> Verdict {
        match self.verify(chain, unix_now) {
            Ok(identity) => self.check_denied(identity),
            Err(why) => Verdict::Rejected(why),
        }
    }

    fn verify(&self, chain: &[Vec<u8>], unix_now: i64) -> Result<ClientIdentity, String> {
        let (leaf, rest) = chain
            .split_first()
            .ok_or("no client certificate was presented")?;
        if chain.len() > MAX_CHAIN {
            return Err(format!(
                "the chain has {} certificates, over {MAX_CHAIN}",
                chain.len()
            ));
        }
        if self.is_empty() {
            return Err("the site trusts no certificate authority for clients".into());
        }
        let der = CertificateDer::from(leaf.as_slice());
        let intermediates: Vec<_> = rest
            .iter()
            .map(|der| CertificateDer::from(der.as_slice()))
            .collect();
        let certificate = EndEntityCert::try_from(&der).map_err(|error| explain(&error))?;
        let seconds = Duration::from_secs(u64::try_from(unix_now).unwrap_or(0));
        let path = certificate
            .verify_for_usage(
                &ALGORITHMS,
                &self.anchors,
                &intermediates,
                UnixTime::since_unix_epoch(seconds),
                KeyUsage::client_auth(),
                None,
                Some(&|path| self.check_path(path, unix_now)),
            )
            .map_err(|error| explain(&error))?;
        let authority = self
            .authority(&path)
            .ok_or("the chain's end is not known")?;
        let facts = Facts::of(leaf).map_err(|why| format!("the client certificate {why}"))?;
        check_leaf(&facts)?;
        let mut not_after = facts.not_after.min(authority.not_after);
        for issuer in path.intermediate_certificates() {
            let issuer =
                Facts::of(&issuer.der()).map_err(|why| format!("an intermediate {why}"))?;
            not_after = not_after.min(issuer.not_after);
        }
        identity(authority, facts, leaf, not_after)
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

    fn check_denied(&self, identity: ClientIdentity) -> Verdict {
        let serial = serial_key(&identity.serial);
        if serial.is_some_and(|serial| self.denied_serials.contains(&serial)) {
            return Verdict::Revoked(format!(
                "certificate {} is on the deny-list",
                identity.serial
            ));
        }
        if self
            .denied_clients
            .contains(&identity.client_id.to_ascii_lowercase())
        {
            return Verdict::Revoked(format!("client {} is on the deny-list", identity.client_id));
        }
        Verdict::Accepted(identity)
    }
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
    facts: Facts,
    leaf: &[u8],
    not_after: i64,
) -> Result<ClientIdentity, String> {
    let field = field(authority.id, &facts)?;
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
        serial: facts.serial,
        cert_hash: facts::hex(&sha256(leaf)),
        device: field,
        not_after,
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
fn explain(error: &Error) -> String {
    match error {
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
    }
}
