//! The agent: does one job that it is told, and ends when nobody is there any more.

use std::io::{BufRead, Write};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use super::super::load::run::{self, Ready};
use super::super::load::scenario::Flags;
use super::super::load::{Plan, Scenario};
use super::super::result::{Environment, Run};
use super::{FromAgent, LINE_MAX, PROTOCOL, ToAgent, message, read_line, write_message};

enum Event {
    Told(Result<ToAgent, String>),
    /// Nobody is there any more.
    Left,
    Say(FromAgent),
    Done(Result<Box<Run>, String>),
}

/// Serves one run.
///
/// # Errors
/// What went wrong; the other side has been told, if it is there.
pub fn serve(input: impl BufRead + Send + 'static, output: &mut impl Write) -> Result<(), String> {
    let outcome = converse(input, output);
    if let Err(why) = &outcome {
        // Nobody may be there to hear it.
        let _ = write_message(output, &FromAgent::Failed { why: why.clone() });
    }
    outcome
}

fn converse(input: impl BufRead + Send + 'static, output: &mut impl Write) -> Result<(), String> {
    let mut say = |message: &FromAgent| {
        write_message(output, message).map_err(|error| format!("standard output: {error}"))
    };
    say(&FromAgent::Hello {
        protocol: PROTOCOL,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        environment: Box::new(Environment::read(&[])),
    })?;
    let (events_in, events) = channel();
    let listener = events_in.clone();
    thread::spawn(move || listen(input, &listener));
    let ready = match next(&events)? {
        ToAgent::Job { scenario } => prepare(*scenario)?,
        ToAgent::Go => return Err("there was no job before `go`".to_owned()),
    };
    say(&FromAgent::Ready)?;
    match next(&events)? {
        ToAgent::Go => {}
        ToAgent::Job { .. } => return Err("there is a job already".to_owned()),
    }
    thread::spawn(move || go(ready, &events_in));
    loop {
        match events.recv() {
            Ok(Event::Say(message)) => say(&message)?,
            Ok(Event::Done(run)) => return say(&FromAgent::Result { run: run? }),
            Ok(Event::Told(Ok(_))) => return Err("a run is under way".to_owned()),
            Ok(Event::Told(Err(why))) => return Err(why),
            Ok(Event::Left) | Err(_) => return Err(LEFT.to_owned()),
        }
    }
}

const LEFT: &str = "standard input ended, and with it the run";

fn next(events: &Receiver<Event>) -> Result<ToAgent, String> {
    match events.recv() {
        Ok(Event::Told(told)) => told,
        _ => Err(LEFT.to_owned()),
    }
}

fn listen(mut input: impl BufRead, events: &Sender<Event>) {
    loop {
        let event = match read_line(&mut input, LINE_MAX) {
            Ok(Some(line)) => Event::Told(message(&line)),
            Ok(None) => Event::Left,
            Err(error) => Event::Told(Err(format!("standard input: {error}"))),
        };
        let last = !matches!(event, Event::Told(Ok(_)));
        if events.send(event).is_err() || last {
            return;
        }
    }
}

fn prepare(scenario: Scenario) -> Result<Ready, String> {
    // Whoever wrote it may have checked less.
    let kind = scenario.kind;
    let scenario = Scenario::of(kind, Some(scenario), Flags::default())?;
    run::prepare(Plan::new(scenario)?)
}

fn go(ready: Ready, events: &Sender<Event>) {
    let run = ready.go(Vec::new(), |progress| {
        // When nobody hears it, the agent is about to end.
        let _ = events.send(Event::Say(FromAgent::Progress {
            moment: progress.moment.clone(),
            requests: progress.requests,
            failed: progress.failed,
        }));
    });
    let _ = events.send(Event::Done(run.map(Box::new)));
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    /// What an agent says to these lines, and how it ends.
    fn said(input: &'static str) -> (Vec<Value>, Result<(), String>) {
        let mut output = Vec::new();
        let outcome = serve(input.as_bytes(), &mut output);
        let lines = output
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty());
        (
            lines
                .map(|line| serde_json::from_slice(line).unwrap())
                .collect(),
            outcome,
        )
    }

    #[test]
    fn an_agent_says_who_it_is_and_ends_with_its_input() {
        let (said, outcome) = said("");
        assert_eq!(
            (&said[0]["say"], &said[0]["protocol"]),
            (&"hello".into(), &PROTOCOL.into())
        );
        assert!(
            !said[0]["environment"]["kernel"]
                .as_str()
                .unwrap()
                .is_empty()
        );
        assert!(outcome.unwrap_err().contains("input ended"));
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (input, why) in [
            ("hello\n", "`hello` is no message"),
            ("{\"say\": \"go\"}\n", "no job before"),
            (
                "{\"say\": \"job\", \"scenario\": {\"colour\": 1}}\n",
                "colour",
            ),
            ("{\"say\": \"job\", \"scenario\": {}}\n", "where to?"),
            (
                "{\"say\": \"job\", \"scenario\": {\"url\": \"https://localhost:1\", \"connections\": 1, \"shards\": 1, \
                 \"duration\": \"1s\", \"timeout\": \"1s\", \"tls\": {\"ca\": \"/nowhere.pem\"}, \"request\": [{}]}}\n",
                "/nowhere.pem",
            ),
        ] {
            let (said, outcome) = said(input);
            assert!(outcome.unwrap_err().contains(why), "{input}");
            let last = said.last().unwrap();
            assert!(
                last["say"] == "failed" && last["why"].as_str().unwrap().contains(why),
                "{last}"
            );
        }
    }
}
