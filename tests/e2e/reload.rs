//! Settings read again while everything runs: SIGHUP, `tidegate reload`, right files and wrong ones.

use crate::harness::lab::{self, reload};
use crate::harness::{Curl, Lab, Tls, tls, until};
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(10);

fn change(lab: &Lab, file: &str, changes: &[(&str, &str)]) {
    lab.rewrite(file, file, changes);
}

#[test]
fn a_route_is_published_and_taken_away_without_a_restart() {
    let lab = Lab::start();
    let mut client = Tls::connect(&lab);
    client.get("/new/x").assert_problem(404, "not_published");
    let old = fs::read_to_string(lab.file("connector.toml")).expect("connector.toml");
    let more = format!(
        "[[route]]\npath = \"/new/\"\nupstream = [\"http://127.0.0.1:{}\"]\nauth = \"none\"\n",
        lab.upstream.port
    );
    fs::write(lab.file("connector.toml"), format!("{old}{more}")).expect("connector.toml");
    let (good, said) = reload(lab.ports.connector_admin);
    assert!(good && said.contains("accepted by 1 gateway"), "{said}");
    assert_eq!(client.get("/new/x").status, 200, "on the same connection");
    fs::write(lab.file("connector.toml"), old).expect("connector.toml");
    assert!(reload(lab.ports.connector_admin).0);
    client.get("/new/x").assert_problem(404, "not_published");
    assert_eq!(client.get("/t/x").status, 200);
}

#[test]
fn a_wrong_file_changes_nothing_and_says_why() {
    let mut lab = Lab::start();
    let mut client = Tls::connect(&lab);
    assert_eq!(client.get("/t/x").status, 200);
    let cases = [
        (
            "connector.toml",
            "path = \"/t/\"",
            "path = \"t\"",
            "does not begin with `/`",
        ),
        ("connector.toml", "id = \"cp-1\"", "id = \"cp-2\"", "cp-2"),
        (
            "connector.toml",
            "[site]",
            "[sight]",
            "unknown table `sight`",
        ),
        (
            "gateway.toml",
            "name = \"main\"",
            "nam = \"main\"",
            "unknown key `nam`",
        ),
        (
            "gateway.toml",
            "server.key",
            "nowhere.key",
            "does not exist",
        ),
        ("gateway.toml", "shards = 1", "shards = 2", "restart"),
    ];
    for (file, from, to, why) in cases {
        let good = fs::read_to_string(lab.file(file)).expect("a config file");
        change(&lab, file, &[(from, to)]);
        let port = if file == "gateway.toml" {
            lab.ports.gateway_admin
        } else {
            lab.ports.connector_admin
        };
        let (done, said) = reload(port);
        assert!(
            !done && said.contains(why) && said.contains("nothing changed"),
            "{file} {to}: {said}"
        );
        fs::write(lab.file(file), good).expect("a config file");
        assert_eq!(client.get("/t/x").status, 200);
    }
    // The same by signal: told in the log.
    change(&lab, "gateway.toml", &[("server.key", "nowhere.key")]);
    lab.gateway.signal("HUP");
    until("the log says why", PATIENCE, || {
        lab.gateway.log().contains("not reloaded").then_some(())
    });
    assert_eq!(client.get("/t/x").status, 200);
    lab.wait_gateway();
}

#[test]
fn a_renewed_certificate_is_presented_and_no_connection_is_dropped() {
    let mut lab = Lab::start();
    let mut before = Tls::connect(&lab);
    assert_eq!(before.get("/t/x").status, 200);
    let serial = |lab: &Lab| {
        let done = Curl::bare(lab)
            .args(&["-o", "/dev/null", "-w", "%{certs}"])
            .arg(lab.url("/t/x"))
            .output();
        let text = String::from_utf8_lossy(&done.stdout).into_owned();
        text.lines()
            .find(|line| line.starts_with("Serial Number:"))
            .map(str::to_owned)
            .unwrap_or_default()
    };
    let old = serial(&lab);
    lab.pki(&["server", "--force"]);
    lab.gateway.signal("HUP");
    until("the new certificate is presented", PATIENCE, || {
        (serial(&lab) != old).then_some(())
    });
    assert_eq!(before.get("/t/x").status, 200, "the old connection goes on");
    lab.wait_connector();
}

