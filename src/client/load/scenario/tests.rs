//! Scenarios as files, as flags, and as parts of results.

use super::read::of_toml;
use super::*;
use std::path::Path;

fn read(text: &str) -> Result<Scenario, String> {
    of_toml(Path::new("/lab/s.toml"), text.to_owned()).map_err(|complaints| {
        let lines: Vec<_> = complaints.iter().map(ToString::to_string).collect();
        lines.join("\n")
    })
}

fn plain(flags: Flags) -> Result<Scenario, String> {
    let url = Some("https://localhost:8443/hello".to_owned());
    Scenario::of(Kind::Requests, None, Flags { url, ..flags })
}

const WHOLE: &str = r#"
url = "https://localhost:8443"
connections = 10
rate = 500.5
arrivals = "poisson"
ramp_up = "5s"
duration = "1500ms"
seed = 7
sources = ["127.0.0.2"]
tls = { ca = "ca.pem" }
[[request]]
name = "a"
weight = 3
path = ["/a", "/b/{1..9}"]
headers = { Accept = "x", Authorization = "Basic secret" }
auth = { bearer = "secret" }
[[request]]
url = "http://localhost:9080/other"
method = "POST"
body = "64 KiB"
auth = "none"
"#;

#[test]
fn a_file_is_read_whole() {
    let run = read(WHOLE).unwrap();
    assert_eq!(
        (run.connections, run.shards, run.rate),
        (10, 1, Some(500.5))
    );
    assert_eq!(run.arrivals, Spread::Poisson);
    assert_eq!(run.duration, Duration::from_millis(1500));
    assert_eq!(run.timeout, Duration::from_secs(30));
    assert_eq!(run.tls.ca, Some("/lab/ca.pem".into()));
    let [a, b] = run.members.as_slice() else {
        panic!("two members");
    };
    assert_eq!((a.weight, a.path.len(), a.method.as_str()), (3, 2, "GET"));
    assert_eq!(
        (b.weight, b.body, b.name.as_str()),
        (1, 65_536, "request 2")
    );
    assert_eq!(b.auth, Some(Auth::Word(AuthWord::None)));
}

#[test]
fn a_result_repeats_its_run() {
    let run = read(WHOLE).unwrap();
    let run = Scenario::of(Kind::Requests, Some(run), Flags::default()).unwrap();
    let kept: Scenario = serde_json::from_value(run.to_kept()).unwrap();
    // The secrets are gone, and everything else is there.
    let text = run.to_kept().to_string();
    assert!(!text.contains("secret"), "{text}");
    let mut without = run.clone();
    without.members[0].auth = kept.members[0].auth.clone();
    without.members[0].headers = kept.members[0].headers.clone();
    assert_eq!(kept, without);
    let again = Scenario::of(Kind::Requests, Some(kept.clone()), Flags::default());
    assert!(again.unwrap_err().contains("Authorization"));
    let headers = vec!["authorization: Basic other".to_owned()];
    let mut kept = kept;
    kept.members[0].auth = None;
    let again = Scenario::of(
        Kind::Requests,
        Some(kept),
        Flags {
            headers,
            ..Flags::default()
        },
    );
    assert!(again.is_ok(), "{again:?}");
}

#[test]
fn mistakes_are_told_with_their_line_and_a_hint() {
    for (text, expected) in [
        (
            "url = \"https://a\"\nrat = 5",
            "s.toml:2: unknown key `rat`",
        ),
        ("url = \"https://a\"\nrat = 5", "did you mean `rate`?"),
        ("url = \"ftp://a\"", "s.toml:1: `url` cannot be read"),
        ("url = \"https://a\"\nrate = 0", "s.toml:2: `rate` is 0"),
        (
            "url = \"https://a\"\nrate = \"fast\"",
            "s.toml:2: `rate` is not a number",
        ),
        ("duration = \"5\"", "s.toml:1: `duration` cannot be read"),
        ("arrivals = \"poison\"", "did you mean \"poisson\"?"),
        ("[[request]]\npath = \"a\"", "s.toml:2: `path`"),
        (
            "[[request]]\npath = [\n\"/a\",\n\"/{9..1}\"]",
            "s.toml:4: `path`",
        ),
        ("[[request]]\nwieght = 1", "did you mean `weight`?"),
        ("[[request]]\nweight = 0", "s.toml:2: `weight`"),
        ("[[request]]\nmethod = \"get\"", "s.toml:2: `method`"),
        ("[[request]]\nthink = \"2s..1s\"", "s.toml:2: `think`"),
        (
            "[[request]]\nheaders = [\"no colon\"]",
            "s.toml:2: `headers`",
        ),
        ("[[request]]\nauth = \"nobody\"", "s.toml:2: `auth`"),
        (
            "[[request]]\nauth = { certificate = \"c\" }",
            "s.toml:2: `auth`",
        ),
        (
            "[tls]\ncertificate = \"c\"",
            "s.toml:2: `certificate` and `key`",
        ),
        ("sources = [\"here\"]", "s.toml:1: `sources`"),
        ("url = ", "s.toml:1:"),
    ] {
        let error = read(text).expect_err(text);
        assert!(error.contains(expected), "{text:?}: {error}");
    }
    let both = read("rat = 1\n[[request]]\npath = \"a\"").unwrap_err();
    assert_eq!(both.lines().count(), 2, "all at once: {both}");
}

