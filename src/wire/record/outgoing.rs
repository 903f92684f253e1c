//! Plaintext laid out in TLS records so that it can be sealed where it stands.

/// Room that a suite needs around a record's plaintext.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Bytes before the plaintext: 5 (TLS 1.3, ChaCha20 of 1.2) or 13 (GCM of TLS 1.2).
    pub prefix: u8,
    /// Bytes after it: 17 (TLS 1.3: content type and tag) or 16 (TLS 1.2).
    pub suffix: u8,
}

/// Application data on its way out: one buffer, records of at most 16,384 bytes of plaintext with gaps for header and
/// tag, so that `tls::Connection::seal` encrypts in place and no byte is copied between here and the kernel.
pub struct Outgoing {}

impl Outgoing {
    /// An empty one on top of a recycled buffer (its content is cleared, its capacity kept).
    pub fn new(layout: Layout, recycled: Vec<u8>) -> Self {
        todo!()
    }
    /// An `Outgoing` that lays out nothing: bytes stay as they are (clear TCP).
    pub fn clear_text(recycled: Vec<u8>) -> Self {
        todo!()
    }
    pub fn is_empty(&self) -> bool {
        todo!()
    }
}

impl crate::wire::Put for Outgoing {
    fn put(&mut self, bytes: &[u8]) {
        todo!()
    }
    /// Plaintext bytes put and not yet taken.
    fn staged(&self) -> usize {
        todo!()
    }
}
