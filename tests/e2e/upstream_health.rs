//! Several endpoints of one route: the dead are passed over, the moved are followed, and nobody is locked out.

use crate::harness::lab::tidegate;
use crate::harness::upstream::{Upstream, What};
use crate::harness::{Curl, Lab, Tls, ports, until};
use std::fs;
use std::io::{Seek, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(10);

/// A port at which connections neither come about nor are refused: its queue is full, and nobody takes from it.
struct Silent {
    port: u16,
    _listener: socket2::Socket,
    _waiting: Vec<TcpStream>,
}

fn silent() -> Silent {
    let port = ports::free();
    let listener =
        socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
    let address = std::net::SocketAddr::from(([127, 0, 0, 1], port));
    listener.bind(&address.into()).expect("a free port");
    listener.listen(0).expect("a listener");
    let mut waiting = Vec::new();
    while let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_millis(100)) {
        waiting.push(stream);
        assert!(waiting.len() < 16, "the queue never fills");
    }
    Silent {
        port,
        _listener: listener,
        _waiting: waiting,
    }
}

fn out(lab: &Lab) -> f64 {
    lab.metric(
        lab.ports.connector_admin,
        "tidegate_upstream_endpoints_out",
        &[],
    )
}

#[test]
fn a_dead_and_a_hanging_endpoint_cost_no_request_and_hardly_any_time() {
    let live = Upstream::start();
    let hanging = silent();
    // Takes connections, and never begins TLS.
    let mute = TcpListener::bind("127.0.0.1:0").expect("a port");
    let mute_port = mute.local_addr().expect("an address").port();
    let route = format!(
        "upstream = [\"http://127.0.0.1:{}\", \"http://127.0.0.1:{}\", \"https://127.0.0.1:{mute_port}\", \
         \"http://127.0.0.1:{}/base\"]\nauth = \"none\"\nconnect_timeout = \"500ms\"\ntls = {{ ca = \"ca.pem\" }}",
        ports::free(),
        hanging.port,
        live.port
    );
    let lab = Lab::plan().route("/four/", &route).start();
    let mut client = Tls::connect(&lab);
    // The first one pays for what is found out. Its body waits, more of it than is staged, and goes along.
    client.send(
        "POST /four/verify?seed=5 HTTP/1.1\r\nHost: localhost\r\nContent-Length: 200000\r\n\r\n",
    );
    client.send(crate::harness::pattern::body(5, 200_000));
    let answer = client.answer();
    assert_eq!(answer.text(), "200000 bytes right");
    for n in 0..4 {
        assert_eq!(client.get(&format!("/four/first{n}")).status, 200);
    }
    assert_eq!(out(&lab), 3.0);
    let seen = live.seen();
    let at = |place: &str| seen.iter().any(|seen| seen.target.starts_with(place));
    assert!(at("/base/four/verify") && !at("/four/"), "readdressed");
    let mut times = Vec::new();
    for n in 0..300 {
        let began = Instant::now();
        assert_eq!(client.get(&format!("/four/n{n}")).status, 200);
        times.push(began.elapsed());
    }
    times.sort();
    assert!(times[290] < Duration::from_millis(200), "{:?}", times[290]);
    let log = lab.connector.as_ref().expect("one").log();
    let lines = |what: &str| log.lines().filter(|line| line.contains(what)).count();
    assert_eq!(lines("upstream is out"), 3, "a line each: {log}");
}

