//! After the handshake: data, KeyUpdate, tickets, alerts, and the orderly end.

use super::MAX_BARREN_RECORDS;
use super::alert::{self, FATAL, WARNING};
use super::error::{Fault, TlsError};
use super::handshake::extracted_keys;
use crate::wire::record::{
    ContentType, Header, OpenError, Opener, Outgoing, SealError, Sealer, Suite,
};
use rustls::client::ClientConnectionData;
use rustls::kernel::KernelConnection;
use std::ops::Range;

pub type Kernel = KernelConnection<ClientConnectionData>;

const NEW_SESSION_TICKET: u8 = 4;
const KEY_UPDATE: u8 = 24;
/// Longest NewSessionTicket taken: a ticket of 2^16 − 1 bytes with its frame would be longer, and nobody sends it.
const MAX_TICKET: usize = 65_535;

/// What one record gave.
pub enum Opened {
    /// Plaintext, never empty, at that place in the record.
    Data(Range<usize>),
    /// Something for the protocol itself.
    Nothing,
    /// close_notify.
    Closed,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Closing {
    No,
    /// close_notify goes behind the next data.
    Queued,
    Sent,
}

/// A connection that carries data. Idle, it is this struct and, on a TLS 1.3 client side, its kernel connection.
pub struct Traffic {
    sealer: Sealer,
    opener: Opener,
    /// TLS 1.3 client side only: stores tickets and has the secrets of the next generations.
    kernel: Option<Box<Kernel>>,
    /// A handshake message that goes on in the next record.
    fragment: Vec<u8>,
    is_client: bool,
    /// Records in a row that brought no data.
    barren: u8,
    /// A KeyUpdate is due before the next data; true asks the peer for one as well.
    key_update: Option<bool>,
    closing: Closing,
    peer_closed: bool,
    /// A fatal alert to send; after it nothing goes out.
    fatal: Option<u8>,
    failed: bool,
}

impl Traffic {
    pub fn server(sealer: Sealer, opener: Opener) -> Self {
        Self::new(sealer, opener, None, false)
    }

    pub fn client(sealer: Sealer, opener: Opener, kernel: Option<Box<Kernel>>) -> Self {
        Self::new(sealer, opener, kernel, true)
    }

    fn new(sealer: Sealer, opener: Opener, kernel: Option<Box<Kernel>>, is_client: bool) -> Self {
        Self {
            sealer,
            opener,
            kernel,
            fragment: Vec::new(),
            is_client,
            barren: 0,
            key_update: None,
            closing: Closing::No,
            peer_closed: false,
            fatal: None,
            failed: false,
        }
    }

    pub fn suite(&self) -> Suite {
        self.sealer.suite()
    }

    pub fn has_failed(&self) -> bool {
        self.failed
    }

    pub fn peer_closed(&self) -> bool {
        self.peer_closed
    }

    /// Ends the connection for that fault; the alert waits in `transmit`.
    pub fn fail(&mut self, fault: Fault) -> TlsError {
        self.failed = true;
        self.fatal = fault.alert.filter(|_| self.closing != Closing::Sent);
        self.fragment = Vec::new();
        fault.error
    }

    /// Judges a header before its record is there.
    pub fn check(&self, header: Header) -> Result<(), Fault> {
        self.opener.check(header).map_err(|error| match error {
            OpenError::Unexpected => Fault::peer(
                alert::UNEXPECTED_MESSAGE,
                match ContentType::from_wire(header.content_type) {
                    Some(ContentType::ChangeCipherSpec) => "change cipher spec after the handshake",
                    Some(_) => "unencrypted record after the handshake",
                    None => "record of an unknown type",
                },
            ),
            other => open_fault(other),
        })
    }

