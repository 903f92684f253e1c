//! `[[preset]] name = "configmgr"`: what clients of Configuration Manager ask for passes byte for byte, the rest stays out.

use crate::harness::lab::{check, tidegate};
use crate::harness::upstream::What;
use crate::harness::{Answer, Curl, Lab, Tls};
use std::fs;
use std::time::Duration;

const PRESET: &str = "[[preset]]\nname = \"configmgr\"\nid = \"72057594037927941\"\n\
                      management_point = [\"http://UPSTREAM\"]\nupdate_point = [\"http://UPSTREAM\"]\n";
const MUTUAL: &str = "/CCM_Proxy_MutualAuth/72057594037927941";

fn lab() -> Lab {
    Lab::plan().connector(PRESET).start()
}

fn ask(lab: &Lab, path: &str, arguments: &[&str]) -> Answer {
    let curl = Curl::new(lab, path).identity(lab, "device-1");
    curl.args(arguments).answer()
}

fn noise(size: usize) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(size as u64);
    (0..size).map(|_| random.u8(..)).collect()
}

#[test]
fn each_method_passes_byte_for_byte() {
    let lab = lab();
    for (method, path, size) in [
        ("CCM_POST", "/CCM_System/request/echo", 70_001),
        ("CCM_POST", "/ccm_system/REQUEST/echo", 3),
        ("BITS_POST", "/CCM_Incoming/{F7A1}/echo", 5_000_017),
        ("BITS_POST", "/CCM_Incoming/{F7A1}/echo", 0),
        ("PROPFIND", "/CCM_Client/echo", 1_234),
        ("POST", "/BGB/echo?RequestType=LogIn&x=%7b1%7d", 900),
        ("POST", "/ClientWebService/client.asmx/echo", 4_000_000),
        ("POST", "/SMS_MP/.sms_dcm/echo?Id&Scope=1", 33_000),
    ] {
        let body = noise(size);
        fs::write(lab.file("body"), &body).expect("a file");
        let body_of = format!("@{}", lab.file("body").display());
        let arguments = ["-X", method, "--data-binary", &body_of];
        let answer = ask(&lab, &format!("{MUTUAL}{path}"), &arguments);
        assert_eq!(answer.status, 200, "{method} {path}: {}", answer.text());
        assert!(answer.body == body, "{method} {path}: another body");
        let asked = path.replace('{', "%7B").replacen('}', "%7D", 1);
        let seen = lab.upstream.seen();
        let last = seen.iter().rev().find(|seen| seen.what == What::Began);
        let last = last.expect("it saw the request");
        assert_eq!(last.target, asked, "prefix off, the rest as it came");
        assert!(
            last.head.starts_with(&format!("{method} ")),
            "{}",
            last.head
        );
    }
    let listing = ask(
        &lab,
        &format!("{MUTUAL}/CCM_Client/x"),
        &["-X", "PROPFIND", "-H", "Depth: 1"],
    );
    assert_eq!(listing.status, 200);
}

#[test]
fn the_clients_headers_pass_unchanged() {
    let lab = lab();
    let fields = [
        "CCMClientID: GUID:5B8F1A7C-4E1D-4D0A-9F53-0D6C0E5A7B11",
        "CCMClientIDSignature: 1F8B08/+Aa==,x;\"q\" (tail)",
        "CCMClientTimestamp: 2026-11-24T10:15:00Z",
        "CCMClientTimestampsSignature: 00FFA0B1",
        "Range: bytes=0-99,200-",
        "If-Range: \"e\"",
    ];
    let mut arguments = Vec::new();
    fields
        .iter()
        .for_each(|field| arguments.extend(["-H", *field]));
    let answer = ask(&lab, &format!("{MUTUAL}/SMS_MP/head?MPLIST"), &arguments);
    for field in fields {
        let lines = answer.text().lines().filter(|line| *line == field).count();
        assert_eq!(lines, 1, "{field}\n{}", answer.text());
    }
}

