//! Tokens blocked and clients denied while they are at it: as an operator does it, with the time that it takes.

use super::{assert_known, token};
use crate::harness::{Lab, Tls};
use std::time::{Duration, Instant};

const DENY_FILE: &str = "deny = { files = [\"denied-tokens.txt\"] }";

#[test]
fn blocked_tokens_and_denied_clients_are_cut_off_in_the_middle_of_a_transfer() {
    let lab = Lab::plan()
        .alone()
        .route("/tok/", "auth = \"token\"")
        .site("tokens = [\"site-tokens.jwks\"]")
        .prepare(|dir| drop(token(dir, &["init"])))
        .start();
    let issue = |client: &str| token(lab.dir(), &["issue", "--client", client]);
    let (first, second, other) = (issue("pc-1"), issue("pc-1"), issue("pc-2"));
    let mut idle = Tls::connect(&lab);
    for token in [&first, &second] {
        assert_known(
            &idle.get_with("/tok/head", token),
            "token",
            "site:main/pc-1",
        );
    }
    let took = cut(&lab, &first, || {
        token(lab.dir(), &["block", &id_of(&lab, 0)]);
        lab.revise(1, DENY_FILE);
    });
    println!("`token block`, then `reload`: the last byte after {took:?}");
    for client in [&mut idle, &mut Tls::connect(&lab)] {
        let answer = client.get_with("/tok/head", &first);
        answer.assert_problem(403, "revoked");
        assert_eq!(answer.header("WWW-Authenticate"), None);
        let answer = client.get_with("/tok/head", &second);
        assert_known(&answer, "token", "site:main/pc-1");
    }
    token(lab.dir(), &["unblock", &id_of(&lab, 0)]);
    lab.revise(2, "");
    assert_eq!(idle.get_with("/tok/head", &first).status, 200, "unblocked");

    let took = cut(&lab, &second, || {
        let more = "deny = { clients = [\"site:main/pc-1\"], files = [\"denied-tokens.txt\"] }";
        lab.rewrite("connector.toml", "connector.toml", &[(DENY_FILE, more)]);
        lab.revise(3, "");
    });
    println!("a client id, then `reload`: the last byte after {took:?}");
    for token in [&first, &second, &issue("pc-1")] {
        let answer = idle.get_with("/tok/head", token);
        answer.assert_problem(403, "revoked");
    }
    let answer = idle.get_with("/tok/head", &other);
    assert_known(&answer, "token", "site:main/pc-2");
    let port = lab.ports.gateway_admin;
    let cut = lab.metric(port, "tidegate_requests_revoked_total", &[]);
    assert_eq!(cut, 2.0);
}

/// The id of the n-th token that was issued.
fn id_of(lab: &Lab, n: usize) -> String {
    let rows = token(lab.dir(), &["list", "--json"]);
    let rows: serde_json::Value = serde_json::from_str(&rows).expect("JSON");
    rows[n]["id"].as_str().expect("an id").to_owned()
}

/// Begins a transfer with a token and gives the order: how long after its begin the last byte came.
fn cut(lab: &Lab, token: &str, order: impl FnOnce() + Send) -> Duration {
    let mut transfer = Tls::connect(lab);
    transfer.send(format!(
        "GET /tok/pattern?seed=1&size=8000000000 HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\r\n"
    ));
    let mut answer = transfer.head();
    assert_eq!(answer.status, 200, "{}", answer.head);
    let took = std::thread::scope(|scope| {
        let order = scope.spawn(move || {
            let began = Instant::now();
            order();
            began
        });
        let (mut bytes, mut last) = (0usize, Instant::now());
        let ended = transfer.body(&mut answer, &mut |piece| {
            bytes += piece.len();
            last = Instant::now();
        });
        assert!(ended.is_err(), "the transfer was cut");
        assert!(bytes > 0);
        let began = order.join().expect("the order");
        last.saturating_duration_since(began)
    });
    assert!(took < Duration::from_secs(1), "{took:?}");
    took
}