#[test]
fn tickets_stay_good_over_a_reload() {
    let lab = Lab::start();
    let config = tls::config(&lab, Some("device-1"));
    let resumed = || {
        lab.metric(
            lab.ports.gateway_admin,
            "tidegate_handshakes_total",
            &["outcome=\"resumed\""],
        )
    };
    assert_eq!(Tls::connect_with(&lab, &config).get("/cert/x").status, 200);
    assert!(reload(lab.ports.gateway_admin).0);
    assert_eq!(Tls::connect_with(&lab, &config).get("/cert/x").status, 200);
    assert_eq!(resumed(), 1.0);
}

/// A connector that may serve the site no longer loses its link, is told why, and its routes go.
#[test]
fn a_connector_taken_off_the_site_is_out_at_once_and_may_return() {
    let lab = Lab::start();
    let mut client = Tls::connect(&lab);
    assert_eq!(client.get("/t/x").status, 200);
    change(
        &lab,
        "gateway.toml",
        &[("connectors = [\"cp-1\"]", "connectors = [\"cp-7\"]")],
    );
    assert!(reload(lab.ports.gateway_admin).0);
    // The settings that it brought went with it, and nobody else's are there.
    client.get("/t/x").assert_problem(503, "no_connector");
    let connector = lab.connector.as_ref().expect("a connector");
    until("the connector knows", PATIENCE, || {
        connector.log().contains("serves site").then_some(())
    });
    change(
        &lab,
        "gateway.toml",
        &[("connectors = [\"cp-7\"]", "connectors = [\"cp-1\"]")],
    );
    assert!(reload(lab.ports.gateway_admin).0);
    until("it is back", Duration::from_secs(20), || {
        (client.get("/t/x").status == 200).then_some(())
    });
}

/// The CA of connectors is replaced: a link whose certificate nobody vouches for any more ends.
#[test]
fn another_connector_ca_ends_links_of_the_old_one() {
    let lab = Lab::start();
    let other = lab::Folder::new();
    lab::pki(&other.0, &["init"]);
    fs::copy(other.0.join("ca.pem"), lab.file("other-ca.pem")).expect("a copy");
    change(
        &lab,
        "gateway.toml",
        &[(
            "connector_ca = \"ca.pem\"",
            "connector_ca = \"other-ca.pem\"",
        )],
    );
    let (good, said) = reload(lab.ports.gateway_admin);
    assert!(good, "{said}");
    until("the link is gone", PATIENCE, || {
        (lab.metric(lab.ports.gateway_admin, "tidegate_relay_links", &[]) == 0.0).then_some(())
    });
    Curl::new(&lab, "/t/x")
        .answer()
        .assert_problem(503, "no_connector");
}

