//! An agent as its coordinator has it: a process, and threads that read what it says.

use std::io::{BufReader, Read};
use std::process::{Child, ChildStdin};
use std::sync::mpsc::SyncSender;
use std::thread;
use std::time::{Duration, Instant};

use super::{
    AgentCommand, FromAgent, LINE_MAX, PROTOCOL, ToAgent, message, read_line, write_message,
};

/// An agent whose input has ended has so long to end itself.
const GRACE: Duration = Duration::from_secs(2);
/// Of standard error, which is passed on line by line.
const ERROR_LINE_MAX: u64 = 16 * 1024;

/// What came from the agent of this number.
pub struct Event {
    pub agent: usize,
    /// An error: nothing comes after it.
    pub said: Result<FromAgent, String>,
}

pub struct Agent {
    pub name: String,
    child: Child,
    /// None: it has nothing more to hear, since a moment ago.
    input: Option<ChildStdin>,
    dismissed: Instant,
}

impl Agent {
    /// Starts it; what it says goes to `events` from now on.
    ///
    /// # Errors
    /// There is no such program.
    pub fn start(
        command: &AgentCommand,
        number: usize,
        events: SyncSender<Result<Event, String>>,
    ) -> Result<Agent, String> {
        let name = command.name.clone();
        let mut child = command
            .command()
            .spawn()
            .map_err(|error| format!("agent {name} could not be started: {error}"))?;
        if let Some(output) = child.stdout.take() {
            thread::spawn(move || hear(number, output, &events));
        }
        if let Some(errors) = child.stderr.take() {
            let name = name.clone();
            thread::spawn(move || pass_on(&name, errors));
        }
        let input = child.stdin.take();
        Ok(Agent {
            name,
            child,
            input,
            dismissed: Instant::now(),
        })
    }

    /// # Errors
    /// It does not read; what it said last tells why.
    pub fn tell(&mut self, message: &ToAgent) -> Result<(), String> {
        let input = self.input.as_mut().ok_or("hears nothing more")?;
        write_message(input, message).map_err(|error| format!("does not listen: {error}"))
    }

    /// Ends its input, upon which it ends.
    pub fn dismiss(&mut self) {
        if self.input.take().is_some() {
            self.dismissed = Instant::now();
        }
    }

    /// How it ended, for an error; it is waited for shortly.
    pub fn ending(&mut self) -> String {
        self.dismiss();
        match self.wait() {
            Some(status) => status,
            None => "it still runs".to_owned(),
        }
    }

    fn wait(&mut self) -> Option<String> {
        let until = self.dismissed + GRACE;
        loop {
            match self.child.try_wait() {
                Ok(Some(status)) => return Some(status.to_string()),
                Err(error) => return Some(error.to_string()),
                Ok(None) if Instant::now() >= until => return None,
                Ok(None) => thread::sleep(Duration::from_millis(5)),
            }
        }
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.dismiss();
        if self.wait().is_none() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

fn hear(agent: usize, output: impl Read, events: &SyncSender<Result<Event, String>>) {
    let mut output = BufReader::new(output);
    let mut greeted = false;
    loop {
        let said = match read_line(&mut output, LINE_MAX) {
            Ok(Some(line)) if !greeted => greeting(&line),
            Ok(Some(line)) => message(&line).map_err(|why| format!("said {why}")),
            Ok(None) => Err(GONE.to_owned()),
            Err(error) => Err(format!("could not be heard: {error}")),
        };
        greeted = true;
        let last = said.is_err();
        if events.send(Ok(Event { agent, said })).is_err() || last {
            return;
        }
    }
}

/// Why an agent is lost that just ended; how it ended is added.
pub const GONE: &str = "ended";

/// As an error of an agent reads.
pub fn of(agent: &Agent, why: &str) -> String {
    format!("agent {} {why}", agent.name)
}

/// Why an agent is lost, with how its process ended.
pub fn explained(agent: &mut Agent, why: String) -> String {
    if why == GONE {
        format!("{why}: {}", agent.ending())
    } else {
        why
    }
}

/// The first line, of which the numbers are looked at first: the rest may be of another time.
fn greeting(line: &[u8]) -> Result<FromAgent, String> {
    let value: serde_json::Value = message(line)
        .map_err(|why| format!("said {why}; does a login script print on standard output?"))?;
    let text = |key: &str| {
        value
            .get(key)
            .and_then(serde_json::Value::as_str)
            .unwrap_or("?")
    };
    let protocol = value.get("protocol").and_then(serde_json::Value::as_u64);
    let (theirs, own) = (text("version"), env!("CARGO_PKG_VERSION"));
    if text("say") != "hello" {
        return Err(message::<FromAgent>(line).map_or_else(
            |why| format!("said {why}"),
            |said| match said {
                FromAgent::Failed { why } => why,
                other => format!("began with {other:?} instead of its version"),
            },
        ));
    }
    if protocol != Some(u64::from(PROTOCOL)) || theirs != own {
        return Err(format!(
            "is of tidegate {theirs}, and this is {own}: a run needs the same on all hosts"
        ));
    }
    message(line).map_err(|why| format!("said {why}"))
}

/// Shows what an agent writes on standard error, with its name in front.
fn pass_on(name: &str, errors: impl Read) {
    let mut errors = BufReader::new(errors);
    while let Ok(Some(line)) = read_line(&mut errors, ERROR_LINE_MAX) {
        let text = String::from_utf8_lossy(&line);
        let text: String = text
            .chars()
            .filter(|c| !c.is_control() || *c == '\t')
            .collect();
        eprintln!("[{name}] {text}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn greetings_of_others_are_refused_by_their_version() {
        let own = format!(
            r#"{{"say": "hello", "protocol": {PROTOCOL}, "version": "{}", "environment": {{}}}}"#,
            env!("CARGO_PKG_VERSION")
        );
        assert!(matches!(
            greeting(own.as_bytes()),
            Ok(FromAgent::Hello { .. })
        ));
        let refused = |line: &str| greeting(line.as_bytes()).unwrap_err();
        let other = refused(r#"{"say": "hello", "protocol": 1, "version": "9.9.9", "later": 1}"#);
        assert!(other.contains("is of tidegate 9.9.9"), "{other}");
        assert!(
            refused(r#"{"say": "hello", "protocol": 2, "version": "0.1.0"}"#)
                .contains("same on all hosts")
        );
        assert!(refused("Last login: today").contains("login script"));
        assert!(refused(r#"{"say": "ready"}"#).contains("began with Ready"));
        assert_eq!(refused(r#"{"say": "failed", "why": "no"}"#), "no");
    }
}
