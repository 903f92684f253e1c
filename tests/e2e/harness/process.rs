//! A child process with its logs, its cost, and an end that it cannot escape.

use super::until;
use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

/// A running child. Dropping it kills it.
pub struct Process {
    name: String,
    child: Child,
    out: PathBuf,
    err: PathBuf,
}

fn appending(path: &Path) -> File {
    let opened = OpenOptions::new().append(true).create(true).open(path);
    opened.unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

impl Process {
    /// Starts `command`; its output goes to `NAME.out` and `NAME.err` in `dir`, behind what is there.
    pub fn start(name: &str, dir: &Path, command: &mut Command) -> Process {
        let (out, err) = (
            dir.join(format!("{name}.out")),
            dir.join(format!("{name}.err")),
        );
        let child = command
            .stdin(Stdio::null())
            .stdout(appending(&out))
            .stderr(appending(&err))
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {name} ({command:?}): {error}"));
        Process {
            name: name.to_owned(),
            child,
            out,
            err,
        }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// SIGKILL, and waits until it is gone.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// SIGTERM.
    pub fn terminate(&self) {
        self.signal("TERM");
    }

    /// A signal by its name without SIG.
    pub fn signal(&self, name: &str) {
        let command = format!("kill -{name} {}", self.pid());
        let sent = Command::new("sh")
            .args(["-c", &command])
            .status()
            .expect("sh");
        assert!(sent.success(), "{} is gone already", self.name);
    }

    /// Its exit status, once it ended by itself.
    #[track_caller]
    pub fn wait_exit(&mut self, within: Duration) -> ExitStatus {
        until(&format!("{} ends", self.name), within, || self.ended())
    }

    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("a child can be waited for")
    }

    /// All that it wrote.
    pub fn log(&self) -> String {
        let read =
            |path: &Path| String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned();
        format!("{}{}", read(&self.out), read(&self.err))
    }

    /// User and system time so far, in clock ticks of 10 ms.
    pub fn cpu_ticks(&self) -> u64 {
        let path = format!("/proc/{}/stat", self.pid());
        let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}"));
        // The command's name may hold anything, a closing bracket ends it; then fields 3, 4, …
        let (_, fields) = text.rsplit_once(')').expect("a name in brackets");
        let field = |number: usize| -> u64 {
            fields
                .split_whitespace()
                .nth(number - 3)
                .and_then(|n| n.parse().ok())
                .expect("a number")
        };
        field(14) + field(15)
    }

    /// The most memory that it ever held, in KiB.
    pub fn peak_rss_kib(&self) -> u64 {
        let path = format!("/proc/{}/status", self.pid());
        let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}"));
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix("VmHWM:"))
            .expect("VmHWM");
        line.split_whitespace()
            .next()
            .and_then(|n| n.parse().ok())
            .expect("a number")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}
