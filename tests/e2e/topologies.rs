//! The example topologies of `tuning/examples`, from exactly those files: only addresses, ports and host names are put in
//! place of theirs.

use crate::harness::lab::{self, Folder, START, Turn, check, pki, tidegate};
use crate::harness::process::Process;
use crate::harness::upstream::Upstream;
use crate::harness::{http, ports, until};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(10);

struct Member {
    name: &'static str,
    /// Of a gateway's clients.
    clients: u16,
    admin: u16,
    process: Process,
}

struct Topology {
    gateways: Vec<Member>,
    connectors: Vec<Member>,
    folder: Folder,
    _turn: Turn,
}

/// What an example is made of.
struct Example<'a> {
    folder: &'static str,
    gateways: &'static [&'static str],
    connectors: &'static [&'static str],
    /// In the gateways' certificate.
    names: &'static [&'static str],
    /// Hosts of connector files that are gateways, in the order of `gateways`.
    dialled: &'static [&'static str],
    /// Upstreams by the URL that the files name.
    upstreams: &'a [(&'static str, &'a Upstream)],
}

fn replace(file: &Path, changes: &[(String, String)]) {
    let mut text = fs::read_to_string(file).expect("a copied example");
    for (old, new) in changes {
        assert!(
            text.contains(old),
            "{} does not hold {old:?}",
            file.display()
        );
        text = text.replace(old, new);
    }
    fs::write(file, text).expect("an example in place");
}

fn start(dir: &Path, role: &str, name: &str) -> Process {
    let config = dir.join(format!("{name}.toml"));
    Process::start(name, dir, tidegate().arg(role).arg("--config").arg(config))
}

impl Example<'_> {
    /// The PKI of the files' own comments, each file as it stands through `check`, then all of it in operation.
    #[track_caller]
    fn start(&self) -> Topology {
        let turn = Turn::shared();
        let folder = Folder::new();
        let dir = &folder.0;
        self.make_pki(dir);
        let from = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
            .join("tuning/examples")
            .join(self.folder);
        for name in self.gateways.iter().chain(self.connectors) {
            let file = format!("{name}.toml");
            fs::copy(from.join(&file), dir.join(&file)).expect("an example");
            let (_, said) = check(&dir.join(&file));
            assert!(said.contains("ok (0 errors, 0 warnings)"), "{said}");
        }
        let relays: Vec<u16> = self.gateways.iter().map(|_| ports::free()).collect();
        let gateway = |(name, relay): (&&'static str, &u16)| {
            let (clients, admin) = (ports::free(), ports::free());
            let changes = [
                (
                    "\"0.0.0.0:443\", \"[::]:443\"".into(),
                    format!("\"127.0.0.1:{clients}\""),
                ),
                (
                    "\"0.0.0.0:10140\", \"[::]:10140\"".into(),
                    format!("\"127.0.0.1:{relay}\""),
                ),
                ("127.0.0.1:9441".into(), format!("127.0.0.1:{admin}")),
            ];
            let file = dir.join(format!("{name}.toml"));
            replace(&file, &changes);
            // For the tests: every request with its connector.
            let text = fs::read_to_string(&file).expect("an example");
            fs::write(&file, text + "\n[log]\naccess = \"all\"\n").expect("an example");
            Member {
                name,
                clients,
                admin,
                process: start(dir, "gateway", name),
            }
        };
        let gateways = self.gateways.iter().zip(&relays).map(gateway).collect();
        let connector = |name: &&'static str| {
            let admin = ports::free();
            let mut changes = vec![("127.0.0.1:9442".into(), format!("127.0.0.1:{admin}"))];
            for (host, relay) in self.dialled.iter().zip(&relays) {
                let there = format!("host = \"127.0.0.1\"\nport = {relay}");
                changes.push((format!("host = \"{host}\"\nport = 10140"), there));
            }
            let file = dir.join(format!("{name}.toml"));
            let text = fs::read_to_string(&file).expect("an example");
            let used = self.upstreams.iter().filter(|(url, _)| text.contains(url));
            changes.extend(used.map(|(url, upstream)| {
                ((*url).into(), format!("http://127.0.0.1:{}", upstream.port))
            }));
            replace(&file, &changes);
            Member {
                name,
                clients: 0,
                admin,
                process: start(dir, "connector", name),
            }
        };
        let connectors = self.connectors.iter().map(connector).collect();
        let mut topology = Topology {
            gateways,
            connectors,
            folder,
            _turn: turn,
        };
        topology.wait_ready();
        topology
    }

    fn make_pki(&self, dir: &Path) {
        pki(dir, &["init"]);
        let names: Vec<_> = self
            .names
            .iter()
            .chain(&["127.0.0.1"])
            .flat_map(|name| ["--name", name])
            .collect();
        pki(dir, &[&["server"], &names[..]].concat());
        self.connectors
            .iter()
            .for_each(|id| pki(dir, &["connector", id]));
        pki(dir, &["client", "device-1"]);
    }
}

