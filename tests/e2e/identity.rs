//! Who the client is: what lets it in, what the upstream is told, and what nobody can pretend.

use crate::harness::lab::{Folder, pki};
use crate::harness::{Curl, Lab, Tls, tls};
use std::fs;

#[test]
fn a_certificate_route_wants_a_certificate() {
    let lab = Lab::start();
    Curl::new(&lab, "/cert/x")
        .answer()
        .assert_problem(401, "unauthenticated");
    for tls in ["1.2", "1.3"] {
        let answer = Curl::new(&lab, "/cert/x")
            .identity(&lab, "device-1")
            .args(&["--tls-max", tls])
            .answer();
        assert_eq!(
            (answer.status, answer.text().as_str()),
            (200, "/cert/x"),
            "TLS {tls}"
        );
    }
    assert_eq!(lab.upstream.count("/cert/"), 2);
}

#[test]
fn the_upstream_is_told_who_it_is() {
    let lab = Lab::start();
    let known = Curl::new(&lab, "/cert/head")
        .identity(&lab, "device-1")
        .answer();
    let id = known
        .header("Tidegate-Request-Id")
        .expect("a request id")
        .to_owned();
    let head = known.text();
    for line in [
        "Tidegate-Client-Id: cert:lab/device-1",
        "Tidegate-Device: device-1",
        "Tidegate-Auth: certificate",
        "Tidegate-Address: 127.0.0.1",
        "Tidegate-Cert-Hash: ",
        &format!("Tidegate-Request-Id: {id}"),
        "Host: localhost:",
    ] {
        assert!(head.contains(line), "no `{line}` in\n{head}");
    }
    let unknown = Curl::new(&lab, "/t/head").answer().text();
    assert!(unknown.contains("Tidegate-Auth: none"), "{unknown}");
    assert!(!unknown.contains("Tidegate-Client-Id"), "{unknown}");
}

#[test]
fn forged_identity_is_removed() {
    let lab = Lab::start();
    #[rustfmt::skip]
    let forged = [
        "Tidegate-Client-Id: cert:lab/FORGED", "tidegate-client-id: FORGED", "TIDEGATE-AUTH: FORGED", "tidegate_client_id: FORGED",
        "Tidegate_Auth: FORGED", "Tidegate-Device: FORGED", "Tidegate-User: FORGED", "Tidegate-Tenant: FORGED",
        "Tidegate-Address: FORGED", "Tidegate-Cert-Hash: FORGED", "Tidegate-Request-Id: FORGED", "Tidegate-Later: FORGED",
    ];
    for (path, identity) in [("/t/head", None), ("/cert/head", Some("device-1"))] {
        let mut curl = Curl::new(&lab, path);
        if let Some(identity) = identity {
            curl = curl.identity(&lab, identity);
        }
        for field in forged {
            curl = curl.args(&["-H", field]);
        }
        let head = curl.answer().text();
        assert!(!head.contains("FORGED"), "{head}");
        assert_eq!(head.matches("Tidegate-Auth:").count(), 1, "{head}");
    }
    // Nor by trailers, nor as a field that the connection options name away.
    let mut client = Tls::connect(&lab);
    client.send(
        "POST /t/echo HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\nTrailer: Tidegate-Client-Id\r\n\
         Connection: Tidegate-Auth\r\n\r\n2\r\nab\r\n0\r\nTidegate-Client-Id: FORGED\r\n\r\n",
    );
    let answer = client.answer();
    assert_eq!(answer.trailer("Tidegate-Client-Id"), None);
    let seen = lab.upstream.seen().pop().expect("it was seen");
    assert!(
        seen.head.contains("Tidegate-Auth: none") && !seen.head.contains("FORGED"),
        "{}",
        seen.head
    );
}

