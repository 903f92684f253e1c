//! The access log: JSON, one line a request.
//!
//! A shard asks `control::config::AccessLog::wants` first, which costs a comparison; only then it builds a [`Record`]
//! and hands it over. Formatting and writing happen on the log's own thread.

use super::lines::{self, Sender, Writer};
use serde::Serialize;
use std::borrow::Cow;
use std::fs::OpenOptions;
use std::io::Write;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Records that wait for the writer; the queue's memory is this times [`MAX_PATH_BYTES`] and some at the worst.
pub const QUEUE: usize = 8192;
/// A longer path is cut in the log, and marked.
pub const MAX_PATH_BYTES: usize = 2048;
const MAX_METHOD_BYTES: usize = 64;

/// One request, as a shard hands it over.
#[derive(Debug, Clone)]
pub struct Record {
    /// When the head was complete: microseconds since 1970.
    pub time_us: i64,
    pub request_id: Box<str>,
    pub address: IpAddr,
    pub site: Arc<str>,
    method: Box<[u8]>,
    path: Box<[u8]>,
    path_cut: bool,
    /// 0: the client left before an answer.
    pub status: u16,
    /// Error code (`no_connector`); empty when the upstream answered.
    pub code: &'static str,
    /// Who answered: gateway, connector or upstream.
    pub who: &'static str,
    /// Body bytes.
    pub bytes_in: u64,
    pub bytes_out: u64,
    pub duration_us: u64,
    pub client_id: Option<Arc<str>>,
    pub connector: Option<Arc<str>>,
}

impl Record {
    /// A record without outcome. Of the target only the path is kept: a query may hold secrets.
    pub fn new(
        time_us: i64,
        request_id: &str,
        address: IpAddr,
        site: Arc<str>,
        method: &[u8],
        target: &[u8],
    ) -> Self {
        let end = memchr::memchr2(b'?', b'#', target).unwrap_or(target.len());
        let path = target.get(..end).unwrap_or_default();
        let kept = path.len().min(MAX_PATH_BYTES);
        Self {
            time_us,
            request_id: request_id.into(),
            address,
            site,
            method: method
                .get(..method.len().min(MAX_METHOD_BYTES))
                .unwrap_or_default()
                .into(),
            path: path.get(..kept).unwrap_or_default().into(),
            path_cut: kept < path.len(),
            status: 0,
            code: "",
            who: "",
            bytes_in: 0,
            bytes_out: 0,
            duration_us: 0,
            client_id: None,
            connector: None,
        }
    }

    /// Appends the line. `dropped` records before this one are told of in it.
    fn format(&self, dropped: u64, out: &mut Vec<u8>) {
        let time = OffsetDateTime::from_unix_timestamp_nanos(i128::from(self.time_us) * 1000);
        let mut path = String::from_utf8_lossy(&self.path);
        if self.path_cut {
            path.to_mut().push('…');
        }
        let line = Line {
            time: time
                .ok()
                .and_then(|time| time.format(&Rfc3339).ok())
                .unwrap_or_default(),
            request_id: &self.request_id,
            address: self.address,
            site: &self.site,
            method: String::from_utf8_lossy(&self.method),
            path,
            status: self.status,
            code: self.code,
            who: self.who,
            bytes_in: self.bytes_in,
            bytes_out: self.bytes_out,
            duration_us: self.duration_us,
            client_id: self.client_id.as_deref(),
            connector: self.connector.as_deref(),
            dropped_before: dropped,
        };
        let start = out.len();
        if serde_json::to_writer(&mut *out, &line).is_err() {
            out.truncate(start);
            return;
        }
        out.push(b'\n');
    }
}

#[derive(Serialize)]
struct Line<'a> {
    time: String,
    request_id: &'a str,
    address: IpAddr,
    site: &'a str,
    method: Cow<'a, str>,
    path: Cow<'a, str>,
    status: u16,
    #[serde(skip_serializing_if = "str::is_empty")]
    code: &'a str,
    who: &'a str,
    bytes_in: u64,
    bytes_out: u64,
    duration_us: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    connector: Option<&'a str>,
    #[serde(skip_serializing_if = "is_zero")]
    dropped_before: u64,
}

