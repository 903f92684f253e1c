//! The settings document in chunks, both ends.

use super::SessionError;
use super::control::{Chunk, MAX_DOCUMENT};
use super::frame::MAX_CHUNK;

/// While streams or channel frames have bytes to send, one chunk goes out for so many of theirs.
pub const STREAM_BYTES_PER_CHUNK: usize = 1 << 20;
/// Chunks are staged only while less than this is staged, so that a request does not find a full buffer of them before it.
pub const STAGE_BYTES: usize = 32 * 1024;

/// A document on its way out.
#[derive(Debug)]
pub struct Outgoing {
    pub hash: [u8; 32],
    document: Vec<u8>,
    offset: usize,
    /// Bytes of streams and channel frames staged since the last chunk.
    pub waited: usize,
}

impl Outgoing {
    /// `document` of at most [`MAX_DOCUMENT`] bytes.
    pub fn new(hash: [u8; 32], document: Vec<u8>) -> Outgoing {
        Outgoing {
            hash,
            document,
            offset: 0,
            waited: 0,
        }
    }

    /// The next chunk: total, offset, bytes.
    pub fn chunk(&self) -> (u32, u32, &[u8]) {
        let rest = self.document.get(self.offset..).unwrap_or_default();
        let bytes = rest.get(..MAX_CHUNK).unwrap_or(rest);
        (self.document.len() as u32, self.offset as u32, bytes)
    }

    /// That chunk was sent. True when it was the last.
    pub fn sent(&mut self) -> bool {
        self.offset += self.chunk().2.len();
        self.waited = 0;
        self.offset >= self.document.len()
    }
}

/// A document on its way in: chunks must follow each other.
#[derive(Debug, Default)]
pub struct Incoming {
    expected: Option<([u8; 32], u32, u32)>,
}

impl Incoming {
    pub fn take(&mut self, chunk: &Chunk<'_>) -> Result<(), SessionError> {
        let broken = |why: &str| Err(SessionError::protocol(format!("PUBLISH {why}")));
        if chunk.total as usize > MAX_DOCUMENT {
            return broken("of more than 16 MiB");
        }
        // A chunk at 0 starts a document and abandons the one before.
        if chunk.offset != 0 && self.expected != Some((chunk.hash, chunk.total, chunk.offset)) {
            return broken("out of order");
        }
        if chunk.bytes.is_empty() && chunk.total != 0 {
            return broken("without bytes");
        }
        let end = u64::from(chunk.offset) + chunk.bytes.len() as u64;
        if end > u64::from(chunk.total) {
            return broken("past its document's end");
        }
        let unfinished = end < u64::from(chunk.total);
        self.expected = unfinished.then_some((chunk.hash, chunk.total, end as u32));
        Ok(())
    }
}
