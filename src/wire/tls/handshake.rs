//! The handshake: rustls, fed one record at a time, until its keys can be taken over.

use super::error::TlsError;
use super::sink::{self, Caught};
use super::sniff;
use super::traffic::{Kernel, Traffic};
use super::{Established, MAX_HANDSHAKE_BYTES};
use crate::wire::record::{ContentType, HEADER_LEN, Header, Keys, Opener, Sealer, Suite};
use rustls::client::UnbufferedClientConnection;
use rustls::kernel::KernelConnection;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, EncodeError, UnbufferedStatus};
use rustls::{
    CipherSuite, CommonState, ConnectionTrafficSecrets, ExtractedSecrets, HandshakeKind,
    ProtocolVersion,
};

/// Longest record during the handshake (RFC 5246 §6.2.3; 1.3 allows less). rustls refuses longer ones by their header.
const MAX_LENGTH: usize = 16_384 + 2048;
/// States that rustls may go through for one record; a flight of 64 KiB messages takes some dozens.
const MAX_STATES: usize = 1024;

pub enum Side {
    Server(UnbufferedServerConnection),
    Client(UnbufferedClientConnection),
}

/// A connection whose handshake is not complete.
pub struct Handshake {
    side: Side,
    caught: Caught,
    /// What rustls has not discarded yet, then the record that is being collected.
    input: Vec<u8>,
    /// Where in `input` that record begins.
    record: usize,
    /// Bytes taken from the peer.
    taken: usize,
}

/// How far `feed` came.
pub enum Fed {
    /// The input is used up.
    NeedMore,
    /// Finished was seen in both directions.
    Complete,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Taken {
    Part,
    Whole,
    /// A header that rustls refuses, and has the right alert for, without seeing the record.
    BadHeader,
}

enum Progress {
    Again,
    NeedRecord,
    Traffic,
}

impl Handshake {
    pub fn new(side: Side) -> Box<Self> {
        Box::new(Self {
            side,
            caught: Caught::default(),
            input: Vec::new(),
            record: 0,
            taken: 0,
        })
    }

    /// The bytes that this side sends unasked (a client's hello), appended to `control`.
    pub fn start(&mut self, control: &mut Vec<u8>) -> Result<(), TlsError> {
        self.process(control).map(|_| ())
    }

    /// Takes records from `input[*used..]` until the handshake is complete. What rustls wants sent goes to `control`,
    /// its alert included.
    pub fn feed(
        &mut self,
        input: &[u8],
        used: &mut usize,
        control: &mut Vec<u8>,
    ) -> Result<Fed, TlsError> {
        loop {
            let taken = self.take_record(input, used)?;
            if taken == Taken::Part {
                return Ok(Fed::NeedMore);
            }
            self.record = self.input.len();
            if self.process(control)? {
                return Ok(Fed::Complete);
            }
            if taken == Taken::BadHeader {
                return Err(TlsError::peer("record of an unknown type or length"));
            }
        }
    }

    /// Moves bytes to `self.input` up to the end of the current record.
    fn take_record(&mut self, input: &[u8], used: &mut usize) -> Result<Taken, TlsError> {
        if !self.take_to(HEADER_LEN, input, used)? {
            return Ok(Taken::Part);
        }
        let collected = self.input.get(self.record..).unwrap_or_default();
        if self.taken == HEADER_LEN
            && let Some(why) = sniff::not_tls(collected)
        {
            return Err(TlsError::peer(why));
        }
        let Some(header) = Header::read(collected) else {
            return Ok(Taken::Part);
        };
        if ContentType::from_wire(header.content_type).is_none() || header.length > MAX_LENGTH {
            return Ok(Taken::BadHeader);
        }
        let whole = self.take_to(header.record_len(), input, used)?;
        Ok(if whole { Taken::Whole } else { Taken::Part })
    }

    fn take_to(&mut self, length: usize, input: &[u8], used: &mut usize) -> Result<bool, TlsError> {
        let missing = (self.record + length).saturating_sub(self.input.len());
        let rest = input.get(*used..).unwrap_or_default();
        let now = rest.get(..missing.min(rest.len())).unwrap_or_default();
        self.taken += now.len();
        if self.taken > MAX_HANDSHAKE_BYTES {
            return Err(TlsError::peer(format!(
                "handshake longer than {} KiB",
                MAX_HANDSHAKE_BYTES / 1024
            )));
        }
        self.input.extend_from_slice(now);
        *used += now.len();
        Ok(now.len() == missing)
    }

