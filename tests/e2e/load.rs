//! `tidegate load` against a gateway, a connector and an upstream: what its results say, and that it is so.

use crate::harness::lab::tidegate;
use crate::harness::upstream::{Seen, What};
use crate::harness::{Lab, ports, until};
use serde_json::Value;
use std::process::Output;
use std::time::{Duration, Instant};

/// What `tidegate load …` did.
struct Ran {
    good: bool,
    said: String,
    result: Value,
}

impl Ran {
    fn number(&self, key: &str) -> u64 {
        self.result[key]
            .as_u64()
            .unwrap_or_else(|| panic!("no {key} in {}", self.result))
    }

    fn us(&self, of: &str, quantile: &str) -> u64 {
        self.result[of][quantile]
            .as_u64()
            .unwrap_or_else(|| panic!("no {of}"))
    }
}

/// Runs `tidegate load KIND …` to its end. `name` is the result's file.
fn load(lab: &Lab, name: &str, arguments: &[&str]) -> Ran {
    let file = lab.file(name);
    let Output {
        status,
        stdout,
        stderr,
    } = tidegate()
        .arg("load")
        .args(arguments)
        .arg("--json")
        .arg(&file)
        .output()
        .expect("tidegate load");
    let said = String::from_utf8_lossy(&[stdout, stderr].concat()).into_owned();
    let text = std::fs::read_to_string(&file).unwrap_or_default();
    Ran {
        good: status.success(),
        result: serde_json::from_str(&text).unwrap_or(Value::Null),
        said,
    }
}

fn text(lab: &Lab, file: &str) -> String {
    lab.file(file).display().to_string()
}

/// What the upstream saw, in its order.
fn targets(lab: &Lab, part: &str) -> Vec<String> {
    let seen = lab.upstream.seen().into_iter();
    let began = seen.filter(|seen| seen.what == What::Began && seen.target.contains(part));
    began.map(|seen| seen.target).collect()
}

#[test]
fn an_open_loop_sees_the_stall_that_service_time_hides() {
    let lab = Lab::start();
    let (url, ca) = (lab.url("/t/gated?gate=stall"), text(&lab, "ca.pem"));
    let file = lab.file("stall.json");
    // One connection at 100/s: while its answer is held for a second, a hundred others become due.
    let mut child = tidegate()
        .args([
            "load", "requests", "--url", &url, "--ca", &ca, "-c", "1", "--rate", "100",
        ])
        .args(["--warm-up", "0s", "-n", "150", "--json"])
        .arg(&file)
        .spawn()
        .expect("tidegate load");
    lab.upstream
        .wait_for(What::Began, "gate=stall", Duration::from_secs(10));
    // The stall itself.
    std::thread::sleep(Duration::from_secs(1));
    lab.upstream.open_gate("stall");
    assert!(child.wait().expect("it ends").success());
    let result: Value = serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
    assert_eq!(result["requests"], 150);
    let us = |of: &str, quantile: &str| result[of][quantile].as_u64().expect("a quantile");
    // Half of them were due in the stall, and waited for half a second on average; once sent they were quick.
    assert!(us("latency_us", "p50") > 100_000, "{result}");
    assert!(us("service_us", "p50") < 50_000, "{result}");
    assert!(us("service_us", "max") > 500_000, "{result}");
    let timeline = result["timeline"].as_array().expect("a timeline");
    let backlog = timeline
        .iter()
        .filter_map(|moment| moment["backlog"].as_u64())
        .max();
    assert!(backlog > Some(20), "{timeline:?}");
}

#[test]
fn what_was_never_sent_is_told() {
    let lab = Lab::start();
    let (url, ca) = (lab.url("/t/hang"), text(&lab, "ca.pem"));
    let ran = load(
        &lab,
        "hang.json",
        &[
            "requests",
            "--url",
            &url,
            "--ca",
            &ca,
            "-c",
            "2",
            "--rate",
            "200",
            "--warm-up",
            "0s",
            "-d",
            "1s",
            "--timeout",
            "1500ms",
        ],
    );
    assert!(!ran.good);
    let errors = &ran.result["errors"];
    assert_eq!(errors["timeout"], 2, "{errors}");
    assert_eq!(errors["not sent"], 198, "{errors}");
    assert_eq!(ran.number("requests"), 0);
    assert!(ran.said.contains("not sent"), "{}", ran.said);
}

