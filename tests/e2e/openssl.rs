//! OpenSSL's own client: key updates and resumption, as another implementation does them.

use crate::harness::Lab;
use crate::harness::talk::Talk;
use std::process::Command;

fn s_client(lab: &Lab) -> Command {
    let mut command = Command::new("openssl");
    let address = format!("127.0.0.1:{}", lab.ports.clients);
    command.args([
        "s_client",
        "-connect",
        &address,
        "-servername",
        "localhost",
        "-verify_return_error",
        "-CAfile",
    ]);
    command.arg(lab.file("ca.pem"));
    command
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n")
}

#[test]
fn keys_are_updated_on_request() {
    let lab = Lab::start();
    let mut talk = Talk::start(s_client(&lab).arg("-tls1_3"));
    talk.hear("New, TLSv1.3", 1);
    let mut updates = 0;
    for round in 1..=6 {
        // `k`: new keys for the client's side; `K`: and asks the gateway for new ones of its own.
        talk.say(if round % 2 == 0 { "k\n" } else { "K\n" });
        updates += 1;
        talk.hear("KEYUPDATE", updates);
        talk.say(&get(&format!("/t/round-{round}")));
        talk.hear(&format!("\r\n\r\n/t/round-{round}"), 1);
    }
    // Two in a row, then a body that spans records under the new keys.
    talk.say("K\n");
    talk.hear("KEYUPDATE", updates + 1);
    talk.say("K\n");
    talk.hear("KEYUPDATE", updates + 2);
    talk.say(&get("/t/pattern?seed=1&size=100000"));
    talk.hear("Content-Length: 100000", 1);
    talk.say(&get("/t/last"));
    let said = talk.hear("\r\n\r\n/t/last", 1);
    assert!(!said.contains("alert"), "{said}");
}

#[test]
fn keys_are_updated_in_the_middle_of_an_upload() {
    let lab = Lab::start();
    let mut talk = Talk::start(s_client(&lab).arg("-tls1_3"));
    talk.hear("New, TLSv1.3", 1);
    talk.say("POST /t/echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 30\r\n\r\n");
    talk.hear("HTTP/1.1 200", 1);
    for (round, part) in ["first part", "second one", "third part"]
        .into_iter()
        .enumerate()
    {
        talk.say(part);
        talk.hear(part, 1);
        talk.say("K\n");
        talk.hear("KEYUPDATE", round + 1);
    }
    talk.say(&get("/t/last"));
    talk.hear("\r\n\r\n/t/last", 1);
}

/// One whole connection of s_client: what it printed.
fn visit(lab: &Lab, version: &str, arguments: &[&str], path: &str) -> String {
    let mut command = s_client(lab);
    command.args([version, "-ign_eof"]).args(arguments);
    let mut talk = Talk::start(&mut command);
    talk.say(&format!(
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    ));
    // With -ign_eof it ends when the gateway closes.
    talk.hear("closed", 1);
    talk.finish()
}

#[test]
fn sessions_are_resumed_and_keep_their_identity() {
    let lab = Lab::start();
    let (certificate, key) = (lab.file("device-1.pem"), lab.file("device-1.key"));
    let identity = [
        "-cert",
        &certificate.display().to_string(),
        "-key",
        &key.display().to_string(),
    ]
    .map(str::to_owned);
    for version in ["-tls1_3", "-tls1_2"] {
        let session = lab.file(&format!("session{version}")).display().to_string();
        let mut first: Vec<&str> = identity.iter().map(String::as_str).collect();
        first.extend(["-sess_out", &session]);
        let said = visit(&lab, version, &first, "/cert/head");
        assert!(said.contains("New, TLSv1."), "{said}");
        assert!(
            said.contains("Tidegate-Client-Id: cert:lab/device-1"),
            "{said}"
        );
        // Resumed without presenting anything: the session stands for the certificate, and is judged again.
        let said = visit(&lab, version, &["-sess_in", &session], "/cert/head");
        assert!(said.contains("Reused, TLSv1."), "{version}: {said}");
        assert!(
            said.contains("Tidegate-Client-Id: cert:lab/device-1"),
            "{version}: {said}"
        );
    }
    let resumed = lab.metric(
        lab.ports.gateway_admin,
        "tidegate_handshakes_total",
        &["outcome=\"resumed\""],
    );
    assert_eq!(resumed, 2.0);
}

#[test]
fn the_end_is_announced() {
    let lab = Lab::start();
    for version in ["-tls1_3", "-tls1_2"] {
        let said = visit(&lab, version, &["-msg"], "/t/x");
        assert!(said.contains("/t/x"), "{said}");
        assert!(said.contains("close_notify"), "{version}: {said}");
    }
}

#[test]
fn common_suites_are_spoken() {
    let lab = Lab::start();
    for suite in [
        "TLS_AES_128_GCM_SHA256",
        "TLS_AES_256_GCM_SHA384",
        "TLS_CHACHA20_POLY1305_SHA256",
    ] {
        let said = visit(
            &lab,
            "-tls1_3",
            &["-ciphersuites", suite],
            "/t/pattern?seed=1&size=50000",
        );
        assert!(
            said.contains(&format!("Cipher is {suite}")) && said.contains("HTTP/1.1 200"),
            "{said}"
        );
    }
    for suite in [
        "ECDHE-ECDSA-AES128-GCM-SHA256",
        "ECDHE-ECDSA-AES256-GCM-SHA384",
        "ECDHE-ECDSA-CHACHA20-POLY1305",
    ] {
        let said = visit(
            &lab,
            "-tls1_2",
            &["-cipher", suite],
            "/t/pattern?seed=1&size=50000",
        );
        assert!(
            said.contains(&format!("Cipher is {suite}")) && said.contains("HTTP/1.1 200"),
            "{said}"
        );
    }
}
