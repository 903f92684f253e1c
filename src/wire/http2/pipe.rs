//! The socket that h2 believes to have: bytes that came, bytes to send.

use super::OUTPUT_BYTES;
use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

#[derive(Debug, Default)]
struct Bytes {
    input: Vec<u8>,
    /// What h2 has read of it.
    read: usize,
    /// No more input comes.
    ended: bool,
    output: Vec<u8>,
    /// Woken when there is room for output again.
    writer: Option<Waker>,
}

/// Both ends of the pipe: h2 owns one clone, the client the other.
#[derive(Clone, Debug, Default)]
pub struct Pipe(Rc<RefCell<Bytes>>);

impl Pipe {
    pub fn push(&self, input: &[u8]) {
        self.0.borrow_mut().input.extend_from_slice(input);
    }

    pub fn end(&self) {
        self.0.borrow_mut().ended = true;
    }

    /// Bytes that h2 has not read yet.
    pub fn unread(&self) -> usize {
        let bytes = self.0.borrow();
        bytes.input.len() - bytes.read
    }

    pub fn unsent(&self) -> usize {
        self.0.borrow().output.len()
    }

    /// Lends the bytes to send, and takes as many away as `take` says.
    pub fn drain(&self, take: impl FnOnce(&[u8]) -> usize) {
        let mut bytes = self.0.borrow_mut();
        let taken = take(&bytes.output).min(bytes.output.len());
        bytes.output.drain(..taken);
        let writer = bytes.writer.take_if(|_| taken > 0);
        drop(bytes);
        if let Some(writer) = writer {
            writer.wake();
        }
    }

    /// Memory that a connection at rest does not need.
    pub fn shrink(&self) {
        let mut bytes = self.0.borrow_mut();
        if bytes.output.is_empty() {
            bytes.output = Vec::new();
        }
        if bytes.input.is_empty() {
            bytes.input = Vec::new();
        }
    }
}

impl AsyncRead for Pipe {
    /// Nobody is to be woken: new input is followed by a poll.
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let bytes = &mut *self.0.borrow_mut();
        let unread = bytes.input.get(bytes.read..).unwrap_or_default();
        if unread.is_empty() {
            return if bytes.ended {
                Poll::Ready(Ok(()))
            } else {
                Poll::Pending
            };
        }
        let taken = unread.len().min(buf.remaining());
        buf.put_slice(&unread[..taken]);
        bytes.read += taken;
        if bytes.read == bytes.input.len() {
            bytes.input.clear();
            bytes.read = 0;
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Pipe {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[io::IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let bytes = &mut *self.0.borrow_mut();
        let before = bytes.output.len();
        for slice in slices {
            let room = OUTPUT_BYTES.saturating_sub(bytes.output.len());
            bytes
                .output
                .extend_from_slice(&slice[..slice.len().min(room)]);
        }
        let written = bytes.output.len() - before;
        if written == 0 && slices.iter().any(|slice| !slice.is_empty()) {
            bytes.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