impl Member {
    #[track_caller]
    fn wait_ready(&mut self) {
        until(&format!("{} is ready", self.name), START, || {
            assert!(
                self.process.ended().is_none(),
                "{} ended:\n{}",
                self.name,
                self.process.log()
            );
            lab::is_ready(self.admin).then_some(())
        });
    }

    fn metric(&self, name: &str) -> f64 {
        let text = http::get(self.admin, "/metrics").expect("/metrics").text();
        let series = text.lines().filter(|line| line.starts_with(name));
        series
            .filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok())
            .sum()
    }

    /// Requests that a connector served, by this gateway's access log.
    fn served_by(&self, connector: &str) -> usize {
        let field = format!("\"connector\":\"{connector}\"");
        let log = self.process.log();
        let requests = log.lines().filter(|line| line.contains("\"path\":"));
        requests.filter(|line| line.contains(&field)).count()
    }
}

impl Topology {
    #[track_caller]
    fn wait_ready(&mut self) {
        let all = self.gateways.iter_mut().chain(&mut self.connectors);
        all.for_each(Member::wait_ready);
    }

    /// By curl, to one gateway: status and body. `host` is Host where it is not the name in the URL.
    fn ask(&self, gateway: usize, name: &str, path: &str, arguments: &[&str]) -> (u16, String) {
        let port = self.gateways[gateway].clients;
        let output = Command::new("curl")
            .args([
                "-sS",
                "--max-time",
                "20",
                "-w",
                "\n%{http_code}",
                "--cacert",
            ])
            .arg(self.folder.0.join("ca.pem"))
            .args(["--resolve", &format!("{name}:{port}:127.0.0.1")])
            .args(arguments)
            .arg(format!("https://{name}:{port}{path}"))
            .output()
            .expect("curl");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let (body, status) = text.rsplit_once('\n').unwrap_or_default();
        (status.parse().unwrap_or(0), body.to_owned())
    }

    /// As the device with the certificate.
    fn ask_as_device(&self, gateway: usize, name: &str, path: &str) -> (u16, String) {
        let file = |name: &str| self.folder.0.join(name).display().to_string();
        let (certificate, key) = (file("device-1.pem"), file("device-1.key"));
        self.ask(
            gateway,
            name,
            path,
            &["--cert", &certificate, "--key", &key],
        )
    }

    /// A connector with a file made from another's.
    fn start_changed(&self, from: &str, name: &'static str, changes: &[(&str, &str)]) -> Member {
        let (from, to) = (format!("{from}.toml"), format!("{name}.toml"));
        let admin = ports::free();
        let text = fs::read_to_string(self.folder.0.join(&from)).expect("an example");
        let text: String = text
            .lines()
            .map(|line| match line.starts_with("admin = ") {
                true => format!("admin = \"127.0.0.1:{admin}\"\n"),
                false => format!("{line}\n"),
            })
            .collect();
        fs::write(self.folder.0.join(&to), text).expect("a changed example");
        let owned: Vec<_> = changes
            .iter()
            .map(|(old, new)| ((*old).into(), (*new).into()))
            .collect();
        replace(&self.folder.0.join(&to), &owned);
        Member {
            name,
            clients: 0,
            admin,
            process: start(&self.folder.0, "connector", name),
        }
    }
}

impl Drop for Topology {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for member in self.gateways.iter().chain(&self.connectors) {
                eprintln!("── {}\n{}", member.name, member.process.log());
            }
        }
    }
}

