//! A client of a connector's notification API.

use crate::control::fetch::explain;
use reqwest::{Client, RequestBuilder, Response};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long one request may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// A file that is read must not be larger.
pub const FILE_BYTES: u64 = 1 << 20;

/// Where the API is, and what it asks for.
pub struct Access {
    /// `http://` is meant where no scheme stands.
    pub api: String,
    pub token_file: Option<PathBuf>,
    /// CA of the API's certificate (PEM).
    pub ca: Option<PathBuf>,
    /// Certificate and key to show (PEM, in one file).
    pub identity: Option<PathBuf>,
}

/// Connections to one API.
pub struct Api {
    client: Client,
    base: String,
    token: Option<String>,
}

impl Api {
    /// # Errors
    /// A file cannot be read, or is not what it should be.
    pub fn new(access: &Access) -> Result<Api, String> {
        let wrong = |error: reqwest::Error| explain(&error);
        let base = match access.api.contains("://") {
            true => access.api.clone(),
            false => format!("http://{}", access.api),
        };
        let mut builder = Client::builder().no_proxy().timeout(PATIENCE);
        builder = match &access.ca {
            Some(file) => {
                let pem = read(file)?;
                let roots = reqwest::Certificate::from_pem_bundle(pem.as_bytes()).map_err(wrong)?;
                builder.tls_certs_only(roots)
            }
            None if base.starts_with("https:") => builder,
            None => builder.tls_certs_only([]),
        };
        if let Some(file) = &access.identity {
            let identity = reqwest::Identity::from_pem(read(file)?.as_bytes()).map_err(wrong)?;
            builder = builder.identity(identity);
        }
        let token = access.token_file.as_deref().map(read).transpose()?;
        Ok(Api {
            client: builder.build().map_err(wrong)?,
            base: base.trim_end_matches('/').to_owned(),
            token: token.map(|token| token.trim().to_owned()),
        })
    }

    /// Asks for a path.
    ///
    /// # Errors
    /// No answer, or what the problem document says.
    pub async fn get(&self, path: &str) -> Result<Value, String> {
        self.json(self.client.get(self.url(path))).await
    }

    /// Posts a push; gives its id.
    ///
    /// # Errors
    /// As `get`.
    pub async fn push(&self, body: Vec<u8>) -> Result<String, String> {
        let request = self.client.post(self.url("/v1/push")).body(body);
        let request = request.header("content-type", "application/json");
        let accepted = self.json(request).await?;
        let id = accepted["push"].as_str();
        Ok(id.ok_or("the answer names no push")?.to_owned())
    }

    /// The event stream, which lasts.
    ///
    /// # Errors
    /// As `get`.
    pub async fn events(&self) -> Result<Response, String> {
        let request = self.client.get(self.url("/v1/events"));
        let answer = self.send(request.timeout(Duration::MAX)).await?;
        if answer.status().is_success() {
            return Ok(answer);
        }
        Err(self.read(answer).await.err().unwrap_or_default())
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    async fn json(&self, request: RequestBuilder) -> Result<Value, String> {
        let answer = self.send(request).await?;
        self.read(answer).await
    }

    async fn send(&self, mut request: RequestBuilder) -> Result<Response, String> {
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        request.send().await.map_err(|error| self.wrong(&error))
    }

    /// The answer's JSON.
    async fn read(&self, answer: Response) -> Result<Value, String> {
        let status = answer.status();
        let body = answer.bytes().await.map_err(|error| self.wrong(&error))?;
        let value: Value = serde_json::from_slice(&body)
            .map_err(|_| format!("{}: answers {status}; is it a notification API?", self.base))?;
        if status.is_success() {
            return Ok(value);
        }
        let part = |name: &str| value[name].as_str().unwrap_or("").to_owned();
        Err(format!("{status} {}: {}", part("code"), part("detail")))
    }

    fn wrong(&self, error: &reqwest::Error) -> String {
        format!("{}: {}", self.base, explain(error))
    }
}

/// A small text file.
///
/// # Errors
/// It cannot be read, or is not text.
pub fn read(file: &Path) -> Result<String, String> {
    use std::io::Read;
    let wrong = |error: std::io::Error| format!("{}: {error}", file.display());
    let mut text = String::new();
    let opened = std::fs::File::open(file).map_err(wrong)?;
    opened
        .take(FILE_BYTES)
        .read_to_string(&mut text)
        .map_err(wrong)?;
    Ok(text)
}