    /// Opens one whole record in place.
    pub fn open(&mut self, record: &mut [u8]) -> Result<Opened, Fault> {
        let (content_type, plain) = self.opener.open(record).map_err(open_fault)?;
        if content_type != ContentType::Handshake && !self.fragment.is_empty() {
            return Err(Fault::peer(
                alert::UNEXPECTED_MESSAGE,
                "record between the parts of a handshake message",
            ));
        }
        match content_type {
            ContentType::ApplicationData if plain.is_empty() => self.barren_record(),
            ContentType::ApplicationData => {
                self.barren = 0;
                Ok(Opened::Data(plain))
            }
            ContentType::Alert => self.alert(record.get(plain).unwrap_or_default()),
            ContentType::Handshake => self.handshake(record.get(plain).unwrap_or_default()),
            ContentType::ChangeCipherSpec => Err(Fault::peer(
                alert::UNEXPECTED_MESSAGE,
                "change cipher spec after the handshake",
            )),
        }
    }

    fn barren_record(&mut self) -> Result<Opened, Fault> {
        self.barren += 1;
        if self.barren >= MAX_BARREN_RECORDS {
            return Err(Fault::peer(
                alert::UNEXPECTED_MESSAGE,
                "too many records in a row without data",
            ));
        }
        Ok(Opened::Nothing)
    }

    /// RFC 8446 §6: all alerts but two end the connection; TLS 1.2 has warnings that do not (RFC 5246 §7.2).
    fn alert(&mut self, body: &[u8]) -> Result<Opened, Fault> {
        let &[level, code] = body else {
            return Err(Fault::peer(alert::DECODE_ERROR, "alert of a wrong length"));
        };
        let is_tls13 = self.suite().is_tls13();
        match (code, level) {
            (alert::CLOSE_NOTIFY, _) => {
                self.peer_closed = true;
                Ok(Opened::Closed)
            }
            (alert::USER_CANCELED, _) if is_tls13 => self.barren_record(),
            (_, WARNING) if !is_tls13 => self.barren_record(),
            (_, level) if !is_tls13 && level != FATAL => Err(Fault::peer(
                alert::ILLEGAL_PARAMETER,
                "alert of an unknown level",
            )),
            _ => Err(Fault::received(code)),
        }
    }

    fn handshake(&mut self, body: &[u8]) -> Result<Opened, Fault> {
        if !self.suite().is_tls13() {
            // HelloRequest or ClientHello: the only ones that TLS 1.2 knows here.
            return Err(Fault::peer(
                alert::UNEXPECTED_MESSAGE,
                "peer asks for renegotiation, which is refused",
            ));
        }
        if body.is_empty() {
            return Err(Fault::peer(
                alert::UNEXPECTED_MESSAGE,
                "empty handshake record",
            ));
        }
        if self.fragment.is_empty() {
            let used = self.messages(body)?;
            self.fragment = body.get(used..).unwrap_or_default().to_vec();
        } else {
            let mut all = std::mem::take(&mut self.fragment);
            all.extend_from_slice(body);
            let used = self.messages(&all)?;
            all.drain(..used);
            all.shrink_to_fit();
            self.fragment = all;
        }
        self.barren_record()
    }

    /// Handles the whole messages in `bytes`; returns how many bytes they took. What is left is the begin of one whose
    /// header, if it is there, was found good: so what is stored is bounded by `MAX_TICKET` and a record.
    fn messages(&mut self, bytes: &[u8]) -> Result<usize, Fault> {
        let mut used = 0;
        while let Some(&[kind, a, b, c]) = bytes.get(used..).and_then(|rest| rest.first_chunk()) {
            let length = u32::from_be_bytes([0, a, b, c]) as usize;
            self.allowed(kind, length)?;
            let Some(body) = bytes.get(used + 4..used + 4 + length) else {
                break;
            };
            used += 4 + length;
            if kind == KEY_UPDATE {
                self.received_key_update(body, used == bytes.len())?;
            } else {
                self.received_ticket(body)?;
            }
        }
        if used == bytes.len() || used > 0 || bytes.len() >= 4 {
            return Ok(used);
        }
        // Less than a header: its first byte must at least be a type that may come.
        bytes
            .first()
            .map_or(Ok(()), |&kind| self.allowed(kind, 1))
            .map(|()| 0)
    }

