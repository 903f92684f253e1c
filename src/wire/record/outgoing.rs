//! Plaintext laid out in TLS records so that it can be sealed where it stands.

use super::{ContentType, HEADER_LEN, MAX_PLAINTEXT, SealError, Sealer};

/// Room that a suite needs around a record's plaintext.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Bytes before the plaintext: 5 (TLS 1.3, ChaCha20 of 1.2) or 13 (GCM of TLS 1.2).
    pub prefix: u8,
    /// Bytes after it: 17 (TLS 1.3: content type and tag) or 16 (TLS 1.2).
    pub suffix: u8,
}

/// Clear TCP: no room at all.
const CLEAR: Layout = Layout {
    prefix: 0,
    suffix: 0,
};

/// Application data on its way out: one buffer, records of at most 16,384 bytes of plaintext with gaps for header and
/// tag, so that `tls::Connection::transmit` encrypts in place and no byte is copied between here and the kernel.
///
/// Until a record is sealed, the length field of its header's gap holds the length of its plaintext.
pub struct Outgoing {
    buffer: Vec<u8>,
    layout: Layout,
    /// Where the record begins that still takes bytes.
    open: Option<usize>,
    records: usize,
    staged: usize,
}

impl Outgoing {
    /// An empty one on top of a recycled buffer (its content is cleared, its capacity kept).
    pub fn new(layout: Layout, mut recycled: Vec<u8>) -> Self {
        recycled.clear();
        Self {
            buffer: recycled,
            layout,
            open: None,
            records: 0,
            staged: 0,
        }
    }

    /// An `Outgoing` that lays out nothing: bytes stay as they are (clear TCP).
    pub fn clear_text(recycled: Vec<u8>) -> Self {
        Self::new(CLEAR, recycled)
    }

    pub fn is_empty(&self) -> bool {
        self.staged == 0
    }

    pub fn is_clear_text(&self) -> bool {
        self.layout == CLEAR
    }

    /// How the records in here are laid out.
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// Records that sealing will give.
    pub fn records(&self) -> usize {
        self.records
    }

    /// Ends the current record: what is put next starts a new one. Ends nothing when nothing was put, so that no empty
    /// record arises.
    pub fn end_record(&mut self) {
        let Some(start) = self.open.take() else {
            return;
        };
        let (prefix, suffix) = (
            usize::from(self.layout.prefix),
            usize::from(self.layout.suffix),
        );
        let plain = self.buffer.len() - start - prefix;
        debug_assert!((1..=MAX_PLAINTEXT).contains(&plain));
        self.buffer[start + 3..start + HEADER_LEN].copy_from_slice(&(plain as u16).to_be_bytes());
        self.buffer.resize(self.buffer.len() + suffix, 0);
    }

    /// The bytes as they were put; for clear TCP.
    ///
    /// Of an `Outgoing` with a layout it would be plaintext with gaps, hence the assertion; it then gives nothing.
    pub fn into_clear_text(self) -> Vec<u8> {
        debug_assert!(
            self.is_clear_text(),
            "plaintext laid out for TLS taken as clear text"
        );
        if self.is_clear_text() {
            self.buffer
        } else {
            self.into_empty()
        }
    }

    /// The buffer alone, emptied, to recycle it.
    pub fn into_empty(mut self) -> Vec<u8> {
        self.buffer.clear();
        self.buffer
    }

    /// Seals every record where it stands and gives the bytes to send.
    pub fn seal(self, sealer: &mut Sealer) -> Result<Vec<u8>, SealError> {
        self.seal_by(sealer.layout(), |record| {
            sealer.seal(ContentType::ApplicationData, record)
        })
    }

    /// As `seal`, by whoever seals one record laid out as `layout` says.
    pub(super) fn seal_by(
        mut self,
        layout: Layout,
        mut seal: impl FnMut(&mut [u8]) -> Result<(), SealError>,
    ) -> Result<Vec<u8>, SealError> {
        if self.layout != layout && !self.is_empty() {
            return Err(SealError::Length);
        }
        self.end_record();
        let around = usize::from(self.layout.prefix) + usize::from(self.layout.suffix);
        let mut rest = self.buffer.as_mut_slice();
        while let [_, _, _, high, low, ..] = *rest {
            let plain = usize::from(u16::from_be_bytes([high, low]));
            let (record, next) = rest
                .split_at_mut_checked(around + plain)
                .ok_or(SealError::Length)?;
            seal(record)?;
            rest = next;
        }
        Ok(self.buffer)
    }

    /// Starts a record if none takes bytes, and says how many more the current one takes.
    fn room(&mut self) -> usize {
        let prefix = usize::from(self.layout.prefix);
        let start = match self.open {
            Some(start) => start,
            None => {
                let start = self.buffer.len();
                self.buffer.resize(start + prefix, 0);
                self.open = Some(start);
                self.records += 1;
                start
            }
        };
        MAX_PLAINTEXT - (self.buffer.len() - start - prefix)
    }
}

impl crate::wire::Put for Outgoing {
    fn put(&mut self, mut bytes: &[u8]) {
        self.staged += bytes.len();
        if self.is_clear_text() {
            self.buffer.extend_from_slice(bytes);
            return;
        }
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(self.room().min(bytes.len()));
            self.buffer.extend_from_slice(now);
            bytes = later;
            // Ended as soon as it is full, so that an open record always has room.
            if self.room() == 0 {
                self.end_record();
            }
        }
    }

    /// Plaintext bytes put and not yet taken.
    fn staged(&self) -> usize {
        self.staged
    }
}