const GW: &str = "gw.example.com";
const NORTH: &str = "north.example.com";
const SOUTH: &str = "south.example.com";

fn one_site<'a>(upstreams: &'a [(&'static str, &'a Upstream)]) -> Example<'a> {
    Example {
        folder: "one-site-two-connectors",
        gateways: &["gateway"],
        connectors: &["cp-1", "cp-2"],
        names: &[GW],
        dialled: &[GW],
        upstreams,
    }
}

#[test]
fn two_connectors_take_turns_and_stand_in_for_each_other() {
    let (one, two) = (Upstream::start(), Upstream::start());
    let mut topology = one_site(&[
        ("http://app-1.corp.example:8080", &one),
        ("http://app-2.corp.example:8080", &two),
    ])
    .start();
    for n in 0..40 {
        let path = format!("/public/n{n}");
        assert_eq!(topology.ask(0, GW, &path, &[]), (200, path));
    }
    let gateway = &topology.gateways[0];
    until("both connectors served their turns", PATIENCE, || {
        let (first, second) = (gateway.served_by("cp-1"), gateway.served_by("cp-2"));
        (first + second == 40 && first.abs_diff(second) <= 2).then_some(())
    });
    assert!(
        one.count("/public/") >= 10 && two.count("/public/") >= 10,
        "both upstreams"
    );
    assert_eq!(topology.ask_as_device(0, GW, "/app/x").0, 200);
    assert_eq!(topology.ask(0, GW, "/app/x", &[]).0, 401);
    assert_eq!(topology.ask(0, GW, "/other", &[]).0, 404);
    assert_eq!(
        topology
            .ask(0, GW, "/public/x", &["-H", "Host: other.example.com"])
            .0,
        421
    );
    // One is lost: what was not on its link goes on with the other.
    topology.connectors[0].process.kill();
    until("all requests go by the other", PATIENCE, || {
        (topology.ask(0, GW, "/public/x", &[]).0 == 200).then_some(())
    });
    for n in 0..10 {
        assert_eq!(topology.ask(0, GW, &format!("/public/m{n}"), &[]).0, 200);
    }
}

#[test]
fn other_settings_of_one_revision_are_refused_with_an_alarm() {
    let (one, two) = (Upstream::start(), Upstream::start());
    let mut topology = one_site(&[
        ("http://app-1.corp.example:8080", &one),
        ("http://app-2.corp.example:8080", &two),
    ])
    .start();
    topology.connectors[1].process.kill();
    // An operator's slip: the deny-list is changed on one connector, and the revision is not.
    let slip = (
        "revision = 1",
        "revision = 1\ndeny = { clients = [\"cert:corp/device-1\"] }",
    );
    let changed = topology.start_changed("cp-2", "cp-2-changed", &[slip]);
    let gateway = &topology.gateways[0];
    until("the gateway raises the alarm", PATIENCE, || {
        let log = gateway.process.log();
        (log.contains("ALARM: site \\\"main\\\"") && log.contains("cp-2")).then_some(())
    });
    until("the connector knows why", PATIENCE, || {
        changed
            .process
            .log()
            .contains("raise `revision`")
            .then_some(())
    });
    assert!(gateway.metric("tidegate_site_settings_refused") >= 1.0);
    assert!(!lab::is_ready(changed.admin), "nobody takes it for served");
    // The old settings stay, and the connector that brought them serves.
    for n in 0..10 {
        assert_eq!(topology.ask_as_device(0, GW, &format!("/app/a{n}")).0, 200);
    }
    // The revision is raised: now the change is in force.
    drop(changed);
    let meant = (
        "revision = 1",
        "revision = 2\ndeny = { clients = [\"cert:corp/device-1\"] }",
    );
    let mut changed = topology.start_changed("cp-2", "cp-2-meant", &[meant]);
    changed.wait_ready();
    until("the denied client is refused", PATIENCE, || {
        (topology.ask_as_device(0, GW, "/app/x").0 == 403).then_some(())
    });
}

