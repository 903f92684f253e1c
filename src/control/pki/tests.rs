//! The small CA, checked with our own readers, with webpki and with OpenSSL.

use super::*;
use crate::control::certificates::facts::Facts;
use crate::control::certificates::{load_identity, load_roots, pem};
use crate::control::config::TlsFiles;
use crate::control::testing::Folder;
use clap::Parser;
use std::os::unix::fs::PermissionsExt;

#[derive(clap::Parser)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

/// Runs a command line; `DIR` stands for the folder.
fn pki(folder: &Folder, line: &str) -> Result<String, String> {
    let dir = folder.path().display().to_string();
    let words = std::iter::once("pki".to_string())
        .chain(line.split(' ').map(|word| word.replace("DIR", &dir)));
    let cli = Cli::try_parse_from(words).map_err(|error| error.to_string())?;
    let mut out = Vec::new();
    run(&cli.command, &mut out)?;
    Ok(String::from_utf8(out).unwrap())
}

fn facts(folder: &Folder, file: &str) -> Facts {
    Facts::of(&pem::certificates(&folder.file(file)).unwrap()[0]).unwrap()
}

fn whole(folder: &Folder) {
    for line in [
        "init --dir DIR",
        "server --dir DIR",
        "connector cp-1 --dir DIR",
        "client pc-1.corp.example --dir DIR",
    ] {
        pki(folder, line).unwrap();
    }
}

fn openssl(folder: &Folder, line: &str) -> Result<String, String> {
    let output = std::process::Command::new("openssl")
        .args(line.split(' '))
        .current_dir(folder.path())
        .output();
    let output = output.map_err(|error| error.to_string())?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    if output.status.success() {
        Ok(text)
    } else {
        Err(text)
    }
}

#[test]
fn every_certificate_is_for_its_purpose() {
    let folder = Folder::new();
    whole(&folder);
    let server = facts(&folder, "server.pem");
    assert_eq!(server.dns_names, ["localhost"]);
    assert!(server.purposes.unwrap().server && !server.purposes.unwrap().client && !server.is_ca);
    let connector = facts(&folder, "cp-1.pem");
    assert_eq!(connector.common_name.as_deref(), Some("cp-1"));
    assert!(connector.purposes.unwrap().client && !connector.purposes.unwrap().server);
    let client = facts(&folder, "pc-1.corp.example.pem");
    assert_eq!(client.common_name.as_deref(), Some("pc-1.corp.example"));
    assert_eq!(client.dns_names, ["pc-1.corp.example"]);
    for stem in ["server", "cp-1", "pc-1.corp.example"] {
        let files = TlsFiles {
            certificate: certificate_file(folder.path(), stem),
            key: key_file(folder.path(), stem),
        };
        load_identity(&files).unwrap();
    }
    load_roots(&folder.file("ca.pem")).unwrap();
    load_roots(&folder.file("clients-ca.pem")).unwrap();
}

#[test]
fn openssl_agrees() {
    let folder = Folder::new();
    whole(&folder);
    if openssl(&folder, "version").is_err() {
        eprintln!("no openssl here: not compared");
        return;
    }
    openssl(
        &folder,
        "verify -x509_strict -purpose sslserver -verify_ip 127.0.0.1 -CAfile ca.pem server.pem",
    )
    .unwrap();
    openssl(&folder, "verify -x509_strict -purpose sslserver -verify_hostname localhost -CAfile ca.pem server.pem").unwrap();
    openssl(
        &folder,
        "verify -x509_strict -purpose sslclient -CAfile ca.pem cp-1.pem",
    )
    .unwrap();
    openssl(
        &folder,
        "verify -x509_strict -purpose sslclient -CAfile clients-ca.pem pc-1.corp.example.pem",
    )
    .unwrap();
    openssl(&folder, "verify -CAfile clients-ca.pem cp-1.pem").unwrap_err();
    pki(&folder, "revoke pc-1.corp.example --dir DIR").unwrap();
    let text = openssl(
        &folder,
        "crl -in clients.crl -noout -text -CAfile clients-ca.pem",
    )
    .unwrap();
    assert!(
        text.contains("verify OK") && text.contains("Serial Number:"),
        "{text}"
    );
    let revoked =
        "verify -crl_check -CAfile clients-ca.pem -CRLfile clients.crl pc-1.corp.example.pem";
    assert!(openssl(&folder, revoked).unwrap_err().contains("revoked"));
}

#[test]
fn keys_are_for_their_owner_alone() {
    let folder = Folder::new();
    whole(&folder);
    for stem in ["ca", "clients-ca", "server", "cp-1", "pc-1.corp.example"] {
        let mode = std::fs::metadata(key_file(folder.path(), stem))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600, "{stem}");
    }
}

#[test]
fn nothing_is_overwritten_without_force() {
    let folder = Folder::new();
    whole(&folder);
    let before = std::fs::read(folder.file("ca.key")).unwrap();
    for line in [
        "init --dir DIR",
        "server --dir DIR",
        "connector cp-1 --dir DIR",
        "client pc-1.corp.example --dir DIR",
    ] {
        assert!(
            pki(&folder, line).unwrap_err().contains("--force"),
            "{line}"
        );
    }
    assert_eq!(std::fs::read(folder.file("ca.key")).unwrap(), before);
    // Half a pair is enough to refuse, and a refused init leaves no half.
    std::fs::remove_file(folder.file("ca.key")).unwrap();
    std::fs::remove_file(folder.file("ca.pem")).unwrap();
    assert!(pki(&folder, "init --dir DIR").is_err());
    assert!(!folder.file("ca.key").exists());

    pki(&folder, "init --dir DIR --force").unwrap();
    let first = facts(&folder, "ca.pem").serial;
    pki(&folder, "init --dir DIR --force").unwrap();
    assert_ne!(facts(&folder, "ca.pem").serial, first);
    assert_eq!(
        std::fs::metadata(folder.file("ca.key"))
            .unwrap()
            .permissions()
            .mode()
            & 0o777,
        0o600
    );
    let hidden = std::fs::read_dir(folder.path())
        .unwrap()
        .filter(|f| f.as_ref().unwrap().file_name().as_encoded_bytes()[0] == b'.');
    assert_eq!(hidden.count(), 0, "a temporary file stayed");
}

