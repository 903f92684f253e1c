//! What we want to know of a certificate, read once.

use std::net::IpAddr;
use x509_parser::prelude::*;

/// Read from one certificate; nothing here is a judgement of trust.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// The whole subject, for people.
    pub subject: String,
    /// First CN.
    pub common_name: Option<String>,
    /// DNS names of the SAN extension, in order, as they stand.
    pub dns_names: Vec<String>,
    /// IP addresses of the SAN extension.
    pub addresses: Vec<IpAddr>,
    pub uris: Vec<String>,
    /// Hex, lower case, two digits a byte, no leading zero byte.
    pub serial: String,
    /// The serial's bytes and the issuer's name as they stand in the certificate, to be found in revocation lists.
    pub serial_der: Vec<u8>,
    pub issuer_der: Vec<u8>,
    /// Unix seconds.
    pub not_before: i64,
    pub not_after: i64,
    pub rsa: bool,
    pub is_ca: bool,
    /// Of basicConstraints.
    pub path_length: Option<u32>,
    /// `None`: no keyUsage extension, everything is allowed.
    pub key_usage: Option<Usage>,
    /// `None`: no extendedKeyUsage extension.
    pub purposes: Option<Purposes>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    pub signs: bool,
    pub signs_certificates: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Purposes {
    pub server: bool,
    pub client: bool,
}

impl Facts {
    /// Fails when the bytes are no certificate, or an extension we need cannot be read or stands twice.
    pub fn of(der: &[u8]) -> Result<Self, String> {
        let (rest, certificate) = X509Certificate::from_der(der)
            .map_err(|error| format!("is no certificate: {error}"))?;
        if !rest.is_empty() {
            return Err("is no certificate: bytes follow it".into());
        }
        let unreadable = |what: &'static str| {
            move |error: X509Error| format!("its {what} cannot be read: {error}")
        };
        let constraints = certificate
            .basic_constraints()
            .map_err(unreadable("basicConstraints"))?;
        let key_usage = certificate.key_usage().map_err(unreadable("keyUsage"))?;
        let purposes = certificate
            .extended_key_usage()
            .map_err(unreadable("extendedKeyUsage"))?;
        let names = certificate
            .subject_alternative_name()
            .map_err(unreadable("subjectAltName"))?;
        let mut facts = Self {
            subject: certificate.subject().to_string(),
            common_name: certificate
                .subject()
                .iter_common_name()
                .next()
                .and_then(|cn| cn.as_str().ok())
                .map(str::to_string),
            dns_names: Vec::new(),
            addresses: Vec::new(),
            uris: Vec::new(),
            serial: serial(certificate.raw_serial()),
            serial_der: certificate.raw_serial().to_vec(),
            issuer_der: certificate.issuer().as_raw().to_vec(),
            not_before: certificate.validity().not_before.timestamp(),
            not_after: certificate.validity().not_after.timestamp(),
            rsa: certificate.public_key().algorithm.algorithm
                == oid_registry::OID_PKCS1_RSAENCRYPTION,
            is_ca: constraints.as_ref().is_some_and(|c| c.value.ca),
            path_length: constraints
                .as_ref()
                .and_then(|c| c.value.path_len_constraint),
            key_usage: key_usage.map(|usage| Usage {
                signs: usage.value.digital_signature(),
                signs_certificates: usage.value.key_cert_sign(),
            }),
            purposes: purposes.map(|purposes| Purposes {
                server: purposes.value.server_auth,
                client: purposes.value.client_auth,
            }),
        };
        for name in names.iter().flat_map(|names| &names.value.general_names) {
            match name {
                GeneralName::DNSName(name) => facts.dns_names.push(name.to_string()),
                GeneralName::IPAddress(bytes) => facts.addresses.extend(address(bytes)),
                GeneralName::URI(uri) => facts.uris.push(uri.to_string()),
                GeneralName::Invalid(_, _) => {
                    return Err("its subjectAltName cannot be read".into());
                }
                _ => {}
            }
        }
        Ok(facts)
    }
}

/// That this certificate may issue others.
pub fn check_ca(der: &[u8]) -> Result<Facts, String> {
    let facts = Facts::of(der)?;
    if !facts.is_ca {
        return Err(format!("{} is not a CA (basicConstraints)", facts.subject));
    }
    if facts
        .key_usage
        .is_some_and(|usage| !usage.signs_certificates)
    {
        return Err(format!(
            "{} may not sign certificates (keyUsage)",
            facts.subject
        ));
    }
    Ok(facts)
}

/// 4 or 16 bytes (RFC 5280 §4.2.1.6); others name no host.
fn address(bytes: &[u8]) -> Option<IpAddr> {
    if let Ok(four) = <[u8; 4]>::try_from(bytes) {
        return Some(four.into());
    }
    <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from)
}

fn serial(bytes: &[u8]) -> String {
    let start = bytes
        .iter()
        .position(|b| *b != 0)
        .unwrap_or(bytes.len().saturating_sub(1));
    hex(bytes.get(start..).unwrap_or_default())
}

/// Lower-case hex.
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        text.push(DIGITS[usize::from(byte >> 4)] as char);
        text.push(DIGITS[usize::from(byte & 15)] as char);
    }
    text
}
