//! From many producers to one file: a bounded queue and a thread that formats and writes.
//!
//! A producer never waits: what does not fit is dropped and counted. It makes a system call only to wake a writer that
//! sleeps, and the writer, once awake, lingers for [`LINGER`], so that a busy log costs at most one wake-up in that time.

use crossbeam::queue::ArrayQueue;
use std::io::Write;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
use std::sync::mpsc;
use std::sync::{Arc, OnceLock};
use std::thread::{JoinHandle, Thread};
use std::time::Duration;

/// How long a writer gathers before it writes again.
const LINGER: Duration = Duration::from_millis(10);
/// At the end of the process the queue is written out, but a reader that hangs delays the end no longer than this.
const FLUSH: Duration = Duration::from_secs(2);
/// One write call takes about this much at most.
const BATCH_BYTES: usize = 256 << 10;

struct Shared<T> {
    queue: ArrayQueue<T>,
    dropped: AtomicU64,
    failed: AtomicU64,
    asleep: AtomicBool,
    closing: AtomicBool,
    thread: OnceLock<Thread>,
}

/// The producers' side: cloneable, for any thread.
pub struct Sender<T>(Arc<Shared<T>>);

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> std::fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Sender({} queued)", self.0.queue.len())
    }
}

impl<T> Sender<T> {
    /// False when the queue is full: the item is gone and counted.
    pub fn send(&self, item: T) -> bool {
        if self.0.queue.push(item).is_err() {
            self.0.dropped.fetch_add(1, Ordering::Relaxed);
            return false;
        }
        self.0.wake();
        true
    }

    /// Items dropped because the writer was behind.
    pub fn dropped(&self) -> u64 {
        self.0.dropped.load(Ordering::Relaxed)
    }

    /// Writes that failed; their lines are lost.
    pub fn failed(&self) -> u64 {
        self.0.failed.load(Ordering::Relaxed)
    }
}

impl<T> Shared<T> {
    /// Pairs with the fence in `sleep`: either the writer sees the item, or we see that it sleeps.
    fn wake(&self) {
        fence(Ordering::SeqCst);
        let sleeps = self.asleep.load(Ordering::Relaxed);
        if sleeps
            && self.asleep.swap(false, Ordering::Relaxed)
            && let Some(thread) = self.thread.get()
        {
            thread.unpark();
        }
    }

    /// Returns when there may be something to do.
    fn sleep(&self) {
        self.asleep.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        if self.queue.is_empty() && !self.closing.load(Ordering::Relaxed) {
            std::thread::park();
        }
        self.asleep.store(false, Ordering::Relaxed);
    }
}

/// The writing thread. When it is dropped, what is queued is written first (for [`FLUSH`] at most).
pub struct Writer<T: Send + 'static> {
    shared: Arc<Shared<T>>,
    done: mpsc::Receiver<()>,
    handle: Option<JoinHandle<()>>,
}

/// Starts a thread that appends items to a buffer with `format` and writes the buffer to `out`. `format` also gets the
/// number of items dropped since it last ran (0 mostly), to leave a remark about them.
pub fn start<T: Send + 'static>(
    name: &str,
    capacity: usize,
    mut out: impl Write + Send + 'static,
    mut format: impl FnMut(&T, u64, &mut Vec<u8>) + Send + 'static,
) -> std::io::Result<(Sender<T>, Writer<T>)> {
    let shared = Arc::new(Shared {
        queue: ArrayQueue::new(capacity.max(1)),
        dropped: AtomicU64::new(0),
        failed: AtomicU64::new(0),
        asleep: AtomicBool::new(false),
        closing: AtomicBool::new(false),
        thread: OnceLock::new(),
    });
    let (finished, done) = mpsc::channel();
    let theirs = shared.clone();
    let handle = std::thread::Builder::new()
        .name(name.to_string())
        .spawn(move || {
            // Set by the thread itself: nobody can ask to wake it before it can be woken.
            let _ = theirs.thread.set(std::thread::current());
            write_all(&theirs, &mut out, &mut format);
            let _ = finished.send(());
        })?;
    let sender = Sender(shared.clone());
    Ok((
        sender,
        Writer {
            shared,
            done,
            handle: Some(handle),
        },
    ))
}

