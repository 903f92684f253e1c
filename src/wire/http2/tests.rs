//! The core against frames written by hand.

use super::*;
use crate::wire::http2::State as Life;
use proptest::prelude::*;
use std::time::Instant;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
/// `:status: 200`, `:status: 404`, from HPACK's static table.
const OK: &[u8] = &[0x88];

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

fn settings(streams: u32) -> Vec<u8> {
    frame(
        SETTINGS,
        0,
        0,
        &[&[0, 3][..], &streams.to_be_bytes()].concat(),
    )
}

fn field(name: &str, value: &str) -> Vec<u8> {
    let (n, v) = (name.len() as u8, value.len() as u8);
    [&[0, n][..], name.as_bytes(), &[v], value.as_bytes()].concat()
}

fn head(stream: u32, flags: u8, more: &[u8]) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | flags, stream, &[OK, more].concat())
}

struct Talk {
    client: Client<u32>,
    /// Frames that the client sent: kind, flags, stream, payload.
    sent: Vec<(u8, u8, u32, Vec<u8>)>,
    rest: Vec<u8>,
    now: Instant,
}

impl Talk {
    fn new() -> Talk {
        let now = Instant::now();
        let mut talk = Talk {
            client: Client::new(now).unwrap(),
            sent: Vec::new(),
            rest: Vec::new(),
            now,
        };
        talk.client.transmit(&mut talk.rest, usize::MAX);
        assert!(talk.rest.starts_with(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"));
        talk.rest.drain(..24);
        talk.transmit();
        talk
    }

    fn allowing(streams: u32) -> Talk {
        let mut talk = Talk::new();
        // Its own, and its word that ours are in force.
        let ours = frame(SETTINGS, 1, 0, &[]);
        talk.hear(&[settings(streams), ours].concat());
        talk
    }

    fn transmit(&mut self) {
        self.client.transmit(&mut self.rest, usize::MAX);
        while let Some((header, _)) = self.rest.split_first_chunk::<9>() {
            let length = u32::from_be_bytes([0, header[0], header[1], header[2]]) as usize;
            let stream = u32::from_be_bytes([header[5], header[6], header[7], header[8]]);
            let (kind, flags) = (header[3], header[4]);
            let payload = self.rest[9..9 + length].to_vec();
            self.rest.drain(..9 + length);
            self.sent.push((kind, flags, stream, payload));
        }
    }

    fn hear(&mut self, bytes: &[u8]) -> Vec<(u32, String)> {
        self.client.handle_input(bytes, self.now);
        self.events()
    }

    fn events(&mut self) -> Vec<(u32, String)> {
        let mut events = Vec::new();
        while let Some((token, _, event)) = self.client.next_event() {
            events.push((token, told(&event)));
        }
        self.transmit();
        events
    }

    fn get(&mut self, token: u32) -> u32 {
        self.ask(token, b"GET", Content::None)
    }

    fn ask(&mut self, token: u32, method: &[u8], content: Content) -> u32 {
        let request = Request {
            method,
            https: true,
            authority: b"example.com",
            target: b"/x",
            content,
        };
        let key = self.client.open(token, &request, []).unwrap();
        assert_eq!(self.events(), []);
        key
    }

    fn count(&self, kind: u8, stream: u32) -> usize {
        let of = |sent: &&(u8, u8, u32, Vec<u8>)| sent.0 == kind && sent.2 == stream;
        self.sent.iter().filter(of).count()
    }
}

fn told(event: &Event) -> String {
    match event {
        Event::Interim { status, .. } => format!("interim {status}"),
        Event::Head {
            status, content, ..
        } => format!("head {status} {content:?}"),
        Event::Data(bytes) => format!("data {}", bytes.len()),
        Event::End { trailers } => format!("end {}", trailers.iter().count()),
        Event::Failed(failed) => format!("failed refused={}", failed.refused),
        Event::Room => "room".into(),
    }
}

fn told_to(token: u32, events: &[&str]) -> Vec<(u32, String)> {
    events
        .iter()
        .map(|event| (token, event.to_string()))
        .collect()
}

#[test]
fn nothing_is_sent_before_the_peer_says_how_much_it_takes() {
    let mut talk = Talk::new();
    assert_eq!(talk.client.room(), 0);
    talk.hear(&settings(3));
    assert_eq!(talk.client.room(), 3);
    let keys: Vec<u32> = (0..3).map(|token| talk.get(token)).collect();
    assert_eq!(talk.client.room(), 0);
    talk.client.reset(keys[0]);
    talk.transmit();
    assert_eq!(talk.client.room(), 1);
    // One that allows any number gets no more than our own limit.
    let mut talk = Talk::new();
    talk.hear(&frame(SETTINGS, 0, 0, &[]));
    assert_eq!(talk.client.room(), STREAMS_MAX);
}

#[test]
fn an_answer_comes_as_its_frames_do_and_others_are_not_looked_at() {
    let mut talk = Talk::allowing(100);
    for token in 0..50 {
        talk.get(token);
    }
    assert!(
        !talk.client.has_events(),
        "held streams have nothing to tell"
    );
    let early = frame(HEADERS, END_HEADERS, 3, &field(":status", "103"));
    assert_eq!(talk.hear(&early), told_to(1, &["interim 103"]));
    let events = talk.hear(&[head(3, 0, &[]), frame(DATA, 0, 3, b"some")].concat());
    assert_eq!(events, told_to(1, &["head 200 Unknown", "data 4"]));
    let trailers = frame(HEADERS, END_HEADERS | END_STREAM, 3, &field("x-sum", "4"));
    assert_eq!(talk.hear(&trailers), told_to(1, &["end 1"]));
    assert_eq!(talk.client.streams(), 49);
    let whole = head(5, END_STREAM, &[]);
    assert_eq!(
        talk.hear(&whole),
        told_to(2, &["head 200 Length(0)", "end 0"])
    );
}

#[test]
fn what_is_not_wanted_is_cancelled_on_its_stream_alone() {
    let mut talk = Talk::allowing(100);
    let (one, two) = (talk.get(1), talk.get(2));
    talk.client.reset(one);
    assert_eq!(talk.events(), []);
    let (_, _, _, payload) = talk.sent.iter().find(|sent| sent.0 == RST_STREAM).unwrap();
    assert_eq!(payload[..], [0, 0, 0, 8]);
    // What the peer had sent before it knew harms nothing.
    assert_eq!(talk.hear(&head(1, 0, &[])), []);
    assert_eq!(talk.hear(&frame(DATA, END_STREAM, 1, b"late")), []);
    assert_eq!(talk.hear(&head(3, END_STREAM, &[])).len(), 2);
    assert_eq!(
        (talk.client.state(), talk.client.streams()),
        (Life::Open, 0)
    );
    talk.client.reset(two);
}

#[test]
fn what_goaway_leaves_out_is_refused_and_the_rest_is_finished() {
    let mut talk = Talk::allowing(100);
    for token in 1..=3 {
        talk.get(token);
    }
    let away = frame(GOAWAY, 0, 0, &[0, 0, 0, 1, 0, 0, 0, 0]);
    let mut events = talk.hear(&away);
    events.sort();
    let refused = |token| (token, "failed refused=true".to_owned());
    assert_eq!(events, [refused(2), refused(3)]);
    assert_eq!(
        (talk.client.state(), talk.client.room()),
        (Life::Leaving, 0)
    );
    let answer = [head(1, 0, &[]), frame(DATA, END_STREAM, 1, b"x")].concat();
    assert_eq!(
        talk.hear(&answer),
        told_to(1, &["head 200 Unknown", "data 1", "end 0"])
    );
}

/// The promise is for those above its last stream only: the peer may have seen the others.
#[test]
fn who_was_below_goaway_and_got_no_answer_is_not_refused() {
    for reason in [0, 2, 11] {
        let mut talk = Talk::allowing(100);
        talk.get(1);
        talk.get(2);
        let away = frame(GOAWAY, 0, 0, &[0, 0, 0, 1, 0, 0, 0, reason]);
        let mut events = talk.hear(&away);
        talk.client.handle_end("closed");
        events.extend(talk.events());
        events.sort();
        let failed = |token, refused| (token, format!("failed refused={refused}"));
        assert_eq!(
            events,
            [failed(1, false), failed(2, true)],
            "reason {reason}"
        );
        assert_eq!(talk.client.state(), Life::Over);
    }
}

#[test]
fn refused_streams_say_so_and_leave_their_room() {
    let mut talk = Talk::allowing(2);
    for number in 0..500 {
        talk.get(7);
        let stream = 2 * number + 1;
        let refused = frame(RST_STREAM, 0, stream, &[0, 0, 0, 7]);
        assert_eq!(talk.hear(&refused), told_to(7, &["failed refused=true"]));
    }
    assert_eq!(talk.client.room(), 2);
    talk.get(1);
    let broken = frame(RST_STREAM, 0, 1001, &[0, 0, 0, 2]);
    assert_eq!(talk.hear(&broken), told_to(1, &["failed refused=false"]));
    talk.get(1);
    assert_eq!(talk.count(HEADERS, 1003), 1, "it was sent, not queued");
}

#[test]
fn a_paused_stream_fills_its_window_and_nobody_elses() {
    let mut talk = Talk::allowing(100);
    let (stalled, _) = (talk.get(1), talk.get(2));
    talk.hear(&[head(1, 0, &[]), head(3, 0, &[])].concat());
    talk.client.pause(stalled);
    let piece = [0; 16_384];
    for _ in 0..4 {
        assert_eq!(talk.hear(&frame(DATA, 0, 1, &piece)), []);
    }
    // Ten windows' worth for the other one, each piece given at once.
    for _ in 0..40 {
        let events = talk.hear(&frame(DATA, 0, 3, &piece));
        assert_eq!(events, told_to(2, &["data 16384"]));
    }
    assert_eq!(
        talk.count(WINDOW_UPDATE, 1),
        0,
        "what is not taken is not given back"
    );
    assert!(talk.count(WINDOW_UPDATE, 3) > 0);
    talk.client.resume(stalled);
    let all = vec![(1, "data 16384".to_owned()); 4];
    assert_eq!(talk.events(), all);
    assert!(talk.count(WINDOW_UPDATE, 1) > 0);
}

#[test]
fn a_body_goes_as_far_as_the_window_and_on_when_there_is_room() {
    let mut talk = Talk::allowing(100);
    let key = talk.ask(1, b"PUT", Content::Length(100_000));
    let body = vec![7; 100_000];
    let taken = talk.client.send_data(key, &body);
    assert!(taken <= 65_535, "{taken}");
    assert_eq!(talk.client.send_data(key, &body[taken..]), 0);
    talk.events();
    let more = [
        frame(WINDOW_UPDATE, 0, 0, &100_000u32.to_be_bytes()),
        frame(WINDOW_UPDATE, 0, 1, &100_000u32.to_be_bytes()),
    ];
    let mut sent = taken;
    assert_eq!(talk.hear(&more.concat()), told_to(1, &["room"]));
    for _ in 0..10 {
        sent += talk.client.send_data(key, &body[sent..]);
        talk.events();
    }
    assert_eq!(sent, body.len());
    assert!(talk.client.send_end(key, []));
    talk.transmit();
    let data = talk.sent.iter().filter(|sent| sent.0 == DATA);
    assert_eq!(data.map(|sent| sent.3.len()).sum::<usize>(), body.len());
}

#[test]
fn bodies_that_are_not_as_long_as_they_say_are_errors() {
    let mut talk = Talk::allowing(100);
    for (promised, sent) in [(10, 4), (4, 10)] {
        let key = talk.ask(1, b"PUT", Content::Length(promised));
        talk.client.send_data(key, &vec![0; sent]);
        assert!(!talk.client.send_end(key, []), "{promised} {sent}");
        talk.events();
    }
    assert_eq!(
        (talk.count(RST_STREAM, 1), talk.count(RST_STREAM, 3)),
        (1, 1)
    );
    // Theirs too.
    talk.get(2);
    let length = field("content-length", "10");
    let events = talk.hear(&[head(5, 0, &length), frame(DATA, END_STREAM, 5, b"four")].concat());
    assert_eq!(events.last(), Some(&(2, "failed refused=false".into())));
}

#[test]
fn a_silent_peer_is_asked_and_given_up_while_streams_are_held() {
    let mut talk = Talk::allowing(100);
    assert_eq!(talk.client.next_deadline(), None, "nobody waits");
    talk.get(1);
    talk.now += PING_AFTER;
    talk.client.handle_timeout(talk.now);
    talk.events();
    assert_eq!(talk.count(PING, 0), 1);
    let (_, _, _, ping) = talk
        .sent
        .iter()
        .find(|sent| sent.0 == PING)
        .cloned()
        .unwrap();
    talk.hear(&frame(PING, 1, 0, &ping));
    assert_eq!(talk.client.next_deadline(), Some(talk.now + PING_AFTER));
    talk.now += PING_AFTER;
    talk.client.handle_timeout(talk.now);
    talk.now += PONG_WITHIN;
    talk.client.handle_timeout(talk.now);
    assert_eq!(talk.events(), told_to(1, &["failed refused=false"]));
    assert_eq!(talk.client.state(), Life::Over);
}

#[test]
fn heads_hold_what_http2_may_say_only() {
    let fields = [
        "Host",
        "Connection",
        "TE",
        "Upgrade",
        "X-Kept",
        "cookie",
        "Content-Length",
    ];
    let fields = fields.map(|name| Field {
        name: name.as_bytes(),
        value: b"a",
    });
    let request = |method, target| Request {
        method,
        https: false,
        authority: b"h:80",
        target,
        content: Content::None,
    };
    let head = super::request::encode(&request(b"CCM_POST", b"/a?b=<\">|`"), fields).unwrap();
    assert_eq!(head.method().as_str(), "CCM_POST");
    let target = head.uri().path_and_query().unwrap().as_str();
    assert!(target.starts_with("/a?b=%3C%22%3E"), "{target}");
    let names: Vec<_> = head.headers().keys().map(|name| name.as_str()).collect();
    assert_eq!(names, ["x-kept", "cookie"]);
    assert!(super::request::encode(&request(b"CONNECT", b"/"), []).is_err());
    let post = super::request::encode(&request(b"POST", b"/"), []).unwrap();
    assert_eq!(post.headers()["content-length"], "0");
    let all = super::request::encode(&request(b"OPTIONS", b"*"), []).unwrap();
    assert_eq!(all.uri().path(), "*");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    /// The same bytes give the same events however they are split.
    #[test]
    fn splits_change_nothing(cuts in prop::collection::vec(1usize..40, 1..60)) {
        let bytes = [
            head(1, 0, &field("a", "b")),
            frame(DATA, 0, 1, &[1; 100]),
            head(3, END_STREAM, &[]),
            frame(DATA, END_STREAM, 1, &[2; 50]),
            frame(RST_STREAM, 0, 5, &[0, 0, 0, 7]),
        ]
        .concat();
        let run = |cuts: &[usize]| {
            let mut talk = Talk::allowing(100);
            for token in 1..=3 {
                talk.get(token);
            }
            let (mut events, mut at) = (Vec::new(), 0);
            for cut in cuts {
                let end = (at + cut).min(bytes.len());
                events.extend(talk.hear(&bytes[at..end]));
                at = end;
            }
            events.extend(talk.hear(&bytes[at..]));
            // Streams take turns as they are woken; each one's own order is what counts.
            events.sort_by_key(|(token, _)| *token);
            events
        };
        prop_assert_eq!(run(&cuts), run(&[]));
    }

    /// Whatever a peer sends, it ends in events or in the connection's end.
    #[test]
    fn noise_is_survived(noise in prop::collection::vec(any::<u8>(), 0..600), kind in 0u8..10, flags: u8, stream in 0u32..8) {
        let mut talk = Talk::allowing(10);
        talk.get(1);
        talk.get(2);
        talk.hear(&frame(kind, flags, stream, &noise));
        talk.hear(&noise);
        talk.client.handle_end("closed");
        talk.events();
        prop_assert_eq!(talk.client.streams(), 0);
    }
}
