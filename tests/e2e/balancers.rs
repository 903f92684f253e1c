//! Behind a balancer: whose connection it is, by its PROXY protocol v2 header.

use crate::harness::lab::tidegate;
use crate::harness::process::Process;
use crate::harness::tls::config;
use crate::harness::{Curl, Lab, Tls, ports, until};
use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::time::Duration;

const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
const LISTED: &str = "proxy_protocol_from = [\"127.0.0.0/8\"]";

fn header(command: u8, family: u8, block: &[u8]) -> Vec<u8> {
    let mut bytes = SIGNATURE.to_vec();
    bytes.extend([command, family]);
    bytes.extend(u16::try_from(block.len()).expect("short").to_be_bytes());
    bytes.extend(block);
    bytes
}

/// PROXY for this client, with a TLV that nobody asks for.
fn header_of(client: &str) -> Vec<u8> {
    let client: SocketAddr = client.parse().expect("an address");
    let (family, mut block) = match client {
        SocketAddr::V4(client) => (0x11, [client.ip().octets(), [10, 0, 0, 1]].concat()),
        SocketAddr::V6(client) => (0x21, [client.ip().octets(), [0xfd; 16]].concat()),
    };
    block.extend(client.port().to_be_bytes());
    block.extend([1, 187, 0xea, 0, 3, b'v', b'p', b'c']);
    header(0x21, family, &block)
}

fn local() -> Vec<u8> {
    header(0x20, 0, &[])
}

fn dial(lab: &Lab) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", lab.ports.clients)).expect("the gateway listens");
    stream.set_nodelay(true).expect("TCP_NODELAY");
    let patience = Some(Duration::from_secs(20));
    stream.set_read_timeout(patience).expect("a time-out");
    stream
}

fn try_behind(lab: &Lab, header: &[u8]) -> std::io::Result<Tls> {
    let mut stream = dial(lab);
    stream.write_all(header)?;
    Tls::begin(stream, &config(lab, None))
}

#[track_caller]
fn behind(lab: &Lab, header: &[u8]) -> Tls {
    try_behind(lab, header).expect("a TLS connection to the gateway")
}

/// The gateway closes; true when it did so with a reset.
#[track_caller]
fn ends(mut stream: TcpStream) -> bool {
    match stream.read(&mut [0; 64]) {
        Ok(0) => false,
        Err(error) if error.kind() == ErrorKind::ConnectionReset => true,
        other => panic!("the connection goes on: {other:?}"),
    }
}

fn headers(lab: &Lab, outcome: &str) -> f64 {
    lab.metric(
        lab.ports.gateway_admin,
        "tidegate_proxy_headers_total",
        &[outcome],
    )
}

#[test]
fn the_client_of_the_header_is_the_client() {
    let lab = Lab::plan().listen(LISTED).start();
    for (client, address) in [
        ("203.0.113.7:40000", "203.0.113.7"),
        ("[2001:db8::17]:40000", "2001:db8::17"),
        ("[::ffff:203.0.113.9]:40000", "203.0.113.9"),
    ] {
        let answer = behind(&lab, &header_of(client)).get("/t/head");
        let head = answer.text();
        let line = format!("\nTidegate-Address: {address}\n");
        assert!(head.contains(&line), "{client}: {head}");
        let id = answer.header("Tidegate-Request-Id").expect("an id");
        assert_eq!(lab.access_line(id)["address"], address);
    }
    let head = behind(&lab, &local()).get("/t/head").text();
    assert!(head.contains("\nTidegate-Address: 127.0.0.1\n"), "{head}");
    assert_eq!(
        (headers(&lab, "client"), headers(&lab, "local")),
        (3.0, 1.0)
    );
}

#[test]
fn a_header_may_come_in_any_pieces() {
    let lab = Lab::plan().listen(LISTED).start();
    let mut stream = dial(&lab);
    let bytes = header_of("203.0.113.7:40000");
    for byte in &bytes[..bytes.len() - 1] {
        stream.write_all(&[*byte]).expect("it reads on");
        std::thread::yield_now();
    }
    // What the gateway has so far waits for the rest, in the books as a connection.
    until("the connection is counted", Duration::from_secs(5), || {
        let open = lab.metric(lab.ports.gateway_admin, "tidegate_connections", &[]);
        (open == 1.0).then_some(())
    });
    stream
        .write_all(&bytes[bytes.len() - 1..])
        .expect("the last byte");
    let mut client = Tls::begin(stream, &config(&lab, None)).expect("TLS behind it");
    assert!(client.get("/t/head").text().contains("203.0.113.7"));
}

