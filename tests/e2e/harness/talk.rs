//! A child that is talked with: what it says is collected, and the next line waits for the last one's effect.

use super::until;
use std::io::{Read, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// The longest wait for a word or an end.
const PATIENCE: Duration = Duration::from_secs(20);

/// A child with its input open. Dropping it ends it: asked first, then killed.
pub struct Talk {
    child: Child,
    input: Option<ChildStdin>,
    said: Arc<Mutex<Vec<u8>>>,
}

impl Talk {
    pub fn start(command: &mut Command) -> Talk {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
        let said = Arc::new(Mutex::new(Vec::new()));
        collect(child.stdout.take().expect("piped"), said.clone());
        collect(child.stderr.take().expect("piped"), said.clone());
        Talk {
            input: child.stdin.take(),
            child,
            said,
        }
    }

    /// One write, so that the child reads it as one piece.
    pub fn say(&mut self, text: &str) {
        let input = self.input.as_mut().expect("the input is open");
        input
            .write_all(text.as_bytes())
            .and_then(|()| input.flush())
            .expect("the child reads");
    }

    /// All that it said so far.
    pub fn said(&self) -> String {
        String::from_utf8_lossy(&self.said.lock().expect("no reader panics")).into_owned()
    }

    /// Waits until it has said `text` that many times.
    #[track_caller]
    pub fn hear(&self, text: &str, times: usize) -> String {
        let heard = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            until(text, PATIENCE, || {
                Some(self.said()).filter(|said| said.matches(text).count() >= times)
            })
        }));
        heard.unwrap_or_else(|_| {
            panic!(
                "`{text}` was not heard {times} time(s) in:\n{}",
                self.said()
            )
        })
    }

    /// SIGTERM, and waits for its end.
    pub fn terminate(mut self) {
        self.ask_to_end();
        let child = &mut self.child;
        until("the child ends", PATIENCE, || {
            child.try_wait().expect("a child")
        });
    }

    fn ask_to_end(&mut self) {
        let command = format!("kill -TERM {}", self.child.id());
        let _ = Command::new("sh")
            .args(["-c", &command])
            .stderr(Stdio::null())
            .status();
    }

    /// Closes its input and waits for its end.
    pub fn finish(mut self) -> String {
        self.input = None;
        let child = &mut self.child;
        until("the child ends", PATIENCE, || {
            child.try_wait().expect("a child")
        });
        // The readers end with the pipes; what is left in them is read within moments.
        until("its output is read", PATIENCE, || {
            (Arc::strong_count(&self.said) == 1).then(|| self.said())
        })
    }
}

impl Drop for Talk {
    fn drop(&mut self) {
        // A demo ends its own children when it is asked to, and only then.
        if matches!(self.child.try_wait(), Ok(None)) {
            self.ask_to_end();
            let deadline = Instant::now() + Duration::from_secs(2);
            while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < deadline {
                std::thread::park_timeout(Duration::from_millis(5));
            }
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn collect(mut from: impl Read + Send + 'static, into: Arc<Mutex<Vec<u8>>>) {
    std::thread::spawn(move || {
        let mut part = [0; 4096];
        while let Ok(n @ 1..) = from.read(&mut part) {
            into.lock()
                .expect("no reader panics")
                .extend_from_slice(&part[..n]);
        }
    });
}
