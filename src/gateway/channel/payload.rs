//! A push as clients get it: one envelope, written once for each kind of channel and shared by all that get it.

use crate::wire::event_stream::{self, Event};
use crate::wire::relay::{ChannelKind, PushId};
use crate::wire::websocket::{Limits, Role, Socket};
use std::fmt::Write;

/// A push, ready to be copied into records.
#[derive(Default)]
pub struct Payload {
    push: Option<PushId>,
    id: String,
    envelope: String,
    event: Vec<u8>,
    message: Vec<u8>,
}

impl Payload {
    /// `payload` is JSON text. Buffers are used again.
    pub fn fill(&mut self, push: PushId, repeat: bool, payload: &str) {
        self.push = Some(push);
        self.id.clear();
        let _ = write!(self.id, "{push}");
        self.envelope.clear();
        for part in [
            "{\"push\":\"",
            &self.id,
            if repeat { "\",\"repeat\":true" } else { "\"" },
            ",\"payload\":",
            payload,
            "}",
        ] {
            self.envelope.push_str(part);
        }
        self.event.clear();
        let event = Event {
            id: Some(&self.id),
            event: Some("push"),
            data: Some(&self.envelope),
            retry: None,
        };
        // Too many lines for one record: it stays empty, and cannot be delivered.
        let _ = event_stream::write_event(&mut self.event, &event);
        self.message.clear();
        let mut socket = Socket::new(Role::Server, Limits::default());
        socket.send_text(&mut self.message, &self.envelope);
    }

    pub fn push(&self) -> Option<PushId> {
        self.push
    }

    /// The JSON object.
    pub fn envelope(&self) -> &str {
        &self.envelope
    }

    /// What goes out on a channel of this kind; empty when it cannot carry the push.
    pub fn bytes(&self, kind: ChannelKind) -> &[u8] {
        match kind {
            ChannelKind::EventStream => &self.event,
            ChannelKind::WebSocket => &self.message,
            ChannelKind::LongPoll => self.envelope.as_bytes(),
        }
    }

    /// Bytes that it holds.
    pub fn size(&self) -> usize {
        self.envelope.len() + self.event.len() + self.message.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_envelope_in_every_form() {
        let push = PushId([5; 16]);
        let mut payload = Payload::default();
        payload.fill(push, true, "{\"a\":1}");
        let envelope = format!("{{\"push\":\"{push}\",\"repeat\":true,\"payload\":{{\"a\":1}}}}");
        assert_eq!(payload.envelope(), envelope);
        let event = String::from_utf8(payload.bytes(ChannelKind::EventStream).to_vec()).unwrap();
        let lines = format!("\r\nid: {push}\nevent: push\ndata: {envelope}\n\n\r\n");
        assert!(event.ends_with(&lines), "{event}");
        let message = payload.bytes(ChannelKind::WebSocket);
        assert_eq!(
            (message[0], usize::from(message[1])),
            (0x81, envelope.len())
        );
        assert_eq!(&message[2..], envelope.as_bytes());
        payload.fill(push, false, "null");
        assert_eq!(
            payload.envelope(),
            format!("{{\"push\":\"{push}\",\"payload\":null}}")
        );
    }

    #[test]
    fn what_no_record_carries_is_empty() {
        let mut payload = Payload::default();
        payload.fill(PushId([1; 16]), false, &"\n".repeat(4096));
        assert!(payload.bytes(ChannelKind::EventStream).is_empty());
        assert!(!payload.bytes(ChannelKind::WebSocket).is_empty());
    }
}
