//! The connection: handshake, then traffic, behind one pair of calls.

use super::assembly::Assembly;
use super::error::{Fault, TlsError};
use super::handshake::{Fed, Handshake, Side};
use super::hello::{ChooseConfig, Hello};
use super::parked::Parked;
use super::traffic::{Opened, Traffic};
use super::{Step, config};
use crate::wire::record::{Header, Layout, Outgoing, Suite};
use rustls::client::UnbufferedClientConnection;
use rustls::pki_types::ServerName;
use rustls::server::UnbufferedServerConnection;
use std::ops::Range;
use std::sync::Arc;

/// A TLS connection, server or client side, handshake and traffic.
pub struct Connection {
    phase: Phase,
    /// A record of which a part came.
    assembly: Assembly,
    /// The record in `assembly` was given out by the last step.
    assembly_spent: bool,
    /// Bytes to send as they are: flights and alerts of rustls.
    control: Vec<u8>,
}

enum Phase {
    /// A server side that does not know its config yet.
    Hello(Box<Hello>),
    Handshake(Box<Handshake>),
    Traffic(Traffic),
    /// The handshake failed, or was closed by us.
    Dead,
}

/// Where the plaintext of a record stands.
enum Found {
    InInput(Range<usize>),
    InAssembly(Range<usize>),
}

impl Connection {
    /// A server side. Errors if the config was not prepared with [`prepare_server_config`](super::prepare_server_config).
    pub fn server(config: &Arc<rustls::ServerConfig>) -> Result<Self, TlsError> {
        config::check_server(config)?;
        Self::start(Side::Server(UnbufferedServerConnection::new(
            config.clone(),
        )?))
    }

    /// A server side whose config is picked by the name that the client asks for. Costs a second parse of the hello.
    pub fn server_by_name(choices: &Arc<dyn ChooseConfig>) -> Self {
        Self::in_phase(Phase::Hello(Hello::new(choices.clone())), Vec::new())
    }

    /// A client side; its hello waits in `transmit`. Errors if the config was not prepared with
    /// [`prepare_client_config`](super::prepare_client_config).
    pub fn client(
        config: &Arc<rustls::ClientConfig>,
        name: ServerName<'static>,
    ) -> Result<Self, TlsError> {
        config::check_client(config)?;
        Self::start(Side::Client(UnbufferedClientConnection::new(
            config.clone(),
            name,
        )?))
    }

    fn start(side: Side) -> Result<Self, TlsError> {
        let mut handshake = Handshake::new(side);
        let mut control = Vec::new();
        handshake.start(&mut control)?;
        Ok(Self::in_phase(Phase::Handshake(handshake), control))
    }

    fn in_phase(phase: Phase, control: Vec<u8>) -> Self {
        Self {
            phase,
            assembly: Assembly::default(),
            assembly_spent: false,
            control,
        }
    }

