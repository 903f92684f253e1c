//! Revocation lists end to end: made by the real `openssl` or by `tidegate pki`, from a file or by address. A list in force
//! revokes on new, kept-alive and resumed connections and cuts transfers; what is no list, forged or old changes nothing.

use crate::harness::ca::{Ca, Wish};
use crate::harness::lab::tidegate;
use crate::harness::{Lab, Tls, ports, tls, until};
use rustls::ClientConfig;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(15);
const LONG: &str = "GET /cert/pattern?seed=1&size=8000000000 HTTP/1.1\r\nHost: localhost\r\n\r\n";
const FETCH: &str = "[fetch]\ncrl_seconds = 1";
const HOUR: u32 = 3600;

/// Status, more head lines, body, and how much of the body is sent.
type Page = (u16, &'static str, Vec<u8>, usize);

/// A web server with one page a path.
#[derive(Clone)]
struct Web {
    port: u16,
    pages: Arc<Mutex<Vec<(String, Page)>>>,
}

impl Web {
    fn start() -> Web {
        let port = ports::free();
        let listener = TcpListener::bind(("127.0.0.1", port)).expect("a free port");
        let pages: Arc<Mutex<Vec<(String, Page)>>> = Arc::default();
        let web = Web {
            port,
            pages: pages.clone(),
        };
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { continue };
                let (mut head, mut byte) = (Vec::new(), [0]);
                while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap_or(0) == 1 {
                    head.push(byte[0]);
                }
                let head = String::from_utf8_lossy(&head).into_owned();
                let path = head.split(' ').nth(1).unwrap_or("");
                let pages = pages.lock().expect("no panics");
                let page = pages.iter().find(|(known, _)| known == path);
                let missing = (404, "", Vec::new(), 0);
                let (status, more, body, sent) = page.map_or(&missing, |(_, page)| page);
                let length = body.len();
                let _ = write!(
                    stream,
                    "HTTP/1.1 {status} X\r\nConnection: close\r\n{more}Content-Length: {length}\r\n\r\n"
                );
                let _ = stream.write_all(&body[..*sent]);
            }
        });
        web
    }

    fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    fn put(&self, path: &str, page: Page) {
        let mut pages = self.pages.lock().expect("no panics");
        pages.retain(|(known, _)| known != path);
        pages.push((path.to_owned(), page));
    }

    fn serve(&self, path: &str, list: Vec<u8>) {
        let length = list.len();
        self.put(path, (200, "", list, length));
    }
}

/// Writes lines into `[site]`, more CAs into `client_ca`, and reloads.
#[track_caller]
fn settle(lab: &Lab, cas: &str, lines: &str) {
    let text = fs::read_to_string(lab.file("connector.toml")).expect("connector.toml");
    let (head, rest) = text.split_once("[site]\n").expect("[site]");
    let (old, routes) = rest.split_once("[[route]]").expect("a route");
    let revision: u32 = old
        .lines()
        .find_map(|line| line.strip_prefix("revision = ")?.parse().ok())
        .expect("a revision");
    let revision = revision + 1;
    let text = format!(
        "{head}[site]\nrevision = {revision}\nclient_ca = [{cas}]\n{lines}\n[[route]]{routes}"
    );
    fs::write(lab.file("connector.toml"), text).expect("connector.toml");
    let admin = format!("http://127.0.0.1:{}", lab.ports.connector_admin);
    let done = tidegate()
        .args(["reload", "--admin", &admin])
        .output()
        .expect("reload");
    let said =
        String::from_utf8_lossy(&done.stdout).into_owned() + &String::from_utf8_lossy(&done.stderr);
    assert!(said.contains("accepted by 1 gateway"), "{said}");
}

/// A client with this chain and the key `leaf`.
fn config(lab: &Lab, chain: &[&str]) -> Arc<ClientConfig> {
    let chain = chain
        .iter()
        .map(|name| CertificateDer::from_pem_file(lab.file(&format!("{name}.pem"))).expect("PEM"));
    tls::presenting(
        lab,
        chain.collect(),
        &lab.file("leaf.key"),
        &rustls::version::TLS13,
    )
}

fn get(lab: &Lab, config: &Arc<ClientConfig>) -> crate::harness::Answer {
    Tls::connect_with(lab, config).get("/cert/x")
}

#[track_caller]
fn until_status(lab: &Lab, config: &Arc<ClientConfig>, status: u16) {
    until(&format!("status {status}"), PATIENCE, || {
        (get(lab, config).status == status).then_some(())
    });
}

