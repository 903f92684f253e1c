//! Two sessions, a wire between them, and a clock that only the test moves.

use super::super::*;
use std::time::{Duration, Instant};

/// An event with its bytes copied out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    Hello(Hello),
    Ready(Ready),
    Refused(u16, String),
    Open {
        stream: StreamId,
        head: Vec<u8>,
        fields: Vec<(Vec<u8>, Vec<u8>)>,
    },
    Head {
        stream: StreamId,
        token: u32,
        status: u16,
        interim: bool,
    },
    Data {
        stream: StreamId,
        token: u32,
        bytes: Vec<u8>,
    },
    End {
        stream: StreamId,
        token: u32,
        trailers: Vec<(Vec<u8>, Vec<u8>)>,
    },
    Reset {
        stream: StreamId,
        token: u32,
        code: ResetCode,
        text: String,
    },
    Publish {
        hash: [u8; 32],
        total: u32,
        offset: u32,
        bytes: Vec<u8>,
    },
    Published([u8; 32], bool, String),
    GoAway(Duration, Duration),
    RoundTrip(Duration),
    Ups {
        starts: bool,
        ends: bool,
        channels: Vec<Up>,
    },
    Downs(Vec<ChannelDown>),
    Closes(Vec<ChannelClose>),
    /// No channels: to all.
    Notify(PushId, bool, Option<Vec<ChannelKey>>, Vec<u8>),
    Fates(PushId, Vec<ChannelFate>),
    Totals(PushId, Totals),
    Receipts(Vec<(PushId, String)>),
}

/// [`ChannelUp`] with its client id copied out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Up {
    pub key: ChannelKey,
    pub kind: ChannelKind,
    pub auth: ChannelAuth,
    pub since: u32,
    pub client: String,
}

impl Up {
    pub fn of(up: ChannelUp<'_>) -> Up {
        Up {
            key: up.key,
            kind: up.kind,
            auth: up.auth,
            since: up.since,
            client: up.client.to_owned(),
        }
    }

    pub fn borrow(&self) -> ChannelUp<'_> {
        ChannelUp {
            key: self.key,
            kind: self.kind,
            auth: self.auth,
            since: self.since,
            client: &self.client,
        }
    }
}

fn fields(fields: Fields<'_>) -> Vec<(Vec<u8>, Vec<u8>)> {
    fields
        .map(|f| (f.name.to_vec(), f.value.to_vec()))
        .collect()
}

impl From<Event<'_, u32>> for Seen {
    fn from(event: Event<'_, u32>) -> Seen {
        match event {
            Event::Hello(hello) => Seen::Hello(hello),
            Event::Ready(ready) => Seen::Ready(ready),
            Event::Refused { code, text } => Seen::Refused(code, text.to_owned()),
            Event::Open { stream, head } => {
                let OpenHead {
                    method,
                    target,
                    host,
                    request_id,
                    ..
                } = head;
                let mut line = [method, target, host, request_id].join(&b' ');
                line.extend(format!(" {:?} {}", head.body, head.expect_continue).into_bytes());
                Seen::Open {
                    stream,
                    head: line,
                    fields: fields(head.fields),
                }
            }
            Event::Head {
                stream,
                token,
                head,
            } => Seen::Head {
                stream,
                token,
                status: head.status,
                interim: head.interim,
            },
            Event::Data {
                stream,
                token,
                bytes,
            } => Seen::Data {
                stream,
                token,
                bytes: bytes.to_vec(),
            },
            Event::End {
                stream,
                token,
                trailers,
            } => Seen::End {
                stream,
                token,
                trailers: fields(trailers),
            },
            Event::Reset {
                stream,
                token,
                code,
                text,
            } => Seen::Reset {
                stream,
                token,
                code,
                text: text.to_owned(),
            },
            Event::Publish {
                hash,
                total,
                offset,
                bytes,
            } => Seen::Publish {
                hash,
                total,
                offset,
                bytes: bytes.to_vec(),
            },
            Event::Published {
                hash,
                accepted,
                text,
            } => Seen::Published(hash, accepted, text.to_owned()),
            Event::GoAway { deadline, delay } => Seen::GoAway(deadline, delay),
            Event::RoundTrip(time) => Seen::RoundTrip(time),
            Event::ChannelUp {
                list_starts,
                list_ends,
                channels,
            } => Seen::Ups {
                starts: list_starts,
                ends: list_ends,
                channels: channels.map(Up::of).collect(),
            },
            Event::ChannelDown(downs) => Seen::Downs(downs.collect()),
            Event::ChannelClose(closes) => Seen::Closes(closes.collect()),
            Event::Notify {
                push,
                repeat,
                audience,
                payload,
            } => {
                let keys = match audience {
                    Audience::All => None,
                    Audience::Channels(keys) => Some(keys.collect()),
                };
                Seen::Notify(push, repeat, keys, payload.to_vec())
            }
            Event::Outcome { push, outcome } => match outcome {
                Outcome::Each(fates) => Seen::Fates(push, fates.collect()),
                Outcome::Totals(totals) => Seen::Totals(push, totals),
            },
            Event::Receipt(receipts) => {
                Seen::Receipts(receipts.map(|r| (r.push, r.client.to_owned())).collect())
            }
        }
    }
}

