//! The notification API, as a service behind the firewall calls it.

use super::Lab;
use super::http::{Answer, Reader};
use serde_json::{Value, json};
use std::io::Write;
use std::net::TcpStream;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(10);

/// One lab's API.
#[derive(Clone, Copy)]
pub struct Api {
    port: u16,
}

impl Lab {
    pub fn api(&self) -> Api {
        Api {
            port: self.ports.notify,
        }
    }
}

impl Api {
    /// A request with more fields (each with its line end); an error while nobody listens.
    pub fn try_ask(
        &self,
        method: &str,
        path: &str,
        fields: &str,
        body: &str,
    ) -> std::io::Result<Answer> {
        let mut tcp = TcpStream::connect(("127.0.0.1", self.port))?;
        tcp.set_nodelay(true)?;
        tcp.set_read_timeout(Some(PATIENCE))?;
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n{fields}\r\n",
            body.len()
        );
        tcp.write_all([head.as_bytes(), body.as_bytes()].concat().as_slice())?;
        Reader::new().answer(&mut tcp, false)
    }

    #[track_caller]
    pub fn ask(&self, method: &str, path: &str, body: &str) -> Answer {
        self.try_ask(method, path, "", body)
            .expect("an answer of the API")
    }

    /// The JSON at a path.
    #[track_caller]
    pub fn get(&self, path: &str) -> Value {
        let answer = self.ask("GET", path, "");
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        serde_json::from_slice(&answer.body).expect("JSON")
    }

    /// A push that is accepted: its id. While the store is still being opened it is asked for again, as the API says.
    #[track_caller]
    pub fn push(&self, body: &Value) -> String {
        let deadline = std::time::Instant::now() + PATIENCE;
        let answer = loop {
            let answer = self.ask("POST", "/v1/push", &body.to_string());
            let later = answer.status == 503 && answer.text().contains("being opened");
            if !later || std::time::Instant::now() > deadline {
                break answer;
            }
            std::thread::park_timeout(Duration::from_millis(5));
        };
        assert_eq!(answer.status, 202, "{}", answer.text());
        let said: Value = serde_json::from_slice(&answer.body).expect("JSON");
        said["push"].as_str().expect("a push id").to_owned()
    }

    /// A push of `payload` to one client.
    #[track_caller]
    pub fn push_to(&self, client: &str, payload: Value, queue: bool) -> String {
        self.push(
            &json!({"to": {"clients": [client]}, "payload": payload, "queue": queue, "ttl_s": 60}),
        )
    }

    /// Waits until the push's counts hold `count` under `name`.
    #[track_caller]
    pub fn await_count(&self, push: &str, name: &str, count: u64) {
        let path = format!("/v1/push/{push}");
        let mut last = Value::Null;
        let deadline = std::time::Instant::now() + PATIENCE;
        loop {
            let state = self.get(&path);
            if state["counts"][name] == count {
                return;
            }
            assert!(
                std::time::Instant::now() < deadline,
                "no {name} = {count}: {state} {last}"
            );
            last = state;
            std::thread::park_timeout(Duration::from_millis(5));
        }
    }

    /// Waits until a client is present with so many channels.
    #[track_caller]
    pub fn await_present(&self, client: &str, channels: usize) {
        let path = format!("/v1/clients/{client}");
        super::until("the client is present", PATIENCE, || {
            let answer = self.ask("GET", &path, "");
            let state: Value = serde_json::from_slice(&answer.body).ok()?;
            let open = state["channels"].as_array().map_or(0, Vec::len);
            (open == channels).then_some(())
        });
    }
}
