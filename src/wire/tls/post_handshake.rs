//! Handshake messages of TLS 1.3 that come after the handshake: KeyUpdate, and from a server NewSessionTicket, coalesced or
//! cut as the peer likes (RFC 8446 §4.6, §5.1).

use super::alert;
use super::error::Fault;

const NEW_SESSION_TICKET: u8 = 4;
pub const KEY_UPDATE: u8 = 24;
/// Type and length of every KeyUpdate; its body is one byte.
const KEY_UPDATE_HEADER: [u8; 4] = [KEY_UPDATE, 0, 0, 1];
/// Longest NewSessionTicket taken. One with a ticket of 2^16 − 1 bytes would be longer, and nobody sends it.
const MAX_TICKET: usize = 65_535;

/// One whole message.
pub enum Message<'a> {
    /// The peer's sending keys change behind this record; true asks for ours to change too.
    KeyUpdate(bool),
    /// The body of a NewSessionTicket.
    Ticket(&'a [u8]),
}

/// Joins the parts of messages. What it stores is the begin of one message whose header, as far as it is there, was found
/// good: at most `MAX_TICKET`, and a record while that is joined.
#[derive(Default)]
pub struct Inbox {
    fragment: Vec<u8>,
}

impl Inbox {
    /// True while a message goes on in the next record.
    pub fn is_partial(&self) -> bool {
        !self.fragment.is_empty()
    }

    /// How much came of a partial KeyUpdate's header: 0 to 4 bytes. `None`: it is a session ticket that came in part,
    /// which a server never has.
    pub fn key_update_part(&self) -> Option<u8> {
        let is_key_update = KEY_UPDATE_HEADER.starts_with(&self.fragment);
        is_key_update.then_some(self.fragment.len() as u8)
    }

    /// An inbox with that much of a KeyUpdate's header in it.
    pub fn with_key_update_part(length: u8) -> Self {
        let part = KEY_UPDATE_HEADER.get(..usize::from(length));
        Self {
            fragment: part.unwrap_or_default().to_vec(),
        }
    }

    pub fn capacity(&self) -> usize {
        self.fragment.capacity()
    }

    /// Takes the content of one record and gives each whole message to `handle`.
    pub fn receive(
        &mut self,
        body: &[u8],
        is_client: bool,
        mut handle: impl FnMut(Message<'_>) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        if body.is_empty() {
            return Err(Fault::peer(
                alert::UNEXPECTED_MESSAGE,
                "empty handshake record",
            ));
        }
        if self.fragment.is_empty() {
            let used = messages(body, is_client, &mut handle)?;
            self.fragment = body.get(used..).unwrap_or_default().to_vec();
        } else {
            let mut all = std::mem::take(&mut self.fragment);
            all.extend_from_slice(body);
            let used = messages(&all, is_client, &mut handle)?;
            all.drain(..used);
            all.shrink_to_fit();
            self.fragment = all;
        }
        Ok(())
    }
}

/// Handles the whole messages in `bytes`; returns how many bytes they took.
fn messages(
    bytes: &[u8],
    is_client: bool,
    handle: &mut impl FnMut(Message<'_>) -> Result<(), Fault>,
) -> Result<usize, Fault> {
    let mut used = 0;
    while let Some(rest) = bytes.get(used..).filter(|rest| !rest.is_empty()) {
        let Some((&[kind, a, b, c], rest)) = rest.split_first_chunk() else {
            // Less than a header: its type must be one that may come, and a KeyUpdate has one length only. So what a
            // server stores is known from how much it is.
            rest.first()
                .map_or(Ok(()), |&kind| allowed(kind, 1, is_client))?;
            if rest.first() == Some(&KEY_UPDATE) && !KEY_UPDATE_HEADER.starts_with(rest) {
                return allowed(KEY_UPDATE, 0, is_client).map(|()| used);
            }
            break;
        };
        let length = u32::from_be_bytes([0, a, b, c]) as usize;
        allowed(kind, length, is_client)?;
        let Some((body, behind)) = rest.split_at_checked(length) else {
            break;
        };
        used += 4 + length;
        if kind == KEY_UPDATE {
            handle(Message::KeyUpdate(key_update(body, behind.is_empty())?))?;
        } else {
            handle(Message::Ticket(body))?;
        }
    }
    Ok(used)
}

/// Which messages may come, and how long they may be.
fn allowed(kind: u8, length: usize, is_client: bool) -> Result<(), Fault> {
    match kind {
        KEY_UPDATE if length == 1 => Ok(()),
        KEY_UPDATE => Err(Fault::peer(
            alert::DECODE_ERROR,
            "key update of a wrong length",
        )),
        NEW_SESSION_TICKET if is_client && length <= MAX_TICKET => Ok(()),
        NEW_SESSION_TICKET if is_client => {
            Err(Fault::peer(alert::DECODE_ERROR, "session ticket too long"))
        }
        _ => Err(Fault::peer(
            alert::UNEXPECTED_MESSAGE,
            format!("handshake message {kind} after the handshake"),
        )),
    }
}

/// RFC 8446 §4.6.3. Its sender changes keys behind it, so nothing may follow it in its record (§5.1).
fn key_update(body: &[u8], ends_record: bool) -> Result<bool, Fault> {
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
    Ok(requested)
}
