//! The CA itself: what its certificates say.

use super::{Validity, certificate_file, key_file};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use std::path::Path;
use time::format_description::well_known::Rfc3339;
use time::{Duration, OffsetDateTime};

/// Clocks of devices are wrong by minutes: a certificate is valid a little before it was made.
const BACKDATED: Duration = Duration::minutes(5);

/// PEM of a certificate and of its key.
pub struct Pair {
    pub certificate: String,
    pub key: String,
}

/// From when to when.
pub struct Life {
    not_before: OffsetDateTime,
    not_after: OffsetDateTime,
}

impl Life {
    pub fn of(validity: &Validity, default_days: i64) -> Result<Self, String> {
        let now = OffsetDateTime::now_utc()
            .replace_nanosecond(0)
            .map_err(|e| e.to_string())?;
        let not_after = match &validity.not_after {
            Some(text) => OffsetDateTime::parse(text, &Rfc3339).map_err(|_| {
                format!("--not-after {text:?} is no time such as 2030-01-31T00:00:00Z")
            })?,
            None => {
                let days = validity.days.unwrap_or(default_days);
                let span = days.checked_mul(86_400).map(Duration::seconds);
                // What is to be over is over at once, also for a clock that is read once a second.
                let early = if days <= 0 {
                    Duration::minutes(1)
                } else {
                    Duration::ZERO
                };
                span.and_then(|span| now.checked_add(span - early))
                    .ok_or(format!("--days {days} is out of range"))?
            }
        };
        if !(1970..=9998).contains(&not_after.year()) {
            return Err(format!("the year {} is out of range", not_after.year()));
        }
        // What is over already must have begun before.
        let not_before = (now - BACKDATED).min(not_after - Duration::days(1));
        Ok(Self {
            not_before,
            not_after,
        })
    }
}

/// Whom a certificate is for.
pub struct Subject {
    common_name: String,
    names: Vec<String>,
    purpose: ExtendedKeyUsagePurpose,
}

impl Subject {
    pub fn server(names: Vec<String>) -> Self {
        let common_name = names.first().cloned().unwrap_or_default();
        Self {
            common_name,
            names,
            purpose: ExtendedKeyUsagePurpose::ServerAuth,
        }
    }
    pub fn connector(id: &str) -> Self {
        Self {
            common_name: id.into(),
            names: vec![],
            purpose: ExtendedKeyUsagePurpose::ClientAuth,
        }
    }
    pub fn client(name: &str) -> Self {
        Self {
            common_name: name.into(),
            names: vec![name.into()],
            purpose: ExtendedKeyUsagePurpose::ClientAuth,
        }
    }
}

/// A self-signed CA that issues end entities only.
pub fn new_ca(name: &str, life: &Life) -> Result<Pair, String> {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.not_before = life.not_before;
    params.not_after = life.not_after;
    let key = new_key()?;
    let certificate = params
        .self_signed(&key)
        .map_err(|error| format!("cannot make the CA: {error}"))?;
    Ok(Pair {
        certificate: certificate.pem(),
        key: key.serialize_pem(),
    })
}

/// A CA that can issue: its certificate and key.
pub struct Authority {
    pub issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// Opens `DIR/STEM.pem` and `.key`.
    pub fn open(dir: &Path, stem: &str) -> Result<Self, String> {
        let read = |file: &Path| {
            std::fs::read_to_string(file).map_err(|error| {
                format!(
                    "cannot read {}: {error} (hint: `tidegate pki init --dir {}` makes the CA)",
                    file.display(),
                    dir.display()
                )
            })
        };
        let (certificate, key) = (certificate_file(dir, stem), key_file(dir, stem));
        let pem = read(&certificate)?;
        let pair = KeyPair::from_pem(&read(&key)?)
            .map_err(|error| format!("{}: {error}", key.display()))?;
        let issuer = Issuer::from_ca_cert_pem(&pem, pair)
            .map_err(|error| format!("{}: {error}", certificate.display()))?;
        Ok(Self { issuer })
    }

    pub fn issue(&self, subject: &Subject, life: &Life) -> Result<Pair, String> {
        let key = new_key()?;
        let certificate = self.certify(subject, life, &key)?;
        Ok(Pair {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
        })
    }

    /// A certificate for a key that is there already.
    pub fn certify(
        &self,
        subject: &Subject,
        life: &Life,
        key: &KeyPair,
    ) -> Result<rcgen::Certificate, String> {
        let wrong =
            |error: rcgen::Error| format!("cannot issue for {:?}: {error}", subject.common_name);
        let mut params = CertificateParams::new(subject.names.clone()).map_err(wrong)?;
        params.distinguished_name = rcgen::DistinguishedName::new();
        params
            .distinguished_name
            .push(DnType::CommonName, subject.common_name.as_str());
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![subject.purpose.clone()];
        params.use_authority_key_identifier_extension = true;
        params.not_before = life.not_before;
        params.not_after = life.not_after;
        params.signed_by(key, &self.issuer).map_err(wrong)
    }
}

pub fn new_key() -> Result<KeyPair, String> {
    KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)
        .map_err(|error| format!("cannot make a key: {error}"))
}
