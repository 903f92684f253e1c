//! `tidegate push`: a notification from the shell, through a connector's API.

use crate::control::fetch::explain;
use clap::{ArgGroup, Args};
use reqwest::{Client, RequestBuilder};
use serde_json::{Value, json};
use std::io::Read;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// For one call.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between two looks at the results.
const LOOK_EVERY: Duration = Duration::from_millis(20);

#[derive(Args)]
#[command(group(ArgGroup::new("audience").required(true).args(["to", "all"])))]
pub struct Options {
    /// The connector's notification API
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:9500")]
    api: String,
    /// File with the API's token
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// CA of an https API
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// A client's id, e.g. cert:lab/device-1; may stand several times
    #[arg(long, value_name = "ID")]
    to: Vec<String>,
    /// Every client that is present
    #[arg(long)]
    all: bool,
    /// JSON; @FILE reads a file, @- standard input
    #[arg(long, value_name = "JSON")]
    payload: String,
    /// Seconds that it may live
    #[arg(long, value_name = "SECONDS", default_value_t = 3600)]
    ttl: u64,
    /// Keep it on the connector's disk until the client's receipt
    #[arg(long)]
    queue: bool,
    /// Wait so many seconds for the results, and print them
    #[arg(long, value_name = "SECONDS")]
    wait: Option<u64>,
    /// Print the API's answers as they are
    #[arg(long)]
    json: bool,
}

/// Exits with 0 when it was accepted, and with --wait when it reached whom it was for; else with 1.
pub fn run(options: &Options) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let outcome = match runtime {
        Ok(runtime) => runtime.block_on(push(options)),
        Err(error) => Err(error.to_string()),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(why) => {
            eprintln!("tidegate push: {why}");
            ExitCode::FAILURE
        }
    }
}

/// A way to the API.
struct Api {
    client: Client,
    base: String,
    token: Option<String>,
}

impl Api {
    fn new(options: &Options) -> Result<Api, String> {
        let read = |path: &PathBuf| {
            std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))
        };
        let mut builder = Client::builder().no_proxy().timeout(PATIENCE);
        if let Some(file) = &options.ca {
            let bundle = reqwest::Certificate::from_pem_bundle(read(file)?.as_bytes())
                .map_err(|error| format!("{}: {}", file.display(), explain(&error)))?;
            builder = builder.tls_certs_only(bundle);
        }
        let token = options.token_file.as_ref().map(read).transpose()?;
        Ok(Api {
            client: builder.build().map_err(|error| explain(&error))?,
            base: options.api.trim_end_matches('/').to_owned(),
            token: token.map(|token| token.trim().to_owned()),
        })
    }

    async fn ask(&self, request: RequestBuilder) -> Result<Value, String> {
        let request = match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        };
        let wrong = |error: reqwest::Error| format!("{}: {}", self.base, explain(&error));
        let answer = request.send().await.map_err(wrong)?;
        let good = answer.status().is_success();
        let status = answer.status();
        let body = answer.bytes().await.map_err(wrong)?;
        let body: Value = serde_json::from_slice(&body)
            .map_err(|_| format!("{} answers {status}; is it a notification API?", self.base))?;
        match good {
            true => Ok(body),
            false => Err(format!(
                "{} ({})",
                body["detail"].as_str().unwrap_or("refused"),
                body["code"].as_str().unwrap_or("no code")
            )),
        }
    }
}

async fn push(options: &Options) -> Result<bool, String> {
    let payload = payload(&options.payload)?;
    let payload: Value = serde_json::from_str(&payload).map_err(|error| {
        format!("--payload is no JSON: {error} (a text needs its quotes: '\"hello\"')")
    })?;
    let api = Api::new(options)?;
    let to = match options.all {
        true => json!({"all": true}),
        false => json!({"clients": options.to}),
    };
    let body = json!({"to": to, "payload": payload, "ttl_s": options.ttl, "queue": options.queue});
    let url = format!("{}/v1/push", api.base);
    let request = api
        .client
        .post(&url)
        .header("Content-Type", "application/json");
    let accepted = api.ask(request.body(body.to_string())).await?;
    let push = accepted["push"].as_str().ok_or("the API gave no push id")?;
    if options.json {
        println!("{accepted}");
    } else {
        println!("{push}");
    }
    match options.wait {
        Some(seconds) => wait(&api, push, Duration::from_secs(seconds), options).await,
        None => Ok(true),
    }
}

/// Waits until nothing is pending any more, or queued pushes are acknowledged.
async fn wait(
    api: &Api,
    push: &str,
    patience: Duration,
    options: &Options,
) -> Result<bool, String> {
    let end = Instant::now() + patience;
    let url = format!("{}/v1/push/{push}?clients=true", api.base);
    loop {
        let results = api.ask(api.client.get(&url)).await?;
        let over = results["state"] != "open" && results["state"] != "storing";
        if !over && Instant::now() < end {
            tokio::time::sleep(LOOK_EVERY).await;
            continue;
        }
        show(&results, options.json);
        let count = |name: &str| results["counts"][name].as_u64().unwrap_or(0);
        let reached = match options.queue {
            true => count("acknowledged"),
            false => count("sent") + count("acknowledged"),
        };
        return Ok(match options.all {
            true => reached > 0,
            false => reached == count("targets"),
        });
    }
}

fn show(results: &Value, json: bool) {
    if json {
        return println!("{results}");
    }
    for client in results["clients"].as_array().into_iter().flatten() {
        let text = |name: &str| client[name].as_str().unwrap_or_default().to_owned();
        println!("  {:<12} {}", text("state"), text("client"));
    }
    let counts = results["counts"].as_object();
    let counts = counts
        .into_iter()
        .flatten()
        .filter(|(_, count)| **count != 0);
    let counts: Vec<_> = counts
        .map(|(name, count)| format!("{count} {name}"))
        .collect();
    println!(
        "{}: {}",
        results["state"].as_str().unwrap_or_default(),
        counts.join(", ")
    );
}

fn payload(argument: &str) -> Result<String, String> {
    let Some(file) = argument.strip_prefix('@') else {
        return Ok(argument.to_owned());
    };
    if file == "-" {
        let mut text = String::new();
        let read = std::io::stdin().read_to_string(&mut text);
        return read
            .map(|_| text)
            .map_err(|error| format!("standard input: {error}"));
    }
    std::fs::read_to_string(file).map_err(|error| format!("{file}: {error}"))
}
