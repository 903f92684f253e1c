//! Our own clients: `load channels` and `client listen`.

use crate::harness::lab::{Folder, pki, tidegate};
use crate::harness::{
    Lab,
    tls_server::{self, TlsServer},
};
use std::io::{Read, Write};
use std::process::Output;
use std::sync::mpsc;

/// A receipt was posted.
type Posted = mpsc::Sender<String>;

#[test]
fn a_load_of_all_kinds_is_opened_and_held() {
    let lab = Lab::plan()
        .gateway("[channels]\nkeep_alive_seconds = 5\n")
        .start();
    let result = lab.file("load.json");
    let output = tidegate()
        .args([
            "load", "channels", "--kind", "mix", "--count", "60", "--hold", "8s",
        ])
        .args(["--poll-wait", "2", "--keep-alive", "5s", "--shards", "3"])
        .args(["--target", &lab.url("")])
        .arg("--ca")
        .arg(lab.file("ca.pem"))
        .arg("--pki")
        .arg(lab.dir())
        .arg("--json")
        .arg(&result)
        .output()
        .expect("load channels");
    assert!(output.status.success(), "{output:?}");
    let result: serde_json::Value =
        serde_json::from_slice(&std::fs::read(result).expect("a result")).expect("JSON");
    assert_eq!(
        (&result["opened"], &result["held"]),
        (&60.into(), &60.into())
    );
    // Each has shown life: a poll of 2 s twice, the others once.
    assert!(result["keep_alives"].as_u64() >= Some(80), "{result}");
    assert_eq!((&result["late"], &result["silent"]), (&0.into(), &0.into()));
}

#[test]
fn a_load_without_identities_says_why_nothing_opens() {
    let lab = Lab::start();
    let output = tidegate()
        .args(["load", "channels", "--count", "3", "--hold", "0s"])
        .args(["--target", &lab.url("")])
        .arg("--ca")
        .arg(lab.file("ca.pem"))
        .output()
        .expect("load channels");
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("3 × answered 401 unauthenticated"), "{text}");
}

pub const API_TOKEN: &str = "0123456789abcdef0123456789abcdef";

/// A lab whose API wants the token in `notify.token`.
pub fn lab_with_api_token() -> Lab {
    let plan = Lab::plan().notify("token_file = \"notify.token\"\n");
    let mut lab = plan.without_connector().start();
    std::fs::write(lab.file("notify.token"), API_TOKEN).expect("a file");
    lab.spawn_connector();
    lab.wait_connector();
    lab
}

/// `load push` of 40 pushes to 12 WebSocket clients of the lab.
fn load_push(lab: &Lab, token: &str, arguments: &[&str]) -> Output {
    let mut command = tidegate();
    command
        .args(["load", "push", "--kind", "websocket", "--count", "12"])
        .args(["--pushes", "40", "--shards", "2"])
        .args(["--target", &lab.url(""), "--ca"])
        .arg(lab.file("ca.pem"))
        .arg("--pki")
        .arg(lab.dir())
        .args(["--api", &format!("http://127.0.0.1:{}", lab.ports.notify)])
        .arg("--api-token")
        .arg(lab.file(token));
    command.args(arguments).output().expect("load push")
}

#[test]
fn a_load_of_pushes_times_each_to_its_client_and_its_receipt() {
    let lab = lab_with_api_token();
    let result = lab.file("push.json");
    let json = ["--json", result.to_str().expect("a path")];
    let measure = |arguments: &[&str], deliveries: u64| {
        let output = load_push(&lab, "notify.token", &[arguments, &json].concat());
        assert!(output.status.success(), "{output:?}");
        let result = std::fs::read(&result).expect("a result");
        let result: serde_json::Value = serde_json::from_slice(&result).expect("JSON");
        assert_eq!(result["pushes"], deliveries, "{result}");
        assert_eq!(result["api"]["accepted"], 40, "{result}");
        assert_eq!(result["api"]["sent"], deliveries, "{result}");
        assert_eq!(result["api"]["receipts"], deliveries, "{result}");
        let said = String::from_utf8_lossy(&output.stdout);
        for times in ["delivery", "answer", "receipt"] {
            let line = said.lines().find(|line| line.trim().starts_with(times));
            assert!(line.is_some_and(|line| line.contains("p99")), "{said}");
        }
    };
    measure(&["--payload-bytes", "900"], 40);
    measure(&["--queue"], 40);
    measure(&["--all", "--push-rate", "200"], 480);
}

