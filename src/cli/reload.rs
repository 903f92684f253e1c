//! `tidegate reload`: asks a running gateway or connector to read its config file again, and says what came of it.

use crate::control::fetch::explain;
use clap::Args;
use serde::Deserialize;
use std::process::ExitCode;
use std::time::Duration;

/// Longer than the process takes at most.
const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Args)]
pub struct Options {
    /// The admin listener of the process, e.g. http://127.0.0.1:9441 (gateway) or http://127.0.0.1:9442 (connector)
    #[arg(long, value_name = "URL")]
    admin: String,
}

#[derive(Deserialize)]
struct Answer {
    /// None: nobody knows yet.
    reloaded: Option<bool>,
    #[serde(default)]
    notes: Vec<String>,
    #[serde(default)]
    errors: Vec<String>,
}

pub fn run(options: &Options) -> ExitCode {
    match ask(&options.admin) {
        Ok(Answer {
            reloaded: Some(true),
            notes,
            ..
        }) => {
            notes.iter().for_each(|note| println!("{note}"));
            println!("reloaded");
            // What a gateway refused is not in force there, whatever this process thinks of it.
            let refused = notes.iter().any(|note| note.starts_with("REFUSED"));
            if refused {
                ExitCode::FAILURE
            } else {
                ExitCode::SUCCESS
            }
        }
        Ok(Answer {
            reloaded, errors, ..
        }) => {
            errors.iter().for_each(|error| eprintln!("{error}"));
            if reloaded.is_some() {
                eprintln!("not reloaded: nothing changed");
            }
            ExitCode::FAILURE
        }
        Err(why) => {
            eprintln!("tidegate reload: {why}");
            ExitCode::FAILURE
        }
    }
}

fn ask(admin: &str) -> Result<Answer, String> {
    let base = if admin.contains("://") {
        admin.to_owned()
    } else {
        format!("http://{admin}")
    };
    let url = format!("{}/reload", base.trim_end_matches('/'));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| error.to_string())?;
    runtime.block_on(async {
        let wrong = |error: reqwest::Error| format!("{url}: {}", explain(&error));
        let client = reqwest::Client::builder()
            .no_proxy()
            .tls_certs_only([])
            .timeout(PATIENCE)
            .build()
            .map_err(wrong)?;
        let answer = client.post(&url).send().await.map_err(wrong)?;
        let status = answer.status();
        let body = answer.bytes().await.map_err(wrong)?;
        serde_json::from_slice(&body)
            .map_err(|_| format!("{url}: answers {status}; is it an admin listener?"))
    })
}
