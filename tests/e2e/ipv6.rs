//! IPv6: all of it alone, beside IPv4, by literal and by name, from a network that has nothing else.

use crate::harness::lab::{Family, START, tidegate, with_hosts};
use crate::harness::process::Process;
use crate::harness::upstream::{Upstream, What};
use crate::harness::{Curl, Lab, Tls, until};
use std::fs;
use std::net::Ipv6Addr;
use std::process::{Command, Stdio};
use std::time::Duration;

#[test]
fn a_lab_on_ipv6_alone() {
    let lab = Lab::plan()
        .family(Family::Six)
        .shards(2, 2)
        .route(
            "/from/",
            "auth = \"none\"\nsource_addresses = [\"::1\", \"127.0.0.1\"]",
        )
        .start();
    let answer = Curl::new(&lab, "/t/head").answer();
    assert_eq!(answer.status, 200);
    assert!(
        answer.text().contains("\nTidegate-Address: ::1\n"),
        "{}",
        answer.text()
    );
    let id = answer.header("Tidegate-Request-Id").expect("an id");
    assert_eq!(lab.access_line(id)["address"], "::1");
    let device = Curl::new(&lab, "/cert/x")
        .identity(&lab, "device-1")
        .answer();
    assert_eq!(device.status, 200);
    fs::write(lab.file("body"), vec![b'x'; 3 << 20]).expect("a file");
    let upload = lab.file("body").display().to_string();
    let echo = Curl::new(&lab, "/t/echo").args(&["-T", &upload]).answer();
    assert_eq!(echo.body.len(), 3 << 20);
    // A source address of the upstream's family is chosen.
    assert_eq!(Curl::new(&lab, "/from/x").answer().status, 200);
    let mut client = Tls::connect(&lab);
    for _ in 0..10 {
        assert_eq!(client.get("/t/x").status, 200);
    }
}

#[test]
fn both_families_side_by_side() {
    let lab = Lab::plan().family(Family::Both).shards(2, 1).start();
    for (flag, host, address) in [("-4", "127.0.0.1", "127.0.0.1"), ("-6", "[::1]", "::1")] {
        let url = format!("https://{host}:{}/t/head", lab.ports.clients);
        let answer = Curl::bare(&lab).args(&[flag, "-i", &url]).answer();
        let line = format!("\nTidegate-Address: {address}\n");
        assert!(answer.text().contains(&line), "{}", answer.text());
        let id = answer.header("Tidegate-Request-Id").expect("an id");
        assert_eq!(lab.access_line(id)["address"], address);
    }
}

#[test]
fn a_site_may_be_an_address() {
    let mut lab = Lab::plan().family(Family::Both).start();
    let changes = [("hosts = [\"*\"]", "hosts = [\"0:0::1\"]")];
    lab.rewrite("gateway.toml", "gateway.toml", &changes);
    lab.gateway.kill();
    lab.spawn_gateway();
    lab.wait_gateway();
    lab.wait_connector();
    let ask = |url: &str, host: &str| {
        let url = format!("https://{url}:{}/t/x", lab.ports.clients);
        let host = format!("Host: {host}");
        let family = if url.contains('[') { "-6" } else { "-4" };
        Curl::bare(&lab)
            .args(&[family, "-i", "-H", &host, &url])
            .answer()
            .status
    };
    until("the site has its settings again", START, || {
        (ask("[::1]", "[::1]") == 200).then_some(())
    });
    for host in ["[::1]:8443", "[0:0:0:0:0:0:0:1]", "[0000::0001]:1"] {
        assert_eq!(ask("[::1]", host), 200, "{host}");
    }
    for host in ["[::2]", "localhost", "127.0.0.1"] {
        assert_eq!(ask("[::1]", host), 421, "{host}");
    }
    assert_eq!(
        ask("localhost", "[::1]"),
        421,
        "the name asked for is another site's"
    );
}