    /// Which messages may come after the handshake, and how long they may be (RFC 8446 §4.6).
    fn allowed(&self, kind: u8, length: usize) -> Result<(), Fault> {
        match kind {
            KEY_UPDATE if length == 1 => Ok(()),
            KEY_UPDATE => Err(Fault::peer(
                alert::DECODE_ERROR,
                "key update of a wrong length",
            )),
            NEW_SESSION_TICKET if self.is_client && length <= MAX_TICKET => Ok(()),
            NEW_SESSION_TICKET if self.is_client => {
                Err(Fault::peer(alert::DECODE_ERROR, "session ticket too long"))
            }
            _ => Err(Fault::peer(
                alert::UNEXPECTED_MESSAGE,
                format!("handshake message {kind} after the handshake"),
            )),
        }
    }

    /// RFC 8446 §4.6.3. Its sender changes keys behind it, so nothing may follow it in its record (§5.1).
    fn received_key_update(&mut self, body: &[u8], ends_record: bool) -> Result<(), Fault> {
        let requested = match body {
            [0] => false,
            [1] => true,
            _ => {
                return Err(Fault::peer(
                    alert::ILLEGAL_PARAMETER,
                    "key update of unknown kind",
                ));
            }
        };
        if !ends_record {
            return Err(Fault::peer(
                alert::UNEXPECTED_MESSAGE,
                "handshake message behind a key update in one record",
            ));
        }
        if let Some(kernel) = &mut self.kernel {
            let suite = self.opener.suite();
            let (_, secrets) = kernel.update_rx_secret().map_err(kernel_fault)?;
            let keys = extracted_keys(suite, &secrets).map_err(|e| Fault::ours(e.text))?;
            self.opener.replace(keys);
        } else if !self.opener.update() {
            return Err(Fault::ours("receiving keys cannot be updated"));
        }
        if requested {
            // Many requests may be answered by one update.
            self.key_update.get_or_insert(false);
        }
        Ok(())
    }

    fn received_ticket(&mut self, body: &[u8]) -> Result<(), Fault> {
        let Some(kernel) = &mut self.kernel else {
            return Err(Fault::ours("session ticket without a kernel connection"));
        };
        kernel
            .handle_new_session_ticket(body)
            .map_err(|error| match error {
                rustls::Error::InvalidMessage(_) => {
                    Fault::peer(alert::DECODE_ERROR, format!("session ticket: {error}"))
                }
                other => kernel_fault(other),
            })
    }

    pub fn wants_transmit(&self) -> bool {
        match self.closing {
            _ if self.fatal.is_some() => true,
            _ if self.failed => false,
            Closing::Queued => true,
            Closing::No => self.key_update.is_some(),
            Closing::Sent => false,
        }
    }

    pub fn close(&mut self) {
        if self.closing == Closing::No && !self.failed {
            self.closing = Closing::Queued;
        }
    }

    pub fn update_keys(&mut self, both: bool) {
        if self.suite().is_tls13() {
            self.key_update = Some(both || self.key_update == Some(true));
        }
    }

    pub fn park(&mut self) {
        self.sealer.park();
        self.opener.park();
    }

    /// Bytes to send: `control` (left over from the handshake), KeyUpdate, the data of `out`, close_notify; or, once
    /// failed, the alert alone.
    pub fn transmit(&mut self, control: &mut Vec<u8>, out: Outgoing) -> Result<Vec<u8>, TlsError> {
        if self.failed {
            return self.last_words(control, out);
        }
        if self.closing == Closing::Sent {
            debug_assert!(out.is_empty(), "data behind close_notify");
            return Ok(out.into_empty());
        }
        self.renew_keys(out.records(), control)?;
        let mut bytes = match out.seal(&mut self.sealer) {
            Ok(bytes) => bytes,
            Err(error) => return Err(self.fail(Fault::ours(error.to_string()))),
        };
        if self.closing == Closing::Queued {
            self.append(
                ContentType::Alert,
                &[WARNING, alert::CLOSE_NOTIFY],
                &mut bytes,
            )?;
            self.closing = Closing::Sent;
        }
        if !control.is_empty() {
            // Seldom, and short beside the data that moves: an answer to a KeyUpdate, the end of a handshake.
            bytes.splice(0..0, control.drain(..));
            *control = Vec::new();
        }
        Ok(bytes)
    }

