//! The partial record of one connection: only what came of it is stored, and nothing once it is complete.

use crate::wire::record::{HEADER_LEN, Header, MAX_RECORD};
use std::cell::RefCell;

/// Up to here a partial record lives in an allocation of its own size, so that a peer pins what it sent and no more;
/// above, in a full-size buffer of the thread's pool.
const SMALL: usize = 2048;
/// Full-size buffers that a thread keeps for the next partial record; more are freed.
const POOLED: usize = 16;

thread_local! {
    static POOL: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

#[derive(Default)]
pub struct Assembly {
    bytes: Vec<u8>,
}

impl Assembly {
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    pub fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    /// The header, once its five bytes are there.
    pub fn header(&self) -> Option<Header> {
        Header::read(&self.bytes)
    }

    /// Moves bytes from `input[*used..]` until `target` are here. True if they are.
    pub fn fill(&mut self, target: usize, input: &[u8], used: &mut usize) -> bool {
        debug_assert!(target <= MAX_RECORD);
        let rest = input.get(*used..).unwrap_or_default();
        let wanted = target.saturating_sub(self.bytes.len());
        let taken = rest.get(..wanted.min(rest.len())).unwrap_or_default();
        self.make_room(taken.len());
        self.bytes.extend_from_slice(taken);
        *used += taken.len();
        self.bytes.len() >= target
    }

    /// As `fill`, for the header.
    pub fn fill_header(&mut self, input: &[u8], used: &mut usize) -> Option<Header> {
        self.fill(HEADER_LEN.max(self.bytes.len()), input, used)
            .then(|| self.header())?
    }

    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }

    /// Frees the record, or gives its buffer to the pool.
    pub fn clear(&mut self) {
        let mut bytes = std::mem::take(&mut self.bytes);
        if bytes.capacity() >= MAX_RECORD {
            POOL.with_borrow_mut(|pool| {
                if pool.len() < POOLED {
                    bytes.clear();
                    pool.push(bytes);
                }
            });
        }
    }

    fn make_room(&mut self, more: usize) {
        let needed = self.bytes.len() + more;
        if needed <= self.bytes.capacity() || needed <= SMALL {
            return; // extending grows it by doubling at most
        }
        let pooled = POOL.with_borrow_mut(Vec::pop);
        let mut full = pooled.unwrap_or_else(|| Vec::with_capacity(MAX_RECORD));
        full.extend_from_slice(&self.bytes);
        self.bytes = full;
    }
}