#[test]
fn flags_lie_over_a_file() {
    let flags = Flags {
        url: Some("https://other:1/x".to_owned()),
        rate: Some(9.0),
        body: Some(1),
        headers: vec!["accept: y".to_owned()],
        insecure: true,
        ..Flags::default()
    };
    let run = Scenario::of(Kind::Requests, Some(read(WHOLE).unwrap()), flags).unwrap();
    assert_eq!(
        (run.url.as_str(), run.rate),
        ("https://other:1/x", Some(9.0))
    );
    assert_eq!((run.tls.ca.as_ref(), run.tls.insecure), (None, true));
    assert!(run.members.iter().all(|member| member.body == 1));
    assert_eq!(
        run.members[0].headers,
        ["Authorization: Basic secret", "accept: y"]
    );
    assert_eq!(run.connections, 10, "what no flag says stays");
}

#[test]
fn what_does_not_fit_together_is_refused() {
    let think = words::Think::new("1s").ok();
    for (flags, expected) in [
        (
            Flags {
                rate: Some(1.0),
                think,
                ..Flags::default()
            },
            "--think",
        ),
        (
            Flags {
                arrivals: Some(Spread::Poisson),
                ..Flags::default()
            },
            "--rate",
        ),
        (
            Flags {
                duration: Some(Duration::ZERO),
                ..Flags::default()
            },
            "duration",
        ),
        (
            Flags {
                headers: vec!["a".to_owned()],
                ..Flags::default()
            },
            "Name: value",
        ),
        (
            Flags {
                sources: vec!["a".to_owned()],
                ..Flags::default()
            },
            "address",
        ),
    ] {
        let error = plain(flags).expect_err(expected);
        assert!(error.contains(expected), "{error}");
    }
    let clear = Some("http://localhost/".to_owned());
    let flags = Flags {
        url: clear,
        ..Flags::default()
    };
    assert!(
        Scenario::of(Kind::Handshakes, None, flags)
            .unwrap_err()
            .contains("https")
    );
    let file = read("kind = \"transfer\"\nurl = \"https://a\"").unwrap();
    let error = Scenario::of(Kind::Requests, Some(file), Flags::default()).unwrap_err();
    assert!(error.contains("load transfer"), "{error}");
    assert!(
        Scenario::of(Kind::Requests, None, Flags::default())
            .unwrap_err()
            .contains("--url")
    );
}

#[test]
fn a_count_needs_no_warm_up_but_a_rate_does() {
    let requests = Some(10);
    let closed = plain(Flags {
        requests,
        ..Flags::default()
    })
    .unwrap();
    assert_eq!(closed.warm_up, Some(Duration::ZERO));
    let rate = Some(5.0);
    let open = plain(Flags {
        requests,
        rate,
        ..Flags::default()
    })
    .unwrap();
    assert_eq!(open.warm_up, Some(Duration::from_secs(1)));
    // A flag that makes a file's run a counted one.
    let flags = Flags {
        requests,
        ..Flags::default()
    };
    let file = read("url = \"https://a\"\n").unwrap();
    let counted = Scenario::of(Kind::Requests, Some(file), flags).unwrap();
    assert_eq!(counted.warm_up, Some(Duration::ZERO));
}

#[test]
fn the_examples_are_right() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tuning/examples/load");
    let mut seen = 0;
    for file in std::fs::read_dir(&folder).unwrap() {
        let file = file.unwrap().path();
        let run = open(&file).unwrap_or_else(|error| panic!("{error}"));
        let kind = run.kind;
        Scenario::of(kind, Some(run), Flags::default())
            .unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        seen += 1;
    }
    assert_eq!(seen, 3);
}

#[test]
fn a_file_that_is_neither_says_so() {
    let file = std::env::temp_dir().join(format!("tidegate-scenario-{}", std::process::id()));
    for (content, expected) in [
        ("{}", "holds no scenario"),
        ("{\"schema\": 99, \"scenario\": {}}", "newer"),
        ("{\"scenario\": {\"rat\": 5}}", "unknown field `rat`"),
        ("{", "no result"),
    ] {
        std::fs::write(&file, content).unwrap();
        let error = open(&file).unwrap_err();
        assert!(error.contains(expected), "{content}: {error}");
    }
    std::fs::remove_file(&file).unwrap();
    assert!(open(&file).unwrap_err().contains("No such file"));
}
