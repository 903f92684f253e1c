//! A real OpenID provider: `oidc-provider` under Node, over https with a CA of its own, driven by `tests/e2e/oidc`.

use super::lab::{Folder, START, pki};
use super::process::Process;
use super::tls::{self, Tls};
use super::{http, ports, until};
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

const DRIVER: [(&str, &str); 3] = [
    ("package.json", include_str!("../oidc/package.json")),
    (
        "package-lock.json",
        include_str!("../oidc/package-lock.json"),
    ),
    ("provider.mjs", include_str!("../oidc/provider.mjs")),
];

/// An issuer that can be started, stopped and told to change its keys.
pub struct Provider {
    folder: Folder,
    port: u16,
    control: u16,
    process: Option<Process>,
}

/// Requests that it had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    pub discovery: u64,
    pub jwks: u64,
}

impl Provider {
    /// Its place: nothing listens there yet.
    pub fn new() -> Provider {
        installed();
        let folder = Folder::new();
        pki(&folder.0, &["init"]);
        pki(&folder.0, &["server"]);
        Provider {
            folder,
            port: ports::free(),
            control: ports::free(),
            process: None,
        }
    }

    #[track_caller]
    pub fn started() -> Provider {
        let mut provider = Provider::new();
        provider.start();
        provider
    }

    /// Starts it with new keys, and waits until it serves.
    #[track_caller]
    pub fn start(&mut self) {
        let mut node = Command::new("node");
        node.arg(installed().join("provider.mjs"))
            .arg(&self.folder.0)
            .args([self.port.to_string(), self.control.to_string()]);
        let mut process = Process::start("provider", &self.folder.0, &mut node);
        let control = self.control;
        until("the OpenID provider is ready", START, || {
            let ended = process.ended();
            assert!(ended.is_none(), "it ended:\n{}", process.log());
            http::get(control, "/ready").ok()
        });
        self.process = Some(process);
    }

    pub fn stop(&mut self) {
        self.process = None;
    }

    pub fn issuer(&self) -> String {
        format!("https://localhost:{}", self.port)
    }

    pub fn ca(&self) -> PathBuf {
        self.folder.0.join("ca.pem")
    }

    /// New keys sign from now on; the old ones stay published, or are withdrawn.
    pub fn rotate(&self, keep: bool) {
        self.order(&format!("/rotate?keep={}", u8::from(keep)));
    }

    pub fn counts(&self) -> Counts {
        let counts = self.order("/counts");
        let count = |name: &str| counts[name].as_u64().expect("a count");
        Counts {
            discovery: count("discovery"),
            jwks: count("jwks"),
        }
    }

    fn order(&self, path: &str) -> serde_json::Value {
        let answer = http::get(self.control, path).expect("the provider runs");
        serde_json::from_slice(&answer.body).expect("JSON")
    }

    /// A fresh token for `gate`, by the client_credentials grant.
    #[track_caller]
    pub fn token(&self, client: &str, algorithm: &str) -> String {
        self.token_for("gate", client, algorithm)
    }

    #[track_caller]
    pub fn token_for(&self, audience: &str, client: &str, algorithm: &str) -> String {
        use base64::prelude::{BASE64_STANDARD, Engine};
        let basic = BASE64_STANDARD.encode(format!("{client}:{client}-secret"));
        let form = format!("grant_type=client_credentials&resource=urn%3A{audience}%3A{algorithm}");
        let tcp = TcpStream::connect(("127.0.0.1", self.port)).expect("the provider listens");
        let mut tls = Tls::begin(tcp, &tls::config_of(&self.ca())).expect("TLS");
        tls.send(format!(
            "POST /token HTTP/1.1\r\nHost: localhost:{}\r\nAuthorization: Basic {basic}\r\nConnection: close\r\n\
             Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{form}",
            self.port,
            form.len()
        ));
        let answer = tls.answer();
        assert_eq!(answer.status, 200, "{}\n{}", answer.head, answer.text());
        let answer: serde_json::Value = serde_json::from_slice(&answer.body).expect("JSON");
        answer["access_token"].as_str().expect("a token").to_owned()
    }
}

/// Where the driver stands with its packages, as the lock file has them; installed once for each state of it.
fn installed() -> &'static Path {
    static PLACE: OnceLock<PathBuf> = OnceLock::new();
    PLACE.get_or_init(|| {
        let mut hash = DefaultHasher::new();
        DRIVER.hash(&mut hash);
        let base = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let place = base.join(format!("oidc-{:016x}", hash.finish()));
        if !place.exists() {
            let fresh = base.join(format!("oidc-{}", std::process::id()));
            install(&fresh);
            // Another run may have been faster.
            if fs::rename(&fresh, &place).is_err() {
                let _ = fs::remove_dir_all(&fresh);
            }
        }
        assert!(place.exists(), "{} is not there", place.display());
        place
    })
}

fn install(dir: &Path) {
    fs::create_dir_all(dir).expect("a folder");
    for (name, text) in DRIVER {
        fs::write(dir.join(name), text).expect("a file of the driver");
    }
    let done = Command::new("npm")
        .args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"])
        .current_dir(dir)
        .output()
        .unwrap_or_else(|error| {
            panic!("npm: {error}; the OpenID tests need Node 18 or newer: scripts/need node npm")
        });
    let said = [done.stdout, done.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(done.status.success(), "npm ci: {said}");
}

/// Longer than the gateway waits between two fetches that tokens cause.
pub const ASK_INTERVAL: Duration = Duration::from_secs(10);
