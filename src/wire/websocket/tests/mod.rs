mod cases;
mod handshake;
mod random;
mod state;

use super::*;
use crate::wire::websocket::frame::{self, Opcode};
use std::time::Instant;

/// An event that outlives its input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    Text(String),
    Binary(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<u16>, String),
}

/// Reads pieces, parking between them; gives events, fault and what was written.
pub(super) fn read(
    role: Role,
    limits: Limits,
    pieces: &[&[u8]],
) -> (Vec<Seen>, Option<Fault>, Vec<u8>) {
    let (mut parked, mut seen, mut out) = (Parked::default(), Vec::new(), Vec::new());
    let now = Instant::now();
    for piece in pieces {
        let (mut input, mut used) = (piece.to_vec(), 0);
        let mut socket = parked.unpark(role.clone(), limits);
        loop {
            seen.push(match socket.next(&mut input, &mut used, now, &mut out) {
                Ok(Event::NeedMore | Event::Ended) => break,
                Ok(Event::Text(text)) => Seen::Text(text.to_owned()),
                Ok(Event::Binary(bytes)) => Seen::Binary(bytes.to_vec()),
                Ok(Event::Pong(bytes)) => Seen::Pong(bytes.to_vec()),
                Ok(Event::Close { code, reason }) => Seen::Close(code, reason.to_owned()),
                Err(fault) => return (seen, Some(fault), out),
            });
        }
        assert_eq!(used, input.len(), "an input is drained");
        parked = socket.park();
    }
    (seen, None, out)
}

/// A frame as a client sends it; `first` is the frame's first byte, right or wrong.
pub(super) fn raw(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut client = Role::Client(fastrand::Rng::with_seed(9));
    frame::write(&mut out, &mut client, true, Opcode::Binary, payload);
    out[0] = first;
    out
}