    /// Takes ciphertext from `input[*used..]`, advances `*used`, returns one step. Call until `NeedMore`, `Closed` or an
    /// error. Records are opened in place.
    ///
    /// After an error every further call gives an error too; what `transmit` still has (an alert) should be sent.
    pub fn next<'a>(
        &'a mut self,
        input: &'a mut [u8],
        used: &mut usize,
    ) -> Result<Step<'a>, TlsError> {
        if self.assembly_spent {
            self.assembly.clear();
            self.assembly_spent = false;
        }
        match &mut self.phase {
            Phase::Hello(_) => return self.next_of_hello(input, used),
            Phase::Handshake(_) => return self.next_of_handshake(input, used),
            Phase::Traffic(traffic) if traffic.has_failed() => {
                return Err(TlsError::ours("connection has failed before"));
            }
            Phase::Traffic(traffic) if traffic.peer_closed() => {
                *used = input.len();
                return Ok(Step::Closed);
            }
            Phase::Traffic(_) => {}
            Phase::Dead => return Err(TlsError::ours("connection has failed before")),
        }
        match self.next_of_traffic(input, used)? {
            Some(Found::InInput(range)) => Ok(Step::Data(input.get_mut(range).unwrap_or_default())),
            Some(Found::InAssembly(range)) => {
                self.assembly_spent = true;
                Ok(Step::Data(
                    self.assembly.bytes_mut().get_mut(range).unwrap_or_default(),
                ))
            }
            None if matches!(&self.phase, Phase::Traffic(t) if t.peer_closed()) => {
                *used = input.len();
                Ok(Step::Closed)
            }
            None => Ok(Step::NeedMore),
        }
    }

    fn next_of_hello(&mut self, input: &[u8], used: &mut usize) -> Result<Step<'static>, TlsError> {
        let Phase::Hello(hello) = &mut self.phase else {
            return Ok(Step::NeedMore);
        };
        let chosen = hello.feed(input, used, &mut self.control);
        if let Ok(None) = chosen {
            return Ok(Step::NeedMore);
        }
        // Until the chosen config's connection is there, an error leaves the connection dead.
        let done = std::mem::replace(&mut self.phase, Phase::Dead);
        let (Some(config), Phase::Hello(hello)) = (chosen?, done) else {
            return Ok(Step::NeedMore);
        };
        let Self { phase, .. } = Self::server(&config)?;
        self.phase = phase;
        // A client cannot complete the handshake in its first flight, so this takes all bytes or fails.
        let (seen, mut seen_used) = (hello.into_seen(), 0);
        let step = self.next_of_handshake(&seen, &mut seen_used)?;
        debug_assert_eq!(seen_used, seen.len());
        Ok(step)
    }

    fn next_of_handshake(
        &mut self,
        input: &[u8],
        used: &mut usize,
    ) -> Result<Step<'static>, TlsError> {
        let Phase::Handshake(handshake) = &mut self.phase else {
            return Ok(Step::NeedMore);
        };
        match handshake.feed(input, used, &mut self.control) {
            Ok(Fed::NeedMore) => Ok(Step::NeedMore),
            Ok(Fed::Complete) => {
                let done = std::mem::replace(&mut self.phase, Phase::Dead);
                let Phase::Handshake(handshake) = done else {
                    return Ok(Step::NeedMore);
                };
                let (traffic, established) = handshake.take_over()?;
                self.phase = Phase::Traffic(traffic);
                Ok(Step::Established(established))
            }
            Err(error) => {
                self.phase = Phase::Dead;
                Err(error)
            }
        }
    }

    /// Opens records until one gives data; `None` at the end of the input or at close_notify.
    fn next_of_traffic(
        &mut self,
        input: &mut [u8],
        used: &mut usize,
    ) -> Result<Option<Found>, TlsError> {
        let Phase::Traffic(traffic) = &mut self.phase else {
            return Ok(None);
        };
        loop {
            let opened = match next_record(traffic, &mut self.assembly, input, used) {
                Ok(None) => return Ok(None),
                Ok(Some(opened)) => opened,
                Err(fault) => {
                    self.assembly.clear();
                    return Err(traffic.fail(fault));
                }
            };
            match opened {
                (Opened::Data(range), start) => {
                    return Ok(Some(match start {
                        Some(start) => Found::InInput(start + range.start..start + range.end),
                        None => Found::InAssembly(range),
                    }));
                }
                (Opened::Nothing, _) => self.assembly.clear(),
                (Opened::Closed, _) => {
                    self.assembly.clear();
                    return Ok(None);
                }
            }
        }
    }

    pub fn is_established(&self) -> bool {
        matches!(self.phase, Phase::Traffic(_))
    }

    /// Established, and with TLS 1.3.
    pub fn is_tls13(&self) -> bool {
        matches!(&self.phase, Phase::Traffic(traffic) if traffic.suite().is_tls13())
    }

    /// How this connection's records are laid out; meaningful once established.
    pub fn layout(&self) -> Layout {
        match &self.phase {
            Phase::Traffic(traffic) => traffic.suite().layout(),
            _ => Suite::Tls13Aes128Gcm.layout(),
        }
    }

    /// True when `transmit` would give bytes even with an empty `Outgoing` (handshake flight, alert, key update answer,
    /// close_notify).
    pub fn wants_transmit(&self) -> bool {
        !self.control.is_empty()
            || matches!(&self.phase, Phase::Traffic(traffic) if traffic.wants_transmit())
    }

    /// Ends `out`: control bytes first (handshake flight, alerts, KeyUpdate), then the application data of `out`, sealed in
    /// place, then close_notify if [`close`](Self::close) was called. Returns the bytes to send as one buffer (possibly
    /// empty), and the send must complete in full before the next call (DESIGN §3). `out` is left consumed.
    ///
    /// Before the handshake is complete only control bytes are given and a non-empty `out` is a bug (debug_assert), as it
    /// is behind close_notify. After an error only the alert is given, and data in `out` is dropped with the connection.
    pub fn transmit(&mut self, out: Outgoing) -> Result<Vec<u8>, TlsError> {
        match &mut self.phase {
            Phase::Traffic(traffic) => traffic.transmit(&mut self.control, out),
            Phase::Hello(_) | Phase::Handshake(_) | Phase::Dead => {
                debug_assert!(
                    out.is_empty() || matches!(self.phase, Phase::Dead),
                    "data before the handshake is complete"
                );
                let mut bytes = out.into_empty();
                bytes.append(&mut self.control);
                self.control = Vec::new();
                Ok(bytes)
            }
        }
    }

    /// Queues close_notify behind what was transmitted so far, and behind the data of the next `transmit`. During the
    /// handshake it just ends the connection.
    pub fn close(&mut self) {
        match &mut self.phase {
            Phase::Traffic(traffic) => traffic.close(),
            Phase::Hello(_) | Phase::Handshake(_) => self.phase = Phase::Dead,
            Phase::Dead => {}
        }
    }

    /// Asks for new sending keys before the next record (TLS 1.3; no effect on 1.2), and for the peer's if `both`.
    pub fn update_keys(&mut self, both: bool) {
        if let Phase::Traffic(traffic) = &mut self.phase {
            traffic.update_keys(both);
        }
    }

    /// Drops the expanded keys, about 1.2 KB; they are rebuilt when a record is due. For a connection that will be idle
    /// for a while; [`park`](Self::park) keeps less still.
    pub fn drop_keys(&mut self) {
        if let Phase::Traffic(traffic) = &mut self.phase {
            traffic.drop_keys();
        }
    }

    /// There is something that [`drop_keys`](Self::drop_keys) would drop.
    pub fn has_keys(&self) -> bool {
        matches!(&self.phase, Phase::Traffic(traffic) if traffic.has_keys())
    }

    /// What of an established connection must be kept while it is idle. Gives the connection back if it is a client's that
    /// stores session tickets, if it is not established or has failed, and while a partial record or anything to transmit
    /// waits.
    #[expect(
        clippy::result_large_err,
        reason = "the error is the connection itself, whose place was there before"
    )]
    pub fn park(self) -> Result<Parked, Self> {
        if self.partial() > 0 || self.wants_transmit() {
            return Err(self);
        }
        let parked = match &self.phase {
            Phase::Traffic(traffic) => Parked::of(traffic),
            _ => None,
        };
        parked.ok_or(self)
    }

    pub(super) fn woken(traffic: Traffic) -> Self {
        Self::in_phase(Phase::Traffic(traffic), Vec::new())
    }

    /// Bytes of a record that came in part and wait for the rest.
    pub fn partial(&self) -> usize {
        if self.assembly_spent {
            0
        } else {
            self.assembly.len()
        }
    }

    /// An estimate of the memory that this connection holds, itself included.
    pub fn memory(&self) -> usize {
        let phase = match &self.phase {
            Phase::Hello(hello) => hello.memory(),
            Phase::Handshake(handshake) => handshake.memory(),
            Phase::Traffic(traffic) => traffic.memory(),
            Phase::Dead => 0,
        };
        size_of::<Self>() + self.assembly.capacity() + self.control.capacity() + phase
    }

    /// Data may go out no more.
    #[cfg(test)]
    pub(super) fn is_closing(&self) -> bool {
        !matches!(&self.phase, Phase::Traffic(t) if t.standing().closing == super::traffic::Closing::No)
    }

    #[cfg(test)]
    pub(super) fn traffic_mut(&mut self) -> &mut Traffic {
        match &mut self.phase {
            Phase::Traffic(traffic) => traffic,
            _ => panic!("not established"),
        }
    }
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let phase = match &self.phase {
            Phase::Hello(_) => "hello",
            Phase::Handshake(_) => "handshake",
            Phase::Traffic(_) => "traffic",
            Phase::Dead => "dead",
        };
        f.debug_struct("Connection")
            .field("phase", &phase)
            .finish_non_exhaustive()
    }
}

/// Opens the next record, if it is whole. Gives also where in `input` it began, or `None` if it stands in `assembly`.
fn next_record(
    traffic: &mut Traffic,
    assembly: &mut Assembly,
    input: &mut [u8],
    used: &mut usize,
) -> Result<Option<(Opened, Option<usize>)>, Fault> {
    if assembly.is_empty() {
        let rest = input.get_mut(*used..).unwrap_or_default();
        let header = Header::read(rest);
        if let Some(header) = header {
            traffic.check(header)?;
            if let Some(record) = rest.get_mut(..header.record_len()) {
                let start = *used;
                *used += header.record_len();
                return Ok(Some((traffic.open(record)?, Some(start))));
            }
        }
    }
    let Some(header) = assembly.fill_header(input, used) else {
        return Ok(None);
    };
    traffic.check(header)?;
    if !assembly.fill(header.record_len(), input, used) {
        return Ok(None);
    }
    Ok(Some((traffic.open(assembly.bytes_mut())?, None)))
}