#[test]
fn an_endpoint_that_returns_is_taken_back() {
    let (one, port) = (Upstream::start(), ports::free());
    let route = format!(
        "upstream = [\"http://127.0.0.1:{}\", \"http://127.0.0.1:{port}\"]\nauth = \"none\"",
        one.port
    );
    let lab = Lab::plan().route("/pair/", &route).start();
    let mut client = Tls::connect(&lab);
    for n in 0..10 {
        assert_eq!(client.get(&format!("/pair/a{n}")).status, 200);
    }
    assert_eq!((one.count("/pair/a"), out(&lab)), (10, 1.0));
    let two = Upstream::start_at("127.0.0.1", port);
    until("it is tried and taken back", PATIENCE, || {
        assert_eq!(client.get("/pair/try").status, 200);
        (out(&lab) == 0.0).then_some(())
    });
    for n in 0..10 {
        assert_eq!(client.get(&format!("/pair/b{n}")).status, 200);
    }
    assert_eq!((one.count("/pair/b"), two.count("/pair/b")), (5, 5));
    let log = || lab.connector.as_ref().expect("one").log();
    until("the log says that it is back", PATIENCE, || {
        log().contains("upstream is back").then_some(())
    });
    assert_eq!(log().matches("upstream is back").count(), 1, "{}", log());
}

/// A single upstream is tried by every request, however long it was away.
#[test]
fn a_single_upstream_is_never_locked_out() {
    let port = ports::free();
    let route = format!("upstream = [\"http://127.0.0.1:{port}\"]\nauth = \"none\"");
    let lab = Lab::plan().route("/one/", &route).start();
    let mut client = Tls::connect(&lab);
    for _ in 0..50 {
        client.get("/one/x").assert_problem(502, "upstream_refused");
    }
    assert_eq!(out(&lab), 1.0);
    let _back = Upstream::start_at("127.0.0.1", port);
    assert_eq!(client.get("/one/x").status, 200, "the very next request");
    assert_eq!(out(&lab), 0.0);
}

/// An endpoint that takes requests and breaks off is passed over after a few; what may be repeated is.
#[test]
fn an_endpoint_that_breaks_off_is_left_out() {
    let good = Upstream::start();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let bad = listener.local_addr().expect("an address").port();
    std::thread::spawn(move || {
        use std::io::Read;
        for stream in listener.incoming() {
            let _ = stream.and_then(|mut stream| stream.read(&mut [0; 4096]));
        }
    });
    let route = format!(
        "upstream = [\"http://127.0.0.1:{bad}\", \"http://127.0.0.1:{}\"]\nauth = \"none\"",
        good.port
    );
    let lab = Lab::plan().route("/pair/", &route).start();
    let mut client = Tls::connect(&lab);
    for n in 0..20 {
        assert_eq!(client.get(&format!("/pair/n{n}")).status, 200);
    }
    assert_eq!((good.count("/pair/n"), out(&lab)), (20, 1.0));
}

/// A request that breaks on a pooled connection and again on a new one fails at once, not by its timeout.
#[test]
fn a_request_that_breaks_twice_fails_at_once() {
    let lab = Lab::start();
    let mut client = Tls::connect(&lab);
    assert_eq!(client.get("/t/x").status, 200);
    let began = Instant::now();
    let answer = client.get("/t/cut-head");
    assert_eq!(answer.status, 502, "{}", answer.head);
    assert!(began.elapsed() < PATIENCE, "after {:?}", began.elapsed());
    assert_eq!(lab.upstream.count("cut-head"), 2);
}