/// A gateway that is configured no longer is left when its requests are done, and dialled again when it returns.
#[test]
fn gateways_come_and_go_with_the_file() {
    let lab = Lab::start();
    let mut client = Tls::connect(&lab);
    let relay = format!("port = {}", lab.ports.relay);
    let elsewhere = crate::harness::ports::free();
    client.send("GET /t/gated?gate=leave HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let mut answer = client.head();
    change(
        &lab,
        "connector.toml",
        &[(relay.as_str(), &format!("port = {elsewhere}"))],
    );
    assert!(reload(lab.ports.connector_admin).0);
    Tls::connect(&lab)
        .get("/t/x")
        .assert_problem(503, "no_connector");
    lab.upstream.open_gate("leave");
    let mut body = Vec::new();
    client
        .body(&mut answer, &mut |bytes| body.extend_from_slice(bytes))
        .expect("the rest");
    change(
        &lab,
        "connector.toml",
        &[(&format!("port = {elsewhere}"), relay.as_str())],
    );
    assert!(reload(lab.ports.connector_admin).0);
    until("it is linked again", PATIENCE, || {
        (Tls::connect(&lab).get("/t/x").status == 200).then_some(())
    });
}

/// Reloads of both sides in a row, with requests all the time: none is lost.
#[test]
fn reloads_under_load_cost_no_request() {
    let lab = Lab::start();
    let stop = std::sync::atomic::AtomicBool::new(false);
    let sent = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..3)
            .map(|n| {
                let (lab, stop) = (&lab, &stop);
                scope.spawn(move || {
                    let mut client = Tls::connect_as(lab, "device-1");
                    let mut sent = 0;
                    while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                        let path = if n == 0 { "/cert/x" } else { "/t/x" };
                        let answer = client.get(path);
                        assert_eq!(answer.status, 200, "{}", answer.text());
                        sent += 1;
                    }
                    sent
                })
            })
            .collect();
        for revision in 1..9 {
            let (old, new) = (
                format!("revision = {revision}\n"),
                format!("revision = {}\n", revision + 1),
            );
            change(&lab, "connector.toml", &[(old.as_str(), new.as_str())]);
            let (good, said) = reload(lab.ports.connector_admin);
            assert!(good && said.contains("accepted by"), "{said}");
            assert!(reload(lab.ports.gateway_admin).0);
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        workers
            .into_iter()
            .map(|worker| worker.join().expect("a worker"))
            .sum::<u32>()
    });
    assert!(sent > 50, "{sent} requests");
    let revision = lab.metric(lab.ports.gateway_admin, "tidegate_site_revision", &[]);
    assert_eq!(revision, 9.0);
}

