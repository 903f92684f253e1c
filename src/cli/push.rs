//! `tidegate push`: a notification from the shell, through a connector's API. Exit code 0: accepted, or with `--wait`
//! delivered to everybody; 1: not; 2: the command line is wrong.

use crate::client::api::{Access, Api, FILE_BYTES, read};
use clap::Args;
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// How often `--wait` asks for results.
const ASK_EVERY: Duration = Duration::from_millis(50);

#[derive(Args)]
pub struct Options {
    /// The connector's notification API
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:9500")]
    api: String,
    /// File with the API's token
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// CA of the API's certificate (PEM)
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Certificate and key to show (PEM, one behind the other in one file)
    #[arg(long, value_name = "FILE")]
    identity: Option<PathBuf>,
    /// Client ids, e.g. cert:corp/pc-7.corp.example
    #[arg(long, value_name = "ID", num_args = 1.., required_unless_present = "all", conflicts_with = "all")]
    to: Vec<String>,
    /// Every client that has a channel
    #[arg(long)]
    all: bool,
    /// JSON, @FILE, or - for standard input
    #[arg(long, value_name = "JSON")]
    payload: String,
    /// Seconds after which it is not sent any more
    #[arg(long, value_name = "SECONDS", default_value_t = 3600)]
    ttl: u64,
    /// Keep it for clients that are away, on the connector's disk, until their receipt
    #[arg(long)]
    queue: bool,
    /// Wait so long for the results and print them
    #[arg(long, value_name = "SECONDS")]
    wait: Option<u64>,
}

pub fn run(options: &Options) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let pushed = match runtime {
        Ok(runtime) => runtime.block_on(push(options)),
        Err(error) => Err(error.to_string()),
    };
    match pushed {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(why) => {
            eprintln!("tidegate push: {why}");
            ExitCode::FAILURE
        }
    }
}

/// Whether it was accepted, or delivered where that is waited for.
async fn push(options: &Options) -> Result<bool, String> {
    let payload = payload(&options.payload)?;
    let to = match options.all {
        true => json!({ "all": true }),
        false => json!({ "clients": options.to }),
    };
    let body = Body {
        to,
        ttl_s: options.ttl,
        queue: options.queue,
        // As it was written: its numbers keep their digits.
        payload,
    };
    let body = serde_json::to_vec(&body).map_err(|error| error.to_string())?;
    let api = Api::new(&Access {
        api: options.api.clone(),
        token_file: options.token_file.clone(),
        ca: options.ca.clone(),
        identity: options.identity.clone(),
    })?;
    let id = api.push(body).await?;
    println!("{id}");
    match options.wait {
        None => Ok(true),
        Some(seconds) => wait(&api, &id, options.queue, Duration::from_secs(seconds)).await,
    }
}

#[derive(Serialize)]
struct Body {
    to: Value,
    ttl_s: u64,
    queue: bool,
    payload: Box<RawValue>,
}

/// The payload's JSON text.
fn payload(said: &str) -> Result<Box<RawValue>, String> {
    let text = match (said, said.strip_prefix('@')) {
        ("-", _) => {
            let mut text = String::new();
            let mut input = std::io::stdin().lock().take(FILE_BYTES);
            input
                .read_to_string(&mut text)
                .map_err(|error| format!("standard input: {error}"))?;
            text
        }
        (_, Some(file)) => read(Path::new(file))?,
        _ => said.to_owned(),
    };
    let text = text.trim().to_owned();
    RawValue::from_string(text).map_err(|error| format!("the payload is no JSON: {error}"))
}

/// Asks until nothing more is to come, or the time is over; prints what is known then.
async fn wait(api: &Api, id: &str, queue: bool, patience: Duration) -> Result<bool, String> {
    let end = Instant::now() + patience;
    loop {
        let results = api.get(&format!("/v1/push/{id}")).await?;
        let over = !matches!(results["state"].as_str(), Some("storing" | "open"));
        if over || Instant::now() >= end {
            print(&results);
            return Ok(is_delivered(&results, queue));
        }
        tokio::time::sleep(ASK_EVERY).await;
    }
}

fn count(results: &Value, state: &str) -> u64 {
    results["counts"][state].as_u64().unwrap_or(0)
}

fn print(results: &Value) {
    println!("state {}", results["state"].as_str().unwrap_or("?"));
    let counts = results["counts"].as_object();
    for (state, n) in counts
        .into_iter()
        .flatten()
        .filter(|(_, n)| n.as_u64() != Some(0))
    {
        println!("{state} {n}");
    }
}

/// Everybody has it: sent, or for a queued push the receipt is here.
fn is_delivered(results: &Value, queue: bool) -> bool {
    let failed = [
        "pending",
        "gone",
        "dropped",
        "unknown",
        "cancelled",
        "expired",
    ];
    let failed: u64 = failed.iter().map(|state| count(results, state)).sum();
    let (sent, acknowledged) = (count(results, "sent"), count(results, "acknowledged"));
    let missing = if queue && results["to"] != "all" {
        sent
    } else {
        0
    };
    failed == 0 && missing == 0 && sent + acknowledged > 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delivered_is_what_everybody_has() {
        let of = |text: &str| json!({ "to": "clients", "counts": serde_json::from_str::<Value>(text).unwrap() });
        assert!(is_delivered(
            &of(r#"{"sent":2,"acknowledged":1,"gone":0}"#),
            false
        ));
        assert!(!is_delivered(
            &of(r#"{"sent":2,"acknowledged":1,"gone":0}"#),
            true
        ));
        assert!(is_delivered(&of(r#"{"acknowledged":1}"#), true));
        assert!(!is_delivered(
            &of(r#"{"acknowledged":3,"dropped":1}"#),
            false
        ));
        assert!(!is_delivered(&of("{}"), false));
    }

    #[test]
    fn a_payload_is_json_as_it_was_written() {
        assert_eq!(payload(" {\"a\": 1.50} ").unwrap().get(), "{\"a\": 1.50}");
        assert!(payload("not json").unwrap_err().contains("no JSON"));
        assert!(
            payload("@/no/such/file")
                .unwrap_err()
                .contains("/no/such/file")
        );
    }
}
