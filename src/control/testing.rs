//! For tests: a folder that goes away, and certificates as wrong as wanted.

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose, SanType,
};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use time::OffsetDateTime;

/// A folder of its own for one test, removed at its end.
pub struct Folder(PathBuf);

impl Folder {
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!(
            "tidegate-test-{}-{}",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        );
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }
    pub fn path(&self) -> &Path {
        &self.0
    }
    pub fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let file = self.file(name);
        std::fs::write(&file, text).unwrap();
        file
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Dates of test certificates, in unix seconds; tests judge at [`NOW`].
pub const BEGIN: i64 = 1_700_000_000;
pub const NOW: i64 = 1_750_000_000;
pub const END: i64 = 1_800_000_000;

pub fn at(unix: i64) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(unix).unwrap()
}

pub type Ca = CertifiedIssuer<'static, KeyPair>;

fn params(cn: Option<&str>) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    if let Some(cn) = cn {
        params.distinguished_name.push(DnType::CommonName, cn);
    }
    params.not_before = at(BEGIN);
    params.not_after = at(END);
    params
}

pub fn ca_params(cn: &str) -> CertificateParams {
    let mut params = params(Some(cn));
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

pub fn ca(cn: &str) -> Ca {
    ca_with(cn, |_| {})
}

pub fn ca_with(cn: &str, change: impl FnOnce(&mut CertificateParams)) -> Ca {
    let mut params = ca_params(cn);
    change(&mut params);
    Ca::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

pub fn intermediate(cn: &str, issuer: &Ca, change: impl FnOnce(&mut CertificateParams)) -> Ca {
    let mut params = ca_params(cn);
    change(&mut params);
    Ca::signed_by(params, KeyPair::generate().unwrap(), issuer).unwrap()
}

/// A client's leaf as `tidegate pki client` makes it, changed as wanted. DER.
pub fn leaf(name: &str, issuer: &Ca, change: impl FnOnce(&mut CertificateParams)) -> Vec<u8> {
    leaf_with_key(name, issuer, &KeyPair::generate().unwrap(), change)
}

pub fn leaf_params(name: &str) -> CertificateParams {
    let mut params = params(Some(name));
    params.is_ca = IsCa::ExplicitNoCa;
    params.subject_alt_names = vec![SanType::DnsName(name.try_into().unwrap())];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params
}

pub fn leaf_with_key(
    name: &str,
    issuer: &Ca,
    key: &KeyPair,
    change: impl FnOnce(&mut CertificateParams),
) -> Vec<u8> {
    let mut params = leaf_params(name);
    change(&mut params);
    params.signed_by(key, issuer).unwrap().der().to_vec()
}
