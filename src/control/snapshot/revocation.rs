//! Revocation lists (RFC 5280 §5) of a site's CAs.
//!
//! A list counts when a CA that the site published signed it; of several for one scope the newest counts, by its
//! number and then its date, wherever it came from. So a list may travel over http, and two connectors may hold
//! different copies.

use crate::control::settings::{CrlFail, sha256};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, pem::PemObject};
use std::sync::{Arc, Mutex, PoisonError};
use webpki::{CertRevocationList, OwnedCertRevocationList};
use x509_parser::prelude::{CertificateRevocationList as Parsed, FromDer, X509Certificate};

/// A list, PEM or DER, is no larger: some 400,000 entries.
pub const MAX_LIST_BYTES: usize = 16 << 20;

/// One revocation list, read and not yet believed.
#[derive(Debug)]
pub struct RevocationList {
    list: CertRevocationList<'static>,
    der: Vec<u8>,
    /// DER of the issuer's name.
    issuer_der: Vec<u8>,
    /// Big-endian without leading zeros; empty when the list has no number.
    number: Vec<u8>,
    /// Unix seconds.
    this_update: i64,
    next_update: i64,
    /// For people.
    pub issuer: String,
    pub entries: usize,
    id: [u8; 32],
    /// CAs (SHA-256 of the certificate) and whether they signed it: the signature is verified once.
    signers: Mutex<Vec<([u8; 32], bool)>>,
}

/// CAs of the list's own name that are remembered; real ones have one or two.
const MAX_SIGNERS: usize = 8;

impl RevocationList {
    /// Reads PEM or DER. Lists that webpki cannot judge by (indirect ones, deltas, without nextUpdate) are errors.
    pub fn read(bytes: &[u8]) -> Result<Self, String> {
        if bytes.len() > MAX_LIST_BYTES {
            return Err(format!("has over {} MiB", MAX_LIST_BYTES >> 20));
        }
        let der = if bytes.starts_with(b"-----") || bytes.first() != Some(&0x30) {
            CertificateRevocationListDer::from_pem_slice(bytes)
                .map_err(|error| format!("is no revocation list: {error}"))?
                .to_vec()
        } else {
            bytes.to_vec()
        };
        let id = sha256(&der);
        let owned = OwnedCertRevocationList::from_der(&der)
            .map_err(|error| format!("is no revocation list that can be used: {error}"))?;
        let (_, parsed) =
            Parsed::from_der(&der).map_err(|error| format!("is no revocation list: {error}"))?;
        let number = parsed
            .crl_number()
            .map(|number| number.to_bytes_be())
            .unwrap_or_default();
        let (this_update, next_update) = (
            parsed.last_update().timestamp(),
            parsed.next_update().map_or(i64::MAX, |at| at.timestamp()),
        );
        let issuer_der = parsed.issuer().as_raw().to_vec();
        let (issuer, entries) = (
            parsed.issuer().to_string(),
            parsed.iter_revoked_certificates().count(),
        );
        Ok(Self {
            list: owned.into(),
            issuer_der,
            number,
            this_update,
            next_update,
            issuer,
            entries,
            der,
            id,
            signers: Mutex::default(),
        })
    }

    /// Unix seconds from which on the list is out of date.
    pub fn next_update(&self) -> i64 {
        self.next_update
    }

    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// One and the same list.
    pub fn id(&self) -> [u8; 32] {
        self.id
    }