fn write_all<T>(
    shared: &Shared<T>,
    out: &mut impl Write,
    format: &mut impl FnMut(&T, u64, &mut Vec<u8>),
) {
    let mut buffer = Vec::new();
    let mut told = 0;
    loop {
        let closing = shared.closing.load(Ordering::Acquire);
        while let Some(item) = shared.queue.pop() {
            let dropped = shared.dropped.load(Ordering::Relaxed);
            format(&item, dropped - told, &mut buffer);
            told = dropped;
            if buffer.len() >= BATCH_BYTES {
                break;
            }
        }
        if !buffer.is_empty() {
            if out.write_all(&buffer).and_then(|()| out.flush()).is_err() {
                shared.failed.fetch_add(1, Ordering::Relaxed);
            }
            // One burst must not hold its memory for ever.
            buffer.clear();
            buffer.shrink_to(BATCH_BYTES);
            if !closing && shared.queue.is_empty() {
                std::thread::park_timeout(LINGER);
            }
            continue;
        }
        if closing {
            return;
        }
        shared.sleep();
    }
}

impl<T: Send + 'static> Writer<T> {
    pub fn sender(&self) -> Sender<T> {
        Sender(self.shared.clone())
    }
}

impl<T: Send + 'static> Drop for Writer<T> {
    fn drop(&mut self) {
        self.shared.closing.store(true, Ordering::Release);
        if let Some(handle) = self.handle.take() {
            handle.thread().unpark();
            if self.done.recv_timeout(FLUSH).is_ok() {
                let _ = handle.join();
            }
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::sync::Mutex;

    /// A file in memory.
    #[derive(Clone, Default)]
    pub struct Memory(pub Arc<Mutex<Vec<u8>>>);
    impl Write for Memory {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn number(item: &u64, _: u64, out: &mut Vec<u8>) {
        out.extend_from_slice(format!("{item}\n").as_bytes());
    }

    #[test]
    fn every_line_of_every_producer_arrives_in_its_order() {
        let memory = Memory::default();
        let (sender, writer) = start("test", 1 << 16, memory.clone(), number).unwrap();
        let producers: Vec<_> = (0..4u64)
            .map(|p| {
                let sender = sender.clone();
                std::thread::spawn(move || {
                    (0..5000).for_each(|i| assert!(sender.send(p * 10_000 + i)))
                })
            })
            .collect();
        producers.into_iter().for_each(|p| p.join().unwrap());
        drop(writer);
        let text = String::from_utf8(memory.0.lock().unwrap().clone()).unwrap();
        let numbers: Vec<u64> = text.lines().map(|line| line.parse().unwrap()).collect();
        assert_eq!(numbers.len(), 20_000);
        for p in 0..4 {
            let of = numbers.iter().filter(|n| **n / 10_000 == p);
            assert!(of.is_sorted(), "producer {p}");
        }
    }

    #[test]
    fn a_writer_that_hangs_drops_and_never_blocks() {
        struct Stuck(mpsc::Receiver<()>);
        impl Write for Stuck {
            fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
                let _ = self.0.recv();
                Ok(bytes.len())
            }
            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        let (release, stuck) = mpsc::channel();
        let (sender, writer) = start("test", 8, Stuck(stuck), number).unwrap();
        let taken = (0..1000).filter(|i| sender.send(*i)).count();
        assert!((8..1000).contains(&taken), "{taken}");
        assert_eq!(sender.dropped(), 1000 - taken as u64);
        drop(release);
        drop(writer);
    }

    #[test]
    fn a_sleeping_writer_is_woken() {
        let (report, lines) = mpsc::channel();
        struct Report(mpsc::Sender<Vec<u8>>);
        impl Write for Report {
            fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
                let _ = self.0.send(bytes.to_vec());
                Ok(bytes.len())
            }
            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        let (sender, _writer) = start("test", 8, Report(report), number).unwrap();
        for i in 0..200 {
            assert!(sender.send(i));
            let line = lines.recv_timeout(Duration::from_secs(10)).expect("woken");
            assert_eq!(line, format!("{i}\n").as_bytes());
        }
    }

    #[test]
    fn a_broken_output_is_counted() {
        struct Broken;
        impl Write for Broken {
            fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
                Err(std::io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        let (sender, writer) = start("test", 8, Broken, number).unwrap();
        sender.send(1);
        drop(writer);
        assert_eq!(sender.failed(), 1);
    }
}