#[track_caller]
fn until_revoked(lab: &Lab, config: &Arc<ClientConfig>) {
    until("it is revoked", PATIENCE, || {
        let answer = get(lab, config);
        (answer.header("Tidegate-Error") == Some("revoked")).then_some(())
    });
}

/// Keys `root` and `leaf`, and a CA of that name.
fn authority(lab: &Lab, name: &str) -> Ca {
    let ca = Ca::new(lab.dir());
    for key in ["root", "leaf"] {
        ca.key(key, "EC -pkeyopt ec_paramgen_curve:P-256");
    }
    ca.make(Wish::root(name, "root"));
    ca
}

/// Runs a transfer, gives the order, and tells how long after it the last byte came.
#[track_caller]
fn time_to_cut(transfer: &mut Tls, order: impl FnOnce() + Send + 'static) -> Duration {
    transfer.send(LONG);
    let mut answer = transfer.head();
    assert_eq!(answer.status, 200);
    let order = std::thread::spawn(move || {
        order();
        Instant::now()
    });
    let mut last = Instant::now();
    let ended = transfer.body(&mut answer, &mut |_| last = Instant::now());
    assert!(ended.is_err(), "the transfer was cut");
    last.saturating_duration_since(order.join().expect("an order"))
}

/// As an operator does it: `tidegate pki revoke`, and nothing else.
#[test]
fn a_list_in_a_file_is_noticed_without_a_reload() {
    let lab = Lab::start();
    lab.pki(&["client", "device-2"]);
    lab.pki(&["revoke", "--renew"]);
    settle(
        &lab,
        "{ name = \"lab\", file = \"clients-ca.pem\" }",
        "crl = [\"clients.crl\"]",
    );
    let (one, two) = (
        tls::config(&lab, Some("device-1")),
        tls::config(&lab, Some("device-2")),
    );
    let mut kept = Tls::connect_with(&lab, &one);
    assert_eq!(kept.get("/cert/x").status, 200);
    assert_eq!(get(&lab, &two).status, 200);
    let mut transfer = Tls::connect_with(&lab, &one);
    let dir = lab.dir().to_owned();
    let took = time_to_cut(&mut transfer, move || {
        crate::harness::lab::pki(&dir, &["revoke", "device-1"]);
    });
    println!("list file: from `pki revoke` to the last byte {took:?}");
    assert!(took < Duration::from_secs(4), "{took:?}");
    kept.get("/cert/x").assert_problem(403, "revoked");
    let mut resumed = Tls::connect_with(&lab, &one);
    assert!(resumed.is_resumed());
    resumed.get("/cert/x").assert_problem(403, "revoked");
    get(&lab, &tls::config(&lab, Some("device-1"))).assert_problem(403, "revoked");
    assert_eq!(get(&lab, &two).status, 200);
    // A foreign list, an older one and junk in the file's place leave it as it was.
    let good = fs::read(lab.file("clients.crl")).expect("a list");
    let ca = authority(&lab, "stranger");
    ca.list("foreign", ("stranger", "root"), 99, [] as [&str; 0], HOUR);
    ca.openssl(&["ec", "-in", "clients-ca.key", "-out", "cca.key"]);
    ca.list("older", ("clients-ca", "cca"), 1, [] as [&str; 0], HOUR);
    let connector = lab.connector.as_ref().expect("a connector");
    for (file, why) in [
        ("foreign.crl", "signed by no CA"),
        ("older.crl", "older than"),
        ("ca.pem", "no revocation list"),
    ] {
        fs::copy(lab.file(file), lab.file("clients.crl")).expect("a copy");
        until(why, PATIENCE, || {
            connector.log().contains(why).then_some(())
        });
        get(&lab, &one).assert_problem(403, "revoked");
        assert_eq!(get(&lab, &two).status, 200);
    }
    // The next one comes as DER.
    fs::write(lab.file("clients.crl"), good).expect("a list");
    lab.pki(&["revoke", "device-2"]);
    ca.openssl(&[
        "crl",
        "-in",
        "clients.crl",
        "-outform",
        "DER",
        "-out",
        "d.crl",
    ]);
    fs::rename(lab.file("d.crl"), lab.file("clients.crl")).expect("a list");
    until_revoked(&lab, &two);
}

