//! Clients that people use: Chromium's EventSource and WebSocket, Python's `websockets`, curl.

use super::pushes::{DEVICE, plan};
use super::{PATIENCE, await_open, open};
use crate::harness::chromium::Chromium;
use crate::harness::process::Process;
use crate::harness::{Lab, until};
use serde_json::{Value, json};
use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

const PAGE: &str = include_str!("browser.html");
/// A browser takes its time to start.
const START: Duration = Duration::from_secs(60);

#[test]
fn chromium_gets_pushes_by_event_source_and_by_websocket() {
    let lab = plan().nginx().start();
    let nginx = lab.nginx.as_ref().expect("an nginx");
    nginx.put("page.html", PAGE.as_bytes());
    let api = lab.api();
    for (kind, fragment) in [("sse", ""), ("websocket", "#websocket")] {
        let page = format!("/files/page.html{fragment}");
        let browser = Chromium::open(&lab, &format!("browser-{kind}"), &page);
        until("the browser's channel is open", START, || {
            (open(&lab, &format!("kind=\"{kind}\"")) == 1).then_some(())
        });
        api.await_present(DEVICE, 1);
        for _ in 0..3 {
            let push = api.push_to(DEVICE, json!({"hello": "world"}), true);
            api.await_count(&push, "acknowledged", 1);
        }
        drop(browser);
        await_open(&lab, 0);
        api.await_present(DEVICE, 0);
    }
}

#[test]
fn the_websockets_library_of_python_gets_pushes() {
    let lab = plan().start();
    let api = lab.api();
    let url = lab.url("/.tidegate/channel").replace("https://", "wss://");
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/e2e/channels/client.py");
    let mut child = python(&lab, "websockets", ">=13")
        .args([script, &url])
        .arg(lab.dir())
        .arg("3")
        .stdout(Stdio::piped())
        .spawn()
        .expect("python");
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    let mut line = || lines.next().expect("a line").expect("UTF-8");
    assert_eq!(line(), "open");
    api.await_present(DEVICE, 1);
    for n in 0..3 {
        let push = api.push_to(DEVICE, json!({"n": n}), false);
        let envelope: Value = serde_json::from_str(&line()).expect("JSON");
        assert_eq!(envelope, json!({"push": push, "payload": {"n": n}}));
        api.await_count(&push, "acknowledged", 1);
    }
    assert_eq!(line(), "closed 1000");
    assert!(child.wait().expect("an end").success());
}

/// Python with that library (its version as pip takes it), in a folder that all runs share.
pub fn python(lab: &Lab, library: &str, version: &str) -> Command {
    let libraries = concat!(env!("CARGO_MANIFEST_DIR"), "/target/e2e-python");
    let python = || {
        let mut command = Command::new("python3");
        command.env("PYTHONPATH", libraries).current_dir(lab.dir());
        command
    };
    let there = python().args(["-c", &format!("import {library}")]).output();
    if !there
        .expect("python3: scripts/need python3")
        .status
        .success()
    {
        let mut install = Command::new("python3");
        install.args([
            "-m",
            "pip",
            "install",
            "--quiet",
            "--upgrade",
            "--target",
            libraries,
        ]);
        let output = install
            .arg(format!("{library}{version}"))
            .output()
            .expect("pip");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "pip: {said}; scripts/need pip3");
    }
    python()
}

#[test]
fn curl_gets_pushes_by_stream_and_by_long_poll() {
    let lab = plan().start();
    let api = lab.api();
    let curl = |path: &str, out: &str| {
        let mut command = Command::new("curl");
        command
            .args(["-sS", "-N", "--cacert"])
            .arg(lab.file("ca.pem"));
        command.arg("--cert").arg(lab.file("device-1.pem"));
        command.arg("--key").arg(lab.file("device-1.key"));
        Process::start(out, lab.dir(), command.arg(lab.url(path)))
    };
    let stream = curl("/.tidegate/channel", "curl-stream");
    api.await_present(DEVICE, 1);
    let push = api.push_to(DEVICE, json!("hello"), false);
    let expected =
        format!("id: {push}\nevent: push\ndata: {{\"push\":\"{push}\",\"payload\":\"hello\"}}\n\n");
    until("curl shows the push", PATIENCE, || {
        let text = fs::read_to_string(lab.file("curl-stream.out")).expect("output");
        text.contains(&expected).then_some(())
    });
    drop(stream);
    api.await_present(DEVICE, 0);
    let mut poll = curl("/.tidegate/channel?wait=30", "curl-poll");
    api.await_present(DEVICE, 1);
    let push = api.push_to(DEVICE, json!("hello"), false);
    assert!(poll.wait_exit(PATIENCE).success());
    let text = fs::read_to_string(lab.file("curl-poll.out")).expect("output");
    let body: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(body["pushes"][0]["push"], push);
}
