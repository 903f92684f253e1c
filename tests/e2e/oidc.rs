//! Tokens of a real OpenID provider: found by discovery, through changes of its keys, its absences, and floods of tokens
//! that name keys it never had.

use crate::harness::lab::Plan;
use crate::harness::provider::{ASK_INTERVAL, Provider};
use crate::harness::wait::observe_for;
use crate::harness::{Answer, Lab, Tls, until};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

const ALGORITHMS: [&str; 3] = ["RS256", "ES256", "EdDSA"];
const THREADS: usize = 3;
const PATIENCE: Duration = Duration::from_secs(20);

/// The provider's tokens for `gate` are taken on `/tok/`. No word of its keys: the gateway must discover them.
fn plan(provider: &Provider, fetch: &str) -> Plan {
    let ca = provider.ca();
    Lab::plan()
        .route("/tok/", "auth = \"token\"")
        .gateway(&format!("[fetch]\nca = \"issuer-ca.pem\"\n{fetch}"))
        .oidc(&format!(
            "name = \"idp\"\nissuer = {:?}\naudience = [\"gate\"]",
            provider.issuer()
        ))
        .prepare(move |dir| {
            std::fs::copy(ca, dir.join("issuer-ca.pem")).expect("a copy");
        })
}

/// What a token's header says of its key.
fn kid(token: &str) -> String {
    use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine};
    let header = token.split('.').next().unwrap_or_default();
    let header = BASE64_URL_SAFE_NO_PAD.decode(header).expect("base64url");
    let header: serde_json::Value = serde_json::from_slice(&header).expect("JSON");
    header["kid"].as_str().expect("a key id").to_owned()
}

#[track_caller]
fn assert_client(answer: &Answer, id: &str) {
    assert_eq!(answer.status, 200, "{}\n{}", answer.head, answer.text());
    let line = format!("Tidegate-Client-Id: {id}\n");
    assert!(answer.text().contains(&line), "{}", answer.text());
}

/// The first keys have come: requests before that wait for them, and a token that is good passes.
#[track_caller]
fn wait_for_keys(lab: &Lab, provider: &Provider) {
    let token = provider.token("app-1", "ES256");
    let mut client = Tls::connect(lab);
    until("the keys are there", PATIENCE, || {
        (client.get_with("/tok/x", &token).status == 200).then_some(())
    });
}

#[test]
fn tokens_of_a_real_provider_pass() {
    let provider = Provider::started();
    let lab = plan(&provider, "").start();
    let mut client = Tls::connect(&lab);
    for algorithm in ALGORITHMS {
        for name in ["app-1", "app-2"] {
            let token = provider.token(name, algorithm);
            assert!(kid(&token).starts_with(algorithm), "{}", kid(&token));
            let answer = client.get_with("/tok/head", &token);
            assert_client(&answer, &format!("oidc:idp/{name}"));
        }
        let elsewhere = provider.token_for("else", "app-1", algorithm);
        client
            .get_with("/tok/head", elsewhere)
            .assert_invalid_token();
        let mut changed = provider.token("app-1", algorithm).into_bytes();
        let middle = changed.len() / 2;
        changed[middle] = if changed[middle] == b'A' { b'B' } else { b'A' };
        client.get_with("/tok/head", changed).assert_invalid_token();
    }
    let counts = provider.counts();
    assert_eq!((counts.discovery, counts.jwks), (1, 1), "found once");
    let connector = std::fs::read_to_string(lab.file("connector.toml")).expect("connector.toml");
    assert!(!connector.contains("jwks"));
    assert_eq!(lab.upstream.count("/head"), 6);
}

/// Ends the threads that look at it, also when the test fails.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// One request with a fresh token.
struct Request {
    kid: String,
    status: u16,
    took: Duration,
    text: String,
}

/// Runs `during` while threads fetch tokens and use each at once.
fn under_load(provider: &Provider, lab: &Lab, during: impl FnOnce(&AtomicUsize)) -> Vec<Request> {
    let (stop, count) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        let stopping = Stop(&stop);
        let workers: Vec<_> = (0..THREADS)
            .map(|worker| {
                let (stop, count) = (&stop, &count);
                scope.spawn(move || {
                    let mut requests = Vec::new();
                    let mut client = Tls::connect(lab);
                    while !stop.load(Ordering::Relaxed) {
                        let algorithm = ALGORITHMS[(worker + requests.len()) % ALGORITHMS.len()];
                        let token = provider.token("app-1", algorithm);
                        let began = Instant::now();
                        let answer = client.get_with("/tok/x", &token);
                        if answer.header("Connection") == Some("close") {
                            client = Tls::connect(lab);
                        }
                        requests.push(Request {
                            kid: kid(&token),
                            status: answer.status,
                            took: began.elapsed(),
                            text: answer.text(),
                        });
                        count.fetch_add(1, Ordering::Relaxed);
                    }
                    requests
                })
            })
            .collect();
        during(&count);
        drop(stopping);
        workers
            .into_iter()
            .flat_map(|worker| worker.join().expect("a thread of the load"))
            .collect()
    })
}

