//! A table of addresses, and a server that counts.

use super::*;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;

const PATIENCE: Duration = Duration::from_secs(10);

/// Answers every GET with what `answer` says for its path.
fn server(answer: impl Fn(&str) -> (u16, String) + Send + 'static) -> (u16, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let (mut head, mut byte) = (Vec::new(), [0]);
            while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap_or(0) == 1 {
                head.push(byte[0]);
            }
            let head = String::from_utf8_lossy(&head).into_owned();
            let path = head.split(' ').nth(1).unwrap_or("");
            count.fetch_add(1, Ordering::SeqCst);
            let (status, body) = answer(path);
            let location = if status == 302 {
                "Location: /elsewhere\r\n"
            } else {
                ""
            };
            let _ = write!(
                stream,
                "HTTP/1.1 {status} X\r\nConnection: close\r\n{location}Content-Length: {}\r\n\r\n{body}",
                body.len()
            );
        }
    });
    (port, asked)
}

fn started() -> (Arc<Fetches>, mpsc::Receiver<Fetched>) {
    let (sender, receiver) = mpsc::channel();
    let fetches = Fetches::start(Plan::default(), move |fetched| {
        let _ = sender.send(fetched);
    });
    (fetches.unwrap(), receiver)
}

/// The next one that came, which is in snapshot `number` from then on.
#[track_caller]
fn applied(fetches: &Fetches, fetched: &mpsc::Receiver<Fetched>, number: u64) -> Fetched {
    let fetched = fetched.recv_timeout(PATIENCE).unwrap();
    fetches.applied(&fetched.source, number);
    fetched
}

#[track_caller]
fn bytes(fetched: Fetched) -> String {
    match fetched.outcome {
        Outcome::Bytes(bytes) => String::from_utf8(bytes).unwrap(),
        Outcome::Failed(why) => panic!("failed: {why}"),
        Outcome::TooOld => panic!("too old"),
    }
}

#[track_caller]
fn failure(fetched: Fetched) -> String {
    match fetched.outcome {
        Outcome::Failed(why) => why,
        _ => panic!("did not fail"),
    }
}

#[test]
fn discovery_leads_to_the_keys() {
    let port = Arc::new(Mutex::new(0));
    let own = port.clone();
    let (bound, _) = server(move |path| {
        let base = format!("http://127.0.0.1:{}/i", own.lock().unwrap());
        match path {
            "/i/.well-known/openid-configuration" => (
                200,
                format!("{{\"issuer\":\"{base}\",\"jwks_uri\":\"{base}/keys\"}}"),
            ),
            "/i/keys" => (200, "the keys".into()),
            _ => (404, String::new()),
        }
    });
    *port.lock().unwrap() = bound;
    let (fetches, fetched) = started();
    fetches.want(&[(Source::Discovery(format!("http://127.0.0.1:{bound}/i")), 0)]);
    assert_eq!(bytes(fetched.recv_timeout(PATIENCE).unwrap()), "the keys");
    assert!(!fetches.judged(
        &Source::Discovery(format!("http://127.0.0.1:{bound}/i")),
        true
    ));
    let gauges = fetches.gauges();
    assert!(
        gauges
            .iter()
            .any(|g| g.name == "tidegate_fetch_age_seconds" && g.value < 10.0)
    );
}

#[test]
fn redirects_errors_and_floods_are_failures() {
    let (port, _) = server(|path| match path {
        "/redirect" => (302, String::new()),
        "/flood" => (200, "x".repeat(1 << 20)),
        _ => (500, "secret text".into()),
    });
    let (fetches, fetched) = started();
    for (path, why) in [
        ("redirect", "name the address"),
        ("flood", "over 256 KiB"),
        ("error", "500"),
    ] {
        fetches.want(&[(Source::KeySet(format!("http://127.0.0.1:{port}/{path}")), 0)]);
        let said = failure(fetched.recv_timeout(PATIENCE).unwrap());
        assert!(said.contains(why) && !said.contains("secret"), "{said}");
        fetches.want(&[]);
    }
}

#[test]
fn an_ask_fetches_at_once_and_the_next_one_waits() {
    let (port, asked) = server(|_| (200, "keys".into()));
    let source = Source::KeySet(format!("http://127.0.0.1:{port}/k"));
    let (fetches, fetched) = started();
    assert!(!fetches.ask(&source, 1), "nobody wants it");
    fetches.want(&[(source.clone(), 0)]);
    bytes(applied(&fetches, &fetched, 1));
    assert!(fetches.ask(&source, 1));
    bytes(applied(&fetches, &fetched, 1));
    for _ in 0..1000 {
        assert!(!fetches.ask(&source, 1), "too soon");
    }
    assert_eq!(asked.load(Ordering::SeqCst), 2);
    assert!(fetched.try_recv().is_err());
}

