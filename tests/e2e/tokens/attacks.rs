//! The whole table of forgeries, over HTTPS, on each kind of route that takes tokens.

use super::issuers::attacks::{self, Case, Verdict};
use super::{Issuers, now, plan, told};
use crate::harness::upstream::What;
use crate::harness::{Answer, Lab, Tls, until};
use std::collections::BTreeSet;
use std::time::Duration;

const ROUTES: [&str; 2] = ["/tok/", "/any/"];
/// Requests on one connection: fewer than the bad tokens that end it.
const PER_CONNECTION: usize = 12;
/// Of larger ones the head's own limit takes care.
const MAX_SENT: usize = 60 << 10;

/// Sends cases, each under a path of its own.
struct Player<'a> {
    lab: &'a Lab,
    client: Tls,
    sent: usize,
}

impl Player<'_> {
    fn new(lab: &Lab) -> Player<'_> {
        let client = Tls::connect(lab);
        Player {
            lab,
            client,
            sent: 0,
        }
    }

    fn play(&mut self, path: &str, token: &[u8]) -> Answer {
        if self.sent >= PER_CONNECTION {
            *self = Player::new(self.lab);
        }
        self.sent += 1;
        let answer = self.client.get_with(path, token);
        if answer.header("Connection") == Some("close") || !is_field_value(token) {
            self.sent = PER_CONNECTION;
        }
        answer
    }
}

/// Whether a token can stand in a header field as it is (RFC 9110 §5.5).
fn is_field_value(token: &[u8]) -> bool {
    let plain = |byte: &u8| matches!(byte, b' '..=b'~' | 0x80..);
    token.len() <= MAX_SENT && token.iter().all(plain)
}

fn has_blanks_around(token: &[u8]) -> bool {
    let trimmed = token.trim_ascii();
    !trimmed.is_empty() && trimmed.len() < token.len()
}

/// Whether the case holds in the second it was made for only.
fn is_momentary(case: &Case) -> bool {
    ["exp in ", "nbf in ", "iat in "]
        .iter()
        .any(|begin| case.name.starts_with(begin))
}

fn check(path: &str, case: &Case, answer: &Answer) {
    let shown = || format!("{path} {}: {}\n{}", case.name, answer.head, answer.text());
    match case.verdict {
        Verdict::Valid(id) => {
            assert_eq!(answer.status, 200, "{}", shown());
            assert_eq!(told(answer, "Tidegate-Client-Id"), [id], "{}", shown());
            assert_eq!(told(answer, "Tidegate-Auth"), ["token"], "{}", shown());
        }
        // Blanks around a field's value are not the token's, nor is an empty line before the next request.
        _ if has_blanks_around(&case.token) => {
            let known = told(answer, "Tidegate-Client-Id") == ["oidc:idp/pc-1"];
            let passes = answer.status == 200 && known;
            assert!(passes || answer.status == 400, "{}", shown());
        }
        _ if !is_field_value(&case.token) => {
            assert!(matches!(answer.status, 400 | 401 | 431), "{}", shown());
        }
        Verdict::Invalid | Verdict::UnknownKey => {
            assert_eq!(answer.status, 401, "{}", shown());
            answer.assert_invalid_token();
        }
        Verdict::NoKeys => {
            answer.assert_problem(503, "trust_unavailable");
            assert!(answer.header("Retry-After").is_some(), "{}", shown());
        }
    }
}

#[derive(Default)]
struct Tally {
    cases: BTreeSet<String>,
    statuses: std::collections::BTreeMap<u16, usize>,
    /// Paths of what was answered with 200.
    passed: BTreeSet<String>,
}

impl Tally {
    fn note(&mut self, path: String, case: &Case, answer: &Answer) {
        check(&path, case, answer);
        self.cases.insert(case.name.clone());
        self.pass(path, answer);
    }

    fn pass(&mut self, path: String, answer: &Answer) {
        *self.statuses.entry(answer.status).or_default() += 1;
        if answer.status == 200 {
            self.passed.insert(path);
        }
    }
}

#[test]
fn forged_tokens_are_refused_and_the_upstream_sees_none() {
    let issuers = Issuers::new();
    let lab = plan(&issuers).start();
    let (momentary, lasting): (Vec<_>, Vec<_>) = attacks::all(&issuers, now())
        .into_iter()
        .partition(is_momentary);
    // These wait in the gateway for keys: beside the others.
    let (slow, quick): (Vec<_>, Vec<_>) = lasting
        .into_iter()
        .partition(|case| case.verdict == Verdict::NoKeys);
    let mut tally = Tally::default();
    std::thread::scope(|scope| {
        let waiting: Vec<_> = (slow.iter().enumerate())
            .flat_map(|at| ROUTES.map(|route| (route, at)))
            .map(|(route, (number, case))| {
                let path = format!("{route}late{number}/head");
                let lab = &lab;
                scope.spawn(move || {
                    let answer = Tls::connect(lab).get_with(&path, &case.token);
                    (path, case, answer)
                })
            })
            .collect();
        let mut player = Player::new(&lab);
        for (number, case) in quick.iter().enumerate() {
            for route in ROUTES {
                let path = format!("{route}case{number}/head");
                let answer = player.play(&path, &case.token);
                tally.note(path, case, &answer);
            }
        }
        for thread in waiting {
            let (path, case, answer) = thread.join().expect("an answer");
            tally.note(path, case, &answer);
        }
    });
    assert!(!slow.is_empty() && momentary.len() > 5);
    play_momentary(&lab, &issuers, &mut tally);
    assert!(tally.cases.len() >= 60, "{} cases", tally.cases.len());
    let seen: BTreeSet<String> = lab
        .upstream
        .seen()
        .into_iter()
        .filter(|seen| seen.what == What::Began)
        .map(|seen| seen.target)
        .collect();
    assert_eq!(seen, tally.passed, "what reached the upstream");
    println!(
        "{} cases on {} kinds of route, by status: {:?}; {} reached the upstream, all of them valid",
        tally.cases.len(),
        ROUTES.len(),
        tally.statuses,
        seen.len()
    );
}

/// Makes and plays them within one second of the clock.
fn play_momentary(lab: &Lab, issuers: &Issuers, tally: &mut Tally) {
    let mut turn = 0;
    let played = until("one second is enough", Duration::from_secs(20), || {
        let (began, mut player) = (now(), Player::new(lab));
        let cases = attacks::all(issuers, began);
        turn += 1;
        let mut played = Vec::new();
        for (number, case) in cases.into_iter().filter(is_momentary).enumerate() {
            for route in ROUTES {
                let path = format!("{route}moment{turn}-{number}/head");
                let answer = player.play(&path, &case.token);
                tally.pass(path.clone(), &answer);
                played.push((path, case.name.clone(), case.verdict.clone(), answer));
            }
        }
        (now() == began).then_some(played)
    });
    for (path, name, verdict, answer) in played {
        let case = Case {
            name,
            token: Vec::new(),
            verdict,
            user: None,
        };
        check(&path, &case, &answer);
        tally.cases.insert(case.name);
    }
}