/// Waits for so many more requests.
#[track_caller]
fn pass(count: &AtomicUsize, more: usize) {
    let wanted = count.load(Ordering::Relaxed) + more;
    until("the load goes on", PATIENCE, || {
        (count.load(Ordering::Relaxed) >= wanted).then_some(())
    });
}

/// Prints what the load met, and asserts that requests failed only where `may_fail` says so of their key.
fn assert_load(requests: &[Request], may_fail: impl Fn(&str) -> bool) {
    let mut tally: BTreeMap<(String, u16), usize> = BTreeMap::new();
    for request in requests {
        let generation = request.kid.split_once('-').map_or("", |(_, rest)| rest);
        *tally
            .entry((generation.into(), request.status))
            .or_default() += 1;
        assert!(
            request.status == 200 || (request.status == 401 && may_fail(&request.kid)),
            "{}: {}\n{}",
            request.kid,
            request.status,
            request.text
        );
    }
    let longest = requests.iter().map(|request| request.took).max();
    println!("by key generation and status: {tally:?}; the longest took {longest:?}");
}

#[test]
fn a_new_key_beside_the_old_one_costs_no_request() {
    let provider = Provider::started();
    let lab = plan(&provider, "").shards(2, 1).start();
    wait_for_keys(&lab, &provider);
    let old = provider.token("app-1", "RS256");
    let before = provider.counts();
    let requests = under_load(&provider, &lab, |count| {
        pass(count, 20);
        provider.rotate(true);
        pass(count, 60);
    });
    assert_load(&requests, |_| false);
    assert!(requests.iter().any(|request| request.kid.contains("-2-")));
    assert_client(
        &Tls::connect(&lab).get_with("/tok/head", &old),
        "oidc:idp/app-1",
    );
    let asked = provider.counts().jwks - before.jwks;
    assert_eq!(
        asked, 1,
        "fetched out of turn once, for all requests and keys"
    );
}

#[test]
fn a_key_in_place_of_the_old_one_costs_no_request_with_the_new_one() {
    let provider = Provider::started();
    let lab = plan(&provider, "").shards(2, 1).start();
    wait_for_keys(&lab, &provider);
    let old = provider.token("app-1", "EdDSA");
    let mut kept = Tls::connect(&lab);
    assert_client(&kept.get_with("/tok/head", &old), "oidc:idp/app-1");
    let requests = under_load(&provider, &lab, |count| {
        pass(count, 20);
        provider.rotate(false);
        pass(count, 60);
    });
    // One of the old key may have been under way when it was withdrawn.
    assert_load(&requests, |kid| kid.contains("-1-"));
    assert!(requests.iter().any(|request| request.kid.contains("-2-")));
    for client in [&mut kept, &mut Tls::connect(&lab)] {
        client.get_with("/tok/head", &old).assert_invalid_token();
    }
}

#[test]
fn a_provider_that_comes_late_is_waited_for() {
    let mut provider = Provider::started();
    let token = provider.token("app-1", "ES256");
    provider.stop();
    let lab = plan(&provider, "").start();
    let mut client = Tls::connect(&lab);
    let answer = client.get_with("/tok/x", &token);
    answer.assert_problem(503, "trust_unavailable");
    assert!(answer.header("Retry-After").is_some(), "{}", answer.head);
    assert_eq!(answer.header("WWW-Authenticate"), None);
    // Others are not hindered.
    assert_eq!(client.get("/t/x").status, 200);
    provider.start();
    let token = provider.token("app-1", "ES256");
    let began = Instant::now();
    until("the keys are there", PATIENCE, || {
        (client.get_with("/tok/x", &token).status == 200).then_some(())
    });
    println!("{:?} after the provider came", began.elapsed());
}

#[test]
fn a_provider_that_goes_is_not_missed() {
    let mut provider = Provider::started();
    let lab = plan(&provider, "keys_seconds = 1").start();
    wait_for_keys(&lab, &provider);
    let token = provider.token("app-1", "RS256");
    let port = lab.ports.gateway_admin;
    let source = format!("source=\"{}\"", provider.issuer());
    let metric = |name: &str| lab.metric(port, name, &[&source]);
    assert_eq!(metric("tidegate_fetch_failures"), 0.0);
    assert!(metric("tidegate_fetch_age_seconds") < 5.0);
    provider.stop();
    let mut client = Tls::connect(&lab);
    for (failures, age) in [(1.0, 1.0), (3.0, 4.0)] {
        until("fetches fail, and the keys grow old", PATIENCE, || {
            assert_client(&client.get_with("/tok/head", &token), "oidc:idp/app-1");
            let (failed, old) = (
                metric("tidegate_fetch_failures"),
                metric("tidegate_fetch_age_seconds"),
            );
            (failed >= failures && old >= age).then_some(())
        });
    }
    // It returns with other keys, and all is well again.
    provider.start();
    let fresh = provider.token("app-1", "RS256");
    until("the new keys are there", PATIENCE, || {
        (client.get_with("/tok/x", &fresh).status == 200).then_some(())
    });
    assert!(metric("tidegate_fetch_age_seconds") < 5.0);
    Tls::connect(&lab)
        .get_with("/tok/x", &token)
        .assert_invalid_token();
}