#[test]
fn heads_and_ranges_of_files_are_the_servers_own() {
    let lab = Lab::plan().nginx().without_connector().start();
    let nginx = lab.nginx.as_ref().expect("the lab has one");
    let file = noise(300_000);
    nginx.put("CCM_Client/ccmsetup.cab", &file);
    let preset = PRESET.replace("UPSTREAM", &format!("127.0.0.1:{}/files", nginx.port));
    let mut text = fs::read_to_string(lab.file("connector.toml")).expect("connector.toml");
    text.push_str(&preset);
    fs::write(lab.file("connector.toml"), text).expect("connector.toml");
    let mut lab = lab;
    lab.spawn_connector();
    lab.wait_connector();
    let path = format!("{MUTUAL}/CCM_Client/ccmsetup.cab");
    let head = ask(&lab, &path, &["--head"]);
    assert_eq!(
        (head.status, head.header("Content-Length")),
        (200, Some("300000"))
    );
    let part = ask(&lab, &path, &["-H", "Range: bytes=1000-200999"]);
    assert_eq!(part.status, 206);
    assert_eq!(
        part.header("Content-Range"),
        Some("bytes 1000-200999/300000")
    );
    assert!(part.body == file[1000..201_000]);
    let none = ask(&lab, &path, &["-H", "Range: bytes=300000-"]);
    assert_eq!(none.status, 416);
    // Resumed after what came before, as BITS does.
    let rest = ask(&lab, &path, &["-H", "Range: bytes=201000-"]);
    assert!(rest.body == file[201_000..]);
}

#[test]
fn who_asks_is_judged_by_the_side() {
    let lab = lab();
    let path = format!("{MUTUAL}/SMS_MP/.sms_aut?MPLIST");
    Curl::new(&lab, &path)
        .answer()
        .assert_problem(401, "unauthenticated");
    assert_eq!(ask(&lab, &path, &[]).status, 200);
    // Without accepted tokens there is no side for them.
    let other = path.replace("Mutual", "Server");
    ask(&lab, &other, &[]).assert_problem(404, "not_published");
    assert_eq!(lab.upstream.count(".sms_aut"), 1);
}

/// The site's own tokens open the other side, and that one alone.
#[test]
fn tokens_have_their_side() {
    let mut lab = Lab::plan().connector(PRESET).without_connector().start();
    let dir = lab.dir().display().to_string();
    let token = |arguments: &[&str]| {
        let output = tidegate()
            .arg("token")
            .args(arguments)
            .args(["--dir", &dir])
            .output();
        let output = output.expect("tidegate token");
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    };
    token(&["init"]);
    let bearer = format!(
        "Authorization: Bearer {}",
        token(&["issue", "--client", "pc-7"])
    );
    let accepting = (
        "revision = 1\n",
        "revision = 1\ntokens = [\"site-tokens.jwks\"]\n",
    );
    lab.rewrite("connector.toml", "connector.toml", &[accepting]);
    lab.spawn_connector();
    lab.wait_connector();
    let server = MUTUAL.replace("Mutual", "Server");
    let ask = |path: &str, field: &[&str]| Curl::new(&lab, path).args(field).answer();
    let with = ["-H", &*bearer];
    for path in [
        "/ccm_system_tokenauth/request/x",
        "/SMS_MP_TokenAuth/.sms_aut",
        "/CCM_STS",
        "/CCM_Client/ccmsetup.cab",
    ] {
        let path_here = format!("{server}{path}");
        let method = if path.contains("request") {
            "CCM_POST"
        } else {
            "GET"
        };
        let answer = ask(&path_here, &["-X", method, "-H", &bearer]);
        assert_eq!(
            (answer.status, answer.text().as_str()),
            (200, path),
            "{path}"
        );
        ask(&path_here, &["-X", method]).assert_problem(401, "unauthenticated");
        let others = ask(&format!("{MUTUAL}{path}"), &["-X", method, "-H", &bearer]);
        assert!(
            matches!(others.status, 401 | 404),
            "{path}: {}",
            others.head
        );
    }
    for name in [
        "ApiRemoting30",
        "selfupdate",
        "SMS_MP_AltAuth",
        "ClientWebService/..;/ApiRemoting30",
    ] {
        let answer = ask(&format!("{server}/{name}/x"), &with);
        assert!(
            matches!(answer.status, 400 | 404),
            "{name}: {}",
            answer.head
        );
    }
    // A certificate is no token.
    let device = Curl::new(&lab, &format!("{server}/CCM_STS"))
        .identity(&lab, "device-1")
        .answer();
    device.assert_problem(401, "unauthenticated");
}

