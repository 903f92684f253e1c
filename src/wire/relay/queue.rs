//! What waits in one stream, in order: body bytes and whole frames; and the buffers it waits in.

use super::frame::{HEADER, MAX_DATA};
use std::collections::VecDeque;

/// Buffers kept for reuse by a session: 1 MiB.
const KEPT_BUFFERS: usize = 64;
/// A buffer larger than a full frame is not kept.
const KEPT_BUFFER_BYTES: usize = HEADER + MAX_DATA;
/// Room in a stream's list of chunks that outlives the stream.
const KEPT_CHUNKS: usize = 16;

/// Recycled buffers of one session.
#[derive(Debug, Default)]
pub struct Pool(Vec<Vec<u8>>);

impl Pool {
    /// Buffers that wait for reuse, and their capacity.
    #[cfg(test)]
    pub fn kept(&self) -> (usize, usize) {
        (self.0.len(), self.0.iter().map(Vec::capacity).sum())
    }

    pub fn take(&mut self) -> Vec<u8> {
        self.0.pop().unwrap_or_default()
    }

    pub fn give(&mut self, mut buffer: Vec<u8>) {
        if self.0.len() < KEPT_BUFFERS && buffer.capacity() <= KEPT_BUFFER_BYTES {
            buffer.clear();
            self.0.push(buffer);
        }
    }
}

/// A whole frame that waits behind body bytes, or for its turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whole {
    Open,
    Head,
    End,
}

#[derive(Debug)]
enum What {
    Data { from: usize },
    Frame(Whole),
}

#[derive(Debug)]
struct Chunk {
    bytes: Vec<u8>,
    what: What,
}

/// The head of a queue.
#[derive(Debug, PartialEq, Eq)]
pub enum Front<'a> {
    Empty,
    Data(&'a [u8]),
    Frame(Whole, &'a [u8]),
}

#[derive(Debug, Default)]
pub struct Queue {
    chunks: VecDeque<Chunk>,
    bytes: usize,
}

impl Queue {
    pub fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    /// Bytes that wait, frames with their headers.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    pub fn push_data(&mut self, mut data: &[u8], pool: &mut Pool) {
        self.bytes += data.len();
        while !data.is_empty() {
            if let Some(Chunk {
                bytes,
                what: What::Data { .. },
            }) = self.chunks.back_mut()
                && bytes.len() < MAX_DATA
            {
                let n = data.len().min(MAX_DATA - bytes.len());
                if bytes.capacity() - bytes.len() < n {
                    // Doubling, but never past what the pool keeps.
                    let wanted = (bytes.len() + n).max(2 * bytes.capacity()).min(MAX_DATA);
                    bytes.reserve_exact(wanted - bytes.len());
                }
                bytes.extend_from_slice(&data[..n]);
                data = &data[n..];
            } else {
                self.chunks.push_back(Chunk {
                    bytes: pool.take(),
                    what: What::Data { from: 0 },
                });
            }
        }
    }

    pub fn push_frame(&mut self, whole: Whole, frame: &[u8], pool: &mut Pool) {
        let mut bytes = pool.take();
        bytes.extend_from_slice(frame);
        self.bytes += bytes.len();
        self.chunks.push_back(Chunk {
            bytes,
            what: What::Frame(whole),
        });
    }

    pub fn front(&self) -> Front<'_> {
        match self.chunks.front() {
            None => Front::Empty,
            Some(Chunk {
                bytes,
                what: What::Data { from },
            }) => Front::Data(&bytes[*from..]),
            Some(Chunk {
                bytes,
                what: What::Frame(whole),
            }) => Front::Frame(*whole, bytes),
        }
    }

    /// The first `n` bytes of the data in front have been sent.
    pub fn advance(&mut self, n: usize, pool: &mut Pool) {
        if let Some(Chunk {
            bytes,
            what: What::Data { from },
        }) = self.chunks.front_mut()
        {
            *from += n;
            self.bytes -= n;
            if *from < bytes.len() {
                return;
            }
        }
        self.drop_front(pool);
    }

    /// The frame in front has been sent.
    pub fn pop_frame(&mut self, pool: &mut Pool) {
        if let Some(Chunk {
            bytes,
            what: What::Frame(_),
        }) = self.chunks.front()
        {
            self.bytes -= bytes.len();
            self.drop_front(pool);
        }
    }

    /// Drops all that waits; gives how much it was.
    pub fn clear(&mut self, pool: &mut Pool) -> usize {
        while !self.chunks.is_empty() {
            self.drop_front(pool);
        }
        self.chunks.shrink_to(KEPT_CHUNKS);
        std::mem::take(&mut self.bytes)
    }

    fn drop_front(&mut self, pool: &mut Pool) {
        if let Some(chunk) = self.chunks.pop_front() {
            pool.give(chunk.bytes);
        }
    }
}