/// Tokens of the right issuer that name keys it never had, from connections without end.
fn flood(lab: &Lab, provider: &Provider, stop: &AtomicBool) -> usize {
    use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine};
    let good = provider.token("app-1", "ES256");
    let rest = good.split_once('.').map_or("", |(_, rest)| rest);
    let (mut client, mut sent) = (Tls::connect(lab), 0);
    while !stop.load(Ordering::Relaxed) {
        let header = format!("{{\"alg\":\"ES256\",\"kid\":\"unknown-{sent}\"}}");
        let token = format!("{}.{rest}", BASE64_URL_SAFE_NO_PAD.encode(header));
        let answer = client.get_with("/tok/flood", token);
        answer.assert_invalid_token();
        sent += 1;
        if answer.header("Connection") == Some("close") {
            client = Tls::connect(lab);
        }
        // Not as fast as it could: others test on this machine too.
        observe_for(Duration::from_millis(1));
    }
    sent
}

/// Good requests with tokens of keys that were known before, without a break; a little later the provider adds new keys.
/// How many were served, the longest of them, and how long tokens of the new keys were refused.
fn served_meanwhile(
    lab: &Lab,
    provider: &Provider,
    stretch: Duration,
) -> (usize, Duration, Duration) {
    let began = Instant::now();
    let tokens = ALGORITHMS.map(|algorithm| provider.token("app-1", algorithm));
    let (mut client, mut served, mut longest) = (Tls::connect(lab), 0, Duration::ZERO);
    let (mut newcomer, mut rotated, mut noticed) = (Tls::connect(lab), None, None);
    while began.elapsed() < stretch || noticed.is_none() {
        let asked = Instant::now();
        let answer = client.get_with("/tok/head", &tokens[served % tokens.len()]);
        assert_client(&answer, "oidc:idp/app-1");
        longest = longest.max(asked.elapsed());
        served += 1;
        if rotated.is_none() && began.elapsed() > Duration::from_secs(2) {
            provider.rotate(true);
            rotated = Some((Instant::now(), provider.token("app-2", "ES256")));
        }
        if let (Some((at, token)), None) = (&rotated, noticed) {
            let answer = newcomer.get_with("/tok/head", token);
            if answer.status == 200 {
                noticed = Some(at.elapsed());
            } else {
                answer.assert_invalid_token();
            }
            if answer.header("Connection") == Some("close") {
                newcomer = Tls::connect(lab);
            }
        }
        assert!(began.elapsed() < 2 * stretch, "new keys are never noticed");
    }
    (served, longest, noticed.unwrap_or_default())
}

/// The flood has caused its fetch, so that new keys are noticed with the next one only: the price of asking the provider
/// no more than once in ten seconds, whatever clients send.
#[test]
fn a_flood_of_unknown_keys_asks_the_provider_little_and_hinders_nobody() {
    let provider = Provider::started();
    let lab = plan(&provider, "").start();
    wait_for_keys(&lab, &provider);
    let before = provider.counts();
    let stop = AtomicBool::new(false);
    let began = Instant::now();
    let (sent, (served, longest, noticed)) = std::thread::scope(|scope| {
        let stopping = Stop(&stop);
        let flooding: Vec<_> = (0..2)
            .map(|_| scope.spawn(|| flood(&lab, &provider, &stop)))
            .collect();
        // Past the second fetch that the flood may cause.
        let served = served_meanwhile(&lab, &provider, ASK_INTERVAL + Duration::from_secs(1));
        drop(stopping);
        let sent = flooding
            .into_iter()
            .map(|thread| thread.join().expect("the flood"));
        (sent.sum::<usize>(), served)
    });
    let took = began.elapsed();
    let fetches = provider.counts().jwks - before.jwks;
    println!(
        "{sent} tokens with unknown keys in {took:?}: {fetches} fetches; {served} good requests beside them, the longest \
         {longest:?}; new keys were noticed after {noticed:?}"
    );
    let most = took.as_secs() / ASK_INTERVAL.as_secs() + 1;
    assert!((1..=most).contains(&fetches), "{fetches} of {most}");
    assert!(sent > 500 && longest < Duration::from_secs(2));
    assert!(noticed < ASK_INTERVAL + Duration::from_secs(1));
    assert_eq!(lab.upstream.count("/tok/flood"), 0);
}