#[test]
fn what_must_stay_closed_is_refused() {
    let lab = lab();
    let names = [
        "ApiRemoting30",
        "ServerSyncWebService",
        "DSSAuthWebService",
        "SelfUpdate",
        "SMS_MP_WindowsAuth",
        "SMS_MP_AltAuth",
        "CCM_System_WindowsAuth",
        "CMUserService_WindowsAuth",
    ];
    let mut client = Tls::connect_as(&lab, "device-1");
    for name in names {
        for path in [
            format!("/{name}/x.asmx"),
            format!("/{}", name.to_ascii_lowercase()),
            format!("/{}/x", name.to_ascii_uppercase()),
            format!("//{name}//x"),
            format!("/./{name}/x"),
            format!("/SMS_MP/../{name}/x"),
            format!("/Content/%2e%2E/{name}/x"),
            format!("/Content/..;/{name}/x"),
            format!("/Content/..%2f{name}/x"),
            format!("/Content/..%5C{name}/x"),
            format!("/Content/..%20/{name}/x"),
            format!("/Content/%252e%252e/{name}/x"),
            format!("/{name}./x"),
            format!("/{name};/x"),
            format!("/{name};a=b/x"),
            format!("/{name}%2e%2e/x"),
            format!("/%{:02x}{}/x", name.as_bytes()[0], &name[1..]),
        ] {
            let answer = client.get(&format!("{MUTUAL}{path}"));
            assert!(
                matches!(answer.status, 400 | 404),
                "{path}: {}",
                answer.head
            );
            if answer
                .header("Connection")
                .is_some_and(|c| c.eq_ignore_ascii_case("close"))
            {
                client = Tls::connect_as(&lab, "device-1");
            }
        }
    }
    assert_eq!(
        lab.upstream.count(""),
        0,
        "nothing of it reached the server"
    );
}

#[test]
fn sizes_and_methods_have_their_limits() {
    let lab = lab();
    let status = |method: &str, path: &str, length: u64| {
        let mut client = Tls::connect_as(&lab, "device-1");
        client.send(format!(
            "{method} {MUTUAL}{path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\nExpect: 100-continue\r\n\r\n"
        ));
        client.head().status
    };
    const MIB: u64 = 1 << 20;
    for (method, path, limit) in [
        ("CCM_POST", "/CCM_System/request", 32 * MIB),
        ("BITS_POST", "/CCM_Incoming/x", 100 * MIB),
        ("POST", "/CCM_STS", MIB),
        ("POST", "/BGB/x", MIB),
        ("PROPFIND", "/CCM_Client/", 64 << 10),
    ] {
        assert_eq!(status(method, path, limit + 1), 413, "{method} {path}");
        assert_eq!(status(method, path, limit), 100, "{method} {path}");
    }
    for (method, path) in [
        ("DELETE", "/SMS_MP/x"),
        ("BITS_POST", "/CCM_Client/x"),
        ("PUT", "/Content/x"),
        ("GET", "/CCM_System/request"),
    ] {
        ask(&lab, &format!("{MUTUAL}{path}"), &["-X", method])
            .assert_problem(405, "method_not_allowed");
    }
    let patience = Duration::from_secs(5);
    lab.upstream
        .wait_for(What::Began, "/CCM_Incoming/x", patience);
}

#[test]
fn check_shows_what_a_preset_publishes() {
    let lab = Lab::plan().connector(PRESET).without_connector().start();
    let (fit, said) = check(&lab.file("connector.toml"));
    assert!(
        fit && said.contains("publishes 12 routes: 2 by [[route]], 10 by [[preset]]"),
        "{said}"
    );
    assert!(
        !said.contains("SMS_MP"),
        "no line a route unless asked for: {said}"
    );
    let open = (
        "path = \"/t/\"",
        &*format!("path = \"{MUTUAL}/ApiRemoting30/\""),
    );
    let (fit, said) = check(&lab.rewrite("connector.toml", "open.toml", &[open]));
    assert!(
        !fit && said.contains("must stay closed (apiremoting30)"),
        "{said}"
    );
}
