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
    fetches.want(&[Source::Discovery(format!("http://127.0.0.1:{bound}/i"))]);
    assert_eq!(bytes(fetched.recv_timeout(PATIENCE).unwrap()), "the keys");
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
        fetches.want(&[Source::KeySet(format!("http://127.0.0.1:{port}/{path}"))]);
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
    assert!(!fetches.ask(&source), "nobody wants it");
    fetches.want(std::slice::from_ref(&source));
    bytes(fetched.recv_timeout(PATIENCE).unwrap());
    assert!(fetches.ask(&source));
    bytes(fetched.recv_timeout(PATIENCE).unwrap());
    for _ in 0..1000 {
        assert!(!fetches.ask(&source), "too soon");
    }
    assert_eq!(asked.load(Ordering::SeqCst), 2);
    assert!(fetched.try_recv().is_err());
}

#[test]
fn failures_back_off_and_old_age_is_told() {
    let fetches = Fetches::new(Plan::default());
    let source = Source::KeySet("https://a.example/".into());
    fetches.want(std::slice::from_ref(&source));
    let start = Instant::now();
    let mut last = Duration::ZERO;
    for _ in 0..12 {
        assert!(!fetches.finish(&source, false, start));
        let table = fetches.lock();
        last = table.jobs[&source].due.duration_since(start);
        assert!(last <= RETRY_CAP);
    }
    assert!(last >= RETRY_CAP / 2, "it grows to the cap");
    assert!(fetches.finish(&source, false, start + BELIEVED + Duration::from_secs(1)));
    assert!(!fetches.finish(&source, true, start + BELIEVED));
    assert!(!fetches.finish(&source, false, start + BELIEVED + Duration::from_secs(60)));
}

/// A page of HTML with status 200 must not pass for a fresh list: age and failures tell.
#[test]
fn what_is_no_good_counts_as_not_fetched() {
    let fetches = Fetches::new(Plan::default());
    let source = Source::RevocationList("http://crl.example/a.crl".into());
    fetches.want(std::slice::from_ref(&source));
    let value = |name: &str| {
        let gauges = fetches.gauges();
        let gauge = gauges.iter().find(|gauge| gauge.name == name).unwrap();
        gauge.value
    };
    let due = || {
        fetches.lock().jobs[&source]
            .due
            .duration_since(Instant::now())
    };
    let finish = || {
        let (due, _, _) = fetches.take_due(1, Instant::now() + Duration::from_secs(3600));
        assert_eq!(due.len(), 1);
        assert!(!fetches.finish(&source, true, Instant::now()));
    };
    finish();
    assert!(!fetches.refused(&source));
    assert_eq!(value("tidegate_fetch_age_seconds"), f64::INFINITY);
    assert_eq!(value("tidegate_fetch_failures"), 1.0);
    let first = due();
    for _ in 0..5 {
        finish();
        fetches.refused(&source);
    }
    assert!(due() > first, "it backs off, though the server answers");
    finish();
    fetches.accepted(&source);
    assert!(value("tidegate_fetch_age_seconds") < 2.0);
    finish();
    fetches.refused(&source);
    assert!(
        value("tidegate_fetch_age_seconds") < 2.0,
        "the one before counts"
    );
    assert!(due() <= RETRY_BASE, "the back-off began anew");
}