/// The connector's limit of connections: told as such, and the upstream saw nothing of what was over it.
#[test]
fn a_full_pool_goes_elsewhere_and_then_is_overloaded() {
    let (one, two) = (Upstream::start(), Upstream::start());
    let route = format!(
        "upstream = [\"http://127.0.0.1:{}\", \"http://127.0.0.1:{}\"]\nauth = \"none\"",
        one.port, two.port
    );
    let mut lab = Lab::plan()
        .without_connector()
        .route("/pair/", &route)
        .start();
    let limit = (
        "[[gateway]]",
        "[connector.pool]\nconnections_per_upstream = 1\nidle_per_upstream = 1\n[[gateway]]",
    );
    lab.rewrite("connector.toml", "connector.toml", &[limit]);
    lab.connector_by(&mut tidegate());
    let mut held = Vec::new();
    for n in 0..2 {
        let mut client = Tls::connect(&lab);
        client.send(format!(
            "GET /pair/gated?gate=g&n={n} HTTP/1.1\r\nHost: localhost\r\n\r\n"
        ));
        assert_eq!(client.head().status, 200);
        held.push(client);
    }
    assert_eq!((one.count("gated"), two.count("gated")), (1, 1));
    let full = Curl::new(&lab, "/pair/over").answer();
    full.assert_problem(503, "overloaded");
    assert_eq!(one.count("over") + two.count("over"), 0);
    assert_eq!(out(&lab), 0.0, "no endpoint's fault");
    let refused = lab.metric(
        lab.ports.connector_admin,
        "tidegate_errors_total",
        &["refused"],
    );
    assert!(refused >= 1.0, "told by its own code");
    one.open_gate("g");
    two.open_gate("g");
    drop(held);
}

/// The name's address moves while the connector runs: the next dial finds it. And of several addresses each is tried.
#[test]
fn a_name_that_moves_is_followed() {
    let port = ports::free();
    let before = Upstream::start_at("127.0.0.1", port);
    let after = Upstream::start_at("127.0.0.2", port);
    let route = format!("upstream = [\"http://moves.test:{port}\"]\nauth = \"none\"");
    let many = format!("upstream = [\"http://many.test:{port}\"]\nauth = \"none\"");
    // No name server answers for it, or none is there: either way it is given up within the connect_timeout.
    let nowhere = format!(
        "upstream = [\"http://nowhere.invalid:{port}\", \"http://127.0.0.1:{port}\"]\nauth = \"none\"\nconnect_timeout = \"1s\""
    );
    let mut lab = Lab::plan()
        .without_connector()
        .route("/moves/", &route)
        .route("/many/", &many)
        .route("/nowhere/", &nowhere)
        .start();
    let hosts = lab.file("hosts");
    let text = |ip: &str| {
        format!(
            "{ip} moves.test\n127.0.0.3 many.test\n127.0.0.4 many.test\n127.0.0.1 many.test\n127.0.0.1 localhost\n"
        )
    };
    fs::write(&hosts, text("127.0.0.1")).expect("a hosts file");
    // A mount namespace of its own, in which this is /etc/hosts; without root also a user namespace.
    let alone = Command::new("unshare").args(["-m", "true"]).output();
    let flags = if alone.is_ok_and(|output| output.status.success()) {
        "-m"
    } else {
        "-rm"
    };
    let mut command = Command::new("unshare");
    command
        .args([
            flags,
            "sh",
            "-c",
            "mount --bind \"$0\" /etc/hosts && exec \"$@\"",
        ])
        .arg(&hosts)
        .arg(tidegate().get_program());
    lab.connector_by(&mut command);

    assert_eq!(Curl::new(&lab, "/many/x").answer().status, 200);
    assert_eq!(Curl::new(&lab, "/nowhere/x").answer().status, 200);
    assert_eq!(out(&lab), 1.0);
    assert_eq!(Curl::new(&lab, "/moves/one").answer().status, 200);
    before.wait_for(What::Received, "/moves/one", PATIENCE);
    // In place and in one write: the mount is of this file, and no lookup sees half of it.
    let mut file = fs::OpenOptions::new()
        .write(true)
        .open(&hosts)
        .expect("the hosts file");
    file.rewind().expect("its beginning");
    file.write_all(text("127.0.0.2").as_bytes())
        .expect("the new address");
    // A connection that is still good stays in use; this one ends it.
    assert_eq!(Curl::new(&lab, "/moves/quiet-close").answer().status, 200);
    for n in 0..3 {
        assert_eq!(
            Curl::new(&lab, &format!("/moves/two{n}")).answer().status,
            200
        );
        after.wait_for(What::Received, &format!("/moves/two{n}"), PATIENCE);
    }
    assert_eq!(before.count("/moves/two"), 0);
}