#[test]
fn a_count_is_exact_on_several_shards() {
    let lab = Lab::start();
    let (url, ca) = (lab.url("/t/counted"), text(&lab, "ca.pem"));
    let ran = load(
        &lab,
        "count.json",
        &[
            "requests", "--url", &url, "--ca", &ca, "-c", "7", "-n", "1001", "--shards", "3",
        ],
    );
    assert!(ran.good, "{}", ran.said);
    assert_eq!((ran.number("requests"), ran.number("connects")), (1001, 7));
    assert_eq!(ran.result["statuses"]["200"], 1001);
    assert_eq!(lab.upstream.count("/t/counted"), 1001);
    let timeline = ran.result["timeline"].as_array().expect("a timeline");
    let sum: u64 = timeline
        .iter()
        .filter_map(|moment| moment["requests"].as_u64())
        .sum();
    assert_eq!(sum, 1001);
    let histogram = ran.result["histogram_us"].as_array().expect("a histogram");
    assert_eq!(
        histogram
            .iter()
            .filter_map(|step| step[1].as_u64())
            .sum::<u64>(),
        1001
    );
}

#[test]
fn a_rate_is_kept_and_its_count_too() {
    let lab = Lab::start();
    let (url, ca) = (lab.url("/t/paced"), text(&lab, "ca.pem"));
    for arrivals in ["constant", "poisson"] {
        let began = Instant::now();
        let ran = load(
            &lab,
            "rate.json",
            &[
                "requests",
                "--url",
                &url,
                "--ca",
                &ca,
                "-c",
                "8",
                "--rate",
                "400",
                "--arrivals",
                arrivals,
                "--warm-up",
                "200ms",
                "-n",
                "400",
                "--shards",
                "2",
                "--seed",
                "11",
            ],
        );
        assert!(ran.good, "{}", ran.said);
        assert_eq!(ran.number("requests"), 400);
        let took = began.elapsed();
        assert!(
            took > Duration::from_millis(900) && took < Duration::from_secs(4),
            "{took:?}"
        );
        assert_eq!(ran.result["seed"], 11);
    }
}

#[test]
fn handshakes_are_full_or_resumed() {
    let lab = Lab::start();
    let (url, ca) = (lab.url("/t/asked"), text(&lab, "ca.pem"));
    let common = [
        "handshakes",
        "--url",
        &url,
        "--ca",
        &ca,
        "-c",
        "4",
        "-n",
        "60",
    ];
    for version in [&[][..], &["--tls12"]] {
        let full = load(&lab, "full.json", &[&common, version].concat());
        assert!(full.good, "{}", full.said);
        assert_eq!(full.number("requests"), 60);
        assert_eq!(
            (
                full.number("handshakes_full"),
                full.number("handshakes_resumed")
            ),
            (60, 0)
        );
        let resumed = load(
            &lab,
            "resumed.json",
            &[&common[..], version, &["--resumed"]].concat(),
        );
        assert!(resumed.good, "{}", resumed.said);
        // The first on each connection has nothing to resume.
        let (full, resumed) = (
            resumed.number("handshakes_full"),
            resumed.number("handshakes_resumed"),
        );
        assert_eq!(full + resumed, 60);
        assert!((1..=8).contains(&full), "{full} full");
    }
    assert_eq!(lab.upstream.count("/t/asked"), 0);
    let asked = load(&lab, "asked.json", &[&common[..], &["--request"]].concat());
    assert!(asked.good, "{}", asked.said);
    assert_eq!(asked.result["statuses"]["200"], 60);
    assert_eq!(lab.upstream.count("/t/asked"), 60);
}

#[test]
fn handshakes_keep_a_rate_from_several_addresses() {
    let lab = Lab::start();
    let (url, ca) = (lab.url("/t/x"), text(&lab, "ca.pem"));
    let ran = load(
        &lab,
        "rate.json",
        &[
            "handshakes",
            "--url",
            &url,
            "--ca",
            &ca,
            "-c",
            "8",
            "--rate",
            "100",
            "-n",
            "50",
            "--warm-up",
            "0s",
            "--source",
            "127.0.0.2-127.0.0.4",
            "--request",
        ],
    );
    assert!(ran.good, "{}", ran.said);
    assert_eq!(ran.number("requests"), 50);
    assert!(ran.us("latency_us", "p50") >= ran.us("service_us", "p50"));
    let heads = lab
        .upstream
        .seen()
        .into_iter()
        .filter(|seen| seen.what == What::Began);
    let from = |address: &str| {
        heads
            .clone()
            .filter(|seen| seen.head.contains(address))
            .count()
    };
    let counts = ["127.0.0.2", "127.0.0.3", "127.0.0.4"].map(from);
    assert_eq!(counts.iter().sum::<usize>(), 50, "{counts:?}");
    assert!(counts.iter().all(|count| *count >= 16), "{counts:?}");
}

