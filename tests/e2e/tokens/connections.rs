//! One connection, many tokens: each request is judged by its own, and none is good for longer than it says.

use super::{Issuers, assert_known, now, plan, told};
use crate::harness::{Answer, Lab, Tls, until};
use serde_json::Value;
use std::time::Duration;

/// Requests sent in one piece.
const BATCH: usize = 25;
const BATCHES: usize = 12;
/// Refused tokens that one connection may send before its last.
const BAD_TOKENS: usize = 16;

/// `idp`'s claims for another client.
fn claims(issuers: &Issuers, sub: &str) -> Value {
    let mut claims = issuers.idp_claims(now());
    (claims["sub"], claims["jti"]) = (sub.into(), format!("j-{sub}").into());
    claims["email"] = format!("{sub}@corp.example").into();
    claims
}

/// What a request shows, and who it must be taken for.
struct Turn {
    path: &'static str,
    token: Option<String>,
    expected: Expected,
}

#[derive(Debug, Clone)]
enum Expected {
    Client(String),
    Nobody,
    NoToken,
    InvalidToken,
}

fn turns(issuers: &Issuers) -> Vec<Turn> {
    let turn = |path, token, expected| Turn {
        path,
        token,
        expected,
    };
    let mut turns = Vec::new();
    for (sub, path) in [("pc-1", "/tok/"), ("pc-2", "/any/"), ("pc-3", "/tok/")] {
        let token = issuers.ec.token(&claims(issuers, sub));
        let client = Expected::Client(sub.into());
        turns.push(turn(path, Some(token.clone()), client));
        turns.push(turn("/t/", Some(token), Expected::Nobody));
    }
    turns.push(turn("/tok/", None, Expected::NoToken));
    turns.push(turn("/any/", None, Expected::NoToken));
    turns.push(turn("/t/", None, Expected::Nobody));
    let forged = issuers.strange_ec.token(&claims(issuers, "pc-1"));
    turns.push(turn("/tok/", Some(forged), Expected::InvalidToken));
    turns
}

fn assert_turn(expected: &Expected, answer: &Answer) {
    match expected {
        Expected::Client(sub) => {
            assert_known(answer, "token", &format!("oidc:idp/{sub}"));
            assert_eq!(
                told(answer, "Tidegate-User"),
                [format!("{sub}@corp.example")]
            );
        }
        Expected::Nobody => {
            assert_eq!(answer.status, 200, "{}", answer.head);
            assert_eq!(told(answer, "Tidegate-Auth"), ["none"]);
            assert!(told(answer, "Tidegate-Client-Id").is_empty());
            assert!(told(answer, "Tidegate-User").is_empty());
        }
        Expected::NoToken => {
            answer.assert_problem(401, "unauthenticated");
            assert_eq!(answer.header("WWW-Authenticate"), Some("Bearer"));
        }
        Expected::InvalidToken => answer.assert_invalid_token(),
    }
}

#[test]
fn tokens_of_one_connection_do_not_mix() {
    let issuers = Issuers::new();
    let lab = plan(&issuers).start();
    let turns = turns(&issuers);
    std::thread::scope(|scope| {
        for seed in 0..3 {
            let (lab, turns) = (&lab, &turns);
            scope.spawn(move || {
                let mut random = fastrand::Rng::with_seed(seed);
                let (mut client, mut bad) = (Tls::connect(lab), 0);
                for _ in 0..BATCHES {
                    // A refused token now and then, always with others right before and behind it.
                    let batch: Vec<&Turn> = std::iter::repeat_with(|| random.choice(turns))
                        .flatten()
                        .filter(|turn| match turn.expected {
                            Expected::InvalidToken => {
                                bad += 1;
                                bad < BAD_TOKENS
                            }
                            _ => true,
                        })
                        .take(BATCH)
                        .collect();
                    client.send(requests(&batch));
                    for turn in batch {
                        assert_turn(&turn.expected, &client.answer());
                    }
                    assert!(client.is_drained());
                }
            });
        }
    });
}

fn requests(batch: &[&Turn]) -> String {
    let mut text = String::new();
    for turn in batch {
        text.push_str(&format!(
            "GET {}head HTTP/1.1\r\nHost: localhost\r\n",
            turn.path
        ));
        if let Some(token) = &turn.token {
            text.push_str(&format!("Authorization: Bearer {token}\r\n"));
        }
        text.push_str("\r\n");
    }
    text
}

#[test]
fn a_token_that_expires_is_refused_on_the_connection_that_used_it() {
    let issuers = Issuers::new();
    let lab = plan(&issuers).start();
    let mut client = Tls::connect(&lab);
    let mut claims = issuers.idp_claims(now());
    let end = now() + 3;
    claims["exp"] = end.into();
    let token = issuers.ec.token(&claims);
    let mut accepted = 0;
    let refused = until("the token has expired", Duration::from_secs(6), || {
        let sent = now();
        let answer = client.get_with("/tok/head", &token);
        if answer.status == 200 {
            accepted += 1;
            assert!(sent < end, "accepted after its end");
            return None;
        }
        Some(answer)
    });
    assert!(accepted > 10, "{accepted} accepted");
    assert!((end..=end + 1).contains(&now()), "at its end, not before");
    refused.assert_invalid_token();
    assert!(refused.text().contains("expired"), "{}", refused.text());
    // On another connection, and on the same one with a fresh token.
    Tls::connect(&lab)
        .get_with("/any/head", &token)
        .assert_invalid_token();
    let fresh = issuers.ec.token(&issuers.idp_claims(now()));
    let answer = client.get_with("/tok/head", fresh);
    assert_known(&answer, "token", "oidc:idp/pc-1");
}

#[test]
fn bad_tokens_end_a_connection() {
    let issuers = Issuers::new();
    let lab = plan(&issuers).start();
    let good = issuers.ec.token(&issuers.idp_claims(now()));
    let mut client = Tls::connect(&lab);
    for number in 1..=BAD_TOKENS {
        let answer = client.get_with("/tok/head", forgery(&issuers, number));
        answer.assert_invalid_token();
        let closes = answer.header("Connection") == Some("close");
        assert_eq!(closes, number == BAD_TOKENS, "{number}: {}", answer.head);
        if !closes && number % 5 == 0 {
            // A good one between does not make the bad ones forgotten.
            assert_known(
                &client.get_with("/any/head", &good),
                "token",
                "oidc:idp/pc-1",
            );
        }
    }
    let rest = client.rest().expect("an orderly end");
    assert!(rest.is_empty());
    assert!(client.try_get_with("/tok/head", &good).is_err());
    assert_known(
        &Tls::connect(&lab).get_with("/tok/head", &good),
        "token",
        "oidc:idp/pc-1",
    );
    only_tokens_count(&lab);
}

/// Requests without any token, or to nowhere, end no connection.
fn only_tokens_count(lab: &Lab) {
    let mut client = Tls::connect(lab);
    for _ in 0..3 * BAD_TOKENS {
        client
            .get("/tok/head")
            .assert_problem(401, "unauthenticated");
        client.get("/nowhere").assert_problem(404, "not_published");
    }
    assert_eq!(client.get("/t/x").status, 200);
}

/// Of the kinds that cost most and least to refuse.
fn forgery(issuers: &Issuers, number: usize) -> String {
    let claims = issuers.idp_claims(now());
    match number % 3 {
        0 => issuers.strange_ec.token(&claims),
        1 => issuers.rsa.token(&claims),
        _ => "no.token.at-all".into(),
    }
}
