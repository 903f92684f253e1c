//! Upstreams over https: nginx with and without its wishes, and servers that misbehave.

use crate::harness::lab::{Folder, check, pki, tidegate};
use crate::harness::nginx::{self, Nginx, https};
use crate::harness::pattern::Random;
use crate::harness::tls_server::{TlsServer, head};
use crate::harness::upstream::Upstream;
use crate::harness::{Curl, Lab, Tls, ports, until};
use crate::sizes;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(10);
const TLS12: &str = "ssl_protocols TLSv1.2;";
const TLS13: &str = "ssl_protocols TLSv1.3;";

/// A PKI apart from the lab's: the private network's own.
fn corp() -> Folder {
    let folder = Folder::new();
    pki(&folder.0, &["init"]);
    pki(&folder.0, &["server"]);
    pki(&folder.0, &["client", "cp-upstream"]);
    folder
}

/// Another server certificate of that PKI under a stem of its own.
fn another(folder: &Path, stem: &str, arguments: &[&str]) {
    let kept = ["pem", "key"].map(|kind| {
        let file = folder.join(format!("server.{kind}"));
        (fs::read(&file).expect("server.pem"), file)
    });
    pki(folder, &[&["server", "--force"], arguments].concat());
    for ((bytes, file), kind) in kept.into_iter().zip(["pem", "key"]) {
        fs::rename(&file, folder.join(format!("{stem}.{kind}"))).expect("the new one");
        fs::write(file, bytes).expect("the old one");
    }
}

/// Lines of a route to an https server of that PKI.
fn to(port: u16, ca: &Path, more: &str) -> String {
    let ca = ca.join("ca.pem");
    format!(
        "upstream = [\"https://localhost:{port}\"]\nauth = \"none\"\ntls = {{ ca = \"{}\"{more} }}\n",
        ca.display()
    )
}

/// The rest of `tls = { … }` that presents the connector's certificate.
fn own(ca: &Path) -> String {
    let file = |kind| ca.join(format!("cp-upstream.{kind}")).display().to_string();
    format!(
        ", certificate = \"{}\", key = \"{}\"",
        file("pem"),
        file("key")
    )
}

#[test]
fn a_client_certificate_opens_the_upstream_in_both_versions() {
    let corp = corp();
    let (new, old) = (ports::free(), ports::free());
    let wants = nginx::wants_certificate(&corp.0);
    let servers = https(new, &corp.0, "server", &format!("{TLS13} {wants}"))
        + &https(old, &corp.0, "server", &format!("{TLS12} {wants}"));
    let nginx = Nginx::serving(&corp.0, "nginx", new, &servers);
    nginx.put("hello", b"hello");
    let by_address = to(new, &corp.0, &own(&corp.0)).replace("//localhost", "//127.0.0.1");
    let lab = Lab::plan()
        .route("/files/", &to(new, &corp.0, &own(&corp.0)))
        .route("/address/", &(by_address + "strip_prefix = true"))
        .route(
            "/old/",
            &(to(old, &corp.0, &own(&corp.0)) + "strip_prefix = true"),
        )
        .route("/bare/", &(to(new, &corp.0, "") + "strip_prefix = true"))
        .start();
    assert_eq!(Curl::new(&lab, "/files/hello").answer().text(), "hello");
    let old = Curl::new(&lab, "/old/files/hello?old").answer();
    assert_eq!((old.status, old.text().as_str()), (200, "hello"));
    let address = Curl::new(&lab, "/address/files/hello?address").answer();
    assert_eq!((address.status, address.text().as_str()), (200, "hello"));
    // The same server by a route without certificate: other settings, so another connection.
    let bare = Curl::new(&lab, "/bare/files/hello?bare").answer();
    assert_eq!(bare.status, 400, "{}", bare.text());
    assert!(bare.text().contains("No required SSL certificate"));
    assert!(
        nginx
            .request("/files/hello")
            .starts_with("TLSv1.3 . SUCCESS")
    );
    assert!(
        nginx
            .request("/files/hello?old")
            .starts_with("TLSv1.2 . SUCCESS")
    );
    assert!(
        nginx
            .request("/files/hello?bare")
            .starts_with("TLSv1.3 . NONE")
    );
}