fn two_sites<'a>(upstreams: &'a [(&'static str, &'a Upstream)]) -> Example<'a> {
    Example {
        folder: "two-sites-two-gateways",
        gateways: &["gw-east", "gw-west"],
        connectors: &["north-1", "north-2", "south-1"],
        names: &["gw-east.example.com", "gw-west.example.com", NORTH, SOUTH],
        dialled: &["gw-east.example.com", "gw-west.example.com"],
        upstreams,
    }
}

#[test]
fn each_site_is_served_by_its_own_on_either_gateway() {
    let (north, south) = (Upstream::start(), Upstream::start());
    let mut topology = two_sites(&[
        ("http://app.north.example:8080", &north),
        ("http://app.south.example:8080", &south),
    ])
    .start();
    for gateway in 0..2 {
        for n in 0..20 {
            let path = format!("/public/north-{gateway}-{n}");
            assert_eq!(topology.ask(gateway, NORTH, &path, &[]), (200, path));
            let path = format!("/public/south-{gateway}-{n}");
            assert_eq!(topology.ask(gateway, SOUTH, &path, &[]), (200, path));
        }
        // The name asked for in TLS and Host disagree, or nobody has the name.
        for host in [SOUTH, "gw-east.example.com", "other.example.com"] {
            let field = format!("Host: {host}");
            assert_eq!(
                topology.ask(gateway, NORTH, "/public/x", &["-H", &field]).0,
                421,
                "{host}"
            );
        }
        assert_eq!(
            topology
                .ask(gateway, "gw-west.example.com", "/public/x", &[])
                .0,
            421
        );
        assert_eq!(topology.ask_as_device(gateway, NORTH, "/app/x").0, 200);
        assert_eq!(topology.ask_as_device(gateway, SOUTH, "/app/x").0, 200);
        assert_eq!(topology.ask(gateway, SOUTH, "/app/x", &[]).0, 401);
    }
    assert_eq!((north.count("south"), south.count("north")), (0, 0));
    assert_eq!((north.count("north"), south.count("south")), (40, 40));
    for gateway in &topology.gateways {
        until("both connectors of the north served", PATIENCE, || {
            let (first, second) = (gateway.served_by("north-1"), gateway.served_by("north-2"));
            (first >= 8 && second >= 8).then_some(())
        });
    }
    // A gateway is lost: the other serves both sites as before; when it is back, so are its links.
    topology.gateways[0].process.kill();
    for n in 0..10 {
        for name in [NORTH, SOUTH] {
            assert_eq!(topology.ask(1, name, &format!("/public/k{n}"), &[]).0, 200);
        }
    }
    topology.gateways[0].process = start(&topology.folder.0, "gateway", "gw-east");
    topology.gateways[0].wait_ready();
    for name in [NORTH, SOUTH] {
        until("the gateway serves again", PATIENCE, || {
            (topology.ask(0, name, "/public/again", &[]).0 == 200).then_some(())
        });
    }
}

#[test]
fn no_connector_speaks_for_the_other_site() {
    let (north, south) = (Upstream::start(), Upstream::start());
    let topology = two_sites(&[
        ("http://app.north.example:8080", &north),
        ("http://app.south.example:8080", &south),
    ])
    .start();
    // A connector of the north says that it is one of the south, with a route that the south does not have.
    let changes = [
        ("site = \"north\"", "site = \"south\""),
        ("path = \"/public/\"", "path = \"/stolen/\""),
        ("revision = 1", "revision = 99"),
    ];
    let thief = topology.start_changed("north-2", "thief", &changes);
    for gateway in &topology.gateways {
        until("the gateway refuses its links", PATIENCE, || {
            let log = gateway.process.log();
            let refused = log
                .lines()
                .any(|line| line.contains("link refused") && line.contains("north-2"));
            refused.then_some(())
        });
    }
    assert!(!lab::is_ready(thief.admin));
    for gateway in 0..2 {
        for name in [NORTH, SOUTH] {
            assert_eq!(
                topology.ask(gateway, name, "/stolen/x", &[]).0,
                404,
                "{name}"
            );
            assert_eq!(
                topology.ask(gateway, name, "/public/x", &[]).0,
                200,
                "{name}"
            );
            assert_eq!(
                topology.ask_as_device(gateway, name, "/app/x").0,
                200,
                "{name}"
            );
        }
    }
    assert_eq!(north.count("/stolen/"), 0);
}