    /// Lets rustls work on what is in `self.input`. True when the handshake is complete and every byte was used.
    fn process(&mut self, control: &mut Vec<u8>) -> Result<bool, TlsError> {
        for _ in 0..MAX_STATES {
            let Self {
                side,
                caught,
                input,
                ..
            } = self;
            let (discard, progress) = sink::catch(caught, || match side {
                Side::Server(c) => absorb(c.process_tls_records(input), control),
                Side::Client(c) => absorb(c.process_tls_records(input), control),
            });
            let discard = discard.min(self.input.len());
            self.input.drain(..discard);
            self.record = self.record.saturating_sub(discard);
            match progress {
                Ok(Progress::Again) => {}
                Ok(Progress::Traffic) if !self.common().is_handshaking() => {
                    if self.input.is_empty() {
                        return Ok(true);
                    }
                    // Finished ends its record and was the last thing fed: rustls itself refuses anything behind it.
                    return Err(TlsError::ours("handshake complete with bytes left over"));
                }
                Ok(Progress::NeedRecord | Progress::Traffic) => return Ok(false),
                Err(error) => {
                    self.collect_alert(control);
                    return Err(error.into());
                }
            }
        }
        Err(TlsError::ours("handshake makes no progress"))
    }

    /// After an error rustls still has its alert to send.
    ///
    /// Asked only while it says so: then it hands out what it has without a look at the input, which it would otherwise
    /// expect to find as it left it.
    fn collect_alert(&mut self, control: &mut Vec<u8>) {
        for _ in 0..MAX_STATES {
            if !self.common().wants_write() {
                return;
            }
            let _ = match &mut self.side {
                Side::Server(c) => absorb(c.process_tls_records(&mut []), control),
                Side::Client(c) => absorb(c.process_tls_records(&mut []), control),
            };
        }
    }

    fn common(&self) -> &CommonState {
        match &self.side {
            Side::Server(c) => c,
            Side::Client(c) => c,
        }
    }

    /// Takes the keys over. Only after `Fed::Complete`.
    pub fn take_over(self) -> Result<(Traffic, Box<Established>), TlsError> {
        let mut established = Box::new(self.describe());
        let Self { side, caught, .. } = self;
        let traffic = match side {
            Side::Server(connection) => {
                let (extracted, kernel) = connection.dangerous_into_kernel_connection()?;
                let suite = suite_of(&kernel)?;
                // Here the kernel connection ends, and with it the client's chain.
                drop(kernel);
                established.sni = caught.sni;
                let (tx, rx) = if suite.is_tls13() {
                    (
                        secret_keys(suite, caught.server, &extracted.tx.1)?,
                        secret_keys(suite, caught.client, &extracted.rx.1)?,
                    )
                } else {
                    plain_keys(suite, &extracted)?
                };
                Traffic::server(
                    Sealer::new(tx, extracted.tx.0),
                    Opener::new(rx, extracted.rx.0),
                )
            }
            Side::Client(connection) => {
                let (extracted, kernel) = connection.dangerous_into_kernel_connection()?;
                let suite = suite_of(&kernel)?;
                let parks = suite.is_tls13() && caught.client.is_some();
                let (tx, rx) = if parks {
                    (
                        secret_keys(suite, caught.client, &extracted.tx.1)?,
                        secret_keys(suite, caught.server, &extracted.rx.1)?,
                    )
                } else {
                    plain_keys(suite, &extracted)?
                };
                let stores_tickets = suite.is_tls13() && !parks;
                let kernel: Option<Box<Kernel>> = stores_tickets.then(|| Box::new(kernel));
                Traffic::client(
                    Sealer::new(tx, extracted.tx.0),
                    Opener::new(rx, extracted.rx.0),
                    kernel,
                )
            }
        };
        Ok((traffic, established))
    }

    fn describe(&self) -> Established {
        let common = self.common();
        let chain = common.peer_certificates().unwrap_or_default();
        Established {
            tls12: common.protocol_version() == Some(ProtocolVersion::TLSv1_2),
            suite: common
                .negotiated_cipher_suite()
                .map_or("", |s| suite_name(s.suite())),
            resumed: common.handshake_kind() == Some(HandshakeKind::Resumed),
            sni: None,
            alpn: common.alpn_protocol().map(Box::from),
            peer_chain: chain
                .iter()
                .map(|certificate| certificate.to_vec())
                .collect(),
        }
    }

