//! Payloads of the frames with a fixed layout: HELLO, READY, REFUSE, GOAWAY, PUBLISH, PUBLISHED, RESET.

use super::frame::{MAX_TEXT, PUBLISH_PREFIX, READY_BYTES};
use super::{Hello, Ready, ResetCode};
use std::time::Duration;

/// First bytes of a HELLO, so that a peer of another protocol is told apart.
pub const MAGIC: [u8; 4] = *b"TGR/";
/// Longest connector id and site name, in bytes of UTF-8.
pub const MAX_ID: usize = 128;
/// Largest settings document.
pub const MAX_DOCUMENT: usize = 16 << 20;
/// Begins the text of a PUBLISHED that is no verdict: publish again later.
pub const BUSY: &str = "busy: ";

/// What HELLO says of the session beside what its owner sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offer {
    /// Most streams that the connector has open on the link at once.
    pub streams: u32,
    /// Features that the connector knows.
    pub features: u64,
}

pub fn encode_hello(buf: &mut Vec<u8>, hello: &Hello, offer: Offer) {
    buf.extend_from_slice(&MAGIC);
    buf.extend_from_slice(&[hello.versions.0, hello.versions.1]);
    buf.extend_from_slice(&hello.link_index.to_be_bytes());
    buf.extend_from_slice(&hello.wanted_shard.to_be_bytes());
    buf.extend_from_slice(&offer.streams.to_be_bytes());
    buf.extend_from_slice(&offer.features.to_be_bytes());
    buf.extend_from_slice(&hello.incarnation.to_be_bytes());
    for id in [&hello.connector, &hello.site] {
        let id = clip(id, MAX_ID);
        buf.push(id.len() as u8);
        buf.extend_from_slice(id.as_bytes());
    }
}

pub fn decode_hello(payload: &[u8]) -> Result<(Hello, Offer), &'static str> {
    let mut at = Cursor(payload);
    if at.take::<4>() != Some(MAGIC) {
        return Err("HELLO without its magic: the peer speaks another protocol");
    }
    decode_hello_after_magic(at).ok_or("HELLO with wrong lengths or ids")
}

fn decode_hello_after_magic(mut at: Cursor<'_>) -> Option<(Hello, Offer)> {
    let [lowest, highest] = at.take()?;
    let link_index = u16::from_be_bytes(at.take()?);
    let wanted_shard = u16::from_be_bytes(at.take()?);
    let streams = u32::from_be_bytes(at.take()?);
    let features = u64::from_be_bytes(at.take()?);
    let incarnation = u128::from_be_bytes(at.take()?);
    let connector = at.id()?;
    let site = at.id()?;
    if !at.0.is_empty() || streams == 0 {
        return None;
    }
    let hello = Hello {
        connector,
        site,
        incarnation,
        link_index,
        wanted_shard,
        versions: (lowest, highest),
    };
    Some((hello, Offer { streams, features }))
}

pub fn encode_ready(buf: &mut Vec<u8>, ready: &Ready) {
    buf.extend_from_slice(&[ready.version, 0]);
    buf.extend_from_slice(&ready.instance.to_be_bytes());
    buf.extend_from_slice(&ready.shard.to_be_bytes());
    buf.extend_from_slice(&ready.shards.to_be_bytes());
    buf.extend_from_slice(&ready.features.to_be_bytes());
    buf.extend_from_slice(&ready.boot_id.to_be_bytes());
    buf.extend_from_slice(&ready.settings_hash);
}

pub fn decode_ready(payload: &[u8]) -> Option<Ready> {
    debug_assert!(payload.len() == READY_BYTES);
    let mut at = Cursor(payload);
    let [version, zero] = at.take()?;
    if zero != 0 {
        return None;
    }
    Some(Ready {
        version,
        instance: u16::from_be_bytes(at.take()?),
        shard: u16::from_be_bytes(at.take()?),
        shards: u16::from_be_bytes(at.take()?),
        features: u64::from_be_bytes(at.take()?),
        boot_id: u128::from_be_bytes(at.take()?),
        settings_hash: at.take()?,
    })
}

/// REFUSE and RESET: a code and a text.
pub fn encode_coded_text(buf: &mut Vec<u8>, code: u16, text: &str) {
    buf.extend_from_slice(&code.to_be_bytes());
    buf.extend_from_slice(clip(text, MAX_TEXT).as_bytes());
}

