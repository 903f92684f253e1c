//! After the handshake: data, KeyUpdate, tickets, alerts, and the orderly end.

use super::MAX_BARREN_RECORDS;
use super::alert::{self, FATAL, WARNING};
use super::error::{Fault, TlsError};
use super::handshake::extracted_keys;
use super::post_handshake::{Inbox, KEY_UPDATE, Message};
use crate::wire::record::{
    ContentType, Header, OpenError, Opener, Outgoing, SealError, Sealer, Suite,
};
use rustls::client::ClientConnectionData;
use rustls::kernel::KernelConnection;
use std::ops::Range;

pub type Kernel = KernelConnection<ClientConnectionData>;

/// What one record gave.
pub enum Opened {
    /// Plaintext, never empty, at that place in the record.
    Data(Range<usize>),
    /// Something for the protocol itself.
    Nothing,
    /// close_notify.
    Closed,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Closing {
    #[default]
    No,
    /// close_notify goes behind the next data.
    Queued,
    Sent,
}

/// How a connection stands, keys and the parts of messages aside.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Records in a row that brought no data: less than `MAX_BARREN_RECORDS` while it goes on.
    pub barren: u8,
    /// A KeyUpdate is due before the next data; true asks the peer for one as well.
    pub key_update: Option<bool>,
    pub closing: Closing,
    pub peer_closed: bool,
    /// The alert to send last; after it nothing goes out.
    pub last_alert: Option<u8>,
    pub failed: bool,
}

impl Standing {
    pub fn wants_transmit(&self) -> bool {
        match self.closing {
            _ if self.last_alert.is_some() => true,
            _ if self.failed => false,
            Closing::Queued => true,
            Closing::No => self.key_update.is_some(),
            Closing::Sent => false,
        }
    }

    /// Data may go out at once, with nothing before or behind it.
    pub fn is_plain(&self) -> bool {
        self.closing == Closing::No && self.key_update.is_none() && !self.failed
    }

    pub fn close(&mut self) {
        if self.closing == Closing::No && !self.failed {
            self.closing = Closing::Queued;
        }
    }

    pub fn update_keys(&mut self, both: bool) {
        self.key_update = Some(both || self.key_update == Some(true));
    }
}

/// A connection that carries data. Idle, it is this struct and, on a TLS 1.3 client side, its kernel connection.
pub struct Traffic {
    sealer: Sealer,
    opener: Opener,
    /// TLS 1.3 client side that resumes sessions: stores tickets and has the secrets of the next generations.
    kernel: Option<Box<Kernel>>,
    inbox: Inbox,
    is_client: bool,
    standing: Standing,
}

impl Traffic {
    pub fn server(sealer: Sealer, opener: Opener) -> Self {
        Self::new(sealer, opener, None, false)
    }

    pub fn client(sealer: Sealer, opener: Opener, kernel: Option<Box<Kernel>>) -> Self {
        Self::new(sealer, opener, kernel, true)
    }

    /// A side that was parked goes on.
    pub fn resume(
        is_client: bool,
        sealer: Sealer,
        opener: Opener,
        inbox: Inbox,
        standing: Standing,
    ) -> Self {
        Self {
            inbox,
            standing,
            ..Self::new(sealer, opener, None, is_client)
        }
    }

    fn new(sealer: Sealer, opener: Opener, kernel: Option<Box<Kernel>>, is_client: bool) -> Self {
        Self {
            sealer,
            opener,
            kernel,
            inbox: Inbox::default(),
            is_client,
            standing: Standing::default(),
        }
    }

    pub fn suite(&self) -> Suite {
        self.sealer.suite()
    }

    pub fn is_client(&self) -> bool {
        self.is_client
    }

    pub fn sealer(&self) -> &Sealer {
        &self.sealer
    }

    /// Without its kernel connection it could not go on.
    pub fn stores_tickets(&self) -> bool {
        self.kernel.is_some()
    }

    pub fn opener(&self) -> &Opener {
        &self.opener
    }

    pub fn inbox(&self) -> &Inbox {
        &self.inbox
    }

    pub fn standing(&self) -> Standing {
        self.standing
    }

    pub fn has_failed(&self) -> bool {
        self.standing.failed
    }