/// Six CAs with a list by address each, whose server then goes wrong in six ways: the known list stays in force.
#[test]
fn what_is_no_newer_list_leaves_the_known_one_in_force() {
    let lab = Lab::plan().limits(FETCH).start();
    let web = Web::start();
    let ca = authority(&lab, "forger");
    let ways = ["forged", "older", "truncated", "html", "gone", "redirect"];
    let (mut cas, mut urls) = (Vec::new(), Vec::new());
    for way in ways {
        ca.make(Wish::root(way, "root"));
        for (client, serial) in [("ok", "0x1001"), ("bad", "0x1002")] {
            let name = format!("{way}-{client}");
            ca.make(Wish::leaf(&name, "leaf", way, "root").serial(serial));
        }
        web.serve(
            &format!("/{way}"),
            ca.list(way, (way, "root"), 300, ["1002"], HOUR),
        );
        cas.push(format!("{{ name = \"{way}\", file = \"{way}.pem\" }}"));
        urls.push(web.url(&format!("/{way}")));
    }
    settle(
        &lab,
        &cas.join(", "),
        &format!("crl = {urls:?}\ncrl_fail = \"soft\""),
    );
    let bad = |way: &str| get(&lab, &config(&lab, &[&format!("{way}-bad")]));
    for way in ways {
        until_revoked(&lab, &config(&lab, &[&format!("{way}-bad")]));
    }
    let next = lab.metric(
        lab.ports.gateway_admin,
        "tidegate_crl_next_update_seconds",
        &["issuer=\"CN=html\""],
    );
    assert!(next > 1.7e9, "{next}");
    // A CA of the same name and another key, with a higher number and nobody revoked.
    ca.make(Wish::root("imitation", "leaf").subject("/CN=forged"));
    web.serve(
        "/forged",
        ca.list("i", ("imitation", "leaf"), 999, [] as [&str; 0], HOUR),
    );
    web.serve(
        "/older",
        ca.list("o", ("older", "root"), 299, [] as [&str; 0], HOUR),
    );
    let whole = ca.list("t", ("truncated", "root"), 999, [] as [&str; 0], HOUR);
    let half = whole.len() / 2;
    web.put("/truncated", (200, "", whole, half));
    web.serve(
        "/html",
        b"<!DOCTYPE html><p>Sign in to the network</p>".to_vec(),
    );
    web.put("/gone", (404, "", Vec::new(), 0));
    web.serve(
        "/elsewhere",
        ca.list("r", ("redirect", "root"), 999, [] as [&str; 0], HOUR),
    );
    web.put(
        "/redirect",
        (302, "Location: /elsewhere\r\n", Vec::new(), 0),
    );
    let metric = |name: &str, way: &str| {
        let label = format!("/{way}\"");
        lab.metric(lab.ports.gateway_admin, name, &[&label])
    };
    for way in ways {
        until("its failure counts", PATIENCE, || {
            (metric("tidegate_fetch_failures", way) >= 2.0).then_some(())
        });
        let answer = bad(way);
        assert_eq!(answer.status, 403, "{way}");
        answer.assert_problem(403, "revoked");
        let good = get(&lab, &config(&lab, &[&format!("{way}-ok")]));
        assert_eq!(good.status, 200, "{way}: {}", good.text());
        assert!(metric("tidegate_fetch_age_seconds", way) >= 1.0, "{way}");
    }
    // A good one again is taken, whatever was before.
    for way in ways {
        web.serve(
            &format!("/{way}"),
            ca.list(way, (way, "root"), 1000, ["1001", "1002"], HOUR),
        );
    }
    for way in ways {
        until_revoked(&lab, &config(&lab, &[&format!("{way}-ok")]));
    }
}

