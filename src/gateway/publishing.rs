//! Settings on their way from a link to the control thread: chunks become a document, one a link at a time, and what
//! waits for the control thread is bounded in number and bytes over all links. What finds no room is answered "busy",
//! and its connector publishes again: a link never ends for it, and orders of the process itself keep their room.

use crate::control::settings::MAX_DOCUMENT_BYTES;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Documents that may wait for the control thread: half of its orders.
const WAITING_MAX: usize = super::control::ORDERS / 2;
/// Their bytes.
const WAITING_BYTES: usize = 16 * MAX_DOCUMENT_BYTES;
/// A verdict that has not come by then was lost on its way to the shard.
const VERDICT_LOST: Duration = Duration::from_secs(60);

/// What waits for the control thread, of all shards of the process.
#[derive(Debug, Default)]
pub struct Backlog {
    documents: AtomicUsize,
    bytes: AtomicUsize,
}

/// A document's room in the backlog, given back with it.
#[derive(Debug)]
pub struct Place {
    backlog: Arc<Backlog>,
    bytes: usize,
}

impl Backlog {
    /// None: too much waits already.
    pub fn enter(self: &Arc<Backlog>, bytes: usize) -> Option<Place> {
        let place = Place {
            backlog: self.clone(),
            bytes,
        };
        let documents = self.documents.fetch_add(1, Ordering::Relaxed);
        let waiting = self.bytes.fetch_add(bytes, Ordering::Relaxed);
        (documents < WAITING_MAX && waiting + bytes <= WAITING_BYTES).then_some(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.backlog.documents.fetch_sub(1, Ordering::Relaxed);
        self.backlog.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// One link's publications.
#[derive(Debug, Default)]
pub struct Inbox {
    document: Vec<u8>,
    /// Bytes of the document that came, kept or not.
    came: usize,
    /// Since when one is with the control thread: no bytes of another are kept meanwhile.
    judged_since: Option<Instant>,
}

/// What a chunk led to.
#[derive(Debug, PartialEq, Eq)]
pub enum Taken {
    More,
    Whole(Vec<u8>),
    /// Whole, and not kept: an earlier one is still judged.
    Busy,
}

impl Inbox {
    /// Takes a chunk. `Err`: the link's end, and why.
    pub fn take(
        &mut self,
        total: u32,
        offset: u32,
        bytes: &[u8],
        now: Instant,
    ) -> Result<Taken, String> {
        let (total, offset) = (total as usize, offset as usize);
        // A chunk at 0 begins a document, and abandons one that was under way.
        if offset == 0 {
            self.document = Vec::new();
            self.came = 0;
        }
        if total > MAX_DOCUMENT_BYTES || offset != self.came || bytes.len() > total - offset {
            return Err(format!(
                "settings of {total} bytes, chunk at {offset}: out of order or over {MAX_DOCUMENT_BYTES}"
            ));
        }
        self.came += bytes.len();
        if !self.is_busy(now) && self.document.len() == offset {
            self.document.extend_from_slice(bytes);
        }
        if self.came < total {
            return Ok(Taken::More);
        }
        self.came = 0;
        let document = std::mem::take(&mut self.document);
        if document.len() < total || self.is_busy(now) {
            return Ok(Taken::Busy);
        }
        Ok(Taken::Whole(document))
    }

    fn is_busy(&self, now: Instant) -> bool {
        self.judged_since
            .is_some_and(|since| now.saturating_duration_since(since) < VERDICT_LOST)
    }

    /// The control thread has a document of this link.
    pub fn handed_on(&mut self, now: Instant) {
        self.judged_since = Some(now);
    }

    /// Its verdict came.
    pub fn judged(&mut self) {
        self.judged_since = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_document_of_a_link_is_judged_at_a_time() {
        let (mut inbox, now) = (Inbox::default(), Instant::now());
        assert_eq!(inbox.take(4, 0, b"ab", now), Ok(Taken::More));
        assert_eq!(
            inbox.take(4, 2, b"cd", now),
            Ok(Taken::Whole(b"abcd".into()))
        );
        inbox.handed_on(now);
        assert_eq!(inbox.take(4, 0, b"ab", now), Ok(Taken::More));
        assert!(inbox.document.is_empty(), "nothing is kept meanwhile");
        // The verdict comes in the middle of the next: what is missing at its front is missing.
        inbox.judged();
        assert_eq!(inbox.take(4, 2, b"cd", now), Ok(Taken::Busy));
        assert_eq!(inbox.take(2, 0, b"ab", now), Ok(Taken::Whole(b"ab".into())));
        inbox.handed_on(now);
        let later = now + VERDICT_LOST;
        assert_eq!(inbox.take(2, 0, b"ab", now), Ok(Taken::Busy));
        assert_eq!(
            inbox.take(2, 0, b"ab", later),
            Ok(Taken::Whole(b"ab".into()))
        );
    }

    #[test]
    fn chunks_out_of_order_or_too_many_end_the_link() {
        let now = Instant::now();
        let take = |total, offset, bytes: &[u8]| Inbox::default().take(total, offset, bytes, now);
        assert!(take(4, 2, b"cd").is_err());
        assert!(take(4, 0, b"abcde").is_err());
        assert!(take(MAX_DOCUMENT_BYTES as u32 + 1, 0, b"a").is_err());
        assert_eq!(take(MAX_DOCUMENT_BYTES as u32, 0, b"a"), Ok(Taken::More));
        assert!(take(1, 2, b"").is_err());
    }

    #[test]
    fn the_backlog_is_bounded_in_number_and_bytes() {
        let backlog = Arc::new(Backlog::default());
        let small: Vec<_> = (0..).map_while(|_| backlog.enter(1)).collect();
        assert_eq!(small.len(), WAITING_MAX);
        drop(small);
        let large: Vec<_> = (0..)
            .map_while(|_| backlog.enter(MAX_DOCUMENT_BYTES))
            .collect();
        assert_eq!(large.len(), 16);
        drop(large);
        assert_eq!(backlog.documents.load(Ordering::Relaxed), 0);
        assert_eq!(backlog.bytes.load(Ordering::Relaxed), 0);
    }
}
