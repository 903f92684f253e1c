//! The process's own log: JSON lines on standard error, filtered by `TIDEGATE_LOG` (else `RUST_LOG`, else `info`).
//!
//! Events may come from shards, so that they too go through a bounded queue: standard error that nobody reads drops
//! lines and never stops the data path.

use super::lines::{self, Sender, Writer};
use std::io::Write;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::util::SubscriberInitExt;

/// Lines that wait for the writer.
pub const QUEUE: usize = 4096;
/// A longer line is cut: nothing of ours is near it.
const MAX_LINE_BYTES: usize = 16 << 10;

/// Keep it until the end of the process: dropping it writes out what is queued.
pub struct LogGuard {
    _writer: Writer<Vec<u8>>,
}

/// Sets the process's log. Once; the second call is an error.
pub fn init() -> Result<LogGuard, String> {
    let (name, text) = ["TIDEGATE_LOG", "RUST_LOG"]
        .iter()
        .find_map(|name| {
            std::env::var(name)
                .ok()
                .filter(|text| !text.is_empty())
                .map(|text| (*name, text))
        })
        .unwrap_or(("default", "info".into()));
    let (filter, wrong) = filter(&text);
    let (sender, writer) = lines::start("log", QUEUE, std::io::stderr(), formatter())
        .map_err(|e| format!("cannot start the log: {e}"))?;
    subscriber(sender, filter)
        .try_init()
        .map_err(|e| format!("the log is set already: {e}"))?;
    if let Some(why) = wrong {
        tracing::warn!(
            variable = name,
            value = text,
            why,
            "the log filter cannot be read; info is used"
        );
    }
    Ok(LogGuard { _writer: writer })
}

fn filter(text: &str) -> (EnvFilter, Option<String>) {
    match EnvFilter::try_new(text) {
        Ok(filter) => (filter, None),
        Err(error) => (EnvFilter::new("info"), Some(error.to_string())),
    }
}

fn subscriber(
    sender: Sender<Vec<u8>>,
    filter: EnvFilter,
) -> impl tracing::Subscriber + Send + Sync {
    tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_env_filter(filter)
        .with_writer(ToQueue(sender))
        .finish()
}

/// How a queued line reaches the buffer.
fn formatter() -> impl FnMut(&Vec<u8>, u64, &mut Vec<u8>) + Send {
    |line, dropped, out| append(line, dropped, out)
}

fn append(line: &[u8], dropped: u64, out: &mut Vec<u8>) {
    if dropped > 0 {
        let _ = writeln!(
            out,
            "{{\"level\":\"WARN\",\"message\":\"log lines were dropped\",\"count\":{dropped}}}"
        );
    }
    out.extend_from_slice(line);
}

/// The subscriber writes one event with one call.
struct ToQueue(Sender<Vec<u8>>);

impl<'a> MakeWriter<'a> for ToQueue {
    type Writer = QueueLine;
    fn make_writer(&'a self) -> QueueLine {
        QueueLine {
            sender: self.0.clone(),
            line: Vec::new(),
        }
    }
}

struct QueueLine {
    sender: Sender<Vec<u8>>,
    line: Vec<u8>,
}

impl Write for QueueLine {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let room = MAX_LINE_BYTES.saturating_sub(self.line.len());
        self.line
            .extend_from_slice(bytes.get(..room.min(bytes.len())).unwrap_or_default());
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Drop for QueueLine {
    fn drop(&mut self) {
        if self.line.is_empty() {
            return;
        }
        if self.line.last() != Some(&b'\n') {
            self.line.push(b'\n');
        }
        self.sender.send(std::mem::take(&mut self.line));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::lines::tests::Memory;

    #[test]
    fn an_event_is_one_json_line() {
        let memory = Memory::default();
        let (sender, writer) = lines::start("test", 16, memory.clone(), formatter()).unwrap();
        let (filter, wrong) = filter("info,tidegate=debug");
        assert_eq!(wrong, None);
        tracing::subscriber::with_default(subscriber(sender, filter), || {
            tracing::debug!(shard = 3, "up\nand running");
            tracing::trace!("not this one");
        });
        drop(writer);
        let text = String::from_utf8(memory.0.lock().unwrap().clone()).unwrap();
        assert_eq!(text.lines().count(), 1, "{text}");
        let line: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(line["message"], "up\nand running");
        assert_eq!(line["shard"], 3);
        assert_eq!(line["level"], "DEBUG");
    }

    #[test]
    fn a_wrong_filter_falls_back_to_info() {
        let (_, wrong) = filter("tidegate=loud");
        assert!(wrong.is_some());
    }
}
