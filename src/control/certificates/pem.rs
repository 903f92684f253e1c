//! PEM files: what they should hold, and what is said when they do not.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use rustls::pki_types::pem::{PemObject, SectionKind};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// A chain of a few dozen certificates is far below it.
pub const MAX_PEM_BYTES: u64 = 1 << 20;
/// Certificates in one file: a bundle of public roots has some 150.
pub const MAX_CERTIFICATES: usize = 512;

/// What is wrong with a file, and what would be right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wrong {
    pub text: String,
    pub hint: String,
}

impl Wrong {
    pub fn new(text: impl Into<String>, hint: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            hint: hint.into(),
        }
    }
}

impl std::fmt::Display for Wrong {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} (hint: {})", self.text, self.hint)
    }
}

/// The certificates of a file in its order; at least one. Keys in the file are passed over.
pub fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, Wrong> {
    let sections = sections(file)?;
    let found = certificates_of(&sections);
    if found.is_empty() {
        let text = format!("{} holds no certificate", file.display());
        return Err(Wrong::new(
            text,
            "a PEM file with -----BEGIN CERTIFICATE----- is wanted",
        ));
    }
    if found.len() > MAX_CERTIFICATES {
        let text = format!("{} holds {} certificates", file.display(), found.len());
        return Err(Wrong::new(text, format!("{MAX_CERTIFICATES} at most")));
    }
    Ok(found)
}

/// The certificates of a PEM text that a peer sent; other sections are an error.
pub fn certificates_in(text: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let mut found = Vec::new();
    for section in <(SectionKind, Vec<u8>)>::pem_slice_iter(text.as_bytes()) {
        match section {
            Ok((SectionKind::Certificate, der)) => found.push(CertificateDer::from(der)),
            Ok(_) => return Err("holds something that is no certificate".into()),
            Err(error) => return Err(format!("is not PEM: {error}")),
        }
        if found.len() > MAX_CERTIFICATES {
            return Err(format!("holds more than {MAX_CERTIFICATES} certificates"));
        }
    }
    if found.is_empty() {
        return Err("holds no certificate".into());
    }
    Ok(found)
}

/// The one private key of a file.
pub fn private_key(file: &Path) -> Result<PrivateKeyDer<'static>, Wrong> {
    let sections = sections(file)?;
    let mut keys = Vec::new();
    for (kind, der) in sections {
        keys.extend(PrivateKeyDer::from_pem(kind, der));
    }
    match (keys.pop(), keys.len()) {
        (Some(key), 0) => Ok(key),
        (Some(_), more) => {
            let text = format!("{} holds {} private keys", file.display(), more + 1);
            Err(Wrong::new(text, "keep one key in the file"))
        }
        (None, _) => {
            let text = format!("{} holds no private key that can be read", file.display());
            Err(Wrong::new(
                text,
                "an unencrypted PEM key is wanted: PKCS#8, SEC1 or PKCS#1",
            ))
        }
    }
}

/// True when the file holds a private key: such a file is never published.
pub fn holds_a_key(file: &Path) -> bool {
    sections(file).is_ok_and(|sections| {
        sections
            .into_iter()
            .any(|(kind, der)| PrivateKeyDer::from_pem(kind, der).is_some())
    })
}

/// One text for one list of certificates, whatever the line ends and remarks of the file they came from.
pub fn canonical(certificates: &[CertificateDer<'_>]) -> String {
    let mut text = String::new();
    for certificate in certificates {
        text.push_str("-----BEGIN CERTIFICATE-----\n");
        let body = BASE64_STANDARD.encode(certificate);
        let mut rest = body.as_str();
        while !rest.is_empty() {
            let (line, more) = rest.split_at(rest.len().min(64));
            text.push_str(line);
            text.push('\n');
            rest = more;
        }
        text.push_str("-----END CERTIFICATE-----\n");
    }
    text
}

/// Reads a file that is not larger than `limit`.
pub fn read_bounded(file: &Path, limit: u64) -> Result<Vec<u8>, String> {
    let reason = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::NotFound => format!("{} does not exist", file.display()),
        std::io::ErrorKind::PermissionDenied => {
            format!("{} may not be read by this user", file.display())
        }
        _ => format!("{} cannot be read: {error}", file.display()),
    };
    let opened = File::open(file).map_err(reason)?;
    let metadata = opened.metadata().map_err(reason)?;
    if metadata.is_dir() {
        return Err(format!("{} is a folder", file.display()));
    }
    let mut bytes = Vec::new();
    opened
        .take(limit + 1)
        .read_to_end(&mut bytes)
        .map_err(reason)?;
    if bytes.len() as u64 > limit {
        return Err(format!(
            "{} is larger than {} KiB",
            file.display(),
            limit >> 10
        ));
    }
    Ok(bytes)
}

fn sections(file: &Path) -> Result<Vec<(SectionKind, Vec<u8>)>, Wrong> {
    let bytes = read_bounded(file, MAX_PEM_BYTES)
        .map_err(|text| Wrong::new(text, "paths are relative to the config file's folder"))?;
    <(SectionKind, Vec<u8>)>::pem_slice_iter(&bytes)
        .collect::<Result<_, _>>()
        .map_err(|error| {
            let text = format!("{} is not PEM: {error}", file.display());
            Wrong::new(
                text,
                "convert it with `openssl x509 -outform pem` or `openssl pkey`",
            )
        })
}

fn certificates_of(sections: &[(SectionKind, Vec<u8>)]) -> Vec<CertificateDer<'static>> {
    sections
        .iter()
        .filter(|(kind, _)| *kind == SectionKind::Certificate)
        .map(|(_, der)| CertificateDer::from(der.clone()))
        .collect()
}