    pub fn peer_closed(&self) -> bool {
        self.standing.peer_closed
    }

    /// Ends the connection for that fault; the alert waits in `transmit`.
    pub fn fail(&mut self, fault: Fault) -> TlsError {
        self.standing.failed = true;
        self.standing.last_alert = fault
            .alert
            .filter(|_| self.standing.closing != Closing::Sent);
        self.inbox = Inbox::default();
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
        if content_type != ContentType::Handshake && self.inbox.is_partial() {
            return Err(Fault::peer(
                alert::UNEXPECTED_MESSAGE,
                "record between the parts of a handshake message",
            ));
        }
        match content_type {
            ContentType::ApplicationData if plain.is_empty() => self.barren_record(),
            ContentType::ApplicationData => {
                self.standing.barren = 0;
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
        self.standing.barren += 1;
        if self.standing.barren >= MAX_BARREN_RECORDS {
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
                self.standing.peer_closed = true;
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
        let mut inbox = std::mem::take(&mut self.inbox);
        inbox.receive(body, self.is_client, |message| match message {
            Message::KeyUpdate(requested) => self.received_key_update(requested),
            Message::Ticket(body) => self.received_ticket(body),
        })?;
        self.inbox = inbox;
        self.barren_record()
    }

    fn received_key_update(&mut self, requested: bool) -> Result<(), Fault> {
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
            self.standing.key_update.get_or_insert(false);
        }
        Ok(())
    }

    fn received_ticket(&mut self, body: &[u8]) -> Result<(), Fault> {
        let Some(kernel) = &mut self.kernel else {
            return Ok(()); // a client that resumes no session has no use for it
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
        self.standing.wants_transmit()
    }

    pub fn close(&mut self) {
        self.standing.close();
    }

    pub fn update_keys(&mut self, both: bool) {
        if self.suite().is_tls13() {
            self.standing.update_keys(both);
        }
    }

    pub fn drop_keys(&mut self) {
        self.sealer.park();
        self.opener.park();
    }

    pub fn has_keys(&self) -> bool {
        !self.sealer.is_parked() || !self.opener.is_parked()
    }

    /// Bytes to send: `control` (left over from the handshake), KeyUpdate, the data of `out`, close_notify; or, once
    /// failed, the alert alone.
    pub fn transmit(&mut self, control: &mut Vec<u8>, out: Outgoing) -> Result<Vec<u8>, TlsError> {
        if self.standing.failed {
            return self.last_words(control, out);
        }
        if self.standing.closing == Closing::Sent {
            debug_assert!(out.is_empty(), "data behind close_notify");
            return Ok(out.into_empty());
        }
        self.renew_keys(out.records(), control)?;
        let mut bytes = match out.seal(&mut self.sealer) {
            Ok(bytes) => bytes,
            Err(error) => return Err(self.fail(Fault::ours(error.to_string()))),
        };
        if self.standing.closing == Closing::Queued {
            self.append(
                ContentType::Alert,
                &[WARNING, alert::CLOSE_NOTIFY],
                &mut bytes,
            )?;
            self.standing.closing = Closing::Sent;
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
                self.standing.failed = true;
                self.standing.last_alert = Some(alert::CLOSE_NOTIFY);
                return Err(TlsError::ours(
                    "sending key used up; TLS 1.2 cannot renew it",
                ));
            }
            self.standing.key_update.get_or_insert(false);
        }
        let Some(request) = self.standing.key_update.take() else {
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
        if let Some(code) = self.standing.last_alert.take() {
            let level = if code == alert::CLOSE_NOTIFY {
                WARNING
            } else {
                FATAL
            };
            self.append(ContentType::Alert, &[level, code], &mut bytes)?;
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
                self.standing.failed = true;
                self.standing.last_alert = None;
                TlsError::ours(error.to_string())
            })
    }

    /// Bytes of heap, for the memory account. Expanded keys and the kernel connection are estimates from measurements.
    pub fn memory(&self) -> usize {
        let expanded =
            usize::from(!self.sealer.is_parked()) + usize::from(!self.opener.is_parked());
        let kernel = if self.kernel.is_some() { 1500 } else { 0 };
        self.inbox.capacity() + expanded * 660 + kernel
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