#[test]
fn expired_and_foreign_certificates_do_not_pass() {
    let lab = Lab::start();
    lab.pki(&["client", "old", "--days", "0"]);
    let foreign = Folder::new();
    pki(&foreign.0, &["init"]);
    pki(&foreign.0, &["client", "device-1"]);
    for file in ["device-1.pem", "device-1.key"] {
        fs::copy(foreign.0.join(file), lab.file(&format!("foreign-{file}"))).expect("a copy");
    }
    let names = [
        ("old", "expired"),
        ("foreign-device-1", "no published CA"),
        ("cp-1", "no published CA"),
        ("server", ""),
    ];
    for (name, reason) in names {
        for version in ["1.2", "1.3"] {
            let answer = Curl::new(&lab, "/cert/x")
                .identity(&lab, name)
                .args(&["--tls-max", version])
                .answer();
            answer.assert_problem(403, "forbidden");
            assert!(answer.text().contains(reason), "{name}: {}", answer.text());
        }
        let open = Curl::new(&lab, "/t/head").identity(&lab, name).answer();
        assert_eq!(
            open.status, 200,
            "a route for everybody asks nothing: {name}"
        );
        assert!(
            open.text().contains("Tidegate-Auth: none"),
            "{name}: {}",
            open.text()
        );
    }
    assert_eq!(lab.upstream.count("/cert/"), 0);
}

/// The handshake must prove that the client holds the key, whatever is judged of the certificate later.
#[test]
fn a_certificate_without_its_key_is_worth_nothing() {
    let lab = Lab::start();
    lab.pki(&["client", "thief"]);
    fs::copy(lab.file("device-1.pem"), lab.file("stolen.pem")).expect("a copy");
    fs::copy(lab.file("thief.key"), lab.file("stolen.key")).expect("a copy");
    let config = stolen(&lab);
    let outcome = Tls::try_connect(&lab, &config).and_then(|mut client| {
        client.try_send("GET /cert/x HTTP/1.1\r\nHost: localhost\r\n\r\n")?;
        client.try_answer()
    });
    assert!(outcome.is_err(), "{:?}", outcome.map(|answer| answer.head));
    assert_eq!(lab.upstream.seen().len(), 0);
}

/// A client that signs with a key that is not its certificate's.
fn stolen(lab: &Lab) -> std::sync::Arc<rustls::ClientConfig> {
    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    use rustls::sign::{CertifiedKey, SingleCertAndKey};
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let key = PrivateKeyDer::from_pem_file(lab.file("stolen.key")).expect("a key");
    let key = provider.key_provider.load_private_key(key).expect("a key");
    let chain = CertificateDer::pem_file_iter(lab.file("stolen.pem"))
        .expect("PEM")
        .collect::<Result<_, _>>();
    let mut config = (*tls::config(lab, None)).clone();
    config.client_auth_cert_resolver = std::sync::Arc::new(SingleCertAndKey::from(
        CertifiedKey::new(chain.expect("PEM"), key),
    ));
    std::sync::Arc::new(config)
}

#[test]
fn identities_of_connections_do_not_mix() {
    let lab = Lab::start();
    lab.pki(&["client", "device-2"]);
    let mut clients: Vec<_> = (0..12)
        .map(|n| match n % 3 {
            0 => ("none", Tls::connect(&lab)),
            1 => ("cert:lab/device-1", Tls::connect_as(&lab, "device-1")),
            _ => ("cert:lab/device-2", Tls::connect_as(&lab, "device-2")),
        })
        .collect();
    for _ in 0..10 {
        for (expected, client) in &mut clients {
            let text = client.get("/t/head").text();
            match *expected {
                "none" => assert!(
                    text.contains("Tidegate-Auth: none") && !text.contains("Client-Id"),
                    "{text}"
                ),
                id => assert!(
                    text.contains(&format!("Tidegate-Client-Id: {id}\n")),
                    "{text}"
                ),
            }
        }
    }
}

/// As an operator does it: the serial goes to the deny-list, the settings get a higher revision.
#[test]
fn a_denied_client_is_told_so() {
    let mut lab = Lab::start();
    let serial = std::process::Command::new("openssl")
        .args(["x509", "-noout", "-serial", "-in"])
        .arg(lab.file("device-1.pem"))
        .output()
        .expect("openssl");
    let serial = String::from_utf8_lossy(&serial.stdout)
        .trim()
        .replace("serial=", "");
    let deny = format!("revision = 2\ndeny = {{ serials = [\"{serial}\"] }}");
    lab.rewrite(
        "connector.toml",
        "connector.toml",
        &[("revision = 1", &deny)],
    );
    let mut client = Tls::connect_as(&lab, "device-1");
    assert_eq!(client.get("/cert/x").status, 200);
    lab.kill_connector();
    lab.spawn_connector();
    lab.wait_connector();
    client.get("/cert/x").assert_problem(403, "revoked");
    assert_eq!(Tls::connect(&lab).get("/t/x").status, 200);
}