/// By address: nothing there at first (503 after a wait), then a list, then a newer one that cuts a transfer.
#[test]
fn a_list_by_address_comes_later_and_newer_ones_cut_transfers() {
    let lab = Lab::plan().alone().limits(FETCH).start();
    let web = Web::start();
    let ca = authority(&lab, "corp");
    ca.make(Wish::leaf("pc", "leaf", "corp", "root").serial("0x1001"));
    let crl = format!("crl = [\"{}\"]", web.url("/corp.crl"));
    settle(&lab, "{ name = \"corp\", file = \"corp.pem\" }", &crl);
    let pc = config(&lab, &["pc"]);
    let began = Instant::now();
    get(&lab, &pc).assert_problem(503, "trust_unavailable");
    println!("no list yet: 503 after {:?}", began.elapsed());
    assert_eq!(lab.upstream.count("/cert/"), 0);
    ca.list("one", ("corp", "root"), 1, [] as [&str; 0], HOUR);
    web.serve("/corp.crl", fs::read(lab.file("one.crl")).expect("PEM"));
    until_status(&lab, &pc, 200);
    let mut kept = Tls::connect_with(&lab, &pc);
    assert_eq!(kept.get("/cert/x").status, 200);
    let mut transfer = Tls::connect_with(&lab, &pc);
    let newer = ca.list("two", ("corp", "root"), 2, ["1001"], HOUR);
    let server = web.clone();
    let took = time_to_cut(&mut transfer, move || server.serve("/corp.crl", newer));
    println!("list by address, fetched every second: from publishing to the last byte {took:?}");
    assert!(took < Duration::from_secs(4), "{took:?}");
    kept.get("/cert/x").assert_problem(403, "revoked");
    let mut resumed = Tls::connect_with(&lab, &pc);
    assert!(resumed.is_resumed());
    resumed.get("/cert/x").assert_problem(403, "revoked");
    // A list of 100,000.
    ca.make(Wish::leaf("pc-2", "leaf", "corp", "root").serial("0x20018"));
    let other = config(&lab, &["pc-2"]);
    until_status(&lab, &other, 200);
    let before = lab.gateway.peak_rss_kib();
    let serials = (0..100_000).map(|n| format!("{:06X}", 0x1_0000 + n));
    let large = ca.list("large", ("corp", "root"), 3, serials, HOUR);
    let bytes = large.len();
    let began = Instant::now();
    web.serve("/corp.crl", large);
    until_revoked(&lab, &other);
    let took = began.elapsed();
    let more = lab.gateway.peak_rss_kib() - before;
    println!(
        "100,000 entries ({bytes} bytes): in force after {took:?}, gateway's peak +{more} KiB"
    );
    assert!(more < 200 << 10, "{more} KiB");
}

/// Beyond nextUpdate nobody comes in where lists are wanted, and where not, the list still revokes.
#[test]
fn a_list_out_of_date_refuses_all_or_only_its_own() {
    let lab = Lab::start();
    let ca = authority(&lab, "corp");
    ca.make(Wish::leaf("pc", "leaf", "corp", "root").serial("0x1001"));
    ca.make(Wish::leaf("gone", "leaf", "corp", "root").serial("0x1002"));
    ca.list("corp", ("corp", "root"), 1, ["1002"], 4);
    let corp = "{ name = \"corp\", file = \"corp.pem\" }";
    settle(&lab, corp, "crl = [\"corp.crl\"]");
    let (pc, gone) = (config(&lab, &["pc"]), config(&lab, &["gone"]));
    let mut kept = Tls::connect_with(&lab, &pc);
    assert_eq!(kept.get("/cert/x").status, 200);
    get(&lab, &gone).assert_problem(403, "revoked");
    until_status(&lab, &pc, 403);
    let answer = kept.get("/cert/x");
    answer.assert_problem(403, "forbidden");
    assert!(answer.text().contains("out of date"), "{}", answer.text());
    settle(&lab, corp, "crl = [\"corp.crl\"]\ncrl_fail = \"soft\"");
    assert_eq!(kept.get("/cert/x").status, 200);
    get(&lab, &gone).assert_problem(403, "revoked");
    // A new list in the file's place: in force by itself.
    settle(&lab, corp, "crl = [\"corp.crl\"]");
    kept.get("/cert/x").assert_problem(403, "forbidden");
    ca.list("corp", ("corp", "root"), 2, ["1002"], HOUR);
    until_status(&lab, &pc, 200);
}

