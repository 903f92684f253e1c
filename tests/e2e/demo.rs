//! The demo does what it prints.

use crate::harness::lab::{Folder, tidegate};
use crate::harness::talk::Talk;
use crate::harness::until;
use std::process::Command;
use std::time::Duration;

#[test]
fn every_printed_line_does_what_it_says() {
    let folder = Folder::new();
    let dir = folder.0.display().to_string();
    let talk = Talk::start(tidegate().args(["demo", "--free-ports", "--dir", &dir]));
    let said = talk.hear("Ctrl-C ends it", 1);
    let lines: Vec<_> = said
        .lines()
        .filter(|line| line.trim_start().starts_with("curl"))
        .collect();
    let mut promised = Vec::new();
    for line in lines {
        let (command, comment) = line
            .rsplit_once('#')
            .unwrap_or_else(|| panic!("no comment: {line}"));
        let status: String = comment
            .trim()
            .chars()
            .take_while(char::is_ascii_digit)
            .collect();
        let run = format!("{command} -o /dev/null -w '%{{http_code}}'");
        let output = Command::new("sh").args(["-c", &run]).output().expect("sh");
        let got = String::from_utf8_lossy(&output.stdout);
        assert_eq!(
            got,
            status,
            "{line}\n{}",
            String::from_utf8_lossy(&output.stderr)
        );
        promised.push(status);
    }
    for status in ["200", "401", "404"] {
        assert!(
            promised.iter().any(|p| p == status),
            "no line shows a {status}:\n{said}"
        );
    }
}

/// The two lines of notifications: a channel, and a push that comes through it.
#[test]
fn a_push_comes_through_the_printed_channel() {
    let folder = Folder::new();
    let dir = folder.0.display().to_string();
    let talk = Talk::start(tidegate().args(["demo", "--free-ports", "--dir", &dir]));
    let said = talk.hear("Ctrl-C ends it", 1);
    let line = |label: &str| {
        let found = said
            .lines()
            .find_map(|line| line.trim_start().strip_prefix(label));
        found
            .unwrap_or_else(|| panic!("no {label}:\n{said}"))
            .trim()
            .to_owned()
    };
    let into = folder.0.join("channel.txt");
    let channel = format!("exec {} > {}", line("channel "), into.display());
    let mut channel = Command::new("sh")
        .args(["-c", &channel])
        .spawn()
        .expect("sh");
    // Delivered as soon as the channel is known.
    let pushed = until("a push is delivered", Duration::from_secs(20), || {
        let output = Command::new("sh")
            .args(["-c", &line("push ")])
            .output()
            .expect("sh");
        output
            .status
            .success()
            .then(|| String::from_utf8_lossy(&output.stdout).into_owned())
    });
    assert!(pushed.contains("sent 1"), "{pushed}");
    let id = pushed.lines().next().expect("an id").to_owned();
    until("it stands in the channel", Duration::from_secs(5), || {
        let text = std::fs::read_to_string(&into).unwrap_or_default();
        (text.contains(&id) && text.contains(r#""payload":{"hello":1}"#)).then_some(())
    });
    let _ = channel.kill();
    let _ = channel.wait();
}

/// A second run on the same folder keeps its PKI: certificates handed out go on working.
#[test]
fn a_second_run_uses_the_first_ones_folder() {
    let folder = Folder::new();
    let dir = folder.0.display().to_string();
    let ca = |talk: &Talk| {
        talk.hear("Ctrl-C ends it", 1);
        std::fs::read(folder.0.join("ca.pem")).expect("ca.pem")
    };
    let start = || Talk::start(tidegate().args(["demo", "--free-ports", "--dir", &dir]));
    let first = start();
    let before = ca(&first);
    first.terminate();
    let second = start();
    assert_eq!(before, ca(&second));
}

#[test]
fn its_processes_end_with_it() {
    let folder = Folder::new();
    let dir = folder.0.display().to_string();
    let talk = Talk::start(tidegate().args(["demo", "--free-ports", "--dir", &dir]));
    talk.hear("Ctrl-C ends it", 1);
    assert!(of_folder(&dir) >= 2, "a gateway and a connector");
    talk.terminate();
    until("its processes end", Duration::from_secs(10), || {
        (of_folder(&dir) == 0).then_some(())
    });
}

/// Processes whose command line names the folder, the demo itself apart.
fn of_folder(dir: &str) -> usize {
    let names = |entry: std::fs::DirEntry| {
        std::fs::read_to_string(entry.path().join("cmdline")).unwrap_or_default()
    };
    let all = std::fs::read_dir("/proc")
        .expect("/proc")
        .flatten()
        .map(names);
    all.filter(|line| line.contains(dir) && !line.contains("\0demo\0"))
        .count()
}