fn load(lab: &Lab, host: &str) -> (bool, String) {
    let mut command = tidegate();
    command.args([
        "load",
        "requests",
        "-n",
        "200",
        "-c",
        "4",
        "--duration",
        "20s",
        "--ca",
    ]);
    command.arg(lab.file("ca.pem"));
    command.args([
        "--url",
        &format!("https://{host}:{}/t/x", lab.ports.clients),
    ]);
    let output = with_hosts(command, lab.dir())
        .output()
        .expect("tidegate load");
    let text = [output.stdout, output.stderr].concat();
    (
        output.status.success(),
        String::from_utf8_lossy(&text).into_owned(),
    )
}

#[test]
fn load_takes_an_ipv6_url() {
    let lab = Lab::plan().family(Family::Six).start();
    let (good, said) = load(&lab, "[::1]");
    assert!(good, "{said}");
    assert_eq!(lab.upstream.count("/t/x"), 200);
}

/// What a namespace takes: root, and a kernel that lets it.
fn can_unshare(kind: &str) -> bool {
    let done = Command::new("unshare")
        .args([kind, "true"])
        .stderr(Stdio::null())
        .status();
    let can = done.is_ok_and(|status| status.success());
    if !can {
        eprintln!("not run: no namespace of kind {kind} can be made here");
    }
    can
}

#[test]
fn every_address_of_a_name_is_tried() {
    if !can_unshare("--mount") {
        return;
    }
    for (family, hosts) in [
        (Family::Six, "::1 gw.test\n"),
        (Family::Six, "127.0.0.1 gw.test\n::1 gw.test\n"),
        (Family::Four, "::1 gw.test\n127.0.0.1 gw.test\n"),
        // The first one swallows everything: documentation addresses have no route, or no answer.
        (
            Family::Four,
            "2001:db8::1 gw.test\n192.0.2.1 gw.test\n127.0.0.1 gw.test\n",
        ),
    ] {
        let lab = Lab::plan()
            .family(family)
            .gateway_host("gw.test")
            .hosts(hosts)
            .start();
        assert_eq!(Curl::new(&lab, "/t/x").answer().status, 200, "{hosts}");
        let (good, said) = load(&lab, "gw.test");
        assert!(good, "{hosts}: {said}");
    }
}

#[test]
fn every_address_of_an_upstream_is_tried() {
    if !can_unshare("--mount") {
        return;
    }
    for (upstream, hosts) in [
        (Upstream::on(Ipv6Addr::LOCALHOST), "::1 app.test\n"),
        (
            Upstream::on(Ipv6Addr::LOCALHOST),
            "127.0.0.1 app.test\n::1 app.test\n",
        ),
        (Upstream::start(), "::1 app.test\n127.0.0.1 app.test\n"),
        (
            Upstream::start(),
            "2001:db8::1 app.test\n192.0.2.1 app.test\n127.0.0.1 app.test\n",
        ),
    ] {
        let port = upstream.port;
        let by_name = format!(
            "upstream = [\"http://app.test:{port}\"]\nauth = \"none\"\nconnect_timeout = \"3s\""
        );
        let lab = Lab::plan().hosts(hosts).route("/named/", &by_name).start();
        let answer = Curl::new(&lab, "/named/head").answer();
        assert_eq!(answer.status, 200, "{hosts}: {}", answer.text());
        assert_eq!(upstream.count("/named/"), 1);
    }
}

/// A request of HTTP/1.0 names no host: the upstream is told its own, as a URL has it.
#[test]
fn an_ipv6_upstream_is_named_in_brackets() {
    let lab = Lab::plan().family(Family::Six).start();
    let mut client = Tls::connect(&lab);
    client.send("GET /t/head HTTP/1.0\r\n\r\n");
    let text = client.answer().text();
    let line = format!("\nHost: [::1]:{}\n", lab.upstream.port);
    assert!(text.contains(&line), "{text}");
}

/// A network namespace with one cable to ours, IPv6 alone.
struct Network {
    name: String,
    ours: Ipv6Addr,
    /// Nobody has it: what is sent there is swallowed. The resolver sorts it first, since it is nearest to `theirs`.
    nobody: Ipv6Addr,
    theirs: [Ipv6Addr; 2],
}