    /// Sends the KeyUpdate that is due, or that the coming records make due: no key seals more than its limit.
    fn renew_keys(&mut self, records: usize, control: &mut Vec<u8>) -> Result<(), TlsError> {
        if self.sealer.remaining() < records as u64 {
            if !self.suite().is_tls13() {
                // TLS 1.2 cannot change keys: an orderly end, while there are records left for it.
                self.failed = true;
                let closed = [WARNING, alert::CLOSE_NOTIFY];
                self.append(ContentType::Alert, &closed, control)?;
                return Err(TlsError::ours(
                    "sending key used up; TLS 1.2 cannot renew it",
                ));
            }
            self.key_update.get_or_insert(false);
        }
        let Some(request) = self.key_update.take() else {
            return Ok(());
        };
        let message = [KEY_UPDATE, 0, 0, 1, u8::from(request)];
        self.append(ContentType::Handshake, &message, control)?;
        if let Some(kernel) = &mut self.kernel {
            let suite = self.sealer.suite();
            let updated = kernel.update_tx_secret().map_err(TlsError::from);
            match updated.and_then(|(_, secrets)| extracted_keys(suite, &secrets)) {
                Ok(keys) => self.sealer.replace(keys),
                Err(error) => return Err(self.fail(Fault::ours(error.text))),
            }
        } else if !self.sealer.update() {
            return Err(self.fail(Fault::ours("sending keys cannot be updated")));
        }
        Ok(())
    }

    fn last_words(&mut self, control: &mut Vec<u8>, out: Outgoing) -> Result<Vec<u8>, TlsError> {
        let mut bytes = out.into_empty();
        bytes.append(control);
        *control = Vec::new();
        if let Some(code) = self.fatal.take() {
            self.append(ContentType::Alert, &[FATAL, code], &mut bytes)?;
        }
        Ok(bytes)
    }

    fn append(
        &mut self,
        content_type: ContentType,
        message: &[u8],
        to: &mut Vec<u8>,
    ) -> Result<(), TlsError> {
        self.sealer
            .append(content_type, message, to)
            .map_err(|error: SealError| {
                self.failed = true;
                self.fatal = None;
                TlsError::ours(error.to_string())
            })
    }

    /// Bytes of heap, for the memory account. Expanded keys and the kernel connection are estimates from measurements.
    pub fn memory(&self) -> usize {
        let expanded =
            usize::from(!self.sealer.is_parked()) + usize::from(!self.opener.is_parked());
        let kernel = if self.kernel.is_some() { 1500 } else { 0 };
        self.fragment.capacity() + expanded * 660 + kernel
    }

    #[cfg(test)]
    pub fn sealer_mut(&mut self) -> &mut Sealer {
        &mut self.sealer
    }

    #[cfg(test)]
    pub fn opener_mut(&mut self) -> &mut Opener {
        &mut self.opener
    }
}

fn open_fault(error: OpenError) -> Fault {
    match error {
        OpenError::BadMac => Fault::peer(alert::BAD_RECORD_MAC, "bad record mac"),
        OpenError::Overflow => Fault::peer(alert::RECORD_OVERFLOW, "record too long"),
        OpenError::Unexpected => Fault::peer(
            alert::UNEXPECTED_MESSAGE,
            "record of a type that may not come here",
        ),
        OpenError::Exhausted | OpenError::Crypto => Fault::ours(error.to_string()),
    }
}

fn kernel_fault(error: rustls::Error) -> Fault {
    Fault::ours(format!("kernel connection: {error}"))
}