#[test]
fn what_is_wrong_with_an_upstream_is_told() {
    let (corp, other) = (corp(), corp());
    another(&corp.0, "elsewhere", &["--name", "elsewhere.corp"]);
    another(&corp.0, "expired", &["--days", "-3"]);
    let [fine, elsewhere, expired, clear, old] = [(); 5].map(|()| ports::free());
    let servers = https(fine, &corp.0, "server", "")
        + &https(elsewhere, &corp.0, "elsewhere", "")
        + &https(expired, &corp.0, "expired", "")
        + &format!("  server {{ listen 127.0.0.1:{clear}; }}\n")
        // Suites that no sane client shares.
        + &https(old, &corp.0, "server", &format!("{TLS12} ssl_ciphers AES128-SHA;"));
    let nginx = Nginx::serving(&corp.0, "nginx", fine, &servers);
    nginx.put("hello", b"hello");
    let lab = Lab::plan()
        .route("/files/", &to(fine, &corp.0, ""))
        .route("/other-ca/", &to(fine, &other.0, ""))
        .route("/name/", &to(elsewhere, &corp.0, ""))
        .route("/expired/", &to(expired, &corp.0, ""))
        .route("/clear/", &to(clear, &corp.0, ""))
        .route("/old/", &to(old, &corp.0, ""))
        .start();
    for (path, port, why) in [
        ("/other-ca/x", fine, "peer's certificate"),
        ("/name/x", elsewhere, "is not for localhost, but for"),
        ("/expired/x", expired, "expired 3 days ago"),
        ("/clear/x", clear, "looks like an HTTP response"),
        ("/old/x", old, "handshake"),
    ] {
        let answer = Curl::new(&lab, path).answer();
        answer.assert_problem(502, "upstream_refused");
        let connector = lab.connector.as_ref().expect("one");
        until("the connector says why", PATIENCE, || {
            let log = connector.log();
            let named = format!("https://localhost:{port}");
            log.lines()
                .any(|line| line.contains(&named) && line.contains(why))
                .then_some(())
        });
        assert!(
            answer.text().contains("\"who\":\"upstream\""),
            "{}",
            answer.text()
        );
    }
    assert_eq!(Curl::new(&lab, "/files/hello").answer().text(), "hello");
    let seen = nginx.requests();
    let unseen = |line: &String| line.contains("/files/") || line.contains(" 400");
    assert!(
        seen.iter().all(unseen),
        "the upstream saw nothing: {seen:?}"
    );
    let failed = lab.metric(
        lab.ports.connector_admin,
        "tidegate_upstream_handshakes_total",
        &["failed"],
    );
    assert!(failed >= 5.0, "{failed}");
}

#[test]
fn bodies_arrive_byte_for_byte_over_tls() {
    let corp = corp();
    let upstream = Upstream::start();
    let (new, old) = (ports::free(), ports::free());
    let proxy = nginx::proxies_to(upstream.port);
    let servers = https(new, &corp.0, "server", &format!("{TLS13} {proxy}"))
        + &https(old, &corp.0, "server", &format!("{TLS12} {proxy}"));
    let _nginx = Nginx::serving(&corp.0, "nginx", new, &servers);
    let lab = Lab::plan()
        .route("/new/", &to(new, &corp.0, ""))
        .route("/old/", &to(old, &corp.0, ""))
        .start();
    std::thread::scope(|scope| {
        for (number, route) in (0..8).zip(["/new/", "/old/"].iter().cycle()) {
            let lab = &lab;
            scope.spawn(move || {
                let mut random = Random::new(4711 + number);
                let mut client = Tls::connect(lab);
                for _ in 0..25 {
                    sizes::exchange(&mut client, route, &mut random, 16 << 20)
                        .unwrap_or_else(|wrong| panic!("{wrong}"));
                }
            });
        }
    });
}

#[test]
fn connections_are_kept_and_sessions_resumed() {
    let corp = corp();
    let (new, old) = (ports::free(), ports::free());
    let servers = https(new, &corp.0, "server", TLS13) + &https(old, &corp.0, "server", TLS12);
    let nginx = Nginx::serving(&corp.0, "nginx", new, &servers);
    nginx.put("hello", b"hello");
    for (version, port) in [("TLSv1.3", new), ("TLSv1.2", old)] {
        // One idle connection is kept, for two requests at a time: the second one is new each round.
        let lab = Lab::plan().route("/files/", &to(port, &corp.0, "")).start();
        let mut client = Tls::connect(&lab);
        for n in 1..=5 {
            assert_eq!(
                client.get(&format!("/files/hello?kept{version}{n}")).status,
                200
            );
            let line = nginx.request(&format!("/files/hello?kept{version}{n}"));
            assert_eq!(
                line,
                format!("{version} . NONE {n} /files/hello?kept{version}{n} 200")
            );
        }
        // Requests with `Connection: close` towards nginx cannot be asked for; so the pool is emptied by its idle time.
        let mut lab = lab;
        let text = fs::read_to_string(lab.file("connector.toml")).expect("connector.toml");
        let text = text.replace(
            "[[gateway]]",
            "[connector.pool]\nidle_per_upstream = 0\n[[gateway]]",
        );
        fs::write(lab.file("connector.toml"), text).expect("connector.toml");
        lab.kill_connector();
        lab.spawn_connector();
        lab.wait_connector();
        for n in 1..=3 {
            let path = format!("/files/hello?new{version}{n}");
            assert_eq!(Curl::new(&lab, &path).answer().status, 200);
            let resumed = if n == 1 { "." } else { "r" };
            let line = nginx.request(&path);
            assert_eq!(line, format!("{version} {resumed} NONE 1 {path} 200"));
        }
        let port = lab.ports.connector_admin;
        let name = "tidegate_upstream_handshakes_total";
        assert_eq!(lab.metric(port, name, &["resumed"]), 2.0);
        assert_eq!(lab.metric(port, name, &["full"]), 1.0);
    }
}