#[test]
fn transfers_carry_the_right_bytes_both_ways() {
    const SIZE: u64 = 3_000_000;
    let lab = Lab::start();
    let ca = text(&lab, "ca.pem");
    let url = lab.url(&format!("/t/pattern?seed=1&size={SIZE}"));
    let pid = format!("gateway={}", lab.gateway.pid());
    let common = ["transfer", "--ca", &ca, "-c", "2", "-n", "6", "--pid", &pid];
    let down = load(
        &lab,
        "down.json",
        &[&common[..], &["--download", "--url", &url]].concat(),
    );
    assert!(down.good, "{}", down.said);
    assert_eq!(
        (down.number("requests"), down.number("body_bytes_received")),
        (6, 6 * SIZE)
    );
    assert_eq!(down.number("body_bytes_sent"), 0);
    let cost = &down.result["processes"][0]["cpu_seconds_per_gb"];
    assert!(cost.as_f64() > Some(0.0), "{cost}");
    // The upstream sends back as much as it got.
    let url = lab.url("/t/echo");
    let size = SIZE.to_string();
    let up = load(
        &lab,
        "up.json",
        &[&common[..], &["--upload", &size, "--url", &url]].concat(),
    );
    assert!(up.good, "{}", up.said);
    assert_eq!(
        (
            up.number("body_bytes_sent"),
            up.number("body_bytes_received")
        ),
        (6 * SIZE, 6 * SIZE)
    );
    // It notes what it received once it has answered.
    let received = |seen: &Seen| seen.what == What::Received && seen.head.starts_with("PUT ");
    let count = || lab.upstream.seen().iter().filter(|s| received(s)).count();
    until("the upstream notes six", Duration::from_secs(10), || {
        (count() == 6).then_some(())
    });
}

const MIX: &str = r#"
url = "URL"
connections = 1
duration = "30s"
tls = { ca = "ca.pem" }
[[request]]
name = "often"
weight = 8
path = ["/t/often/{1..50}", "/t/often/plain"]
headers = { X-Mark = "here" }
think = "0ms..2ms"
[[request]]
name = "seldom"
weight = 2
method = "POST"
path = "/t/seldom"
body = "3000"
[[request]]
name = "who"
weight = 2
path = "/cert/who"
auth = { certificate = "device-1.pem", key = "device-1.key" }
"#;

#[test]
fn a_mix_has_the_shares_of_its_weights_and_a_seed_its_sequence() {
    let lab = Lab::start();
    let file = lab.file("mix.toml");
    let origin = lab.url("");
    std::fs::write(&file, MIX.replace("URL", &origin)).expect("a scenario");
    let scenario = text(&lab, "mix.toml");
    let run = |name: &str, scenario: &str, more: &[&str]| {
        let before = targets(&lab, "/").len();
        let ran = load(
            &lab,
            name,
            &[&["requests", "--scenario", scenario][..], more].concat(),
        );
        assert!(ran.good, "{}", ran.said);
        (targets(&lab, "/").split_off(before), ran)
    };
    let (first, ran) = run("first.json", &scenario, &["-n", "600", "--seed", "5"]);
    assert_eq!(first.len(), 600);
    let shares: Vec<_> = ran.result["members"]
        .as_array()
        .expect("members")
        .iter()
        .map(|member| {
            (
                member["name"].as_str().unwrap(),
                member["requests"].as_u64().unwrap(),
            )
        })
        .collect();
    // 400, 100 and 100 are meant; five deviations are 58 and 46.
    let [("often", often), ("seldom", seldom), ("who", who)] = shares[..] else {
        panic!("{shares:?}");
    };
    assert_eq!(often + seldom + who, 600);
    assert!((342..=458).contains(&often), "{shares:?}");
    assert!(
        (54..=146).contains(&seldom) && (54..=146).contains(&who),
        "{shares:?}"
    );
    assert_eq!(ran.result["statuses"]["200"], 600);
    assert_eq!(ran.number("body_bytes_sent"), 3000 * seldom);
    let marked = lab.upstream.seen().into_iter().filter(|seen| {
        seen.what == What::Began
            && seen.target.contains("often")
            && seen.head.contains("X-Mark: here")
    });
    assert_eq!(marked.count() as u64, often);
    // From the result: the same seed, and so the same requests in the same order.
    let (again, _) = run("again.json", &text(&lab, "first.json"), &[]);
    assert_eq!(first, again);
    let (other, _) = run("other.json", &text(&lab, "first.json"), &["--seed", "6"]);
    assert_ne!(first, other);
}