#[test]
fn listed_balancers_must_send_a_header_and_only_a_good_one() {
    let lab = Lab::plan().listen(LISTED).start();
    let mut wrong_sum = header_of("203.0.113.7:40000");
    wrong_sum[15] += 7;
    wrong_sum.extend([3, 0, 4, 1, 2, 3, 4]);
    let bad = [
        b"PROXY TCP4 203.0.113.7 10.0.0.1 40000 443\r\n".to_vec(),
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(),
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        header(0x21, 0x31, &[0; 216]),
        header(0x21, 0x12, &[0; 12]),
        header(0x31, 0x11, &[0; 12]),
        header(0x21, 0x11, &[0; 3]),
        header(0x20, 0x00, &[0; 4000]),
        wrong_sum,
    ];
    for bytes in &bad {
        let mut stream = dial(&lab);
        stream.write_all(bytes).expect("a connection");
        ends(stream);
    }
    assert_eq!(headers(&lab, "bad"), bad.len() as f64);
    until("the first one is told of", Duration::from_secs(5), || {
        lab.gateway
            .log()
            .contains("PROXY protocol v1")
            .then_some(())
    });
    // Looking whether the port is open is no offence.
    drop(dial(&lab));
    let mut stream = dial(&lab);
    stream.shutdown(std::net::Shutdown::Write).expect("FIN");
    assert_eq!(stream.read(&mut [0; 8]).expect("an orderly end"), 0);
    assert_eq!(headers(&lab, "bad"), bad.len() as f64);
    assert_eq!(behind(&lab, &local()).get("/t/x").status, 200);
}

#[test]
fn others_speak_tls_at_once() {
    let lab = Lab::plan()
        .listen("proxy_protocol_from = [\"10.0.0.0/8\", \"::1\"]")
        .start();
    assert_eq!(Tls::connect(&lab).get("/t/x").status, 200);
    let mut stream = dial(&lab);
    stream
        .write_all(&header_of("203.0.113.7:40000"))
        .expect("a connection");
    // An alert first, as for everything that is no TLS.
    let _ = stream.read_to_end(&mut Vec::new());
    let failed = lab.metric(
        lab.ports.gateway_admin,
        "tidegate_handshakes_total",
        &["failed"],
    );
    assert_eq!((failed, headers(&lab, "")), (1.0, 0.0));
}

#[test]
fn a_header_that_does_not_come_is_given_up() {
    let lab = Lab::plan()
        .listen(LISTED)
        .limits("head_seconds = 1")
        .start();
    let silent = dial(&lab);
    let mut partly = dial(&lab);
    partly.write_all(&SIGNATURE[..5]).expect("a connection");
    assert!(ends(silent) && ends(partly), "with a reset");
    // The handshake behind a header has what is left of the same time.
    let mut stream = dial(&lab);
    stream.write_all(&local()).expect("a connection");
    ends(stream);
    assert_eq!((headers(&lab, "bad"), headers(&lab, "local")), (2.0, 1.0));
    assert_eq!(behind(&lab, &local()).get("/t/x").status, 200);
}

#[test]
fn limits_of_an_address_are_the_clients_not_the_balancers() {
    let lab = Lab::plan()
        .listen(LISTED)
        .limits("connections_per_address = 2")
        .start();
    let refused = |header: &[u8]| try_behind(&lab, header).is_err();
    // The balancer itself has no limit, before or after its header.
    let _silent: Vec<_> = (0..5).map(|_| dial(&lab)).collect();
    let _own: Vec<_> = (0..5).map(|_| behind(&lab, &local())).collect();
    let first = behind(&lab, &header_of("203.0.113.7:1"));
    let _second = behind(&lab, &header_of("203.0.113.7:2"));
    assert!(
        refused(&header_of("203.0.113.7:3")),
        "the third of one address"
    );
    assert!(
        refused(&header_of("[::ffff:203.0.113.7]:4")),
        "the same address"
    );
    let _other = behind(&lab, &header_of("203.0.113.8:1"));
    let _six =
        ["[2001:db8:0:1::1]:1", "[2001:db8:0:1:ffff::2]:1"].map(|c| behind(&lab, &header_of(c)));
    assert!(
        refused(&header_of("[2001:db8:0:1:abcd::3]:1")),
        "the third of one /64"
    );
    let _next = behind(&lab, &header_of("[2001:db8:0:2::1]:1"));
    let count = lab.metric(
        lab.ports.gateway_admin,
        "tidegate_connections_refused_total",
        &["address"],
    );
    assert_eq!(count, 3.0);
    // Who leaves makes room.
    drop(first);
    until("a place is free again", Duration::from_secs(5), || {
        try_behind(&lab, &header_of("203.0.113.7:5")).ok()
    });
}