/// The root's list names an intermediate: who came by it is out, in the middle of a transfer too.
#[test]
fn a_revoked_intermediate_takes_its_clients_along() {
    let lab = Lab::start();
    let ca = authority(&lab, "corp");
    ca.make(Wish::sub("branch", "root", "corp", "root").serial("0x2001"));
    ca.make(Wish::leaf("pc", "leaf", "branch", "root").serial("0x1001"));
    ca.make(Wish::leaf("direct", "leaf", "corp", "root").serial("0x1002"));
    ca.list("corp", ("corp", "root"), 1, [] as [&str; 0], HOUR);
    ca.list("branch", ("branch", "root"), 1, [] as [&str; 0], HOUR);
    settle(
        &lab,
        "{ name = \"corp\", file = \"corp.pem\" }",
        "crl = [\"corp.crl\"]\ncrl_fail = \"soft\"",
    );
    let (pc, direct) = (config(&lab, &["pc", "branch"]), config(&lab, &["direct"]));
    let mut kept = Tls::connect_with(&lab, &pc);
    assert_eq!(kept.get("/cert/x").status, 200);
    let mut transfer = Tls::connect_with(&lab, &pc);
    let (dir, other) = (lab.dir().to_owned(), Tls::connect_with(&lab, &direct));
    let took = time_to_cut(&mut transfer, move || {
        Ca::new(&dir).list("corp", ("corp", "root"), 2, ["2001"], HOUR);
    });
    println!("intermediate revoked: from the list to the last byte {took:?}");
    kept.get("/cert/x").assert_problem(403, "revoked");
    get(&lab, &pc).assert_problem(403, "revoked");
    let mut other = other;
    assert_eq!(other.get("/cert/x").status, 200);
    // Published itself and with a list of its own, where lists are a must: a CA that another one's list names is none.
    settle(
        &lab,
        "{ name = \"corp\", file = \"corp.pem\" }, { name = \"branch\", file = \"branch.pem\" }",
        "crl = [\"corp.crl\", \"branch.crl\"]",
    );
    get(&lab, &pc).assert_problem(403, "revoked");
    assert_eq!(get(&lab, &direct).status, 200);
}

/// Two sites with a connector each: what the one publishes (a CA of the other's name, its list, a denial) means nothing to
/// the other, and a connection for one site does not reach the other.
#[test]
fn a_site_cannot_change_whom_another_one_trusts() {
    let mut lab = Lab::plan().connectors(2).start();
    let ca = authority(&lab, "corp");
    ca.make(Wish::leaf("pc", "leaf", "corp", "root").serial("0x1001"));
    ca.make(Wish::root("evil", "leaf").subject("/CN=corp"));
    ca.make(Wish::leaf("intruder", "leaf", "evil", "leaf").serial("0x1001"));
    ca.list("evil", ("evil", "leaf"), 99, ["1001"], HOUR);
    lab.rewrite(
        "gateway.toml",
        "gateway.toml",
        &[(
            "hosts = [\"*\"]\nconnectors = [\"cp-1\", \"cp-2\"]",
            "hosts = [\"localhost\"]\nconnectors = [\"cp-1\"]\n\
             [[site]]\nname = \"b\"\nhosts = [\"*\"]\nconnectors = [\"cp-2\"]",
        )],
    );
    let admin = format!("http://127.0.0.1:{}", lab.ports.gateway_admin);
    let done = tidegate().args(["reload", "--admin", &admin]).output();
    assert!(done.expect("reload").status.success());
    settle(&lab, "{ name = \"corp\", file = \"corp.pem\" }", "");
    let port = format!("127.0.0.1:{}", lab.ports.connector_admin);
    let second = ports::free();
    let changes = [
        ("\"cp-1\"", "\"cp-2\""),
        ("cp-1.pem", "cp-2.pem"),
        ("cp-1.key", "cp-2.key"),
        ("site = \"main\"", "site = \"b\""),
        (port.as_str(), &format!("127.0.0.1:{second}")),
        ("corp.pem", "evil.pem"),
        (
            "[site]\n",
            "[site]\ncrl = [\"evil.crl\"]\ndeny = { clients = [\"cert:corp/pc\"] }\n",
        ),
    ];
    let file = lab.rewrite("connector.toml", "connector-2.toml", &changes);
    let mut other = lab.spawn_with("connector", "connector-2", &file);
    until("the other connector is ready", PATIENCE, || {
        assert!(other.ended().is_none(), "{}", other.log());
        crate::harness::lab::is_ready(second).then_some(())
    });
    let (pc, intruder) = (config(&lab, &["pc"]), config(&lab, &["intruder"]));
    let ask = |config: &Arc<ClientConfig>, host: &str| {
        let mut client = Tls::connect_with(&lab, config);
        client.send(format!("GET /cert/x HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        let answer = client.answer();
        (answer.status, answer.text())
    };
    // Ids and serials are the same; each counts where its CA was published.
    for _ in 0..2 {
        assert_eq!(ask(&pc, "localhost").0, 200);
        let (status, text) = ask(&intruder, "localhost");
        assert!(status == 403 && text.contains("no published CA"), "{text}");
        let (status, text) = ask(&pc, "b.example");
        assert!(status == 421, "{text}");
        let (status, text) = ask(&intruder, "b.example");
        assert!(status == 421, "{text}");
    }
    lab.wait_connector();
}