fn is_zero(n: &u64) -> bool {
    *n == 0
}

/// A shard's handle.
pub type AccessSender = Sender<Record>;
/// The log's thread; dropping it writes out what is queued.
pub type AccessWriter = Writer<Record>;

/// Logs to any writer.
pub fn to_writer(
    out: impl Write + Send + 'static,
) -> std::io::Result<(AccessSender, AccessWriter)> {
    lines::start("access-log", QUEUE, out, Record::format)
}

/// Logs to standard output.
pub fn to_stdout() -> std::io::Result<(AccessSender, AccessWriter)> {
    to_writer(std::io::stdout())
}

/// Appends to a file, which only its owner and group may read: it names clients.
pub fn to_file(path: &Path) -> Result<(AccessSender, AccessWriter), String> {
    use std::os::unix::fs::OpenOptionsExt;
    let wrong =
        |error: std::io::Error| format!("cannot open the access log {}: {error}", path.display());
    let file = OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o640)
        .open(path)
        .map_err(wrong)?;
    to_writer(file).map_err(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::config::AccessLog;
    use crate::observe::lines::tests::Memory;

    fn record(target: &[u8]) -> Record {
        Record::new(
            1_700_000_000_123_456,
            "r-1",
            "192.0.2.1".parse().unwrap(),
            "main".into(),
            b"GET",
            target,
        )
    }

    fn logged(record: Record) -> serde_json::Value {
        let memory = Memory::default();
        let (sender, writer) = to_writer(memory.clone()).unwrap();
        assert!(sender.send(record));
        drop(writer);
        let text = String::from_utf8(memory.0.lock().unwrap().clone()).unwrap();
        assert_eq!(text.matches('\n').count(), 1, "{text}");
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn a_line_holds_what_happened() {
        let mut record = record(b"/a/b?token=secret");
        record.status = 503;
        record.code = "no_connector";
        record.who = "gateway";
        record.duration_us = 42;
        record.client_id = Some("cert:corp/pc1".into());
        let line = logged(record);
        assert_eq!(line["time"], "2023-11-14T22:13:20.123456Z");
        assert_eq!(line["path"], "/a/b");
        assert_eq!(line["address"], "192.0.2.1");
        assert_eq!(line["status"], 503);
        assert_eq!(line["code"], "no_connector");
        assert_eq!(line["client_id"], "cert:corp/pc1");
        assert_eq!(line.get("connector"), None);
        assert!(!line.to_string().contains("secret"));
    }

    #[test]
    fn hostile_bytes_stay_inside_their_line() {
        let line = logged(record(b"/\r\n{\"status\":200}\xff\x00"));
        assert_eq!(line["path"], "/\r\n{\"status\":200}\u{fffd}\0");
    }

    #[test]
    fn a_long_path_is_cut() {
        let line = logged(record(&[b'/'; 10_000]));
        let path = line["path"].as_str().unwrap();
        assert!(path.ends_with('…') && path.len() < MAX_PATH_BYTES + 4);
    }

    #[test]
    fn the_mode_decides_before_anything_is_built() {
        let count = |mode: AccessLog| {
            (0..100u64)
                .filter(|n| mode.wants(if n % 10 == 0 { 500 } else { 200 }, *n))
                .count()
        };
        assert_eq!(count(AccessLog::Off), 0);
        assert_eq!(count(AccessLog::Errors), 10);
        assert_eq!(count(AccessLog::Sample(4)), 25);
        assert_eq!(count(AccessLog::Sample(0)), 100);
        assert_eq!(count(AccessLog::All), 100);
        assert!(AccessLog::Errors.wants(0, 1), "a client that left");
        assert!(AccessLog::Errors.wants(400, 1) && !AccessLog::Errors.wants(399, 1));
    }
}