/// A token judged by the old keys, when the new ones have come and the judge has not got them yet, is not refused.
#[test]
fn who_looks_at_an_older_snapshot_waits_for_what_came() {
    let (port, asked) = server(|_| (200, "keys".into()));
    let source = Source::KeySet(format!("http://127.0.0.1:{port}/k"));
    let (fetches, fetched) = started();
    fetches.want(&[(source.clone(), 0)]);
    bytes(applied(&fetches, &fetched, 2));
    assert!(fetches.ask(&source, 2), "out of turn");
    let came = fetched.recv_timeout(PATIENCE).unwrap();
    assert!(fetches.ask(&source, 2), "delivered and not applied");
    fetches.applied(&came.source, 3);
    assert!(fetches.ask(&source, 2), "in a newer snapshot");
    assert!(!fetches.ask(&source, 3), "seen, and too soon for another");
    assert_eq!(asked.load(Ordering::SeqCst), 2);
}

#[test]
fn failures_back_off_and_old_age_is_told() {
    let fetches = Fetches::new(Plan::default());
    let source = Source::KeySet("https://a.example/".into());
    fetches.want(&[(source.clone(), 0)]);
    let start = Instant::now();
    let mut last = Duration::ZERO;
    for _ in 0..12 {
        assert!(!fetches.ended(&source, false, start));
        let table = fetches.lock();
        last = table.jobs[&source].due.duration_since(start);
        assert!(last <= RETRY_CAP);
    }
    assert!(last >= RETRY_CAP / 2, "it grows to the cap");
    assert!(fetches.ended(&source, false, start + BELIEVED + Duration::from_secs(1)));
    assert!(!fetches.ended(&source, true, start + BELIEVED));
    assert!(!fetches.ended(&source, false, start + BELIEVED + Duration::from_secs(60)));
}

/// A server that answers 200 with junk has brought nothing.
#[test]
fn what_is_no_good_counts_as_a_failure() {
    let (port, asked) = server(|_| (200, "<html>log in</html>".into()));
    let source = Source::KeySet(format!("http://127.0.0.1:{port}/k"));
    let (fetches, fetched) = started();
    fetches.want(&[(source.clone(), 0)]);
    for _ in 0..3 {
        bytes(fetched.recv_timeout(PATIENCE).unwrap());
        assert!(!fetches.judged(&source, false));
        fetches.applied(&source, 1);
    }
    let gauge = |name: &str| {
        fetches
            .gauges()
            .into_iter()
            .find(|gauge| gauge.name == name)
            .unwrap()
            .value
    };
    assert_eq!(gauge("tidegate_fetch_failures"), 3.0);
    assert!(gauge("tidegate_fetch_age_seconds").is_infinite());
    assert_eq!(asked.load(Ordering::SeqCst), 3, "it backed off in between");
}

#[test]
fn one_sites_slow_servers_hold_up_no_other_site() {
    let fetches = Fetches::new(Plan::default());
    let source = |n: usize| Source::KeySet(format!("https://slow{n}.example/"));
    let mut wanted: Vec<_> = (0..20).map(|n| (source(n), 0)).collect();
    wanted.push((Source::KeySet("https://good.example/".into()), 1));
    fetches.want(&wanted);
    let (due, _, _) = fetches.take_due(MAX_RUNNING, Instant::now() + Duration::from_secs(1));
    assert_eq!(due.len(), MAX_RUNNING_OF_A_SITE + 1);
    assert!(due.contains(&Source::KeySet("https://good.example/".into())));
    let (more, _, _) = fetches.take_due(MAX_RUNNING, Instant::now() + Duration::from_secs(1));
    assert!(more.is_empty(), "until one has ended");
    fetches.ended(&due[0], false, Instant::now());
    fetches.applied(&due[0], 1);
    let (more, _, _) = fetches.take_due(MAX_RUNNING, Instant::now() + Duration::from_secs(1));
    assert_eq!(more.len(), 1);
}

#[test]
fn secrets_in_addresses_are_not_shown() {
    let fetches = Fetches::new(Plan::default());
    fetches.want(&[(Source::KeySet("https://a.example/k?code=SECRET".into()), 0)]);
    let text = format!("{:?}", fetches.gauges());
    assert!(
        text.contains("a.example/k") && !text.contains("SECRET"),
        "{text}"
    );
}

#[test]
fn no_query_stands_in_a_label_or_an_error() {
    let (port, _) = server(|_| (404, String::new()));
    let (fetches, fetched) = started();
    let of = |query: &str| Source::KeySet(format!("http://127.0.0.1:{port}/keys?code={query}"));
    fetches.want(&[(of("SECRET-1"), 1), (of("SECRET-2"), 1)]);
    for _ in 0..2 {
        match fetched.recv_timeout(PATIENCE).unwrap().outcome {
            Outcome::Failed(why) => {
                assert!(why.contains("/keys: ") && !why.contains("SECRET"), "{why}")
            }
            _ => panic!("not failed"),
        }
    }
    // Two series of the same labels would spoil the whole scrape.
    let gauges = fetches.gauges();
    let labels: Vec<_> = gauges.iter().map(|g| (g.name, &g.labels[1].1)).collect();
    let shown = format!("http://127.0.0.1:{port}/keys");
    assert_eq!(
        labels,
        [
            ("tidegate_fetch_age_seconds", &shown),
            ("tidegate_fetch_failures", &shown)
        ]
    );
}
