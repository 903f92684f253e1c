//! One HTTPS connection, blocking, over the same cores as everything else.

use crate::client::channel::ask::LIMITS;
use crate::client::load::Target;
use crate::wire::http1::{self, ClientEvent};
use rustls::pki_types::ServerName;
use rustls::{ClientConnection, StreamOwned};
use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

/// How long a connect, the handshake and an answer's head may take.
const PATIENCE: Duration = Duration::from_secs(15);
/// Body of an error, or of an answer to a poll.
const BODY_MAX: usize = 256 * 1024;

/// Why there is no channel.
#[derive(Debug)]
pub enum Trouble {
    /// Trying again changes nothing: what to do about it.
    Hopeless(String),
    /// It may pass: why, and when the server wants to be asked again.
    Passing(String, Option<Duration>),
}

impl Trouble {
    pub fn passing(why: impl ToString) -> Trouble {
        Trouble::Passing(why.to_string(), None)
    }
}

pub struct Line {
    tls: StreamOwned<ClientConnection, TcpStream>,
    pub http: http1::Client,
    /// Received, and from where on not yet read.
    input: Vec<u8>,
    used: usize,
}

/// The head of an answer, as far as it matters here.
#[derive(Debug, Default)]
pub struct Answer {
    pub status: u16,
    pub code: String,
    pub retry_after: Option<Duration>,
    pub body: Vec<u8>,
}

impl Line {
    pub fn connect(
        target: &Target,
        config: &Arc<rustls::ClientConfig>,
        name: ServerName<'static>,
    ) -> Result<Line, Trouble> {
        let host = target.host.trim_start_matches('[').trim_end_matches(']');
        let found = (host, target.port).to_socket_addrs();
        let addresses: Vec<_> = found
            .map_err(|error| Trouble::passing(format!("{host} cannot be resolved: {error}")))?
            .collect();
        let mut outcome = Err(Trouble::passing(format!("{host} has no address")));
        for address in addresses {
            match TcpStream::connect_timeout(&address, PATIENCE) {
                Ok(tcp) => {
                    outcome = Ok(tcp);
                    break;
                }
                Err(error) => outcome = Err(Trouble::passing(format!("{address}: {error}"))),
            }
        }
        let tcp = outcome?;
        let prepared = tcp
            .set_nodelay(true)
            .and_then(|()| tcp.set_read_timeout(Some(PATIENCE)))
            .and_then(|()| tcp.set_write_timeout(Some(PATIENCE)));
        prepared.map_err(Trouble::passing)?;
        let connection = ClientConnection::new(config.clone(), name);
        let connection = connection.map_err(|error| Trouble::Hopeless(error.to_string()))?;
        let mut tls = StreamOwned::new(connection, tcp);
        while tls.conn.is_handshaking() {
            tls.conn.complete_io(&mut tls.sock).map_err(handshake)?;
        }
        Ok(Line {
            tls,
            http: http1::Client::new(LIMITS),
            input: Vec::new(),
            used: 0,
        })
    }

    /// From here on a read may take as long as that.
    pub fn set_patience(&self, patience: Duration) -> io::Result<()> {
        self.tls.sock.set_read_timeout(Some(patience))
    }

    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.tls.write_all(bytes)?;
        self.tls.flush()
    }

    /// Bytes that were received and not read yet; reads more when there are none. Empty at the end.
    pub fn bytes(&mut self) -> io::Result<&mut [u8]> {
        if self.used == self.input.len() {
            self.input.resize(16 * 1024, 0);
            self.used = 0;
            let n = self.tls.read(&mut self.input).inspect_err(|_| {
                self.used = self.input.len();
            })?;
            self.input.truncate(n);
        }
        Ok(self.input.get_mut(self.used..).unwrap_or_default())
    }

    pub fn read(&mut self, n: usize) {
        self.used = (self.used + n).min(self.input.len());
    }

    /// Reads up to the end of the answer's head, or with `whole` up to the end of its body.
    pub fn answer(&mut self, whole: impl Fn(u16) -> bool) -> Result<Answer, Trouble> {
        let mut answer = Answer::default();
        loop {
            self.bytes().map_err(Trouble::passing)?;
            if self.used == self.input.len() {
                return Err(Trouble::passing("the gateway closed the connection"));
            }
            let rest = self.input.get(self.used..).unwrap_or_default();
            let mut taken = 0;
            loop {
                match self.http.next(rest, &mut taken) {
                    Ok(ClientEvent::NeedMore) => break,
                    Ok(ClientEvent::Interim(_)) => {}
                    Ok(ClientEvent::Head(head)) => {
                        answer.take_head(&head);
                        if !whole(answer.status) {
                            self.used += taken;
                            return Ok(answer);
                        }
                    }
                    Ok(ClientEvent::Data(data)) => {
                        if answer.body.len() + data.len() > BODY_MAX {
                            return Err(Trouble::passing("an answer is too long"));
                        }
                        answer.body.extend_from_slice(data);
                    }
                    Ok(ClientEvent::End { .. }) => {
                        self.used += taken;
                        return Ok(answer);
                    }
                    Err(refusal) => return Err(Trouble::passing(refusal.why)),
                }
            }
            self.used += taken;
        }
    }
}

impl Answer {
    fn take_head(&mut self, head: &http1::ResponseHead<'_>) {
        self.status = head.status;
        self.code = crate::client::channel::reader::error_code(head);
        let after = head.fields.get(b"retry-after");
        let after = after.and_then(|text| std::str::from_utf8(text).ok()?.parse().ok());
        self.retry_after = after.map(Duration::from_secs);
    }

    /// What stands in the way of a channel.
    pub fn trouble(&self) -> Trouble {
        let detail = serde_json::from_slice::<serde_json::Value>(&self.body).ok();
        let detail = detail.and_then(|value| Some(value.get("detail")?.as_str()?.to_owned()));
        let said = format!(
            "the gateway answered {} {}{}",
            self.status,
            self.code,
            detail.map_or(String::new(), |detail| format!(": {detail}"))
        );
        match self.status {
            401 => Trouble::Hopeless(format!(
                "{said} (hint: its site wants a certificate, --cert and --key, or a token, --token-file)"
            )),
            400 | 403 | 404 => Trouble::Hopeless(said),
            _ => Trouble::Passing(said, self.retry_after),
        }
    }
}

/// A handshake that failed: only trust in certificates is hopeless.
fn handshake(error: io::Error) -> Trouble {
    let inner = error
        .get_ref()
        .and_then(|e| e.downcast_ref::<rustls::Error>());
    match inner {
        Some(rustls::Error::InvalidCertificate(why)) => Trouble::Hopeless(format!(
            "the gateway's certificate is not accepted: {why:?} (hint: --ca names the file of its CA)"
        )),
        Some(other) => Trouble::passing(format!("TLS: {other}")),
        None => Trouble::passing(format!("TLS: {error}")),
    }
}