/// A deny-list entry that is published cuts a transfer that is under way, and every request after it; on full and resumed
/// sessions. The time from the order to the last byte is printed.
#[test]
fn a_denied_client_is_cut_off_in_the_middle_of_a_transfer() {
    let lab = Lab::plan().alone().start();
    let config = tls::config(&lab, Some("device-1"));
    let mut transfer = Tls::connect_with(&lab, &config);
    let mut idle = Tls::connect_with(&lab, &config);
    assert_eq!(idle.get("/cert/x").status, 200);
    let mut other = Tls::connect(&lab);
    transfer.send("GET /cert/pattern?seed=1&size=8000000000 HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let mut answer = transfer.head();
    assert_eq!(answer.status, 200);
    change(
        &lab,
        "connector.toml",
        &[(
            "revision = 1\n",
            "revision = 2\ndeny = { clients = [\"cert:lab/device-1\"] }\n",
        )],
    );
    let port = lab.ports.connector_admin;
    let order = std::thread::spawn(move || (Instant::now(), reload(port)));
    let (mut bytes, mut last) = (0usize, Instant::now());
    let ended = transfer.body(&mut answer, &mut |piece| {
        bytes += piece.len();
        last = Instant::now();
    });
    assert!(ended.is_err(), "the transfer was cut");
    let (began, (good, said)) = order.join().expect("the reload");
    assert!(good, "{said}");
    let took = last.saturating_duration_since(began);
    println!("from the order to the last byte: {took:?}, after {bytes} bytes");
    assert!(took < Duration::from_secs(1), "{took:?}");
    idle.get("/cert/x").assert_problem(403, "revoked");
    Tls::connect_with(&lab, &config)
        .get("/cert/x")
        .assert_problem(403, "revoked");
    assert_eq!(other.get("/t/x").status, 200);
    let cut = lab.metric(
        lab.ports.gateway_admin,
        "tidegate_requests_revoked_total",
        &[],
    );
    assert_eq!(cut, 1.0);
}

/// A certificate's file that a reload waits at, since nobody has written it yet.
struct Unwritten {
    file: PathBuf,
    bytes: Vec<u8>,
}

impl Unwritten {
    fn in_place_of(file: PathBuf) -> Unwritten {
        let bytes = fs::read(&file).expect("a certificate");
        fs::remove_file(&file).expect("a certificate");
        let made = Command::new("mkfifo").arg(&file).status();
        assert!(made.expect("mkfifo").success());
        Unwritten { file, bytes }
    }

    /// Returns when somebody waits for the file's bytes, who get none as long as the file given back is open.
    fn wait_reader(&self) -> File {
        OpenOptions::new()
            .write(true)
            .open(&self.file)
            .expect("a reader")
    }

    /// Gives this reader the bytes, and everybody after it a file.
    fn write(self, mut to: File) {
        fs::remove_file(&self.file).expect("the pipe");
        fs::write(&self.file, &self.bytes).expect("the certificate");
        to.write_all(&self.bytes).expect("a reader");
    }
}

#[test]
fn a_reload_that_takes_long_is_not_told_as_nothing_changed_and_happens_in_the_end() {
    let lab = Lab::start();
    let mut client = Tls::connect(&lab);
    let port = lab.ports.gateway_admin;
    change(
        &lab,
        "gateway.toml",
        &[("access = \"all\"", "access = \"off\"")],
    );
    let end = || {
        let name = "tidegate_certificate_expiry_seconds";
        lab.metric(port, name, &["server.pem"])
    };
    let old_end = end();
    lab.pki(&["server", "--force", "--days", "9"]);
    let unwritten = Unwritten::in_place_of(lab.file("server.pem"));
    let asked = std::thread::spawn(move || reload(port));
    let reader = unwritten.wait_reader();
    let (good, said) = reload(port);
    assert!(
        !good && said.contains("another reload still runs"),
        "{said}"
    );
    assert!(lab::is_ready(port), "and hides no numbers");
    let (good, said) = asked.join().expect("the reload");
    assert!(
        !good && said.contains("may still come into force"),
        "{said}"
    );
    assert!(!said.contains("nothing changed"), "{said}");
    assert_eq!(end(), old_end, "of the certificate in force");

    let loud = client.get("/t/x");
    lab.access_line(loud.header("Tidegate-Request-Id").expect("an id"));
    unwritten.write(reader);
    until("the log tells of the reload", PATIENCE, || {
        lab.gateway.log().contains("reloaded").then_some(())
    });
    assert!(end() < old_end, "of the certificate that came into force");
    // The access log too is turned off and on without a restart.
    let quiet = client.get("/t/x");
    change(
        &lab,
        "gateway.toml",
        &[("access = \"off\"", "access = \"all\"")],
    );
    let (good, said) = reload(port);
    assert!(good, "{said}");
    let loud = client.get("/t/x");
    lab.access_line(loud.header("Tidegate-Request-Id").expect("an id"));
    let quiet = quiet.header("Tidegate-Request-Id").expect("an id");
    assert!(!lab.gateway.log().contains(quiet), "{quiet}");
}

#[test]
fn a_process_is_ended_while_it_reloads() {
    let mut lab = Lab::start();
    let unwritten = Unwritten::in_place_of(lab.file("server.pem"));
    lab.gateway.signal("HUP");
    let _reader = unwritten.wait_reader();
    lab.gateway.terminate();
    // Far less than what the reload's own patience would take.
    assert!(lab.gateway.wait_exit(PATIENCE / 2).success());
}

#[test]
fn a_newer_revocation_list_is_noticed_within_a_minute_while_a_certificate_is_half_written() {
    let lab = Lab::start();
    lab.pki(&["client", "device-9"]);
    lab.pki(&["client", "device-8"]);
    lab.pki(&["revoke", "device-9"]);
    change(
        &lab,
        "connector.toml",
        &[("revision = 1", "revision = 2\ncrl = [\"clients.crl\"]")],
    );
    let (good, said) = reload(lab.ports.connector_admin);
    assert!(good, "{said}");
    let status = |name: &str| {
        let answer = Curl::new(&lab, "/cert/x").identity(&lab, name).answer();
        answer.status
    };
    assert_eq!((status("device-9"), status("device-8")), (403, 200));
    let half = fs::read(lab.file("cp-1.pem")).expect("cp-1.pem");
    fs::write(lab.file("cp-1.pem"), &half[..half.len() / 2]).expect("cp-1.pem");
    assert!(!reload(lab.ports.connector_admin).0);
    lab.pki(&["revoke", "device-8"]);
    // The request that is under way when the list comes is cut, so that curl complains.
    let refused = || Curl::new(&lab, "/cert/x").identity(&lab, "device-8").run();
    until(
        "the newer list is in force",
        Duration::from_secs(60),
        || (refused().answer.status == 403).then_some(()),
    );
}