pub fn decode_coded_text(payload: &[u8]) -> Option<(u16, &str)> {
    let (code, text) = payload.split_first_chunk::<2>()?;
    Some((u16::from_be_bytes(*code), str::from_utf8(text).ok()?))
}

pub fn encode_go_away(deadline: Duration, delay: Duration) -> [u8; 8] {
    let millis = |d: Duration| {
        u32::try_from(d.as_millis())
            .unwrap_or(u32::MAX)
            .to_be_bytes()
    };
    let ([a, b, c, d], [e, f, g, h]) = (millis(deadline), millis(delay));
    [a, b, c, d, e, f, g, h]
}

pub fn decode_go_away(payload: &[u8]) -> Option<(Duration, Duration)> {
    let mut at = Cursor(payload);
    let mut millis = || {
        at.take()
            .map(|b| Duration::from_millis(u64::from(u32::from_be_bytes(b))))
    };
    Some((millis()?, millis()?))
}

/// One chunk of the settings document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chunk<'a> {
    pub hash: [u8; 32],
    pub total: u32,
    pub offset: u32,
    pub bytes: &'a [u8],
}

pub fn encode_publish_prefix(hash: [u8; 32], total: u32, offset: u32) -> [u8; PUBLISH_PREFIX] {
    let mut prefix = [0; PUBLISH_PREFIX];
    let (start, rest) = prefix.split_at_mut(32);
    start.copy_from_slice(&hash);
    let (first, second) = rest.split_at_mut(4);
    first.copy_from_slice(&total.to_be_bytes());
    second.copy_from_slice(&offset.to_be_bytes());
    prefix
}

pub fn decode_publish(payload: &[u8]) -> Option<Chunk<'_>> {
    let mut at = Cursor(payload);
    let hash = at.take()?;
    let total = u32::from_be_bytes(at.take()?);
    let offset = u32::from_be_bytes(at.take()?);
    Some(Chunk {
        hash,
        total,
        offset,
        bytes: at.0,
    })
}

pub fn encode_published(buf: &mut Vec<u8>, hash: [u8; 32], accepted: bool, text: &str) {
    buf.extend_from_slice(&hash);
    buf.push(u8::from(accepted));
    buf.extend_from_slice(clip(text, MAX_TEXT).as_bytes());
}

pub fn decode_published(payload: &[u8]) -> Option<([u8; 32], bool, &str)> {
    let mut at = Cursor(payload);
    let hash = at.take()?;
    let accepted = match at.take()? {
        [0] => false,
        [1] => true,
        _ => return None,
    };
    Some((hash, accepted, str::from_utf8(at.0).ok()?))
}

/// A reset code from the wire; codes of later versions read as `Internal`.
pub fn reset_code(code: u16) -> ResetCode {
    match code {
        1 => ResetCode::Refused,
        2 => ResetCode::Cancelled,
        3 => ResetCode::UpstreamRefused,
        4 => ResetCode::UpstreamTimeout,
        5 => ResetCode::UpstreamBroken,
        6 => ResetCode::NotPublished,
        7 => ResetCode::BodyTooLarge,
        8 => ResetCode::Overloaded,
        9 => ResetCode::Protocol,
        11 => ResetCode::PortsExhausted,
        _ => ResetCode::Internal,
    }
}

/// The longest start of `text` that is at most `most` bytes.
fn clip(text: &str, most: usize) -> &str {
    let most = most.min(text.len());
    (0..=most)
        .rev()
        .find_map(|n| text.get(..n))
        .unwrap_or_default()
}

/// Reads fixed parts off the front of a payload.
struct Cursor<'a>(&'a [u8]);

impl Cursor<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*taken)
    }

    /// An id: length u8, then 1 to 128 bytes of UTF-8 without control characters.
    fn id(&mut self) -> Option<String> {
        let [length] = self.take()?;
        let (id, rest) = self.0.split_at_checked(usize::from(length))?;
        self.0 = rest;
        let id = str::from_utf8(id).ok()?;
        let good = (1..=MAX_ID).contains(&id.len()) && !id.chars().any(char::is_control);
        good.then(|| id.to_owned())
    }
}
