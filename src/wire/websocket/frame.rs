//! Frame heads and masks (RFC 6455 §5.2, §5.3).

use super::{Fault, Role, protocol};
use crate::wire::Put;

/// Longest frame head: two bytes, a length of eight, a mask of four.
pub const HEAD_MAX: usize = 14;
/// Longest payload of a control frame.
pub const CONTROL_MAX: usize = 125;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Opcode {
    Continuation = 0,
    Text = 1,
    Binary = 2,
    Close = 8,
    Ping = 9,
    Pong = 10,
}

impl Opcode {
    pub(super) fn is_control(self) -> bool {
        self as u8 & 8 != 0
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) fin: bool,
    pub(super) opcode: Opcode,
    /// Payload bytes, under 2⁶³.
    pub(super) length: u64,
    /// Zero for frames without a mask, which is the mask that changes nothing.
    pub(super) mask: [u8; 4],
}

/// A head and its own length, or nothing while it is incomplete; what is wrong is refused at its first byte.
pub(super) fn parse(bytes: &[u8], from_client: bool) -> Result<Option<(Head, usize)>, Fault> {
    let Some((&first, rest)) = bytes.split_first() else {
        return Ok(None);
    };
    if first & 0x70 != 0 {
        return Err(protocol("reserved bit set"));
    }
    let opcode = opcode(first & 15).ok_or(protocol("reserved opcode"))?;
    let fin = first & 0x80 != 0;
    if opcode.is_control() && !fin {
        return Err(protocol("fragmented control frame"));
    }
    let Some((&second, rest)) = rest.split_first() else {
        return Ok(None);
    };
    if (second & 0x80 != 0) != from_client {
        return Err(protocol(match from_client {
            true => "frame of a client without a mask",
            false => "frame of a server with a mask",
        }));
    }
    if opcode.is_control() && usize::from(second & 0x7f) > CONTROL_MAX {
        return Err(protocol("control frame over 125 bytes"));
    }
    let Some((length, rest)) = length(second & 0x7f, rest)? else {
        return Ok(None);
    };
    let (mask, rest) = match rest.split_first_chunk::<4>() {
        Some((mask, rest)) if from_client => (*mask, rest),
        None if from_client => return Ok(None),
        _ => ([0; 4], rest),
    };
    let head = Head {
        fin,
        opcode,
        length,
        mask,
    };
    Ok(Some((head, bytes.len() - rest.len())))
}

fn opcode(code: u8) -> Option<Opcode> {
    Some(match code {
        0 => Opcode::Continuation,
        1 => Opcode::Text,
        2 => Opcode::Binary,
        8 => Opcode::Close,
        9 => Opcode::Ping,
        10 => Opcode::Pong,
        _ => return None,
    })
}

/// Payload length in its shortest form, and what follows it.
fn length(short: u8, bytes: &[u8]) -> Result<Option<(u64, &[u8])>, Fault> {
    let (length, rest, least) = match short {
        126 => match bytes.split_first_chunk::<2>() {
            Some((long, rest)) => (u64::from(u16::from_be_bytes(*long)), rest, 126),
            None => return Ok(None),
        },
        127 => match bytes.split_first_chunk::<8>() {
            Some((long, rest)) => (u64::from_be_bytes(*long), rest, 1 << 16),
            None => return Ok(None),
        },
        _ => (u64::from(short), bytes, 0),
    };
    if length < least {
        return Err(protocol("payload length not in its shortest form"));
    }
    if length >> 63 != 0 {
        return Err(protocol("payload length of 64 bits"));
    }
    Ok(Some((length, rest)))
}

/// Masks or unmasks (the same thing) bytes that begin `offset` bytes into the payload.
pub(super) fn apply_mask(bytes: &mut [u8], mut mask: [u8; 4], offset: u64) {
    if mask == [0; 4] {
        return;
    }
    mask.rotate_left((offset & 3) as usize);
    let (words, rest) = bytes.as_chunks_mut::<8>();
    let [a, b, c, d] = mask;
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    for word in words {
        *word = (u64::from_ne_bytes(*word) ^ wide).to_ne_bytes();
    }
    for (byte, key) in rest.iter_mut().zip(mask.iter().cycle()) {
        *byte ^= key;
    }
}

/// Writes one frame.
pub(super) fn write(out: &mut impl Put, role: &mut Role, fin: bool, opcode: Opcode, data: &[u8]) {
    let mut head = [0; HEAD_MAX];
    head[0] = u8::from(fin) << 7 | opcode as u8;
    let mut filled = match data.len() {
        length @ ..126 => {
            head[1] = length as u8;
            2
        }
        length @ 126..0x1_0000 => {
            head[1] = 126;
            head[2..4].copy_from_slice(&(length as u16).to_be_bytes());
            4
        }
        length => {
            head[1] = 127;
            head[2..10].copy_from_slice(&(length as u64).to_be_bytes());
            10
        }
    };
    let Role::Client(random) = role else {
        out.put(&head[..filled]);
        out.put(data);
        return;
    };
    let mask = random.u32(..).to_ne_bytes();
    head[1] |= 0x80;
    head[filled..filled + 4].copy_from_slice(&mask);
    filled += 4;
    out.put(&head[..filled]);
    // a multiple of four, so that every piece begins with the mask's first byte
    let mut piece = [0; 512];
    for chunk in data.chunks(piece.len()) {
        let masked = &mut piece[..chunk.len()];
        masked.copy_from_slice(chunk);
        apply_mask(masked, mask, 0);
        out.put(masked);
    }
}