#[test]
fn users_have_tokens_of_their_own() {
    // To the upstream itself, which shows what came: a gateway keeps tokens to itself.
    let lab = Lab::start();
    std::fs::write(lab.file("tokens.txt"), "one\n\ntwo\nthree\n").expect("tokens");
    let scenario = format!(
        "url = \"http://127.0.0.1:{}\"\nconnections = 6\nrequests = 60\n[[request]]\npath = \"/open/x\"\n\
         auth = {{ token_file = \"tokens.txt\" }}\n",
        lab.upstream.port
    );
    std::fs::write(lab.file("tokens.toml"), scenario).expect("a scenario");
    let ran = load(
        &lab,
        "tokens.json",
        &["requests", "--scenario", &text(&lab, "tokens.toml")],
    );
    assert!(ran.good, "{}", ran.said);
    let kept = ran.result["scenario"].to_string();
    assert!(
        kept.contains("tokens.txt") && !kept.contains("three"),
        "{kept}"
    );
    let heads = lab
        .upstream
        .seen()
        .into_iter()
        .filter(|seen| seen.what == What::Began);
    for token in ["one", "two", "three"] {
        let field = format!("Authorization: Bearer {token}");
        let has_it = |head: &str| head.lines().any(|line| line == field);
        assert!(heads.clone().any(|seen| has_it(&seen.head)), "{token}");
    }
}

#[test]
fn a_refused_connection_is_an_error_of_its_class() {
    let lab = Lab::start();
    let url = format!("http://127.0.0.1:{}/", ports::free());
    let ran = load(
        &lab,
        "refused.json",
        &["requests", "--url", &url, "-c", "4", "-n", "10"],
    );
    assert!(!ran.good);
    assert_eq!(ran.result["errors"]["connect"], 10, "{}", ran.said);
    assert!(ran.said.contains("Connection refused"), "{}", ran.said);
    // What is no TLS, and what is no answer.
    let upstream = format!("https://127.0.0.1:{}/", lab.upstream.port);
    let ran = load(
        &lab,
        "tls.json",
        &[
            "requests",
            "--url",
            &upstream,
            "-c",
            "1",
            "-n",
            "2",
            "--insecure",
        ],
    );
    assert_eq!(ran.result["errors"]["handshake"], 2, "{}", ran.said);
    let garbage = format!("http://127.0.0.1:{}/garbage", lab.upstream.port);
    let ran = load(
        &lab,
        "garbage.json",
        &["requests", "--url", &garbage, "-c", "1", "-n", "2"],
    );
    assert_eq!(ran.result["errors"]["unreadable answer"], 2, "{}", ran.said);
    lab.upstream.open_gate("cut");
    let cut = format!(
        "http://127.0.0.1:{}/cut?size=100000&after=10",
        lab.upstream.port
    );
    let ran = load(
        &lab,
        "cut.json",
        &["requests", "--url", &cut, "-c", "1", "-n", "2"],
    );
    assert_eq!(ran.result["errors"]["broken off"], 2, "{}", ran.said);
}

#[test]
fn wrong_scenarios_are_refused_with_their_line() {
    let lab = Lab::start();
    for (content, expected) in [
        (
            "url = \"https://localhost\"\nrat = 5\n",
            "wrong.toml:2: unknown key `rat` (hint: did you mean `rate`?)",
        ),
        (
            "url = \"https://localhost\"\n[[request]]\npath = \"x\"\n",
            "wrong.toml:3: `path`",
        ),
        ("{\"kind\": \"channels\"}", "holds no scenario"),
        (
            "kind = \"transfer\"\nurl = \"https://localhost\"\n",
            "load transfer",
        ),
    ] {
        std::fs::write(lab.file("wrong.toml"), content).expect("a scenario");
        let ran = load(
            &lab,
            "none.json",
            &["requests", "--scenario", &text(&lab, "wrong.toml")],
        );
        assert!(
            !ran.good && ran.said.contains(expected),
            "{content}: {}",
            ran.said
        );
        assert_eq!(ran.result, Value::Null);
    }
}
