//! What the config's files must hold, told at the line that names them.

use super::reader::Section;
use super::{TlsFiles, reader::At};
use crate::control::certificates::expiry::{Expiry, unix_now};
use crate::control::certificates::facts::Facts;
use crate::control::certificates::pem::Wrong;
use crate::control::certificates::{Part, load_identity, load_roots};
use std::path::PathBuf;

/// Who presents the certificate.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    Server,
    Connector,
    /// The connector, to an upstream that asks for a certificate.
    UpstreamClient,
}

/// The keys `certificate` and `key` of a section, found and fit for each other.
pub fn identity(section: &Section<'_>, purpose: Purpose) -> Option<(TlsFiles, Facts)> {
    let certificate = path(
        section,
        "certificate",
        "the PEM file of the certificate and its intermediates",
    );
    let key = path(
        section,
        "key",
        "the PEM file of the certificate's private key",
    );
    let (certificate, key) = (certificate?, key?);
    let files = TlsFiles {
        certificate: certificate.value,
        key: key.value,
    };
    let source = section.source();
    let identity = match load_identity(&files) {
        Ok(identity) => identity,
        Err((part, wrong)) => {
            let line = if part == Part::Key {
                key.line
            } else {
                certificate.line
            };
            source.error(line, wrong.text, wrong.hint);
            return None;
        }
    };
    warn_of_open_key(section, &files, key.line);
    let leaf = identity.cert.first()?;
    let facts = match Facts::of(leaf) {
        Ok(facts) => facts,
        Err(why) => {
            let text = format!("{}: {why}", files.certificate.display());
            source.error(certificate.line, text, "issue the certificate again");
            return None;
        }
    };
    check_purpose(section, &files, &facts, purpose, certificate.line)?;
    for der in &identity.cert {
        let end = Facts::of(der)
            .ok()
            .and_then(|facts| Expiry::of_facts(&files.certificate, &facts).warning(unix_now()));
        if let Some(text) = end {
            source.warn(
                certificate.line,
                text,
                "renew it; a reload takes the new files without dropping a connection",
            );
        }
    }
    Some((files, facts))
}

/// A file of CA certificates.
pub fn roots(section: &Section<'_>, key: &'static str, what: &str) -> Option<PathBuf> {
    let file = path(section, key, what)?;
    match load_roots(&file.value) {
        Ok(_) => {}
        Err(wrong) => {
            section.source().error(file.line, wrong.text, wrong.hint);
            return None;
        }
    }
    warn_of_end(section, &file);
    Some(file.value)
}

/// Warns of each certificate in a file that ends soon.
pub fn warn_of_end(section: &Section<'_>, file: &At<PathBuf>) {
    for end in Expiry::of_file(&file.value).unwrap_or_default() {
        if let Some(text) = end.warning(unix_now()) {
            section.source().warn(
                file.line,
                text,
                "renew it, and keep the old CA beside the new one for a while",
            );
        }
    }
}

/// A path that must be given.
pub fn path(section: &Section<'_>, key: &'static str, what: &str) -> Option<At<PathBuf>> {
    let text = section.require(key, section.text(key), what)?;
    if text.value.is_empty() {
        section
            .source()
            .error(text.line, format!("`{key}` is empty"), what);
        return None;
    }
    Some(At {
        value: section.source().resolve(&text.value),
        line: text.line,
    })
}

/// Complains of a file's error at a line.
pub fn complain(section: &Section<'_>, line: usize, wrong: Wrong) {
    section.source().error(line, wrong.text, wrong.hint);
}

fn check_purpose(
    section: &Section<'_>,
    files: &TlsFiles,
    facts: &Facts,
    purpose: Purpose,
    line: usize,
) -> Option<()> {
    let source = section.source();
    let file = files.certificate.display();
    let fits = facts.purposes.is_none_or(|p| {
        if purpose == Purpose::Server {
            p.server
        } else {
            p.client
        }
    });
    if !fits {
        let (peer, usage) = match purpose {
            Purpose::Server => ("clients", "serverAuth"),
            Purpose::Connector => ("gateways", "clientAuth"),
            Purpose::UpstreamClient => ("upstreams", "clientAuth"),
        };
        let text = format!("{file} is not for {usage}: {peer} would refuse it");
        source.error(
            line,
            text,
            format!("issue a certificate whose extended key usage has {usage}"),
        );
        return None;
    }
    if facts.is_ca {
        source.error(
            line,
            format!("{file} begins with a CA's certificate"),
            "the first certificate is the service's own, then its intermediates",
        );
        return None;
    }
    if purpose == Purpose::Server {
        if facts.rsa {
            source.warn(
                line,
                format!("{file} has an RSA key: older Windows clients share no cipher suite for it, and handshakes cost more"),
                "use an ECDSA P-256 certificate",
            );
        }
        if facts.dns_names.is_empty() {
            source.warn(
                line,
                format!("{file} names no host (subjectAltName)"),
                "clients check the host name against it",
            );
        }
    }
    Some(())
}

/// A private key that everybody on the host can read is no secret.
fn warn_of_open_key(section: &Section<'_>, files: &TlsFiles, line: usize) {
    use std::os::unix::fs::PermissionsExt;
    let Ok(metadata) = std::fs::metadata(&files.key) else {
        return;
    };
    if metadata.permissions().mode() & 0o007 != 0 {
        let text = format!(
            "{} may be read by every user of this host",
            files.key.display()
        );
        section
            .source()
            .warn(line, text, format!("chmod 600 {}", files.key.display()));
    }
}
