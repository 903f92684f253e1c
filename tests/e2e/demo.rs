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
