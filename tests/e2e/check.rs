//! A wrong config is told by file, line and hint, by `check` and at the start alike.

use crate::harness::Lab;
use crate::harness::lab::{check, tidegate};
use std::process::Command;

/// The line of `part` in a file.
fn line_of(lab: &Lab, name: &str, part: &str) -> usize {
    let text = std::fs::read_to_string(lab.file(name)).expect("a config file");
    1 + text
        .lines()
        .position(|line| line.contains(part))
        .unwrap_or_else(|| panic!("no {part:?} in {name}"))
}

#[test]
fn the_labs_own_files_are_right() {
    let lab = Lab::plan().without_connector().start();
    for name in ["gateway.toml", "connector.toml"] {
        let (fit, said) = check(&lab.file(name));
        assert!(fit, "{said}");
    }
}

#[test]
fn each_mistake_is_named_with_file_line_and_hint() {
    let lab = Lab::plan().without_connector().start();
    std::fs::write(lab.file("text.pem"), "no certificate").expect("a file");
    #[rustfmt::skip]
    let mistakes: &[(&str, &str, &str, &[&str])] = &[
        // file, right, wrong, what must be said
        ("gateway.toml", "[limits]", "[limit]", &["limit", "did you mean", "limits"]),
        ("gateway.toml", "connector_ca = \"ca.pem\"", "conector_ca = \"ca.pem\"", &["conector_ca", "connector_ca"]),
        ("gateway.toml", "connector_ca = \"ca.pem\"", "connector_ca = \"gone.pem\"", &["gone.pem"]),
        ("gateway.toml", "certificate = \"server.pem\"", "certificate = \"text.pem\"", &["text.pem"]),
        ("gateway.toml", "key = \"server.key\"", "key = \"cp-1.key\"", &["cp-1.key", "server.pem"]),
        ("gateway.toml", "relay = [\"127.0.0.1:", "relay = [\"127.0.0:", &["is no address"]),
        ("gateway.toml", "shards = 1", "shards = 0", &["shards"]),
        ("gateway.toml", "access = \"all\"", "access = \"some\"", &["some", "errors"]),
        ("gateway.toml", "name = \"lab\"", "name = lab", &["gateway.toml"]),
        ("connector.toml", "id = \"cp-1\"", "id = \"cp-7\"", &["cp-7", "cp-1"]),
        ("connector.toml", "auth = \"certificate\"", "auth = \"certifcate\"", &["certifcate", "certificate"]),
        ("connector.toml", "path = \"/cert/\"", "path = \"cert/\"", &["cert/"]),
        ("connector.toml", "path = \"/cert/\"", "path = \"/t\"", &["/t/", "are one"]),
        ("connector.toml", "upstream = [\"http://", "upstream = [\"ftp://", &["ftp"]),
        ("connector.toml", "file = \"clients-ca.pem\"", "file = \"device-1.pem\"", &["device-1.pem"]),
        ("connector.toml", "revision = 1", "revision = \"one\"", &["revision", "whole number"]),
    ];
    for (name, right, wrong, said) in mistakes {
        let config = lab.rewrite(name, &format!("wrong-{name}"), &[(right, wrong)]);
        let line = line_of(&lab, &format!("wrong-{name}"), wrong);
        let (fit, text) = check(&config);
        assert!(!fit, "{wrong} passed: {text}");
        let place = format!("wrong-{name}:{line}:");
        let complaint = text.lines().find(|l| l.contains(&place));
        assert!(
            complaint.is_some(),
            "{wrong}: nothing at {place} in\n{text}"
        );
        for part in *said {
            assert!(
                text.contains(part),
                "{wrong}: `{part}` is not said in\n{text}"
            );
        }
        // The process says the same and does not start.
        let role = name.trim_end_matches(".toml");
        let output = tidegate()
            .arg(role)
            .arg("--config")
            .arg(&config)
            .output()
            .expect("tidegate");
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(
            !output.status.success() && text.contains(&place),
            "{role} with {wrong}: {text}"
        );
    }
}

#[test]
fn all_mistakes_are_told_at_once() {
    let lab = Lab::plan().without_connector().start();
    let changes = [
        ("shards = 1", "shards = -1"),
        ("key = \"server.key\"", "key = \"gone.key\""),
        ("\"all\"", "\"some\""),
    ];
    let config = lab.rewrite("gateway.toml", "wrong.toml", &changes);
    let (fit, text) = check(&config);
    let complaints = text
        .lines()
        .filter(|line| line.contains("wrong.toml:"))
        .count();
    assert!(!fit && complaints >= 3, "{text}");
}

#[test]
fn a_file_that_is_not_there_is_named() {
    for role in ["check", "gateway", "connector"] {
        let output = Command::new(env!("CARGO_BIN_EXE_tidegate"))
            .args([role, "--config", "/nowhere/gateway.toml"])
            .output()
            .expect("tidegate");
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text);
        assert!(
            !output.status.success() && text.contains("/nowhere/gateway.toml"),
            "{role}: {text}"
        );
    }
}