#[test]
fn an_issued_certificate_never_takes_the_place_of_a_ca() {
    let folder = Folder::new();
    pki(&folder, "init --dir DIR").unwrap();
    for name in [
        "ca",
        "clients-ca",
        "server",
        "CA",
        "../x",
        "a/b",
        ".x",
        "-x",
        "",
    ] {
        assert!(
            pki(&folder, &format!("client --dir DIR --force {name}")).is_err(),
            "{name:?}"
        );
        assert!(
            pki(&folder, &format!("connector --dir DIR --force {name}")).is_err(),
            "{name:?}"
        );
    }
}

#[test]
fn the_end_can_be_chosen_even_in_the_past() {
    let folder = Folder::new();
    pki(&folder, "init --dir DIR").unwrap();
    let now = crate::control::certificates::expiry::unix_now();
    for (line, from, to) in [
        (
            "client a --dir DIR --days 10",
            now + 9 * 86_400,
            now + 11 * 86_400,
        ),
        ("client b --dir DIR --days 0", now - 86_400, now),
        (
            "client c --dir DIR --days -3",
            now - 4 * 86_400,
            now - 2 * 86_400,
        ),
        (
            "client d --dir DIR --not-after 2020-01-31T00:00:00Z",
            1_580_428_800,
            1_580_428_800,
        ),
        (
            "client e --dir DIR --not-after 2060-01-31T00:00:00Z",
            2_842_732_800,
            2_842_732_800,
        ),
    ] {
        pki(&folder, line).unwrap();
        let facts = facts(&folder, &format!("{}.pem", line.split(' ').nth(1).unwrap()));
        assert!(
            (from..=to).contains(&facts.not_after),
            "{line}: {}",
            facts.not_after
        );
        assert!(facts.not_before < facts.not_after);
    }
    for line in [
        "--days x",
        "--days 99999999999999999",
        "--not-after tomorrow",
        "--days 1 --not-after 2030-01-01T00:00:00Z",
    ] {
        assert!(
            pki(&folder, &format!("client z --dir DIR {line}")).is_err(),
            "{line}"
        );
    }
}

#[test]
fn server_names_are_as_given() {
    let folder = Folder::new();
    pki(&folder, "init --dir DIR").unwrap();
    pki(
        &folder,
        "server --dir DIR --name gw.example.com --name *.gw.example.com --name 192.0.2.1",
    )
    .unwrap();
    assert_eq!(
        facts(&folder, "server.pem").dns_names,
        ["gw.example.com", "*.gw.example.com"]
    );
}

#[test]
fn a_list_is_made_anew_before_it_ends_and_may_be_empty() {
    let folder = Folder::new();
    whole(&folder);
    let line = pki(&folder, "revoke --renew --dir DIR").unwrap();
    assert!(line.contains("crl = [\"clients.crl\"]"), "{line}");
    let list = revoke::read(&folder.file(revoke::CRL)).unwrap();
    assert_eq!((list.number, list.entries.len()), (1, 0));
    pki(&folder, "revoke pc-1.corp.example --dir DIR").unwrap();
    pki(&folder, "revoke pc-1.corp.example --renew --dir DIR").unwrap();
    pki(&folder, "revoke --renew --dir DIR").unwrap();
    let list = revoke::read(&folder.file(revoke::CRL)).unwrap();
    assert_eq!((list.number, list.entries.len()), (4, 1));
    assert!(pki(&folder, "revoke --dir DIR").is_err());
}

#[test]
fn revoking_adds_to_the_list_once() {
    let folder = Folder::new();
    whole(&folder);
    pki(&folder, "client other --dir DIR").unwrap();
    let line = pki(&folder, "revoke pc-1.corp.example --dir DIR").unwrap();
    let serial = facts(&folder, "pc-1.corp.example.pem").serial;
    assert!(
        line.contains("deny = { serials = [") && line.contains(serial.trim_start_matches('0')),
        "{line}"
    );
    pki(&folder, "revoke other --dir DIR").unwrap();
    assert!(
        pki(&folder, "revoke other --dir DIR")
            .unwrap()
            .contains("already")
    );
    pki(&folder, "revoke --serial 0A:0b --dir DIR").unwrap();
    let list = revoke::read(&folder.file(revoke::CRL)).unwrap();
    assert_eq!(list.number, 3);
    let keys: Vec<_> = list
        .entries
        .iter()
        .map(|(s, _)| crate::control::settings::serial_key(s).unwrap())
        .collect();
    let of = |file| crate::control::settings::serial_key(&facts(&folder, file).serial).unwrap();
    assert_eq!(
        keys,
        [of("pc-1.corp.example.pem"), of("other.pem"), "a0b".into()]
    );
    for wrong in [
        "revoke nobody --dir DIR",
        "revoke --dir DIR",
        "revoke --serial xyz --dir DIR",
    ] {
        assert!(pki(&folder, wrong).is_err(), "{wrong}");
    }
}

#[test]
fn without_a_ca_the_hint_says_how_to_get_one() {
    let folder = Folder::new();
    assert!(
        pki(&folder, "client a --dir DIR")
            .unwrap_err()
            .contains("pki init")
    );
}
