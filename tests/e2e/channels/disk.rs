//! The disk under queued pushes: full, somebody else's, not a store. Pushes that need no disk, and requests, go on.

use super::device;
use super::pushes::{DEVICE, plan};
use crate::harness::channel::Stream;
use crate::harness::{Lab, until};
use serde_json::{Value, json};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// A store that cannot be used is tried again every 5 s.
const PATIENCE: Duration = Duration::from_secs(20);

/// One queued push: 202, or the code of what is wrong with its detail.
fn queue(lab: &Lab, bytes: usize) -> Result<String, (u16, String, String)> {
    let body = json!({"to": {"clients": [DEVICE]}, "payload": "x".repeat(bytes), "queue": true, "ttl_s": 60});
    let answer = lab.api().ask("POST", "/v1/push", &body.to_string());
    let said: Value = serde_json::from_slice(&answer.body).expect("JSON");
    let text = |name: &str| said[name].as_str().unwrap_or_default().to_owned();
    match answer.status {
        202 => Ok(text("push")),
        status => {
            assert_eq!(
                answer.header("Content-Type"),
                Some("application/problem+json")
            );
            assert!(answer.header("Retry-After").is_some(), "{}", answer.text());
            Err((status, text("code"), text("detail")))
        }
    }
}

/// A request passes, and a push that is not queued reaches its client.
#[track_caller]
fn all_else_goes_on(lab: &Lab, stream: &mut Stream) {
    assert_eq!(device(lab).get("/cert/x").status, 200);
    let push = lab.api().push_to(DEVICE, json!("direct"), false);
    assert_eq!(stream.event().push()["push"], push);
}

fn is_usable(lab: &Lab) -> bool {
    lab.metric(lab.ports.connector_admin, "tidegate_hub_store_usable", &[]) == 1.0
}

/// A small disk of its own under the lab's store.
struct SmallDisk(PathBuf);

impl SmallDisk {
    /// Of 4 MiB; `notify.redb` is on it.
    fn mount(lab: &Path) -> SmallDisk {
        let dir = lab.join("disk");
        fs::create_dir(&dir).expect("a folder");
        let mut mount = Command::new("mount");
        mount
            .args(["-t", "tmpfs", "-o", "size=4m", "tmpfs"])
            .arg(&dir);
        assert!(mount.status().expect("mount").success(), "needs root");
        std::os::unix::fs::symlink(dir.join("notify.redb"), lab.join("notify.redb"))
            .expect("a link");
        SmallDisk(dir)
    }

    /// Takes all that is left, but for a few pages.
    fn fill(&self) -> PathBuf {
        let ballast = self.0.join("ballast");
        let mut bytes = 4 << 20;
        while bytes > 4096 && fs::write(&ballast, vec![0; bytes]).is_err() {
            bytes -= 16 << 10;
        }
        ballast
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn a_full_disk_refuses_queued_pushes_until_there_is_room_and_loses_none_before() {
    let mut lab = plan().without_connector().start();
    let disk = SmallDisk::mount(lab.dir());
    lab.spawn_connector();
    lab.wait_connector();
    until("the store is usable", PATIENCE, || {
        is_usable(&lab).then_some(())
    });
    let ballast = disk.fill();
    let mut accepted = Vec::new();
    let (status, code, detail) = loop {
        assert!(accepted.len() < 2000, "4 MiB take no more");
        match queue(&lab, 3000) {
            Ok(push) => accepted.push(push),
            Err(problem) => break problem,
        }
    };
    assert_eq!((status, code.as_str()), (507, "store_full"), "{detail}");
    let mut other = Stream::open(device(&lab), "");
    for push in &accepted {
        assert_eq!(other.event().push()["push"], *push, "of {}", accepted.len());
    }
    all_else_goes_on(&lab, &mut other);
    fs::remove_file(ballast).expect("the ballast");
    let push = until("there is room", PATIENCE, || queue(&lab, 10).ok());
    assert_eq!(other.event().push()["push"], push);
}

#[test]
fn a_store_of_another_process_refuses_queued_pushes_until_it_is_free() {
    let mut lab = plan().without_connector().start();
    let file = File::create(lab.file("notify.redb")).expect("a file");
    file.lock().expect("a lock");
    lab.spawn_connector();
    lab.wait_connector();
    let mut stream = Stream::open(device(&lab), "");
    lab.api().await_present(DEVICE, 1);
    let (status, code, detail) = queue(&lab, 10).expect_err("the store is another's");
    assert_eq!((status, code.as_str()), (503, "store_unavailable"));
    assert!(detail.contains("another process"), "{detail}");
    assert!(
        lab.connector
            .as_ref()
            .expect("one")
            .log()
            .contains("another process")
    );
    all_else_goes_on(&lab, &mut stream);
    file.unlock().expect("an unlock");
    let push = until("the store is free", PATIENCE, || queue(&lab, 10).ok());
    assert_eq!(stream.event().push()["push"], push);
}

#[test]
fn a_file_that_is_no_store_is_left_alone_and_said_to_be_none() {
    let mut lab = plan().without_connector().start();
    let junk = "this is somebody's letter. ".repeat(1000);
    fs::write(lab.file("notify.redb"), &junk).expect("a file");
    lab.spawn_connector();
    lab.wait_connector();
    let mut stream = Stream::open(device(&lab), "");
    lab.api().await_present(DEVICE, 1);
    let (status, code, detail) = queue(&lab, 10).expect_err("no store");
    assert_eq!((status, code.as_str()), (503, "store_unavailable"));
    assert!(detail.contains("notify.redb"), "{detail}");
    all_else_goes_on(&lab, &mut stream);
    assert_eq!(
        fs::read_to_string(lab.file("notify.redb")).expect("a file"),
        junk
    );
}
