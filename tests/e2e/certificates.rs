//! Client certificates of every shape, made by the real `openssl`, through gateway and connector: who gets in and under
//! which id, who is told why not, and whose certificate does not even pass the handshake. Over TLS 1.2 and 1.3, on full
//! and on resumed sessions. A refused request never reaches the upstream.

use crate::harness::ca::{Ca, LEAF, Wish};
use crate::harness::lab::tidegate;
use crate::harness::{Curl, Lab, Tls, tls};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use std::fs;

/// What the gateway makes of a chain.
#[derive(Clone, Copy)]
enum Expected {
    /// 200, and the upstream is told this id.
    Id(&'static str),
    /// 403 `forbidden`, with this in its detail.
    Forbidden(&'static str),
    /// No handshake: the certificate cannot be read, or its key not be used.
    NoTls,
}
use Expected::{Forbidden, Id, NoTls};

/// Name, certificates as sent, key, outcome.
type Case = (
    &'static str,
    &'static [&'static str],
    &'static str,
    Expected,
);

const ELEVEN: &[&str] = &[
    "good", "root", "root", "root", "root", "root", "root", "root", "root", "root", "root",
];
/// A name of `CN=ABCDEFG`, and one of the same length with an empty CN and a nameless attribute beside it.
const EMPTY_FROM: &[u8] = b"\x30\x12\x31\x10\x30\x0e\x06\x03\x55\x04\x03\x0c\x07ABCDEFG";
const EMPTY_TO: &[u8] =
    b"\x30\x12\x31\x10\x30\x07\x06\x03\x55\x04\x03\x0c\x00\x30\x05\x06\x01\x2a\x0c\x00";
const STRANGER: &str = "no published CA issued";
const PURPOSE: &str = "not for client authentication";

#[rustfmt::skip]
const CASES: &[Case] = &[
    // Kinds of keys.
    ("p256", &["good"], "leaf", Id("cert:pki/good")),
    ("p384", &["p384"], "p384", Id("cert:pki/p384")),
    ("ed25519", &["ed25519"], "ed25519", Id("cert:pki/ed25519")),
    ("rsa2048", &["rsa2048"], "rsa2048", Id("cert:pki/rsa2048")),
    ("rsa3072", &["rsa3072"], "rsa3072", Id("cert:pki/rsa3072")),
    ("by-rsa-ca", &["by-rsa-ca"], "leaf", Id("cert:pki/by-rsa-ca")),
    // Chains.
    ("one-intermediate", &["under-i1", "i1"], "leaf", Id("cert:pki/under-i1")),
    ("two-intermediates", &["under-i2", "i2", "i1"], "leaf", Id("cert:pki/under-i2")),
    ("any-order", &["under-i2", "i1", "i2"], "leaf", Id("cert:pki/under-i2")),
    ("root-sent-too", &["under-i1", "i1", "root"], "leaf", Id("cert:pki/under-i1")),
    ("superfluous", &["under-i1", "p384", "i1", "i2", "nc", "good"], "leaf", Id("cert:pki/under-i1")),
    ("intermediate-missing", &["under-i1"], "leaf", Forbidden(STRANGER)),
    ("upper-intermediate-missing", &["under-i2", "i2"], "leaf", Forbidden(STRANGER)),
    ("wrong-intermediate", &["under-i1", "i2"], "leaf", Forbidden(STRANGER)),
    ("not-leaf-first", &["i1", "under-i1"], "leaf", NoTls),
    ("eleven", ELEVEN, "leaf", Forbidden("over 10")),
    ("twice-the-leaf", &["good", "good"], "leaf", Id("cert:pki/good")),
    ("cross-signed", &["under-cross", "cross-by-root"], "leaf", Id("cert:pki/under-cross")),
    ("cross-both", &["under-cross", "cross", "cross-by-root"], "leaf", Id("cert:pki/under-cross")),
    ("cross-stranger", &["under-cross", "cross"], "leaf", Forbidden(STRANGER)),
    ("same-subject-a", &["same-a"], "leaf", Id("cert:pki/same-a")),
    ("same-subject-b", &["same-b"], "leaf", Id("cert:pki/same-b")),
    ("same-subject-stranger", &["same-c"], "leaf", Forbidden(STRANGER)),
    ("one-key-two-cas", &["twin"], "leaf", Id("cert:other/twin")),
    ("self-signed", &["self"], "leaf", Forbidden(STRANGER)),
    ("self-signed-as-ca", &["self-as-root"], "leaf", Forbidden(STRANGER)),
    ("another-pki", &["stranger", "cross"], "leaf", Forbidden(STRANGER)),
    // Who may certify whom.
    ("ca-as-client", &["ca-client"], "leaf", Forbidden("a CA's certificate cannot stand")),
    ("root-as-client", &["root"], "root", Forbidden("")),
    ("leaf-as-ca", &["under-leaf", "good"], "leaf", Forbidden("not a CA")),
    ("no-cert-sign", &["under-nosign", "nosign"], "leaf", Forbidden("not a CA")),
    ("pathlen-exceeded", &["under-deep", "deep", "i0"], "leaf", Forbidden("longer than a CA")),
    ("pathlen-kept", &["under-i0", "i0"], "leaf", Id("cert:pki/under-i0")),
    ("pathlen-of-root", &["under-p0i", "p0i"], "leaf", Forbidden("longer than a CA")),
    ("names-kept", &["nc-good", "nc"], "leaf", Id("cert:pki/pc.corp.example")),
    ("names-violated", &["nc-bad", "nc"], "leaf", Forbidden("a name is outside")),
    // Time.
    ("expired-leaf", &["old"], "leaf", Forbidden("expired")),
    ("expired-intermediate", &["under-iold", "iold"], "leaf", Forbidden("expired")),
    ("expired-root", &["under-rold"], "leaf", Forbidden("expired")),
    ("future-leaf", &["early"], "leaf", Forbidden("not valid yet")),
    ("future-intermediate", &["under-iearly", "iearly"], "leaf", Forbidden("not valid yet")),
    // Purposes.
    ("no-eku", &["no-eku"], "leaf", Forbidden(PURPOSE)),
    ("server-only", &["server-only"], "leaf", Forbidden(PURPOSE)),
    ("any-purpose-only", &["any-eku"], "leaf", Forbidden(PURPOSE)),
    ("both-purposes", &["both-eku"], "leaf", Id("cert:pki/both-eku")),
    ("intermediate-for-servers", &["under-iserver", "iserver"], "leaf", Forbidden(PURPOSE)),
    ("no-signatures", &["no-ds"], "leaf", Forbidden("key usage")),
    ("no-key-usage", &["no-ku"], "leaf", Id("cert:pki/no-ku")),
    // Algorithms.
    ("sha1", &["sha1"], "leaf", Forbidden("cannot be used")),
    ("md5", &["md5"], "leaf", Forbidden("cannot be used")),
    ("by-weak-ca", &["by-weak"], "leaf", Forbidden("")),
    // Encodings.
    ("critical-unknown", &["critical"], "leaf", NoTls),
    ("unknown-extension", &["unknown"], "leaf", Id("cert:pki/unknown")),
    ("extension-twice", &["dup"], "leaf", NoTls),
    ("serial-zero", &["serial0"], "leaf", Id("cert:pki/serial0")),
    ("serial-20-bytes", &["serial20"], "leaf", Id("cert:pki/serial20")),
    ("serial-21-bytes", &["serial21"], "leaf", Id("cert:pki/serial21")),
    ("serial-negative", &["serial-neg"], "leaf", Id("cert:pki/serial-neg")),
    ("version-1", &["version1"], "leaf", NoTls),
    // Names.
    ("empty-cn", &["empty-cn"], "leaf", Forbidden("empty")),
    ("null-in-cn", &["null-cn"], "leaf", Forbidden("printable ASCII")),
    ("no-name", &["no-name"], "leaf", Forbidden("")),
    ("blank-name", &["blank"], "leaf", Forbidden("blank")),
    ("control-name", &["control"], "leaf", Forbidden("printable ASCII")),
    ("newline-name", &["newline"], "leaf", Forbidden("printable ASCII")),
    ("unicode-name", &["unicode"], "leaf", Forbidden("printable ASCII")),
    ("long-name", &["long"], "leaf", Forbidden("over 128 bytes")),
    ("slashes", &["slashes"], "leaf", Id("cert:pki/a/b: c")),
    ("san-before-cn", &["san"], "leaf", Id("cert:pki/first.example")),
    ("san-wildcard", &["wildcard"], "leaf", Id("cert:pki/*.corp.example")),
];

fn make(ca: &Ca) {
    for (name, algorithm) in [
        ("root", "EC -pkeyopt ec_paramgen_curve:P-256"),
        ("sub", "EC -pkeyopt ec_paramgen_curve:P-256"),
        ("leaf", "EC -pkeyopt ec_paramgen_curve:P-256"),
        ("p384", "EC -pkeyopt ec_paramgen_curve:P-384"),
        ("ed25519", "ED25519"),
        ("rsa1024", "RSA -pkeyopt rsa_keygen_bits:1024"),
        ("rsa2048", "RSA -pkeyopt rsa_keygen_bits:2048"),
        ("rsa3072", "RSA -pkeyopt rsa_keygen_bits:3072"),
    ] {
        ca.key(name, algorithm);
    }
    let leaf = |name| Wish::leaf(name, "leaf", "root", "root");
    let under = |name, issuer| Wish::leaf(name, "leaf", issuer, "sub");
    let sub = |name| Wish::sub(name, "sub", "root", "root");
    let past = ("20200101000000Z", "20210101000000Z");
    let future = ("20900101000000Z", "20910101000000Z");
    make_authorities(ca, past, future);
    ca.make(leaf("good"));
    for key in ["p384", "ed25519", "rsa2048", "rsa3072", "rsa1024"] {
        ca.make(Wish::leaf(key, key, "root", "root"));
    }
    ca.make(Wish::leaf("by-rsa-ca", "leaf", "root-rsa", "rsa2048"));
    ca.make(Wish::leaf("by-weak", "leaf", "root-weak", "rsa1024"));
    for (name, issuer) in [
        ("under-i1", "i1"),
        ("under-i2", "i2"),
        ("under-cross", "cross"),
        ("stranger", "cross"),
        ("under-nosign", "nosign"),
        ("under-deep", "deep"),
        ("under-i0", "i0"),
        ("under-p0i", "p0i"),
        ("under-iold", "iold"),
        ("under-iearly", "iearly"),
        ("under-iserver", "iserver"),
    ] {
        ca.make(under(name, issuer));
    }
    ca.make(Wish::leaf("same-a", "leaf", "root-same-a", "root"));
    ca.make(Wish::leaf("same-b", "leaf", "root-same-b", "sub"));
    ca.make(Wish::leaf("same-c", "leaf", "root-same-c", "leaf"));
    ca.make(Wish::leaf("twin", "leaf", "root-other", "root"));
    ca.make(Wish::leaf("under-rold", "leaf", "root-old", "root"));
    ca.make(Wish::leaf("under-leaf", "leaf", "good", "leaf"));
    ca.make(Wish::root("self", "leaf").with(LEAF));
    ca.make(
        Wish::root("self-as-root", "leaf")
            .with(LEAF)
            .subject("/CN=root"),
    );
    ca.make(Wish::sub("ca-client", "leaf", "root", "root").and("extendedKeyUsage=clientAuth"));
    ca.make(under("nc-good", "nc").and("subjectAltName=DNS:pc.corp.example"));
    ca.make(under("nc-bad", "nc").and("subjectAltName=DNS:pc.elsewhere.example"));
    ca.make(leaf("old").dates(past.0, past.1));
    ca.make(leaf("early").dates(future.0, future.1));
    let plain = "basicConstraints=critical,CA:false\nkeyUsage=critical,digitalSignature\n";
    ca.make(leaf("no-eku").with(plain));
    for (name, purpose) in [
        ("server-only", "serverAuth"),
        ("any-eku", "anyExtendedKeyUsage"),
        ("both-eku", "serverAuth,clientAuth"),
    ] {
        ca.make(
            leaf(name)
                .with(plain)
                .and(&format!("extendedKeyUsage={purpose}")),
        );
    }
    ca.make(leaf("no-ds").with("keyUsage=critical,keyEncipherment\nextendedKeyUsage=clientAuth\n"));
    ca.make(leaf("no-ku").with("extendedKeyUsage=clientAuth\n"));
    ca.make(Wish::leaf("sha1", "leaf", "root-rsa", "rsa2048").digest("sha1"));
    ca.make(Wish::leaf("md5", "leaf", "root-rsa", "rsa2048").digest("md5"));
    ca.make(leaf("critical").and("1.3.6.1.4.1.99999.1=critical,DER:0500"));
    ca.make(leaf("unknown").and("1.3.6.1.4.1.99999.1=DER:0500"));
    // What openssl does not make: another extension's OID, or name, in its place, and signed again.
    let twice = "subjectAltName=DNS:a.example\nissuerAltName=DNS:b.example";
    ca.make(leaf("once").and(twice));
    ca.patch(
        "dup",
        "once",
        "root",
        b"\x06\x03\x55\x1d\x12",
        b"\x06\x03\x55\x1d\x11",
    );
    ca.make(leaf("named").subject("/CN=ABCDEFG"));
    ca.patch("null-cn", "named", "root", b"ABCDEF", b"AB\0DEF");
    ca.make(leaf("version3"));
    ca.patch(
        "version1",
        "version3",
        "root",
        b"\xa0\x03\x02\x01\x02",
        b"\xa0\x03\x02\x01\x00",
    );
    ca.patch("empty-cn", "named", "root", EMPTY_FROM, EMPTY_TO);
    ca.make(leaf("serial0").serial("0"));
    ca.make(leaf("serial20").serial("0x7FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF"));
    ca.make(leaf("serial21").serial("0x7FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF"));
    ca.make(leaf("serial-neg").serial("-5"));
    for (name, subject) in [
        ("no-name", "/"),
        ("blank", "/CN= "),
        ("control", "/CN=a\u{1}b"),
        ("newline", "/CN=a\nTidegate-Tenant: b"),
        ("unicode", "/CN=b\u{fc}ro"),
        ("slashes", "/CN=a\\/b: c"),
    ] {
        ca.make(leaf(name).subject(subject));
    }
    let label = "a".repeat(63);
    let long = format!(
        "subjectAltName=DNS:{label}.{label}.{label}.{}",
        "a".repeat(61)
    );
    ca.make(leaf("long").and(&long));
    ca.make(leaf("san").and("subjectAltName=DNS:first.example,DNS:second.example"));
    ca.make(leaf("wildcard").and("subjectAltName=DNS:*.corp.example"));
    ca.make(sub("cross-by-root").subject("/CN=cross"));
}

fn make_authorities(ca: &Ca, past: (&str, &str), future: (&str, &str)) {
    let sub = |name| Wish::sub(name, "sub", "root", "root");
    let limited = |length: u8| {
        format!(
            "basicConstraints=critical,CA:true,pathlen:{length}\nkeyUsage=critical,keyCertSign,cRLSign\n"
        )
    };
    ca.make(Wish::root("root", "root"));
    ca.make(Wish::root("root-other", "root"));
    ca.make(Wish::root("root-rsa", "rsa2048"));
    ca.make(Wish::root("root-weak", "rsa1024"));
    ca.make(Wish::root("root-same-a", "root").subject("/CN=same"));
    ca.make(Wish::root("root-same-b", "sub").subject("/CN=same"));
    ca.make(Wish::root("root-same-c", "leaf").subject("/CN=same"));
    ca.make(Wish::root("root-p0", "root").with(&limited(0)));
    ca.make(Wish::root("root-old", "root").dates(past.0, past.1));
    ca.make(Wish::root("cross", "sub"));
    ca.make(sub("i1"));
    ca.make(Wish::sub("i2", "sub", "i1", "sub"));
    ca.make(sub("i0").with(&limited(0)));
    ca.make(Wish::sub("deep", "sub", "i0", "sub"));
    ca.make(Wish::sub("p0i", "sub", "root-p0", "root"));
    ca.make(sub("nc").and("nameConstraints=critical,permitted;DNS:corp.example"));
    ca.make(sub("nosign").with("basicConstraints=critical,CA:true\nkeyUsage=critical,cRLSign\n"));
    ca.make(sub("iserver").and("extendedKeyUsage=serverAuth"));
    ca.make(sub("iold").dates(past.0, past.1));
    ca.make(sub("iearly").dates(future.0, future.1));
    ca.join(
        "roots",
        &[
            "root",
            "root-rsa",
            "root-weak",
            "root-same-a",
            "root-same-b",
            "root-p0",
            "root-old",
        ],
    );
}

/// Status, what the gateway said of it, and the client id that the upstream was told.
fn outcome(client: &mut Tls, path: &str) -> std::io::Result<(u16, String)> {
    client.try_send(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"))?;
    let answer = client.try_answer()?;
    Ok((answer.status, answer.text()))
}

fn fits(expected: Expected, found: &std::io::Result<(u16, String)>) -> bool {
    match (expected, found) {
        (Id(id), Ok((200, head))) => {
            head.matches("Tidegate-Client-Id:").count() == 1
                && head.contains(&format!("Tidegate-Client-Id: {id}\n"))
        }
        (Forbidden(why), Ok((403, text))) => {
            text.contains("\"code\":\"forbidden\"") && text.contains(why)
        }
        (NoTls, Err(_)) => true,
        _ => false,
    }
}

#[test]
fn certificates_of_every_shape_get_what_they_deserve() {
    let lab = Lab::start();
    let ca = Ca::new(lab.dir());
    make(&ca);
    lab.rewrite(
        "connector.toml",
        "connector.toml",
        &[
            ("revision = 1", "revision = 2"),
            (
                "client_ca = [",
                "client_ca = [{ name = \"pki\", file = \"roots.pem\" }, { name = \"other\", file = \"root-other.pem\" }, ",
            ),
        ],
    );
    let admin = format!("http://127.0.0.1:{}", lab.ports.connector_admin);
    let done = tidegate()
        .args(["reload", "--admin", &admin])
        .output()
        .expect("reload");
    let said =
        String::from_utf8_lossy(&done.stdout).into_owned() + &String::from_utf8_lossy(&done.stderr);
    assert!(said.contains("accepted by 1 gateway"), "{said}");
    let (mut wrong, mut judged) = (Vec::new(), 0);
    for (name, files, key, expected) in CASES {
        let chain: Vec<CertificateDer<'static>> = files
            .iter()
            .map(|file| {
                CertificateDer::from_pem_file(ca.file(&format!("{file}.pem"))).expect("PEM")
            })
            .collect();
        let path = format!("/cert/case-{name}/head");
        for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
            let key = ca.file(&format!("{key}.key"));
            let config = tls::presenting(&lab, chain.clone(), &key, version);
            for resumed in [false, true] {
                let client = Tls::try_connect(&lab, &config);
                let was = client.as_ref().is_ok_and(Tls::is_resumed);
                let found = client.and_then(|mut client| outcome(&mut client, &path));
                judged += 1;
                if !fits(*expected, &found) || (found.is_ok() && was != resumed) {
                    wrong.push(format!(
                        "{name}, {version:?}, resumed {was}/{resumed}: {found:?}"
                    ));
                }
            }
        }
        let passed = lab.upstream.count(&format!("/case-{name}/"));
        let may_pass = if matches!(expected, Id(_)) { 4 } else { 0 };
        if passed != may_pass {
            wrong.push(format!("{name}: the upstream saw {passed}, not {may_pass}"));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} wrong:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    println!("{} chains, {judged} handshakes and verdicts", CASES.len());
    weak_key(&lab, &ca);
}

/// rustls has no such key to sign with; curl does. What it signs is not believed.
fn weak_key(lab: &Lab, ca: &Ca) {
    for version in ["1.2", "1.3"] {
        let done = Curl::new(lab, "/cert/weak/head")
            .identity(lab, "rsa1024")
            .args(&["--tls-max", version, "--ciphers", "DEFAULT@SECLEVEL=0"])
            .run();
        assert_ne!(done.code, 0, "{}", done.answer.text());
        assert_eq!(done.answer.status, 0, "{}", done.answer.text());
    }
    assert_eq!(lab.upstream.count("/weak/"), 0);
    assert!(fs::metadata(ca.file("rsa1024.pem")).is_ok());
}
