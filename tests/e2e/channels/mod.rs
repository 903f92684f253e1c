//! Notification channels, as clients see them.

mod clients;
mod commands;
mod crashes;
mod disk;
mod ends;
mod openapi;
mod opening;
mod pushes;

use crate::harness::lab::tidegate;
use crate::harness::{Lab, Tls, tls, until};
use std::path::Path;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(10);

/// Open channels of a kind, or of all kinds with "".
fn open(lab: &Lab, kind: &str) -> u32 {
    lab.metric(lab.ports.gateway_admin, "tidegate_channels", &[kind]) as u32
}

/// Waits until so many are open.
#[track_caller]
fn await_open(lab: &Lab, count: u32) {
    until("so many channels are open", PATIENCE, || {
        (open(lab, "") == count).then_some(())
    });
}

/// Channels that ended for a reason.
fn ended(lab: &Lab, reason: &str) -> u32 {
    let label = format!("reason=\"{reason}\"");
    let port = lab.ports.gateway_admin;
    lab.metric(port, "tidegate_channels_ended_total", &[&label]) as u32
}

fn device(lab: &Lab) -> Tls {
    Tls::connect_with(lab, &tls::config(lab, Some("device-1")))
}

/// A site token, by `tidegate token`.
#[track_caller]
fn token(dir: &Path, arguments: &[&str]) -> String {
    let mut command = tidegate();
    command.arg("token").args(arguments).arg("--dir").arg(dir);
    let output = command.output().expect("tidegate token");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// A lab whose site takes certificates and its own tokens.
fn with_tokens() -> crate::harness::lab::Plan {
    Lab::plan()
        .site("tokens = [\"site-tokens.jwks\"]")
        .prepare(|dir| drop(token(dir, &["init"])))
}
