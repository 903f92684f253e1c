//! Certificates and tokens, alone and together, on each of the four kinds of route; and what counts as a token.

use super::{Issuers, assert_known, issuers, now, plan, told};
use crate::harness::lab::{Folder, pki};
use crate::harness::{Answer, Tls, tls};
use std::fs;

#[test]
fn the_upstream_is_told_whom_a_token_names() {
    let issuers = Issuers::new();
    let lab = plan(&issuers).start();
    let now = now();
    let (entra, idp) = (issuers.entra_claims(now), issuers.idp_claims(now));
    let bob = Some("bob@corp.example");
    let cases = [
        (
            issuers.rsa.token(&entra),
            "oidc:entra/0f1e2d3c",
            [
                Some("ann@corp.example"),
                Some("dev-1"),
                Some(issuers::TENANT),
            ],
        ),
        (issuers.ec.token(&idp), "oidc:idp/pc-1", [bob, None, None]),
        (issuers.ed.token(&idp), "oidc:idp/pc-1", [bob, None, None]),
        (
            issuers.site.token(&issuers.site_claims(now)),
            "site:main/pc-1",
            [None; 3],
        ),
    ];
    let forged = "Tidegate-Client-Id: FORGED\r\nTidegate-User: FORGED\r\nTidegate-Tenant: FORGED\r\n\
                  Tidegate-Device: FORGED\r\nTidegate-Auth: FORGED\r\nTidegate-Cert-Hash: FORGED\r\n";
    for (token, id, rest) in cases {
        for route in ["/tok/", "/any/"] {
            let mut client = Tls::connect(&lab);
            client.send(format!(
                "GET {route}head HTTP/1.1\r\nHost: localhost\r\n{forged}Authorization: Bearer {token}\r\n\r\n"
            ));
            let answer = client.answer();
            assert_known(&answer, "token", id);
            let names = ["Tidegate-User", "Tidegate-Device", "Tidegate-Tenant"];
            for (name, value) in names.into_iter().zip(rest) {
                assert_eq!(told(&answer, name), Vec::from_iter(value), "{id}: {name}");
            }
            assert!(!answer.text().contains("FORGED"), "{}", answer.text());
            assert_eq!(told(&answer, "Tidegate-Cert-Hash"), Vec::<String>::new());
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shown {
    Nothing,
    Good,
    /// Of a CA or a key that nobody trusts.
    Foreign,
    Revoked,
}
use Shown::{Foreign, Good, Nothing, Revoked};

/// Status, and what the upstream is told or what is complained of.
fn expected(route: &str, certificate: Shown, token: Shown) -> (u16, &'static str) {
    match (route, certificate, token) {
        (_, Revoked, _) => (403, "revoked"),
        ("/tok/", Nothing | Good | Foreign, Nothing) => (401, "no token"),
        ("/t/" | "/cert/" | "/any/", Good, _) => (200, "cert:lab/device-1"),
        ("/t/", Nothing | Foreign, _) => (200, ""),
        ("/cert/", Nothing, _) => (401, "no certificate"),
        ("/any/", Nothing, Nothing) => (401, "no token"),
        ("/cert/", Foreign, _) | ("/any/", Foreign, Nothing) => (403, "forbidden"),
        (_, _, Good) => (200, "oidc:idp/pc-1"),
        (_, _, Foreign) => (401, "invalid token"),
        (_, _, Revoked) => (403, "revoked"),
        (_, Nothing | Good | Foreign, Nothing) => unreachable!("{route}"),
    }
}

#[test]
fn certificate_and_token_together_on_each_kind_of_route() {
    let issuers = Issuers::new();
    let lab = plan(&issuers)
        .site("deny = { clients = [\"cert:lab/device-2\"], tokens = [\"j-denied\"] }")
        .prepare(|dir| pki(dir, &["client", "device-2"]))
        .start();
    let other = Folder::new();
    pki(&other.0, &["init"]);
    pki(&other.0, &["client", "device-1"]);
    for kind in ["pem", "key"] {
        let (from, to) = (format!("device-1.{kind}"), format!("foreign.{kind}"));
        fs::copy(other.0.join(from), lab.file(&to)).expect("a copy");
    }
    let good = issuers.idp_claims(now());
    let mut denied = good.clone();
    denied["jti"] = "j-denied".into();
    let tokens = [
        (Nothing, None),
        (Good, Some(issuers.ec.token(&good))),
        (Foreign, Some(issuers.strange_ec.token(&good))),
        (Revoked, Some(issuers.ec.token(&denied))),
    ];
    let certificates = [
        (Nothing, None),
        (Good, Some("device-1")),
        (Foreign, Some("foreign")),
        (Revoked, Some("device-2")),
    ];
    let mut combinations = 0;
    for (certificate, name) in certificates {
        let mut client = Tls::connect_with(&lab, &tls::config(&lab, name));
        for (token, text) in &tokens {
            for route in ["/t/", "/cert/", "/tok/", "/any/"] {
                let path = format!("{route}head");
                let answer = match text {
                    None => client.get(&path),
                    Some(text) => client.get_with(&path, text),
                };
                println!(
                    "{route} certificate {certificate:?}, token {token:?}: {}",
                    answer.status
                );
                assert_outcome(&answer, expected(route, certificate, *token));
                combinations += 1;
            }
        }
    }
    assert_eq!(combinations, 64);
}

#[track_caller]
fn assert_outcome(answer: &Answer, (status, what): (u16, &str)) {
    assert_eq!(answer.status, status, "{}\n{}", answer.head, answer.text());
    let challenge = answer.header("WWW-Authenticate");
    match (status, what) {
        (200, "") => {
            assert_eq!(told(answer, "Tidegate-Auth"), ["none"]);
            assert_eq!(told(answer, "Tidegate-Client-Id"), Vec::<String>::new());
        }
        (200, id) if id.starts_with("cert:") => assert_known(answer, "certificate", id),
        (200, id) => assert_known(answer, "token", id),
        (401, "invalid token") => answer.assert_invalid_token(),
        (401, what) => {
            answer.assert_problem(401, "unauthenticated");
            let expected = (what == "no token").then_some("Bearer");
            assert_eq!(challenge, expected, "{}", answer.head);
        }
        (_, code) => {
            answer.assert_problem(403, code);
            assert_eq!(challenge, None, "{}", answer.head);
        }
    }
}

#[test]
fn what_counts_as_a_token() {
    let issuers = Issuers::new();
    let lab = plan(&issuers).start();
    let good = issuers.ec.token(&issuers.idp_claims(now()));
    let ask = |route: &str, fields: &str| -> Answer {
        let mut client = Tls::connect(&lab);
        client.send(format!(
            "GET {route}head HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n"
        ));
        client.answer()
    };
    for route in ["/tok/", "/any/"] {
        for taken in [
            format!("authorization: bearer {good}\r\n"),
            format!("AUTHORIZATION: BEARER {good}\r\n"),
            format!("Authorization:   Bearer     {good}  \r\n"),
        ] {
            assert_known(&ask(route, &taken), "token", "oidc:idp/pc-1");
        }
        // Nobody but the upstream knows what these are, so no token was shown.
        for other in [
            "",
            "Authorization: Basic dTpw\r\n",
            "Authorization:\r\n",
            "Authorization: Negotiate YII\r\n",
            &format!("Authorization: {good}\r\n"),
            &format!("Authorization: Token {good}\r\n"),
            &format!("Authorization: Bearer\t{good}\r\n"),
            &format!("Authorization: Bearer={good}\r\n"),
            &format!("Authorization: Basic dTpw, Bearer {good}\r\n"),
            &format!("Proxy-Authorization: Bearer {good}\r\n"),
            &format!("Cookie: access_token={good}\r\n"),
        ] {
            let answer = ask(route, other);
            answer.assert_problem(401, "unauthenticated");
            let challenge = answer.header("WWW-Authenticate");
            assert_eq!(challenge, Some("Bearer"), "{other:?}");
        }
        for wrong in [
            "Authorization: Bearer\r\n",
            "Authorization: Bearer \r\n",
            &format!("Authorization: Bearer {good}\r\nAuthorization: Bearer {good}\r\n"),
            &format!("Authorization: Basic dTpw\r\nauthorization: Bearer {good}\r\n"),
            &format!("Authorization: Bearer {good}\r\nAuthorization: Basic dTpw\r\n"),
            &format!("Authorization: Bearer {good}, Basic dTpw\r\n"),
            &format!("Authorization: Bearer {good}\r\nAuthorization:\r\n"),
        ] {
            ask(route, wrong).assert_invalid_token();
        }
        // Connection cannot name it away: here and upstream it is read, or neither.
        let named = format!("Connection: Authorization\r\nAuthorization: Bearer {good}\r\n");
        let answer = ask(route, &named);
        assert_known(&answer, "token", "oidc:idp/pc-1");
        assert_eq!(told(&answer, "Authorization"), [format!("Bearer {good}")]);
        // A token in the query is not looked at (RFC 6750 §2.3 advises against it).
        let path = format!("{route}head?access_token={good}&x=");
        Tls::connect(&lab)
            .get(&path)
            .assert_problem(401, "unauthenticated");
    }
    assert_eq!(lab.upstream.count("/head"), 8);
    // Where nobody is asked, the field is the upstream's.
    let basic = ask("/t/", "Authorization: Basic dTpw\r\n");
    assert_eq!(told(&basic, "Authorization"), ["Basic dTpw"]);
}