#[test]
fn waiting_connections_count_among_all() {
    let lab = Lab::plan().listen(LISTED).limits("connections = 3").start();
    let mut waiting: Vec<_> = (0..3).map(|_| dial(&lab)).collect();
    until("all are taken", Duration::from_secs(5), || {
        let open = lab.metric(lab.ports.gateway_admin, "tidegate_connections", &[]);
        (open == 3.0).then_some(())
    });
    assert!(ends(dial(&lab)), "the fourth is refused");
    // One of them goes on: it keeps its place.
    let mut stream = waiting.remove(0);
    stream.write_all(&local()).expect("a connection");
    let mut client = Tls::begin(stream, &config(&lab, None)).expect("TLS behind it");
    assert_eq!(client.get("/t/x").status, 200);
    drop(waiting);
    until("their places are free", Duration::from_secs(5), || {
        try_behind(&lab, &local()).ok()
    });
}

/// The format's own implementation, where the host has it.
#[test]
fn haproxy_before_the_gateway() {
    let exists = Command::new("haproxy")
        .arg("-v")
        .stdout(Stdio::null())
        .status();
    if !exists.is_ok_and(|status| status.success()) {
        return eprintln!("not run: no haproxy here");
    }
    let lab = Lab::plan().listen(LISTED).start();
    let (front, gateway) = (ports::free(), lab.ports.clients);
    let text = format!(
        "defaults\n mode tcp\n timeout connect 5s\n timeout client 20s\n timeout server 20s\n\
         frontend clients\n bind 127.0.0.1:{front}\n bind [::1]:{front}\n default_backend gateways\n\
         backend gateways\n server one 127.0.0.1:{gateway} send-proxy-v2 proxy-v2-options crc32c,unique-id,authority check inter 100ms\n"
    );
    let config = lab.file("haproxy.cfg");
    fs::write(&config, text).expect("haproxy.cfg");
    let mut haproxy = Command::new("haproxy");
    let _haproxy = Process::start("haproxy", lab.dir(), haproxy.arg("-f").arg(config));
    for (from, to) in [("127.0.0.5", "127.0.0.1"), ("::1", "[::1]")] {
        let url = format!("https://{to}:{front}/t/head");
        let ask = || {
            let flags = ["-i", "--interface", from, &url];
            let family = if to.starts_with('[') { "-6" } else { "-4" };
            let done = Curl::bare(&lab).arg(family).args(&flags).run();
            (done.answer.status == 200).then_some(done.answer)
        };
        let text = until("haproxy passes requests", Duration::from_secs(10), ask).text();
        assert!(
            text.contains(&format!("\nTidegate-Address: {from}\n")),
            "{text}"
        );
    }
    until(
        "its health checks are taken",
        Duration::from_secs(5),
        || (headers(&lab, "local") > 0.0).then_some(()),
    );
    assert_eq!(headers(&lab, "bad"), 0.0);
}

#[test]
fn a_reload_lists_a_balancer_and_takes_it_off() {
    let lab = Lab::plan().listen("proxy_protocol_from = []").start();
    let reload = |old: &str, new: &str| {
        lab.rewrite("gateway.toml", "gateway.toml", &[(old, new)]);
        let admin = format!("http://127.0.0.1:{}", lab.ports.gateway_admin);
        let done = tidegate().args(["reload", "--admin", &admin]).output();
        assert!(done.expect("tidegate reload").status.success());
    };
    let mut before = Tls::connect(&lab);
    assert_eq!(before.get("/t/x").status, 200);
    reload("proxy_protocol_from = []", LISTED);
    until("headers are taken", Duration::from_secs(5), || {
        try_behind(&lab, &header_of("203.0.113.7:1")).ok()
    });
    assert!(Tls::try_connect(&lab, &config(&lab, None)).is_err());
    assert_eq!(before.get("/t/x").status, 200, "who is in stays in");
    reload(LISTED, "proxy_protocol_from = []");
    until(
        "headers are no longer taken",
        Duration::from_secs(5),
        || Tls::try_connect(&lab, &config(&lab, None)).ok(),
    );
    assert!(try_behind(&lab, &local()).is_err());
}
