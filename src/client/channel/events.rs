//! Server-sent events as a gateway sends them: one event is one chunk, and whole chunks are one record. So a client that
//! holds its channel needs no state between records; a record that is cut otherwise breaks the gateway's promise.

use memchr::memchr;

/// What one chunk was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen<'a> {
    /// A comment: the gateway is alive.
    KeepAlive,
    /// Milliseconds to wait before connecting again.
    Retry(u64),
    /// The data of an event `push`: an envelope.
    Push(&'a [u8]),
    /// The data of an event `close`.
    Close(&'a [u8]),
    /// Some other event.
    Other,
    /// The last chunk.
    End,
}

/// A record that does not hold whole chunks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cut;

/// The chunks of one record's plaintext.
pub fn seen(record: &[u8]) -> impl Iterator<Item = Result<Seen<'_>, Cut>> {
    let mut rest = Some(record);
    std::iter::from_fn(move || {
        let bytes = rest.filter(|bytes| !bytes.is_empty())?;
        match chunk(bytes) {
            Some(([], _)) => {
                rest = None;
                Some(Ok(Seen::End))
            }
            Some((content, behind)) => {
                rest = Some(behind);
                Some(Ok(meaning(content)))
            }
            None => {
                rest = None;
                Some(Err(Cut))
            }
        }
    })
}

/// The first chunk's content, and what is behind it. The last chunk has none.
fn chunk(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let line = memchr(b'\r', bytes)?;
    let size = std::str::from_utf8(bytes.get(..line)?).ok()?;
    let size = usize::from_str_radix(size, 16).ok()?;
    let rest = bytes.get(line..)?.strip_prefix(b"\r\n")?;
    let (content, rest) = rest.split_at_checked(size)?;
    Some((content, rest.strip_prefix(b"\r\n")?))
}

fn meaning(content: &[u8]) -> Seen<'_> {
    let (mut event, mut data, mut retry) = (&b""[..], None, None);
    for line in content.split(|byte| *byte == b'\n') {
        if let Some(value) = field(line, b"event:") {
            event = value;
        } else if let Some(value) = field(line, b"data:") {
            data = Some(value);
        } else if let Some(value) = field(line, b"retry:") {
            retry = std::str::from_utf8(value)
                .ok()
                .and_then(|text| text.parse().ok());
        }
    }
    match (event, data, retry) {
        (b"push", Some(data), _) => Seen::Push(data),
        (b"close", Some(data), _) => Seen::Close(data),
        (_, None, Some(retry)) => Seen::Retry(retry),
        (b"", None, None) if content.starts_with(b":") => Seen::KeepAlive,
        _ => Seen::Other,
    }
}

fn field<'a>(line: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let value = line.strip_prefix(name)?;
    Some(value.strip_prefix(b" ").unwrap_or(value))
}

/// The reason and `retry_ms` of a `close` event's data.
pub fn close_reason(data: &[u8]) -> (String, Option<u64>) {
    let value: serde_json::Value = serde_json::from_slice(data).unwrap_or_default();
    let reason = value.get("reason").and_then(|reason| reason.as_str());
    let retry = value.get("retry_ms").and_then(serde_json::Value::as_u64);
    (reason.unwrap_or("no reason").to_owned(), retry)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::event_stream::{Event, write_comment, write_end, write_event};

    #[test]
    fn what_our_own_writer_writes_is_read() {
        let mut record = Vec::new();
        record.extend_from_slice(b"000d\r\nretry: 4000\n\n\r\n");
        write_comment(&mut record, "").unwrap();
        let event = Event {
            event: Some("push"),
            id: Some("1"),
            data: Some("{}"),
            ..Default::default()
        };
        write_event(&mut record, &event).unwrap();
        let close = Event {
            event: Some("close"),
            data: Some("{\"reason\":\"draining\",\"retry_ms\":70}"),
            ..Default::default()
        };
        write_event(&mut record, &close).unwrap();
        write_end(&mut record);
        let found: Vec<_> = seen(&record).map(Result::unwrap).collect();
        assert_eq!(
            found[..3],
            [Seen::Retry(4000), Seen::KeepAlive, Seen::Push(b"{}")]
        );
        let Seen::Close(data) = found[3] else {
            panic!("{found:?}");
        };
        assert_eq!(close_reason(data), ("draining".to_owned(), Some(70)));
        assert_eq!(found[4..], [Seen::End]);
    }

    #[test]
    fn a_record_that_cuts_a_chunk_is_noticed() {
        let whole = b"0003\r\n:\n\n\r\n0003\r\n:\n\n\r\n";
        for cut in 1..whole.len() {
            let found: Vec<_> = seen(&whole[..cut]).collect();
            let is_whole = cut == whole.len() / 2;
            assert_eq!(found.iter().all(Result::is_ok), is_whole, "{cut}");
        }
    }
}
