//! Buffers that a shard's sends leave behind, for its next ones.

/// Buffers kept.
const BUFFERS: usize = 256;
/// Capacity of the largest that is kept: that of one which grew, by doubling, to hold a client's full staging (256 KiB) and
/// what records add to it.
const LARGEST: usize = 512 * 1024;
/// Capacity of all that are kept.
const BYTES: usize = 16 << 20;

/// The one used last is used first: it is the likeliest to be in a cache still.
#[derive(Debug, Default)]
pub struct SendBuffers {
    free: Vec<Vec<u8>>,
    bytes: usize,
}

impl SendBuffers {
    /// A buffer, empty of content or altogether.
    pub fn take(&mut self) -> Vec<u8> {
        let buffer = self.free.pop().unwrap_or_default();
        self.bytes -= buffer.capacity();
        buffer
    }

    /// Takes a sent buffer back, or lets it go to the system.
    pub fn give(&mut self, mut buffer: Vec<u8>) {
        let size = buffer.capacity();
        let fits = size <= LARGEST && self.bytes + size <= BYTES && self.free.len() < BUFFERS;
        if fits && size > 0 {
            buffer.clear();
            self.bytes += size;
            self.free.push(buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_used_last_comes_first_and_empty() {
        let mut pool = SendBuffers::default();
        assert_eq!(pool.take().capacity(), 0);
        pool.give(Vec::with_capacity(100));
        pool.give(vec![1; 200]);
        let buffer = pool.take();
        assert!(buffer.is_empty() && buffer.capacity() == 200);
        assert_eq!((pool.take().capacity(), pool.take().capacity()), (100, 0));
        assert_eq!(pool.bytes, 0);
    }

    #[test]
    fn it_keeps_a_bounded_number_of_bytes_and_buffers() {
        let mut pool = SendBuffers::default();
        pool.give(Vec::with_capacity(LARGEST + 1));
        assert_eq!(pool.bytes, 0, "too large a one");
        for _ in 0..2 * BUFFERS {
            pool.give(Vec::with_capacity(1_000));
        }
        assert_eq!(pool.free.len(), BUFFERS);
        let mut pool = SendBuffers::default();
        for _ in 0..BUFFERS {
            pool.give(Vec::with_capacity(LARGEST));
        }
        assert_eq!(pool.free.len(), BYTES / LARGEST);
    }
}
