//! The clients' revocation list.

use super::authority::Authority;
use super::{CLIENTS_CA, Revoke, certificate_file, files};
use crate::control::certificates::facts::{Facts, hex};
use crate::control::certificates::pem;
use crate::control::settings::serial_key;
use rcgen::{CertificateRevocationListParams, KeyIdMethod, RevokedCertParams, SerialNumber};
use rustls::pki_types::CertificateRevocationListDer;
use rustls::pki_types::pem::PemObject;
use std::io::Write;
use std::path::Path;
use time::{Duration, OffsetDateTime};
use x509_parser::prelude::{CertificateRevocationList, FromDer};

/// `DIR/clients.crl`.
pub const CRL: &str = "clients.crl";
const NEXT_UPDATE: Duration = Duration::days(30);

/// What a list holds.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Revoked {
    /// The list's own number: counts up.
    pub number: u64,
    /// Serial (hex, lower case) and time (unix seconds), in order of revocation.
    pub entries: Vec<(String, i64)>,
}

pub fn run(args: &Revoke, out: &mut dyn Write) -> Result<(), String> {
    let serial = match (&args.serial, &args.name) {
        (Some(serial), _) => {
            Some(serial_key(serial).ok_or(format!("{serial:?} is not a serial number in hex"))?)
        }
        (None, Some(name)) => Some(serial_of(&args.dir, name)?),
        (None, None) if args.renew => None,
        (None, None) => return Err("name a client, or give --serial or --renew".into()),
    };
    let authority = Authority::open(&args.dir, CLIENTS_CA)?;
    let file = args.dir.join(CRL);
    let mut list = if file.exists() {
        read(&file)?
    } else {
        Revoked::default()
    };
    if let Some(serial) = serial {
        let known = list
            .entries
            .iter()
            .any(|(known, _)| serial_key(known).as_deref() == Some(&serial));
        if known && !args.renew {
            return print(out, format!("serial {serial} is revoked already"));
        }
        if !known {
            let now = OffsetDateTime::now_utc().unix_timestamp();
            list.entries.push((serial, now));
        }
    }
    list.number += 1;
    write(&file, &list, &authority)?;
    print(out, file.display().to_string())?;
    tell(&list, out)
}

/// What to do with the list.
fn tell(list: &Revoked, out: &mut dyn Write) -> Result<(), String> {
    let (number, count, days) = (list.number, list.entries.len(), NEXT_UPDATE.whole_days());
    print(
        out,
        format!("list {number}: {count} revoked; good for {days} days, then `pki revoke --renew`"),
    )?;
    print(
        out,
        format!(
            "in connector.toml, [site], once: crl = [\"{CRL}\"]; the connector notices a newer file by itself"
        ),
    )?;
    let serials: Vec<_> = list
        .entries
        .iter()
        .map(|(serial, _)| format!("{serial:?}"))
        .collect();
    if serials.is_empty() {
        return Ok(());
    }
    print(
        out,
        format!(
            "or without the list, with a higher revision: deny = {{ serials = [{}] }}",
            serials.join(", ")
        ),
    )
}

/// Reads a list.
pub fn read(file: &Path) -> Result<Revoked, String> {
    let wrong = |why: String| format!("{}: {why}", file.display());
    let bytes = pem::read_bounded(file, 16 << 20)?;
    let der =
        CertificateRevocationListDer::from_pem_slice(&bytes).map_err(|e| wrong(e.to_string()))?;
    let (_, list) = CertificateRevocationList::from_der(&der).map_err(|e| wrong(e.to_string()))?;
    let number = list
        .crl_number()
        .and_then(|number| number.try_into().ok())
        .unwrap_or(0);
    let entry = |revoked: &x509_parser::revocation_list::RevokedCertificate<'_>| {
        (
            hex(revoked.raw_serial()),
            revoked.revocation_date.timestamp(),
        )
    };
    Ok(Revoked {
        number,
        entries: list.iter_revoked_certificates().map(entry).collect(),
    })
}

fn write(file: &Path, list: &Revoked, authority: &Authority) -> Result<(), String> {
    let now = OffsetDateTime::now_utc();
    let entries = list.entries.iter().map(|(serial, time)| {
        Ok(RevokedCertParams {
            serial_number: SerialNumber::from_slice(
                &bytes_of(serial).ok_or("a serial cannot be read")?,
            ),
            revocation_time: OffsetDateTime::from_unix_timestamp(*time)
                .map_err(|e| e.to_string())?,
            reason_code: None,
            invalidity_date: None,
        })
    });
    let params = CertificateRevocationListParams {
        this_update: now,
        next_update: now + NEXT_UPDATE,
        crl_number: SerialNumber::from(list.number),
        issuing_distribution_point: None,
        revoked_certs: entries.collect::<Result<_, String>>()?,
        key_identifier_method: KeyIdMethod::Sha256,
    };
    let signed = params
        .signed_by(&authority.issuer)
        .map_err(|e| format!("cannot sign the list: {e}"))?;
    let text = signed.pem().map_err(|e| e.to_string())?;
    files::write(file, text.as_bytes(), 0o644, true)
}

fn serial_of(dir: &Path, name: &str) -> Result<String, String> {
    let file = certificate_file(dir, name);
    let chain = pem::certificates(&file).map_err(|wrong| wrong.to_string())?;
    let leaf = chain.first().ok_or("no certificate")?;
    let facts = Facts::of(leaf).map_err(|why| format!("{}: {why}", file.display()))?;
    serial_key(&facts.serial).ok_or("the certificate's serial cannot be read".into())
}

fn bytes_of(serial: &str) -> Option<Vec<u8>> {
    let even = if serial.len().is_multiple_of(2) {
        serial.to_string()
    } else {
        format!("0{serial}")
    };
    let digits = even
        .chars()
        .map(|c| c.to_digit(16))
        .collect::<Option<Vec<_>>>()?;
    Some(
        digits
            .chunks_exact(2)
            .map(|pair| (pair[0] << 4 | pair[1]) as u8)
            .collect(),
    )
}

fn print(out: &mut dyn Write, line: String) -> Result<(), String> {
    writeln!(out, "{line}").map_err(|error| format!("cannot print: {error}"))
}