    /// Bytes of heap, for the memory account; an estimate for rustls's own part (measured: 3–4 KB).
    pub fn memory(&self) -> usize {
        size_of::<Self>() + self.input.capacity() + 3500
    }
}

/// One state of rustls: takes what it wants sent, says how to go on.
fn absorb<D>(
    status: UnbufferedStatus<'_, '_, D>,
    control: &mut Vec<u8>,
) -> (usize, Result<Progress, rustls::Error>) {
    let unexpected = |what: &str| {
        Err(rustls::Error::General(format!(
            "{what} during the handshake"
        )))
    };
    let progress = match status.state {
        Ok(ConnectionState::EncodeTlsData(mut data)) => {
            let start = control.len();
            // An empty buffer makes rustls say how much it needs.
            let encoded = match data.encode(&mut []) {
                Err(EncodeError::InsufficientSize(size)) => {
                    control.resize(start + size.required_size, 0);
                    data.encode(control.get_mut(start..).unwrap_or_default())
                }
                other => other,
            };
            match encoded {
                Ok(written) => {
                    control.truncate(start + written);
                    Ok(Progress::Again)
                }
                Err(error) => {
                    control.truncate(start);
                    Err(rustls::Error::General(error.to_string()))
                }
            }
        }
        Ok(ConnectionState::TransmitTlsData(data)) => {
            data.done();
            Ok(Progress::Again)
        }
        Ok(ConnectionState::BlockedHandshake) => Ok(Progress::NeedRecord),
        Ok(ConnectionState::WriteTraffic(_)) => Ok(Progress::Traffic),
        Ok(ConnectionState::ReadTraffic(_)) => unexpected("application data"),
        Ok(ConnectionState::ReadEarlyData(_)) => unexpected("early data"),
        Ok(ConnectionState::PeerClosed | ConnectionState::Closed) => unexpected("close_notify"),
        Ok(_) => unexpected("an unknown state"),
        Err(error) => Err(error),
    };
    (status.discard, progress)
}

fn suite_of<D>(kernel: &KernelConnection<D>) -> Result<Suite, TlsError> {
    let suite = kernel.negotiated_cipher_suite().suite();
    Suite::from_iana(u16::from(suite))
        .ok_or_else(|| TlsError::ours(format!("cipher suite {suite:?} has no record plane")))
}

/// Keys of a TLS 1.3 direction: the secret that was caught, if it is the one behind the extracted key.
fn secret_keys(
    suite: Suite,
    secret: Option<Box<sink::Secret>>,
    extracted: &ConnectionTrafficSecrets,
) -> Result<Keys, TlsError> {
    let secret = secret.ok_or_else(|| {
        TlsError::ours("no traffic secret caught: config did not go through its prepare function")
    })?;
    let (key, iv) = key_iv(extracted)?;
    Keys::from_secret(suite, secret.as_bytes())
        .filter(|keys| keys.matches(key, iv))
        .ok_or_else(|| TlsError::ours("traffic secret does not give the extracted keys"))
}

fn plain_keys(suite: Suite, extracted: &ExtractedSecrets) -> Result<(Keys, Keys), TlsError> {
    Ok((
        extracted_keys(suite, &extracted.tx.1)?,
        extracted_keys(suite, &extracted.rx.1)?,
    ))
}

/// Keys of the form that rustls hands out; also after an update on the client side.
pub fn extracted_keys(suite: Suite, secrets: &ConnectionTrafficSecrets) -> Result<Keys, TlsError> {
    let (key, iv) = key_iv(secrets)?;
    Keys::from_key_iv(suite, key, iv)
        .ok_or_else(|| TlsError::ours("extracted keys of a wrong length"))
}

fn key_iv(secrets: &ConnectionTrafficSecrets) -> Result<(&[u8], &[u8]), TlsError> {
    use ConnectionTrafficSecrets as S;
    match secrets {
        S::Aes128Gcm { key, iv } | S::Aes256Gcm { key, iv } | S::Chacha20Poly1305 { key, iv } => {
            Ok((key.as_ref(), iv.as_ref()))
        }
        _ => Err(TlsError::ours("extracted keys of an unknown kind")),
    }
}

/// Names as the IANA registry and OpenSSL write them.
fn suite_name(suite: CipherSuite) -> &'static str {
    match u16::from(suite) {
        0x1301 => "TLS_AES_128_GCM_SHA256",
        0x1302 => "TLS_AES_256_GCM_SHA384",
        0x1303 => "TLS_CHACHA20_POLY1305_SHA256",
        0xc02b => "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
        0xc02c => "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
        0xc02f => "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
        0xc030 => "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
        0xcca8 => "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
        0xcca9 => "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
        _ => "unknown",
    }
}