fn ip(arguments: &str) -> bool {
    let done = Command::new("ip")
        .args(arguments.split(' '))
        .stderr(Stdio::null())
        .status();
    done.is_ok_and(|status| status.success())
}

impl Network {
    fn new() -> Option<Network> {
        let number = std::process::id() as u16;
        let at = |host| Ipv6Addr::new(0xfd00, 0x7d, number, 0, 0, 0, 0, host);
        let network = Network {
            name: format!("tg{number}"),
            ours: at(0x99),
            nobody: at(1),
            theirs: [at(2), at(3)],
        };
        let (name, [first, second]) = (&network.name, network.theirs);
        let made = [
            format!("netns add {name}"),
            format!("link add {name}a type veth peer name {name}b netns {name}"),
            format!("addr add {}/64 dev {name}a nodad", network.ours),
            format!("link set {name}a up"),
            format!("-n {name} addr add {first}/64 dev {name}b nodad"),
            format!("-n {name} addr add {second}/64 dev {name}b nodad"),
            format!("-n {name} link set {name}b up"),
            format!("-n {name} link set lo up"),
        ];
        made.iter().all(|line| ip(line)).then_some(network)
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        ip(&format!("netns del {}", self.name));
        ip(&format!("link del {}a", self.name));
    }
}

#[test]
fn a_connector_without_ipv4() {
    let Some(network) = Network::new() else {
        return eprintln!("not run: no network namespace can be made here");
    };
    let lab = Lab::plan().family(Family::Both).without_connector().start();
    let upstream = Upstream::on(Ipv6Addr::UNSPECIFIED);
    let [first, second] = network.theirs;
    lab.pki(&[
        "server",
        "--force",
        "--name",
        "localhost",
        "--name",
        &network.ours.to_string(),
    ]);
    let gateway = format!("host = \"{}\"", network.ours);
    let own = format!("\"http://127.0.0.1:{}\"]", lab.upstream.port);
    let other = format!(
        "\"http://app.test:{}\"]\nconnect_timeout = \"2s\"\nsource_addresses = [\"{second}\"]",
        upstream.port
    );
    let admin = format!("admin = \"127.0.0.1:{}\"", lab.ports.connector_admin);
    let changes = [
        ("host = \"::1\"", gateway.as_str()),
        (&own, &other),
        (&admin, &format!("admin = \"[{first}]:9442\"")),
    ];
    let config = lab.rewrite("connector.toml", "six.toml", &changes);
    let hosts = format!("{} app.test\n{} app.test\n", network.nobody, network.ours);
    fs::write(lab.file("hosts"), hosts).expect("hosts");
    let mut connector = tidegate();
    connector.args(["connector", "--config"]).arg(&config);
    let connector = with_hosts(connector, lab.dir());
    let mut command = Command::new("ip");
    command.args(["netns", "exec", &network.name]);
    command
        .arg(connector.get_program())
        .args(connector.get_args());
    let mut lab = lab;
    lab.gateway.kill();
    lab.spawn_gateway();
    lab.wait_gateway();
    let connector = Process::start("six", lab.dir(), &mut command);
    until("a request passes", START, || {
        (Curl::new(&lab, "/t/x").run().answer.status == 200).then_some(())
    });
    let seen = upstream.wait_for(What::Received, "/t/x", Duration::from_secs(1));
    assert_eq!(seen.peer, second, "the source address of the route");
    // From inside, a client of the gateway.
    let url = format!("https://[{}]:{}/t/head", network.ours, lab.ports.clients);
    let mut curl = Command::new("ip");
    curl.args([
        "netns",
        "exec",
        &network.name,
        "curl",
        "-sS",
        "-g",
        "--cacert",
    ]);
    curl.arg(lab.file("ca.pem")).arg(&url);
    let text = String::from_utf8_lossy(&curl.output().expect("curl").stdout).into_owned();
    let address = text
        .lines()
        .find_map(|line| line.strip_prefix("Tidegate-Address: "));
    let address: Option<Ipv6Addr> = address.and_then(|address| address.parse().ok());
    assert!(
        address.is_some_and(|a| network.theirs.contains(&a)),
        "{text}\n{}",
        connector.log()
    );
}
