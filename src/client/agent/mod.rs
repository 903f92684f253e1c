//! A load run from several hosts: `tidegate load agent` runs a part of it where it is started, and whoever starts the run
//! talks to it through its standard input and output. So ssh is the transport and the authentication, and nothing listens:
//! `tidegate load requests … --agent 'ssh bench-2 tidegate load agent'`.
//!
//! Protocol 1: one JSON object a line, UTF-8, at most [`LINE_MAX`] bytes. `say` names the message.
//!
//! ```text
//! agent                                      coordinator
//!   {"say": "hello", "protocol": 1, "version": "0.1.0", "environment": {…}}
//!                                              {"say": "job", "scenario": {…}}    as in a result, with the agent's part of
//!   {"say": "ready"}                                                                connections, rate and count, and its seed
//!                                              {"say": "go"}                      when all are ready
//!   {"say": "progress", "moment": {…}, "requests": 1, "failed": 0}                once a moment, as in a result's timeline
//!   {"say": "result", "run": {…}}              (ends its input)
//!
//!   {"say": "failed", "why": "…"}              instead of any of these; then the agent ends
//! ```
//!
//! - An agent ends when its standard input ends, whatever it does at that moment: none outlives who started it.
//! - Both are of the same version, so that all hosts measure alike; the protocol's number is looked at first.
//! - Files that the scenario names (CA, certificate, key, tokens) are read on the agent's host, under the same paths.
//! - Clocks of the hosts need not agree. Hosts begin as far apart as `go` takes to reach them, and each counts from there.
//! - What an agent says is peer input: bounded, and never able to stop the coordinator other than by an error that names it.

mod child;
mod command;
mod coordinate;
mod course;
mod part;
mod serve;

pub use command::AgentCommand;
pub use coordinate::coordinate;
pub use serve::serve;

use super::load::Scenario;
use super::result::{Environment, Moment, Run};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::io::{self, BufRead, Read, Write};

pub const PROTOCOL: u32 = 1;
/// Of a message; a result of two hours with every second and all histograms is some 3 MiB long.
pub const LINE_MAX: u64 = 64 * 1024 * 1024;

#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "say", rename_all = "lowercase")]
enum FromAgent {
    Hello {
        protocol: u32,
        version: String,
        environment: Box<Environment>,
    },
    Ready,
    Progress {
        moment: Moment,
        requests: u64,
        failed: u64,
    },
    Result {
        run: Box<Run>,
    },
    Failed {
        why: String,
    },
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "say", rename_all = "lowercase")]
enum ToAgent {
    Job { scenario: Box<Scenario> },
    Go,
}

fn write_message(to: &mut impl Write, message: &impl Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    to.write_all(&line)?;
    to.flush()
}

/// The next line without its end; none at the end of what there is to read. One that is too long is an error.
fn read_line(from: &mut impl BufRead, most: u64) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    from.take(most + 1).read_until(b'\n', &mut line)?;
    if line.len() as u64 > most {
        return Err(io::Error::other(format!(
            "a line of more than {most} bytes"
        )));
    }
    if line.is_empty() {
        return Ok(None);
    }
    if line.last() == Some(&b'\n') {
        line.pop();
    }
    Ok(Some(line))
}

/// A message from a line; an error shows the line's begin.
fn message<T: DeserializeOwned>(line: &[u8]) -> Result<T, String> {
    serde_json::from_slice(line).map_err(|error| {
        let text = String::from_utf8_lossy(&line[..line.len().min(200)]);
        let shown: String = text.chars().take(80).flat_map(char::escape_debug).collect();
        format!("`{shown}` is no message ({error})")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_one_by_one_and_bounded() {
        let mut input = &b"one\n\ntwo"[..];
        let mut next = || {
            read_line(&mut input, 5)
                .unwrap()
                .map(|line| String::from_utf8(line).unwrap())
        };
        assert_eq!(
            [next(), next(), next(), next()],
            [
                Some("one".into()),
                Some(String::new()),
                Some("two".into()),
                None
            ]
        );
        assert!(
            read_line(&mut &b"123456\n"[..], 5)
                .unwrap_err()
                .to_string()
                .contains("more than 5")
        );
    }

    #[test]
    fn messages_are_what_the_front_page_says() {
        let go: ToAgent = message(br#"{"say": "go"}"#).unwrap();
        assert!(matches!(go, ToAgent::Go));
        let mut written = Vec::new();
        write_message(
            &mut written,
            &FromAgent::Progress {
                moment: Moment::default(),
                requests: 1,
                failed: 0,
            },
        )
        .unwrap();
        let text = String::from_utf8(written).unwrap();
        assert!(
            text.starts_with(r#"{"say":"progress","moment":{"#) && text.ends_with("}\n"),
            "{text}"
        );
        let wrong = message::<FromAgent>("Welcome\u{1b}[1m to bench-2".as_bytes()).unwrap_err();
        assert!(
            wrong.contains("`Welcome\\u{1b}[1m to bench-2` is no message"),
            "{wrong}"
        );
    }
}