    /// Whether this CA (DER) signed the list. Costs a look at the CA's name, but for CAs of the list's own name, and for
    /// these once.
    pub fn is_signed_by(&self, ca: &CertificateDer<'_>) -> bool {
        let Ok((_, parsed)) = X509Certificate::from_der(ca) else {
            return false;
        };
        if parsed.subject().as_raw() != self.issuer_der {
            return false;
        }
        let id = sha256(ca);
        let mut signers = self.signers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, signed)) = signers.iter().find(|(known, _)| *known == id) {
            return *signed;
        }
        let signed = self.verify(&parsed);
        if signers.len() < MAX_SIGNERS {
            signers.push((id, signed));
        }
        signed
    }

    fn verify(&self, ca: &X509Certificate<'_>) -> bool {
        let may_sign = !matches!(ca.key_usage(), Ok(Some(usage)) if !usage.value.crl_sign());
        may_sign
            && Parsed::from_der(&self.der)
                .is_ok_and(|(_, parsed)| parsed.verify_signature(ca.public_key()).is_ok())
    }

    pub fn is_signed_by_any(&self, cas: &[CertificateDer<'_>]) -> bool {
        cas.iter().any(|ca| self.is_signed_by(ca))
    }

    /// Of the same scope, and issued before the other.
    pub fn is_older_than(&self, other: &Self) -> bool {
        self.same_scope(other) && other.is_newer_than(self)
    }

    fn same_scope(&self, other: &Self) -> bool {
        self.list.issuer() == other.list.issuer()
            && self.list.issuing_distribution_point() == other.list.issuing_distribution_point()
    }

    fn is_newer_than(&self, other: &Self) -> bool {
        let key = |list: &Self| (list.number.len(), list.number.clone(), list.this_update);
        key(self) > key(other)
    }

    /// Whether the list names the certificate of this issuer (DER of the name) and serial.
    fn names(&self, issuer: &[u8], serial: &[u8]) -> bool {
        self.issuer_der == issuer && matches!(self.list.find_serial(serial), Ok(Some(_)))
    }
}

/// The lists in force of one site.
#[derive(Debug, Default)]
pub struct RevocationLists {
    lists: Vec<Arc<RevocationList>>,
    fail: CrlFail,
    /// The settings name lists at all: without, nothing is asked.
    wanted: bool,
}

impl RevocationLists {
    /// Of `candidates` those that one of `cas` signed, the newest of each scope.
    pub fn new(
        wanted: bool,
        fail: CrlFail,
        candidates: impl IntoIterator<Item = Arc<RevocationList>>,
        cas: &[CertificateDer<'_>],
    ) -> Self {
        let mut lists: Vec<Arc<RevocationList>> = Vec::new();
        for candidate in candidates {
            let rival = lists.iter().position(|list| list.same_scope(&candidate));
            let newer = rival.is_none_or(|rival| candidate.is_newer_than(&lists[rival]));
            // The signature is looked at last: it is the dear part.
            if !newer || !candidate.is_signed_by_any(cas) {
                continue;
            }
            match rival {
                Some(rival) => lists[rival] = candidate,
                None => lists.push(candidate),
            }
        }
        Self {
            lists,
            fail,
            wanted,
        }
    }

    pub fn in_force(&self) -> &[Arc<RevocationList>] {
        &self.lists
    }

    /// Nobody can be judged: lists are named, none is there, and without one no certificate passes.
    pub fn is_missing(&self) -> bool {
        self.wanted && self.lists.is_empty() && self.fail == CrlFail::Hard
    }

    /// The earliest end among the lists of these issuers (DER of their names), which a verdict on their certificates rests
    /// on; beyond it the verdict must be asked for anew.
    pub fn good_until<'i>(&self, issuers: impl Iterator<Item = &'i [u8]>) -> i64 {
        if self.fail == CrlFail::Soft {
            return i64::MAX;
        }
        let ends = |issuer: &'i [u8]| {
            let of_issuer = self
                .lists
                .iter()
                .filter(move |list| list.issuer_der == issuer);
            of_issuer.map(|list| list.next_update)
        };
        issuers.flat_map(ends).min().unwrap_or(i64::MAX)
    }

    pub fn revokes(&self, issuer: &[u8], serial: &[u8]) -> bool {
        self.lists.iter().any(|list| list.names(issuer, serial))
    }

    /// Calls `judge` with what webpki needs to ask the lists; `None`: there is nothing to ask.
    pub fn with_options<T>(
        &self,
        judge: impl FnOnce(Option<webpki::RevocationOptions<'_>>) -> T,
    ) -> T {
        let lists: Vec<&CertRevocationList<'_>> =
            self.lists.iter().map(|list| &list.list).collect();
        let Ok(builder) = webpki::RevocationOptionsBuilder::new(&lists) else {
            return judge(None);
        };
        let builder = builder.with_depth(webpki::RevocationCheckDepth::Chain);
        let builder = match self.fail {
            CrlFail::Hard => builder
                .with_status_policy(webpki::UnknownStatusPolicy::Deny)
                .with_expiration_policy(webpki::ExpirationPolicy::Enforce),
            CrlFail::Soft => builder
                .with_status_policy(webpki::UnknownStatusPolicy::Allow)
                .with_expiration_policy(webpki::ExpirationPolicy::Ignore),
        };
        judge(Some(builder.build()))
    }
}
