//! Upstreams over HTTP/2: a Node server that holds, refuses and leaves as its path says, and nginx.

use crate::harness::lab::{self, Folder, pki, tidegate};
use crate::harness::nginx::{Nginx, https};
use crate::harness::process::Process;
use crate::harness::{Curl, Lab, Tls, http, ports, tls, until};
use serde_json::Value;
use std::fs;
use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(20);

struct Server {
    corp: Folder,
    tls: u16,
    clear: u16,
    control: u16,
    process: Process,
}

impl Server {
    /// That allows so many streams on a connection.
    fn start(streams: u32) -> Server {
        let corp = Folder::new();
        pki(&corp.0, &["init"]);
        pki(&corp.0, &["server"]);
        let script = corp.0.join("server.mjs");
        fs::write(&script, include_str!("upstream_h2/server.mjs")).expect("a script");
        let [tls, clear, control] = [(); 3].map(|()| ports::free());
        let mut node = Command::new("node");
        node.arg(&script).arg(&corp.0);
        node.args([tls, clear, control].map(|port| port.to_string()));
        node.arg(streams.to_string());
        let process = Process::start("http2", &corp.0, &mut node);
        let mut server = Server {
            corp,
            tls,
            clear,
            control,
            process,
        };
        until("the HTTP/2 server listens", PATIENCE, || {
            let ended = server.process.ended();
            assert!(ended.is_none(), "it ended:\n{}", server.process.log());
            http::get(server.control, "/").ok()
        });
        server
    }

    fn route(&self, more: &str) -> String {
        let ca = self.corp.0.join("ca.pem");
        format!(
            "upstream = [\"https://localhost:{}\"]\nauth = \"none\"\ntls = {{ ca = \"{}\" }}\n{more}",
            self.tls,
            ca.display()
        )
    }

    fn clear_route(&self) -> String {
        format!(
            "upstream = [\"http://127.0.0.1:{}\"]\nauth = \"none\"\nh2 = \"always\"\n",
            self.clear
        )
    }

    /// What it saw, and whether those it holds are answered now.
    fn saw(&self, path: &str) -> Value {
        let answer = http::get(self.control, path).expect("its control port");
        serde_json::from_str(&answer.text()).expect("JSON")
    }

    fn count(&self, of: &str) -> u64 {
        self.saw("/")[of].as_u64().expect("a number")
    }

    fn wait_held(&self, count: u64) {
        until(
            &format!("{count} are held"),
            Duration::from_secs(60),
            || (self.count("held") >= count).then_some(()),
        );
    }
}

fn shared(lab: &Lab) -> f64 {
    let name = "tidegate_upstream_connections";
    lab.metric(lab.ports.connector_admin, name, &["state=\"shared\""])
}

#[test]
fn one_connection_carries_them_all_by_alpn_and_by_prior_knowledge() {
    let server = Server::start(100);
    let lab = Lab::plan()
        .shards(1, 1)
        .route("/tls/", &server.route(""))
        .route("/clear/", &server.clear_route())
        .start();
    for path in ["/tls/", "/clear/"] {
        for number in 0..20 {
            let path = format!("{path}x{number}");
            let answer = Curl::new(&lab, &path).answer();
            assert_eq!((answer.status, answer.text()), (200, path));
        }
    }
    assert_eq!(server.count("opened"), 2, "one of TLS and one in clear");
    assert_eq!(shared(&lab), 2.0);
    let heads = Curl::new(&lab, "/tls/heads?a=%3C").args(&["-H", "TE: trailers", "-H", "X-Up: 1"]);
    let heads: Value = serde_json::from_str(&heads.answer().text()).unwrap();
    assert_eq!(heads[":path"], "/tls/heads?a=%3C");
    assert_eq!(heads[":scheme"], "https");
    assert!(
        heads[":authority"]
            .as_str()
            .unwrap()
            .starts_with("localhost")
    );
    assert_eq!(heads["x-up"], "1");
    for forbidden in ["te", "connection", "host", "transfer-encoding"] {
        assert_eq!(heads[forbidden], Value::Null, "{forbidden}");
    }
    let odd = Curl::new(&lab, "/tls/heads").args(&["-X", "CCM_POST", "-d", "four"]);
    let odd: Value = serde_json::from_str(&odd.answer().text()).unwrap();
    assert_eq!(
        (&odd[":method"], &odd["content-length"]),
        (&"CCM_POST".into(), &"4".into())
    );
}