/// A body without length, ended by the connection: only close_notify is its end.
#[test]
fn a_cut_is_never_taken_for_an_end() {
    let corp = corp();
    let server = TlsServer::start(&corp.0, |_, session| {
        let head = head(session)?;
        session.write_all(b"HTTP/1.1 200 OK\r\n\r\nall of it")?;
        session.flush()?;
        if head.contains("whole") {
            session.conn.send_close_notify();
            session.flush()?;
        }
        session.sock.shutdown(std::net::Shutdown::Both)
    });
    let lab = Lab::plan()
        .route("/files/", &to(server.port, &corp.0, ""))
        .start();
    let whole = Curl::new(&lab, "/files/whole").answer();
    assert_eq!((whole.status, whole.text().as_str()), (200, "all of it"));
    for _ in 0..5 {
        let mut client = Tls::connect(&lab);
        client.send("GET /files/cut HTTP/1.1\r\nHost: localhost\r\n\r\n");
        let outcome = client.try_answer();
        let is_whole = outcome.as_ref().is_ok_and(|answer| answer.status == 200);
        assert!(!is_whole, "{outcome:?}");
    }
}

/// Tickets, key updates, and each way of ending come while a connection is idle; none costs a request.
#[test]
fn an_idle_connection_is_listened_to() {
    let corp = corp();
    let (tell, told) = mpsc::channel();
    let server = TlsServer::start(&corp.0, move |number, session| {
        let mut requests = 0;
        loop {
            let head = head(session)?;
            requests += 1;
            let answer = format!("{number} {requests}");
            write!(
                session,
                "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{answer}",
                answer.len()
            )?;
            session.flush()?;
            if head.contains("update") {
                session.conn.refresh_traffic_keys().expect("TLS 1.3");
                session.flush()?;
            } else if head.contains("notify") {
                session.conn.send_close_notify();
                session.flush()?;
            } else if head.contains("fin") {
                let _ = session.sock.shutdown(std::net::Shutdown::Write);
            } else if head.contains("unasked") {
                session.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")?;
                session.flush()?;
            }
            let _ = tell.send(());
        }
    });
    let lab = Lab::plan()
        .route("/files/", &to(server.port, &corp.0, ""))
        .start();
    let admin = lab.ports.connector_admin;
    let mut client = Tls::connect(&lab);
    let mut get = |what: &str| {
        let answer = client.get(&format!("/files/{what}"));
        assert_eq!(answer.status, 200, "{what}");
        told.recv_timeout(PATIENCE).expect("the server goes on");
        answer.text()
    };
    for n in 1..=5 {
        assert_eq!(get("update"), format!("0 {n}"), "the same connection");
    }
    assert_eq!(get("plain"), "0 6");
    for (number, end) in ["notify", "fin", "unasked"].into_iter().enumerate() {
        get(end);
        until("it leaves the pool", PATIENCE, || {
            let open = lab.metric(admin, "tidegate_upstream_connections", &[]);
            (open == 0.0).then_some(())
        });
        assert_eq!(get("plain"), format!("{} 1", number + 1), "after {end}");
    }
}

/// The upstream closes as the next request comes: it is repeated on a new connection, and what follows is answered.
#[test]
fn a_stale_connection_costs_no_request() {
    let corp = corp();
    let server = TlsServer::start(&corp.0, |number, session| {
        for requests in 1.. {
            head(session)?;
            if requests > 1 && number < 3 {
                // Read, and closed without an answer.
                session.conn.send_close_notify();
                return session.flush();
            }
            let answer = format!("{number} {requests}");
            write!(
                session,
                "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{answer}",
                answer.len()
            )?;
            session.flush()?;
        }
        Ok(())
    });
    let lab = Lab::plan()
        .route("/files/", &to(server.port, &corp.0, ""))
        .start();
    let mut client = Tls::connect(&lab);
    let answers: Vec<String> = (0..6).map(|_| client.get("/files/x").text()).collect();
    assert_eq!(answers, ["0 1", "1 1", "2 1", "3 1", "3 2", "3 3"]);
}