/// Joins neighbouring pieces of body bytes: how DATA was cut says nothing.
pub fn joined(seen: Vec<Seen>) -> Vec<Seen> {
    let mut out: Vec<Seen> = Vec::new();
    for event in seen {
        if let Seen::Data { stream, bytes, .. } = &event
            && let Some(Seen::Data {
                stream: before,
                bytes: whole,
                ..
            }) = out.last_mut()
            && before == stream
        {
            whole.extend_from_slice(bytes);
        } else {
            out.push(event);
        }
    }
    out
}

/// One end of a link.
pub struct End {
    pub session: Session<u32>,
    /// What the session wants sent.
    pub out: Vec<u8>,
    /// What came and was not read.
    pub inbox: Vec<u8>,
    pub seen: Vec<Seen>,
}

impl End {
    pub fn new(role: Role, limits: SessionLimits, now: Instant) -> End {
        let session = Session::new(role, limits, now);
        End {
            session,
            out: Vec::new(),
            inbox: Vec::new(),
            seen: Vec::new(),
        }
    }

    /// Feeds `input` in one piece; a stream that the peer opens gets its slot as token.
    pub fn feed(&mut self, input: &[u8], now: Instant) -> Result<(), SessionError> {
        let mut used = 0;
        while let Some(event) = self.session.next(input, &mut used, now, &mut self.out)? {
            let seen = Seen::from(event);
            if let Seen::Open { stream, .. } = seen {
                self.session.attach(stream, stream.slot() as u32);
            }
            self.seen.push(seen);
        }
        assert_eq!(used, input.len(), "input left over");
        Ok(())
    }

    /// Reads all of the inbox.
    pub fn read(&mut self, now: Instant) {
        let inbox = std::mem::take(&mut self.inbox);
        self.feed(&inbox, now).expect("the session holds");
    }

    pub fn take_seen(&mut self) -> Vec<Seen> {
        std::mem::take(&mut self.seen)
    }
}

pub struct Pair {
    pub gateway: End,
    pub connector: End,
    pub now: Instant,
}

pub fn limits() -> SessionLimits {
    SessionLimits {
        streams: 4096,
        initial_stream_credit: STREAM_CREDIT,
        max_stream_credit: 1 << 20,
        session_credit: SESSION_CREDIT,
        stage_bytes: 128 * 1024,
    }
}

pub fn hello() -> Hello {
    Hello {
        connector: "cp-1".to_owned(),
        site: "main".to_owned(),
        incarnation: 7,
        link_index: 3,
        wanted_shard: ANY_SHARD,
        versions: (1, 1),
    }
}

pub fn ready() -> Ready {
    Ready {
        version: 1,
        features: 0,
        instance: 0,
        boot_id: 9,
        shard: 1,
        shards: 2,
        settings_hash: [5; 32],
    }
}

pub fn request<'a>() -> OpenHead<'a> {
    OpenHead {
        method: b"GET",
        target: b"/mp/x?y=1",
        host: b"mp.example",
        request_id: b"r-1",
        body: Body::None,
        expect_continue: false,
        fields: Fields::empty(),
    }
}

/// [`request`] as a frame, with these fields. Empty when it does not fit.
pub fn opening_with(fields: &mut dyn Iterator<Item = Field<'_>>) -> OpenFrame {
    let mut frame = OpenFrame::default();
    frame.encode(&request(), fields);
    frame
}

/// [`request`] as a frame.
pub fn opening() -> OpenFrame {
    opening_with(&mut no_fields())
}

pub fn no_fields() -> std::iter::Empty<Field<'static>> {
    std::iter::empty()
}