#[test]
fn heads_trailers_and_lengths_are_kept_and_checked() {
    let server = Server::start(100);
    let lab = Lab::plan().route("/h2/", &server.route("")).start();
    let mut tls = Tls::connect(&lab);
    tls.send("GET /h2/trailers HTTP/1.1\r\nHost: localhost\r\nTE: trailers\r\n\r\n");
    let early = tls.head();
    assert_eq!(
        (early.status, early.header("link")),
        (103, Some("</style.css>"))
    );
    let answer = tls.answer();
    assert_eq!(
        (answer.status, answer.text().as_str()),
        (200, "with trailers")
    );
    assert_eq!(answer.trailer("x-sum"), Some("7"));
    tls.send("HEAD /h2/bytes?size=10 HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let head = tls.answer_to_head();
    assert_eq!(
        (head.status, head.header("content-length")),
        (200, Some("10"))
    );
    // An answer shorter than it says breaks off for the client too.
    tls.send("GET /h2/short HTTP/1.1\r\nHost: localhost\r\n\r\n");
    match tls.try_answer() {
        Ok(answer) => answer.assert_problem(502, "upstream_broken"),
        Err(_cut) => {}
    }
    let mut tls = Tls::connect(&lab);
    tls.send("POST /h2/early HTTP/1.1\r\nHost: localhost\r\nContent-Length: 900000\r\n\r\n");
    assert_eq!(tls.answer().text(), "enough");
}

#[test]
fn large_bodies_arrive_byte_for_byte_both_ways() {
    let server = Server::start(100);
    let lab = Lab::plan()
        .route("/h2/", &server.route("max_body = \"1 GiB\""))
        .start();
    let (sent, got) = (lab.dir().join("sent"), lab.dir().join("got"));
    let body = crate::harness::pattern::body(7, 100 << 20);
    fs::write(&sent, &body).unwrap();
    let upload = format!("@{}", sent.display());
    for chunked in [false, true] {
        let mut curl = Curl::new(&lab, "/h2/echo").args(&["-X", "POST", "--data-binary", &upload]);
        curl = curl.args(&["-o", &got.display().to_string()]);
        if chunked {
            curl = curl.args(&["-H", "Transfer-Encoding: chunked"]);
        }
        let output = curl.output();
        assert!(output.status.success(), "{output:?}");
        // Behind the head, which curl writes too.
        assert!(
            fs::read(&got).unwrap().ends_with(&body),
            "chunked: {chunked}"
        );
    }
}

#[test]
fn a_client_that_leaves_is_one_reset_stream() {
    let server = Server::start(100);
    let lab = Lab::plan()
        .shards(1, 1)
        .route("/h2/", &server.route(""))
        .start();
    let mut stays = Tls::connect(&lab);
    stays.send("GET /h2/hold HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let mut leaves = Tls::connect(&lab);
    leaves.send("GET /h2/hold?leaves HTTP/1.1\r\nHost: localhost\r\n\r\n");
    server.wait_held(2);
    let now = server.saw("/")["now"].as_u64().unwrap();
    leaves.reset();
    let reset = until("the stream is reset", PATIENCE, || {
        server.saw("/")["resets"].as_array()?.first().cloned()
    });
    assert_eq!(reset["code"], 8, "CANCEL");
    let took = reset["at"].as_u64().unwrap().saturating_sub(now);
    assert!(took <= 100, "{took} ms");
    server.saw("/open");
    assert_eq!(stays.answer().text(), "held");
    assert_eq!((server.count("opened"), server.count("sessions")), (1, 1));
}

#[test]
fn a_held_request_is_timed_out_alone() {
    let server = Server::start(100);
    let lab = Lab::plan()
        .shards(1, 1)
        .route("/h2/", &server.route("timeout = \"0\""))
        .route("/soon/", &server.route("timeout = \"300ms\""))
        .start();
    let mut stays = Tls::connect(&lab);
    stays.send("GET /h2/hold HTTP/1.1\r\nHost: localhost\r\n\r\n");
    server.wait_held(1);
    let late = Curl::new(&lab, "/soon/hold").answer();
    late.assert_problem(504, "upstream_timeout");
    let resets = || server.saw("/")["resets"].as_array().map(Vec::len);
    until("its stream is reset", PATIENCE, || {
        (resets() == Some(1)).then_some(())
    });
    server.saw("/open");
    assert_eq!(stays.answer().text(), "held");
    assert_eq!(server.count("opened"), 1);
}

#[test]
fn what_was_refused_unseen_is_repeated() {
    let server = Server::start(100);
    let lab = Lab::plan()
        .shards(1, 1)
        .route("/h2/", &server.route(""))
        .start();
    assert_eq!(Curl::new(&lab, "/h2/refuse?key=1").answer().text(), "try 2");
    // Whatever its method is: nobody saw it.
    let post = Curl::new(&lab, "/h2/refuse?key=2").args(&["-X", "POST"]);
    assert_eq!(post.answer().text(), "try 2");
    let with_body = Curl::new(&lab, "/h2/refuse?key=3").args(&["-d", "four"]);
    let answer = with_body.answer();
    assert!(matches!(answer.status, 200 | 503), "{}", answer.text());
    // GOAWAY while others are held: theirs are finished there, ours goes to a new connection.
    let mut held = Tls::connect(&lab);
    held.send("GET /h2/hold HTTP/1.1\r\nHost: localhost\r\n\r\n");
    server.wait_held(1);
    assert_eq!(Curl::new(&lab, "/h2/goaway?key=1").answer().text(), "try 2");
    assert_eq!(Curl::new(&lab, "/h2/x").answer().text(), "/h2/x");
    server.saw("/open");
    assert_eq!(held.answer().text(), "held");
    assert_eq!(server.count("opened"), 2);
}

#[test]
fn a_stalled_reader_stops_nobody_on_its_connection() {
    let server = Server::start(200);
    let lab = Lab::plan()
        .shards(1, 1)
        .route("/h2/", &server.route(""))
        .start();
    let mut stalled = Vec::new();
    for _ in 0..100 {
        let mut tls = Tls::connect(&lab);
        tls.send("GET /h2/flood?size=50000000 HTTP/1.1\r\nHost: localhost\r\n\r\n");
        assert_eq!(tls.head().status, 200);
        stalled.push(tls);
    }
    let size = 5_000_000;
    for _ in 0..5 {
        let bytes = Curl::new(&lab, &format!("/h2/bytes?size={size}")).answer();
        assert_eq!(bytes.body.len(), size);
    }
    assert_eq!(server.count("opened"), 1, "all on one connection");
}

#[test]
fn a_server_that_speaks_http1_only_is_found_out_and_served_as_before() {
    let corp = Folder::new();
    pki(&corp.0, &["init"]);
    pki(&corp.0, &["server"]);
    let [one, both] = [(); 2].map(|()| ports::free());
    let servers = https(one, &corp.0, "server", "")
        + &https(both, &corp.0, "server", "").replace(" ssl;", " ssl http2;");
    let nginx = Nginx::serving(&corp.0, "nginx", one, &servers);
    nginx.put("hello", b"hello");
    let to = |port: u16, h2: &str| {
        let ca = corp.0.join("ca.pem");
        format!(
            "upstream = [\"https://localhost:{port}\"]\nauth = \"none\"\nstrip_prefix = true\nh2 = \"{h2}\"\ntls = {{ ca = \"{}\" }}\n",
            ca.display()
        )
    };
    let lab = Lab::plan()
        .shards(1, 1)
        .route("/one/", &to(one, "auto"))
        .route("/both/", &to(both, "auto"))
        .route("/never/", &to(both, "never"))
        .route("/always/", &to(one, "always"))
        .route("/clear/", "auth = \"none\"\nh2 = \"always\"")
        .start();
    for path in ["/one/", "/both/", "/never/"] {
        for number in 0..3 {
            let path = format!("{path}files/hello?{}{number}", path.trim_matches('/'));
            let answer = Curl::new(&lab, &path).answer();
            assert_eq!(
                (answer.status, answer.text().as_str()),
                (200, "hello"),
                "{path}"
            );
        }
    }
    assert_eq!(shared(&lab), 1.0, "the one that speaks HTTP/2 and may");
    // Each on one kept connection: the third request on it is the third.
    for path in ["one2", "both2", "never2"] {
        let line = nginx.request(&format!("/files/hello?{path}"));
        assert_eq!(line.split(' ').nth(3), Some("3"), "{line}");
    }
    for path in ["/always/files/hello", "/clear/x"] {
        let refused = Curl::new(&lab, path).answer();
        refused.assert_problem(502, "upstream_refused");
        assert!(refused.text().contains("HTTP/2") || path.starts_with("/always/"));
    }
}

/// Connections to a port of this host that stand, by the kernel's own table.
fn sockets_to(port: u16) -> usize {
    let table = fs::read_to_string("/proc/net/tcp").expect("the kernel's table");
    let remote = format!(":{port:04X}");
    let lines = table.lines().map(|line| line.split_ascii_whitespace());
    lines
        .filter(|line| {
            let mut fields = line.clone().skip(2);
            fields.next().is_some_and(|to| to.ends_with(&remote)) && fields.next() == Some("01")
        })
        .count()
}

/// So many clients with a request each.
fn hold_many(lab: &Lab, path: &str, count: u64) -> Process {
    let mut load = tidegate();
    load.args(["load", "requests", "--url", &lab.url(path), "--ca"])
        .arg(lab.file("ca.pem"))
        .args([
            "--connections",
            &count.to_string(),
            "-n",
            &count.to_string(),
        ])
        .args(["--warm-up", "0s", "--duration", "300s", "--timeout", "300s"]);
    Process::start("load", lab.dir(), &mut load)
}

#[test]
fn refusals_in_a_crowd_lose_nobody() {
    const HELD: u64 = 1000;
    let server = Server::start(10);
    let lab = Lab::plan()
        .shards(1, 1)
        .route("/h2/", &server.route("timeout = \"0\"\n"))
        .start();
    let mut load = hold_many(&lab, "/h2/wary", HELD);
    server.wait_held(HELD);
    let sockets = sockets_to(server.tls);
    assert!(sockets <= 120, "{sockets} sockets");
    server.saw("/open");
    let ended = load.wait_exit(Duration::from_secs(60));
    assert!(ended.success(), "{}", load.log());
}

/// What BGB does: each client waits on a request that its upstream holds.
#[test]
fn ten_thousand_held_requests_cost_a_hundred_sockets() {
    const HELD: u64 = 10_000;
    let server = Server::start(128);
    let lab = Lab::plan()
        .alone()
        .shards(1, 1)
        .limits("connections = 15000\nconnections_per_address = 15000")
        .route("/h2/", &server.route("timeout = \"0\"\n"))
        .start();
    let mut load = hold_many(&lab, "/h2/hold", HELD);
    until("all are held", Duration::from_secs(120), || {
        assert!(load.ended().is_none(), "the load ended:\n{}", load.log());
        (server.count("held") >= HELD).then_some(())
    });
    let sockets = sockets_to(server.tls);
    let connector = lab.connector.as_ref().expect("it runs").peak_rss_kib();
    println!("{HELD} held on {sockets} upstream sockets; connector {connector} KiB at most");
    assert!(sockets <= 100, "{sockets} sockets");
    assert_eq!(server.count("held"), HELD);
    server.saw("/open");
    let ended = load.wait_exit(Duration::from_secs(60));
    assert!(ended.success(), "{}", load.log());
    assert!(server.saw("/")["resets"].as_array().unwrap().is_empty());
    assert!(sockets_to(server.tls) <= 100);
}

/// In a network namespace of its own, whose range of ports is tiny: this test calls itself there.
#[test]
fn ports_that_run_out_are_told_before_and_sources_multiply_them() {
    const MARK: &str = "TIDEGATE_E2E_FEW_PORTS";
    const NAME: &str = "upstream_h2::ports_that_run_out_are_told_before_and_sources_multiply_them";
    if std::env::var_os(MARK).is_some() {
        return few_ports();
    }
    let can = Command::new("unshare").args(["-n", "true"]).status();
    if !can.is_ok_and(|status| status.success()) {
        return println!("skipped: no network namespace may be made here");
    }
    let script = "ip link set lo up && echo 61000 61023 > /proc/sys/net/ipv4/ip_local_port_range && exec \"$@\"";
    let inner = Command::new("unshare")
        .args(["-n", "sh", "-c", script, "sh"])
        .arg(std::env::current_exe().expect("this test"))
        .args(["--exact", NAME, "--nocapture"])
        .env(MARK, "1")
        .output()
        .expect("unshare");
    let text = String::from_utf8_lossy(&inner.stderr);
    assert!(inner.status.success(), "{text}");
}

/// A client of the gateway from a source of its own, so that clients do not run out of ports first.
fn client_from(lab: &Lab, number: u8) -> Tls {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    // Not of the range: where a socket is bound to a port, the kernel connects none from it.
    let source: SocketAddr = ([127, 0, 1, number], 40_000).into();
    socket.bind(&source.into()).unwrap();
    let gateway = SocketAddr::new(lab.ip(), lab.ports.clients);
    socket.connect(&gateway.into()).unwrap();
    Tls::begin(socket.into(), &tls::config(lab, None)).unwrap()
}

fn few_ports() {
    const RANGE: usize = 24;
    let lab = Lab::plan()
        .shards(1, 1)
        .route("/few/", "auth = \"none\"\n")
        .start();
    let hold = |path: &str, number: u8| {
        let mut client = client_from(&lab, number);
        client.send(format!(
            "GET {path}gated?gate=all HTTP/1.1\r\nHost: localhost\r\n\r\n"
        ));
        client
    };
    let mut held = Vec::new();
    for number in 0..RANGE as u8 {
        let mut client = hold("/few/", number + 1);
        assert_eq!(client.head().status, 200, "{number}");
        held.push(client);
    }
    let over = hold("/few/", 100).answer();
    over.assert_problem(503, "ports_exhausted");
    assert_eq!(over.header("Retry-After"), Some("5"));
    let metric = |name: &str| lab.metric(lab.ports.connector_admin, name, &[]);
    assert_eq!(
        metric("tidegate_connector_upstream_ports_available"),
        RANGE as f64
    );
    assert_eq!(
        metric("tidegate_connector_upstream_ports_used"),
        RANGE as f64
    );
    let log = lab.connector.as_ref().expect("it runs").log();
    let warnings = log
        .matches("local ports towards the upstream run out")
        .count();
    assert_eq!(warnings, 1, "{log}");
    assert!(log.contains("source_addresses"), "{log}");
    // Each source has a range of its own.
    let from = std::fs::read_to_string(lab.file("connector.toml"))
        .unwrap()
        .replace(
            "path = \"/few/\"",
            "path = \"/few/\"\nsource_addresses = [\"127.0.0.2\", \"127.0.0.3\"]",
        );
    fs::write(lab.file("connector.toml"), from).unwrap();
    let (reloaded, why) = lab::reload(lab.ports.connector_admin);
    assert!(reloaded, "{why}");
    for number in 0..2 * RANGE as u8 - 2 {
        let mut client = hold("/few/", number + 1 + 100);
        assert_eq!(client.head().status, 200, "{number} from two sources");
        held.push(client);
    }
    lab.upstream.open_gate("all");
}