/// nginx is restarted again and again, one of two at a time, while requests come: no GET fails.
#[test]
fn restarts_under_load_lose_no_get() {
    let corp = corp();
    let start = |name: &str| {
        let port = ports::free();
        let nginx = Nginx::serving(&corp.0, name, port, &https(port, &corp.0, "server", ""));
        nginx.put("hello", &[b'x'; 5000]);
        nginx
    };
    let mut pair = [start("one"), start("two")];
    let both = to(pair[0].port, &corp.0, "").replace(
        "upstream = [",
        &format!("upstream = [\"https://localhost:{}\", ", pair[1].port),
    );
    let lab = Lab::plan().alone().route("/files/", &both).start();
    let done = AtomicUsize::new(0);
    let over = std::sync::atomic::AtomicBool::new(false);
    let (lab, done, over) = (&lab, &done, &over);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(move || {
                let mut client = Tls::connect(lab);
                while !over.load(Ordering::Relaxed) {
                    let answer = client.get("/files/hello");
                    assert_eq!(
                        (answer.status, answer.body.len()),
                        (200, 5000),
                        "{}",
                        answer.text()
                    );
                    done.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let more = |count: usize| {
            let goal = done.load(Ordering::Relaxed) + count;
            let deadline = Instant::now() + PATIENCE;
            while done.load(Ordering::Relaxed) < goal && Instant::now() < deadline {
                std::thread::park_timeout(Duration::from_millis(1));
            }
        };
        for round in 0..6 {
            more(300);
            pair[round % 2].restart(|| more(300));
        }
        over.store(true, Ordering::Relaxed);
    });
    assert!(done.load(Ordering::Relaxed) > 3000);
    for nginx in &pair {
        assert!(nginx.requests().len() > 500, "both took their share");
    }
}

#[test]
fn the_hosts_own_cas_are_trusted_without_a_ca() {
    let corp = corp();
    let port = ports::free();
    let nginx = Nginx::serving(&corp.0, "nginx", port, &https(port, &corp.0, "server", ""));
    nginx.put("hello", b"hello");
    let route = format!("upstream = [\"https://localhost:{port}\"]\nauth = \"none\"");
    let mut lab = Lab::plan()
        .without_connector()
        .route("/files/", &route)
        .start();
    let store = corp.0.join("ca.pem");
    lab.connector_by(tidegate().env("SSL_CERT_FILE", &store));
    assert_eq!(Curl::new(&lab, "/files/hello").answer().text(), "hello");

    // Without any store, only a route that needs it is told so, at its line.
    let config = lab.file("connector.toml");
    let checked = |config: &Path| {
        let output = tidegate()
            .env("SSL_CERT_FILE", "/nonexistent/store.pem")
            .env("SSL_CERT_DIR", "/nonexistent")
            .args(["check", "--config"])
            .arg(config)
            .output()
            .expect("check");
        let text = [output.stdout, output.stderr].concat();
        (
            output.status.success(),
            String::from_utf8_lossy(&text).into_owned(),
        )
    };
    let (fit, text) = checked(&config);
    assert!(!fit && text.contains("no store of trusted CAs"), "{text}");
    assert!(text.contains("ca-certificates"), "{text}");
    let line = fs::read_to_string(&config)
        .expect("connector.toml")
        .lines()
        .position(|line| line.contains("https://"))
        .expect("the route");
    assert!(
        text.contains(&format!("connector.toml:{}:", line + 1)),
        "{text}"
    );
    let clear = lab.rewrite("connector.toml", "clear.toml", &[("https://", "http://")]);
    let (fit, text) = checked(&clear);
    assert!(fit, "{text}");
    assert!(check(&config).0, "this host has a store");
}

/// The answer outlives the upstream's connection: what a slow client has not taken yet is not lost by the FIN behind it.
#[test]
fn a_fin_behind_unread_bytes_cuts_nothing() {
    let corp = corp();
    let size = 3 << 20;
    let sent = Arc::new(AtomicUsize::new(0));
    let note = sent.clone();
    let server = TlsServer::start(&corp.0, move |_, session| {
        head(session)?;
        session.write_all(b"HTTP/1.1 200 OK\r\n\r\n")?;
        session.write_all(&vec![b'x'; size])?;
        session.conn.send_close_notify();
        session.flush()?;
        note.fetch_add(1, Ordering::Relaxed);
        Ok(())
    });
    let lab = Lab::plan()
        .route("/files/", &to(server.port, &corp.0, ""))
        .start();
    let mut client = Tls::connect(&lab);
    client.send("GET /files/slow HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let mut answer = client.head();
    until("the server is through", PATIENCE, || {
        (sent.load(Ordering::Relaxed) == 1).then_some(())
    });
    let mut got = 0;
    let whole = client.body(&mut answer, &mut |bytes| got += bytes.len());
    whole.unwrap_or_else(|error| panic!("cut after {got} bytes: {error}"));
    assert_eq!(got, size);
}
