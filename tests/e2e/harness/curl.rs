//! Real curl against the gateway of a lab.

use super::http::Answer;
use super::lab::Lab;
use std::process::{Command, Output};

/// One curl command.
pub struct Curl {
    command: Command,
}

/// What curl made of it.
pub struct Done {
    /// Exit code: 0, 18 (cut short), 52 (empty answer), 56 (reset), …
    pub code: i32,
    /// The last answer (interim ones and earlier ones cut off); status 0 when none came.
    pub answer: Answer,
    /// `-v` output and errors.
    pub log: String,
}

impl Curl {
    /// `curl https://localhost:PORT/path` with the lab's CA, the lab's family, a limit of time, and heads in the output.
    pub fn new(lab: &Lab, path: &str) -> Curl {
        let mut curl = Curl::bare(lab);
        curl.command.arg("--include").arg(lab.url(path));
        curl
    }

    /// The same without URL and without `--include`.
    pub fn bare(lab: &Lab) -> Curl {
        let mut command = Command::new("curl");
        command.args([
            "-sS",
            if lab.ip().is_ipv4() { "-4" } else { "-6" },
            "--path-as-is",
            "--globoff",
            "--max-time",
            "120",
            "--cacert",
        ]);
        command.arg(lab.file("ca.pem"));
        Curl { command }
    }

    pub fn arg(mut self, argument: impl AsRef<std::ffi::OsStr>) -> Curl {
        self.command.arg(argument);
        self
    }

    pub fn args(mut self, arguments: &[&str]) -> Curl {
        self.command.args(arguments);
        self
    }

    /// Presents the certificate of that name.
    pub fn identity(mut self, lab: &Lab, name: &str) -> Curl {
        self.command
            .arg("--cert")
            .arg(lab.file(&format!("{name}.pem")));
        self.command
            .arg("--key")
            .arg(lab.file(&format!("{name}.key")));
        self
    }

    pub fn output(mut self) -> Output {
        self.command.output().expect("curl")
    }

    /// Runs it and takes its output apart.
    pub fn run(self) -> Done {
        let output = self.output();
        Done {
            code: output.status.code().unwrap_or(-1),
            answer: last_answer(&output.stdout),
            log: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Runs it; curl must be content.
    #[track_caller]
    pub fn answer(self) -> Answer {
        let done = self.run();
        assert_eq!(done.code, 0, "curl: {}\n{}", done.log, done.answer.head);
        done.answer
    }
}

/// Heads as curl prints them, then the body: curl has undone the chunks, and prints trailers nowhere.
fn last_answer(mut output: &[u8]) -> Answer {
    let mut answer = Answer::default();
    while output.starts_with(b"HTTP/1.") {
        let Some(end) = output.windows(4).position(|w| w == b"\r\n\r\n") else {
            break;
        };
        let head = String::from_utf8_lossy(&output[..end]).into_owned();
        let status = head
            .split(' ')
            .nth(1)
            .and_then(|status| status.parse().ok())
            .unwrap_or(0);
        let field = |line: &str| {
            line.split_once(':')
                .map(|(n, v)| (n.to_owned(), v.trim().to_owned()))
        };
        let headers = head.lines().skip(1).filter_map(field).collect();
        output = &output[end + 4..];
        answer = Answer {
            status,
            head,
            headers,
            ..Answer::default()
        };
        if status >= 200 {
            break;
        }
    }
    answer.body = output.to_vec();
    answer
}