#[test]
fn a_load_of_pushes_says_what_is_wrong_with_the_api_before_it_opens_a_channel() {
    let lab = lab_with_api_token();
    std::fs::write(lab.file("wrong.token"), "f".repeat(32)).expect("a file");
    let says = |token: &str, arguments: &[&str], text: &str| {
        let output = load_push(&lab, token, arguments);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains(text), "{said}");
    };
    says("wrong.token", &[], "401");
    says("no.token", &[], "no.token");
    let name = "tidegate_connections_accepted_total";
    assert_eq!(lab.metric(lab.ports.gateway_admin, name, &[]), 0.0);
}

fn listen(target: &str, arguments: &[&str], files: &[(&str, std::path::PathBuf)]) -> Output {
    let mut command = tidegate();
    command.args(["client", "listen", "--gateway", target]);
    for (name, file) in files {
        command.arg(name).arg(file);
    }
    command.args(arguments).output().expect("client listen")
}

#[test]
fn a_listener_says_what_no_further_try_would_change() {
    let lab = Lab::start();
    let says = |files: &[(&str, std::path::PathBuf)], text: &str| {
        let output = listen(&lab.url(""), &["--once"], files);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains(text), "{said}");
    };
    says(&[("--ca", lab.file("ca.pem"))], "401 unauthenticated");
    says(
        &[("--ca", lab.file("clients-ca.pem"))],
        "certificate is not accepted",
    );
}

/// A gateway of one scene: each channel brings two pushes, one of them known already, and ends.
fn scene(dir: &std::path::Path, posted: Posted) -> TlsServer {
    TlsServer::start(dir, move |number, session| {
        while let Ok(head) = tls_server::head(session) {
            if head.starts_with("POST /.tidegate/receipt ") {
                let length = head
                    .lines()
                    .find_map(|line| {
                        line.to_lowercase()
                            .strip_prefix("content-length: ")?
                            .parse()
                            .ok()
                    })
                    .unwrap_or(0);
                let mut body = vec![0; length];
                session.read_exact(&mut body)?;
                let _ = posted.send(String::from_utf8_lossy(&body).into_owned());
                session.write_all(b"HTTP/1.1 204 No Content\r\n\r\n")?;
                continue;
            }
            let chunk = |text: String| format!("{:x}\r\n{text}\r\n", text.len());
            let push = |id: u32, repeat: &str| {
                let id = format!("{id:026}");
                let data = format!("{{\"push\":\"{id}\",{repeat}\"payload\":{{\"n\":{number}}}}}");
                chunk(format!("event: push\nid: {id}\ndata: {data}\n\n"))
            };
            let mut text = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\
                            Transfer-Encoding: chunked\r\n\r\n"
                .to_owned();
            text += &chunk("retry: 10\n\n".to_owned());
            text += &push(1, if number == 0 { "" } else { "\"repeat\":true," });
            text += &push(100 + number as u32, "");
            text += &chunk(
                "event: close\ndata: {\"reason\":\"requested\",\"retry_ms\":20}\n\n".to_owned(),
            );
            text += "0\r\n\r\n";
            session.write_all(text.as_bytes())?;
            return Ok(());
        }
        Ok(())
    })
}

#[test]
fn a_listener_prints_each_push_once_acknowledges_and_comes_back() {
    let folder = Folder::new();
    pki(&folder.0, &["init"]);
    pki(&folder.0, &["server"]);
    let (posted, receipts) = mpsc::channel();
    let server = scene(&folder.0, posted);
    let target = format!("https://localhost:{}", server.port);
    let ca = [("--ca", folder.0.join("ca.pem"))];
    let output = listen(&target, &["--json", "--ack", "--count", "3"], &ca);
    assert!(output.status.success(), "{output:?}");
    let lines = String::from_utf8_lossy(&output.stdout).into_owned();
    let ids: Vec<_> = lines
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON")["push"].clone())
        .collect();
    assert_eq!(ids.len(), 3, "{lines}");
    assert_eq!(ids[0], format!("{:026}", 1));
    let receipts: Vec<_> = receipts.try_iter().collect();
    let first = format!("{:026}", 1);
    assert!(
        receipts.iter().filter(|body| body.contains(&first)).count() >= 2,
        "{receipts:?}"
    );
}
