//! A server connection whose config depends on the name in the client's hello.
//!
//! rustls's `Acceptor` reads a hello without a config, but makes only buffered connections of it. So it gets a copy of the
//! bytes, and once it has said which name is asked for, the same bytes go to the config that was chosen.

use super::alert;
use super::error::TlsError;
use super::{MAX_HANDSHAKE_BYTES, sniff};
use crate::wire::record::{ContentType, HEADER_LEN};
use rustls::ServerConfig;
use rustls::server::Acceptor;
use std::sync::Arc;

/// Picks the config of a server connection.
pub trait ChooseConfig: Send + Sync {
    /// The config for that name, in lower case; `None` when the client gave none (or an address, which is no name).
    /// Giving no config refuses the connection with the alert `unrecognized_name` (RFC 6066 §3).
    ///
    /// The config must have gone through [`prepare_server_config`](super::prepare_server_config).
    fn choose(&self, sni: Option<&str>) -> Option<Arc<ServerConfig>>;
}

/// A connection whose hello has not come in full.
pub struct Hello {
    choices: Arc<dyn ChooseConfig>,
    acceptor: Acceptor,
    seen: Vec<u8>,
    /// How many of them the acceptor has.
    given: usize,
}

impl Hello {
    pub fn new(choices: Arc<dyn ChooseConfig>) -> Box<Self> {
        Box::new(Self {
            choices,
            acceptor: Acceptor::default(),
            seen: Vec::new(),
            given: 0,
        })
    }

    /// Takes all of `input[*used..]`. Gives the config once the hello is there; then `into_seen` has all bytes so far.
    pub fn feed(
        &mut self,
        input: &[u8],
        used: &mut usize,
        control: &mut Vec<u8>,
    ) -> Result<Option<Arc<ServerConfig>>, TlsError> {
        let rest = input.get(*used..).unwrap_or_default();
        *used = input.len();
        if self.seen.len() + rest.len() > MAX_HANDSHAKE_BYTES {
            return Err(TlsError::peer("hello too long"));
        }
        self.seen.extend_from_slice(rest);
        // The acceptor gets nothing before a whole header was looked at.
        let Some(header) = self.seen.get(..HEADER_LEN) else {
            return Ok(None);
        };
        if let Some(why) = sniff::not_tls(header) {
            return Err(TlsError::peer(why));
        }
        let mut rest = self.seen.get(self.given..).unwrap_or_default();
        self.given = self.seen.len();
        while !rest.is_empty() {
            self.acceptor
                .read_tls(&mut rest)
                .map_err(|error| TlsError::peer(error.to_string()))?;
            match self.acceptor.accept() {
                Ok(None) => {}
                Ok(Some(accepted)) => {
                    let hello = accepted.client_hello();
                    let sni = hello.server_name();
                    return self.choices.choose(sni).map(Some).ok_or_else(|| {
                        let plain = ContentType::Alert as u8;
                        control.extend([plain, 3, 3, 0, 2, alert::FATAL, alert::UNRECOGNIZED_NAME]);
                        TlsError::peer(format!("no site for the name {:?}", sni.unwrap_or("")))
                    });
                }
                Err((error, mut alert)) => {
                    // Writing to a Vec does not fail.
                    let _ = alert.write_all(control);
                    return Err(error.into());
                }
            }
        }
        Ok(None)
    }

    /// All bytes of the peer so far.
    pub fn into_seen(self) -> Vec<u8> {
        self.seen
    }

    /// Bytes of heap; an estimate for rustls's own part.
    pub fn memory(&self) -> usize {
        size_of::<Self>() + 2 * self.seen.capacity() + 4096
    }
}