impl Pair {
    /// Both ends fresh.
    pub fn fresh(gateway: SessionLimits, connector: SessionLimits) -> Pair {
        let now = Instant::now();
        Pair {
            gateway: End::new(Role::Gateway, gateway, now),
            connector: End::new(Role::Connector, connector, now),
            now,
        }
    }

    /// Past its handshake, with channels where both know of them.
    pub fn with_features(gateway: u64, connector: u64, limits: SessionLimits) -> Pair {
        let mut pair = Pair::fresh(limits, limits);
        let now = pair.now;
        pair.gateway.session = Session::new(Role::Gateway, limits, now).with_features(gateway);
        pair.connector.session =
            Session::new(Role::Connector, limits, now).with_features(connector);
        let offered = Ready {
            features: u64::MAX,
            ..ready()
        };
        let End { session, out, .. } = &mut pair.connector;
        session.send_hello(&hello(), out);
        pair.turn();
        let End { session, out, .. } = &mut pair.gateway;
        session.send_ready(&offered, out);
        pair.turn();
        pair.gateway.take_seen();
        pair
    }

    /// Past its handshake, with channels.
    pub fn with_channels() -> Pair {
        let mut pair = Pair::with_features(CHANNELS, CHANNELS, limits());
        pair.connector.take_seen();
        pair
    }

    pub fn with_limits(gateway: SessionLimits, connector: SessionLimits) -> Pair {
        let mut pair = Pair::fresh(gateway, connector);
        pair.connector
            .session
            .send_hello(&hello(), &mut pair.connector.out);
        pair.turn();
        assert_eq!(pair.gateway.take_seen(), [Seen::Hello(hello())]);
        pair.gateway
            .session
            .send_ready(&ready(), &mut pair.gateway.out);
        pair.turn();
        assert_eq!(pair.connector.take_seen(), [Seen::Ready(ready())]);
        pair
    }

    /// Past its handshake.
    pub fn ready() -> Pair {
        Pair::with_limits(limits(), limits())
    }

    /// What each end staged reaches the other, then both pump. Gives the bytes that passed.
    pub fn turn(&mut self) -> usize {
        let passed = self.gateway.out.len() + self.connector.out.len();
        self.connector.inbox.append(&mut self.gateway.out);
        self.gateway.inbox.append(&mut self.connector.out);
        self.gateway.read(self.now);
        self.connector.read(self.now);
        self.gateway.session.pump(self.now, &mut self.gateway.out);
        self.connector
            .session
            .pump(self.now, &mut self.connector.out);
        passed
    }

    /// Turns until nothing moves.
    pub fn settle(&mut self) {
        for _ in 0..100_000 {
            if self.turn() == 0 {
                return;
            }
        }
        panic!("the pair does not come to rest");
    }

    pub fn open(&mut self, token: u32) -> StreamId {
        let End { session, out, .. } = &mut self.gateway;
        session
            .open(token, &mut opening(), out)
            .expect("a stream is free")
    }

    pub fn advance(&mut self, by: Duration) {
        self.now += by;
    }
}

impl End {
    pub fn head(&mut self, stream: StreamId) {
        let End { session, out, .. } = self;
        assert!(session.send_head(
            stream,
            200,
            false,
            b"OK",
            Body::Unknown,
            &mut no_fields(),
            out
        ));
    }

    pub fn interim(&mut self, stream: StreamId) {
        let End { session, out, .. } = self;
        assert!(session.send_head(stream, 103, true, b"", Body::None, &mut no_fields(), out));
    }

    pub fn data(&mut self, stream: StreamId, bytes: &[u8]) {
        self.session.send_data(stream, bytes, &mut self.out);
    }

    pub fn end(&mut self, stream: StreamId) {
        assert!(
            self.session
                .send_end(stream, &mut no_fields(), &mut self.out)
        );
    }

    pub fn reset(&mut self, stream: StreamId, code: ResetCode) {
        self.session.reset(stream, code, "because", &mut self.out);
    }

    pub fn consumed(&mut self, stream: StreamId, n: usize) {
        self.session.consumed(stream, n, &mut self.out);
    }

    pub fn timeout(&mut self, now: Instant) -> Result<(), SessionError> {
        self.session.handle_timeout(now, &mut self.out)
    }

    pub fn bytes_seen(&self, stream: StreamId) -> usize {
        let of = |seen: &Seen| match seen {
            Seen::Data {
                stream: s, bytes, ..
            } if *s == stream => bytes.len(),
            _ => 0,
        };
        self.seen.iter().map(of).sum()
    }
}
