//! A short fuzz smoke over every parser that peers or files feed: seeded mutations of good inputs, cut at random places.
//! Nothing may panic, and every step must use input or end. `TIDEGATE_FUZZ_ROUNDS=N` runs longer; a failure names its
//! seed. The cores' own tests mutate deeper, with knowledge of the format.

#[path = "../src/control/tokens/testing/mod.rs"]
mod tokens;

use std::sync::Arc;
use std::time::{Duration, Instant};
use tidegate::control::settings::SiteDocument;
use tidegate::control::tokens::{Issuer, IssuerKind, KeySet, verify};
use tidegate::wire::event_stream;
use tidegate::wire::http1::{Client, ClientEvent, Framing, Limits, Server, ServerEvent};
use tidegate::wire::http2;
use tidegate::wire::path;
use tidegate::wire::proxy_protocol::{self, Source};
use tidegate::wire::relay::{
    self, ChannelAuth, ChannelFate, ChannelKey, ChannelKind, ChannelUp, Closes, Downs, Event, Fate,
    Hello, Notification, Outcomes, PushId, Ready, Receipts, Role, Session, SessionLimits, Summary,
    Totals, Ups,
};
use tidegate::wire::websocket;

const LIMITS: Limits = Limits {
    head_bytes: 8192,
    header_count: 64,
    trailer_bytes: 1024,
};

fn rounds() -> u64 {
    std::env::var("TIDEGATE_FUZZ_ROUNDS")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(200_000)
}

/// Flips, cuts, repeats and inserts; keeps most of the input, so that mutants get past the first checks.
fn mutate(good: &[u8], random: &mut fastrand::Rng) -> Vec<u8> {
    let mut bytes = good.to_vec();
    for _ in 0..random.usize(0..6) {
        let at = random.usize(0..bytes.len().max(1));
        match random.u8(0..5) {
            0 if !bytes.is_empty() => bytes[at] ^= 1 << random.u8(0..8),
            1 if !bytes.is_empty() => bytes[at] = random.u8(..),
            2 => bytes.truncate(at),
            3 => {
                let end = (at + random.usize(0..40)).min(bytes.len());
                let piece = bytes[at.min(end)..end].to_vec();
                bytes.splice(at.min(end)..at.min(end), piece);
            }
            _ => bytes.insert(
                at.min(bytes.len()),
                *random.choice(b"\r\n :;%/.\0\xff0aF,").unwrap(),
            ),
        }
    }
    bytes
}

/// Runs `target` on mutants; it gets its own random numbers to cut the input by.
fn smoke(name: &str, corpus: &[&[u8]], target: impl Fn(&[u8], &mut fastrand::Rng)) {
    for seed in 0..rounds() {
        let mut random = fastrand::Rng::with_seed(seed);
        let good = random.choice(corpus).unwrap();
        let bytes = mutate(good, &mut random);
        let outcome =
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| target(&bytes, &mut random)));
        assert!(outcome.is_ok(), "{name}: seed {seed}: {bytes:?}");
    }
}

/// Pieces of the input, as a network would cut it.
fn pieces<'a>(mut bytes: &'a [u8], random: &mut fastrand::Rng) -> Vec<&'a [u8]> {
    let mut out = Vec::new();
    while !bytes.is_empty() {
        let (piece, rest) = bytes.split_at(random.usize(1..=bytes.len()));
        out.push(piece);
        bytes = rest;
    }
    out
}

#[test]
fn requests() {
    let corpus: &[&[u8]] = &[
        b"GET /a?b HTTP/1.1\r\nHost: h\r\nAccept: */*\r\n\r\nGET /b HTTP/1.1\r\nHost: h\r\n\r\n",
        b"POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\nhello",
        b"CCM_POST http://h/x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nabcd\r\n0\r\nX: y\r\n\r\n",
    ];
    smoke("request", corpus, |bytes, random| {
        let mut server = Server::new(LIMITS);
        let mut out = Vec::new();
        for piece in pieces(bytes, random) {
            let mut used = 0;
            loop {
                let ended = match server.next(piece, &mut used) {
                    Ok(ServerEvent::NeedMore) => break,
                    Ok(ServerEvent::End { .. }) => true,
                    Ok(_) => false,
                    Err(refusal) => {
                        assert!((400..600).contains(&refusal.status));
                        return;
                    }
                };
                if ended && server.awaits_response() {
                    server.send_head(&mut out, 200, b"OK", [], Framing::Length(0));
                    server.send_end(&mut out, []);
                }
            }
        }
    });
}

#[test]
fn responses() {
    let corpus: &[&[u8]] = &[
        b"HTTP/1.1 103 Early\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n0\r\nT: v\r\n\r\n",
        b"HTTP/1.0 404 \r\nServer: x\r\n\r\nuntil close",
    ];
    smoke("response", corpus, |bytes, random| {
        let mut client = Client::new(LIMITS);
        let mut out = Vec::new();
        client.send_head(&mut out, b"GET", b"/", [], Framing::None);
        client.send_end(&mut out, []);
        for piece in pieces(bytes, random) {
            let mut used = 0;
            loop {
                match client.next(piece, &mut used) {
                    Ok(ClientEvent::NeedMore) => break,
                    Ok(_) => {}
                    Err(_) => return,
                }
            }
        }
        let _ = client.finish();
    });
}

#[test]
fn http2_answers() {
    let settings: &[u8] = b"\0\0\x06\x04\0\0\0\0\0\0\x03\0\0\0\x64\0\0\0\x04\x01\0\0\0\0";
    let answer: &[u8] = b"\0\0\x01\x01\x04\0\0\0\x01\x88\0\0\x04\0\x01\0\0\0\x01some";
    let ends: &[u8] = b"\0\0\x04\x03\0\0\0\0\x03\0\0\0\x07\0\0\x08\x07\0\0\0\0\0\0\0\0\x03\0\0\0\0";
    let extended: &[u8] =
        b"\0\0\x07\x01\x05\0\0\0\x05\x88\x40\x01a\x01b\xbe\0\0\x08\x06\0\0\0\0\x0012345678";
    let corpus = [answer, ends, extended].map(|more| [settings, more].concat());
    let corpus: Vec<&[u8]> = corpus.iter().map(Vec::as_slice).collect();
    let now = Instant::now();
    smoke("http2", &corpus, |bytes, random| {
        let mut client = http2::Client::<u32>::new(now).unwrap();
        let mut out = Vec::new();
        let mut token = 0;
        for piece in pieces(bytes, random) {
            client.handle_input(piece, now);
            while client.next_event().is_some() {}
            while token < 3 && client.room() > 0 {
                let request = http2::Request {
                    method: b"GET",
                    https: true,
                    authority: b"h",
                    target: b"/",
                    content: http2::Content::None,
                };
                if client.open(token, &request, []).is_err() {
                    break;
                }
                token += 1;
            }
            client.transmit(&mut out, usize::MAX);
        }
        client.handle_end("closed");
        while client.next_event().is_some() {}
        assert_eq!(client.streams(), 0);
    });
}

#[test]
fn relay_frames() {
    let limits = SessionLimits {
        streams: 64,
        initial_stream_credit: 65_536,
        max_stream_credit: 262_144,
        session_credit: 1 << 20,
        stage_bytes: 65_536,
    };
    let now = Instant::now();
    let hello = Hello {
        connector: "cp-1".into(),
        site: "main".into(),
        incarnation: 7,
        link_index: 0,
        wanted_shard: 0,
        versions: (relay::VERSION, relay::VERSION),
    };
    let mut good = Vec::new();
    let mut connector: Session<u32> = Session::new(Role::Connector, limits, now);
    connector.send_hello(&hello, &mut good);
    connector.publish([3; 32], vec![b'x'; 500], &mut good);
    connector.pump(now, &mut good);
    smoke("relay", &[&good], |bytes, random| {
        let mut session: Session<u32> = Session::new(Role::Gateway, limits, now);
        let mut out = Vec::new();
        for piece in pieces(bytes, random) {
            let mut used = 0;
            while let Ok(Some(_)) =
                session.next(piece, &mut used, now + Duration::from_millis(1), &mut out)
            {
            }
        }
    });
}

/// Both ends of a link past its handshake, with channels.
fn relay_pair(now: Instant) -> (Session<u32>, Session<u32>) {
    let limits = SessionLimits {
        streams: 64,
        initial_stream_credit: 65_536,
        max_stream_credit: 262_144,
        session_credit: 1 << 20,
        stage_bytes: 65_536,
    };
    let session = |role| Session::<u32>::new(role, limits, now).with_features(relay::CHANNELS);
    let (mut gateway, mut connector) = (session(Role::Gateway), session(Role::Connector));
    let hello = Hello {
        connector: "cp-1".into(),
        site: "main".into(),
        incarnation: 7,
        link_index: 0,
        wanted_shard: 0,
        versions: (relay::VERSION, relay::VERSION),
    };
    let ready = Ready {
        version: relay::VERSION,
        features: relay::CHANNELS,
        instance: 0,
        boot_id: 1,
        shard: 0,
        shards: 1,
        settings_hash: [0; 32],
    };
    let (mut up, mut down) = (Vec::new(), Vec::new());
    connector.send_hello(&hello, &mut up);
    let hello = gateway.next(&up, &mut 0, now, &mut down);
    assert!(matches!(hello, Ok(Some(Event::Hello(_)))));
    gateway.send_ready(&ready, &mut down);
    let ready = connector.next(&down, &mut 0, now, &mut up);
    assert!(matches!(ready, Ok(Some(Event::Ready(_)))));
    assert!(gateway.has_channels() && connector.has_channels());
    (gateway, connector)
}

/// What each role says of channels, good: from the gateway, from the connector.
fn channel_frames(now: Instant) -> (Vec<u8>, Vec<u8>) {
    let (mut gateway, mut connector) = relay_pair(now);
    let (mut down, mut up) = (Vec::new(), Vec::new());
    let (push, key) = (
        PushId([7; 16]),
        ChannelKey {
            slot: 1,
            generation: 2,
        },
    );
    let (mut ups, mut downs, mut receipts) =
        (Ups::default(), Downs::default(), Receipts::default());
    let (mut outcomes, mut summary) = (Outcomes::new(push), Summary::default());
    ups.start_list();
    for client in ["cert:corp/a", "oidc:idp/b"] {
        assert!(ups.push(&ChannelUp {
            key,
            kind: ChannelKind::LongPoll,
            auth: ChannelAuth::Token,
            since: 9,
            client,
        }));
    }
    ups.end_list();
    let (reason, fate) = (relay::DownReason::Left, Fate::Gone);
    assert!(downs.push(relay::ChannelDown { key, reason }));
    assert!(receipts.push(relay::Receipt {
        push,
        client: "pc-1"
    }));
    assert!(outcomes.push(ChannelFate { key, fate }));
    summary.set(push, Totals::default());
    assert!(gateway.send_batch(&mut ups, &mut down));
    assert!(gateway.send_batch(&mut downs, &mut down));
    assert!(gateway.send_batch(&mut outcomes, &mut down));
    assert!(gateway.send_batch(&mut summary, &mut down));
    assert!(gateway.send_batch(&mut receipts, &mut down));
    let mut notification = Notification::new(push, false, b"hello").expect("it fits");
    let mut closes = Closes::default();
    let reason = relay::CloseReason::Replaced;
    assert!(notification.push(key) && closes.push(relay::ChannelClose { key, reason }));
    assert!(connector.send_batch(&mut notification, &mut up));
    notification.to_all();
    assert!(connector.send_batch(&mut notification, &mut up));
    assert!(connector.send_batch(&mut closes, &mut up));
    (down, up)
}

/// Channel frames, past the handshake, into both roles; what is told of them is walked to its end.
#[test]
fn relay_channels() {
    let now = Instant::now();
    let (down, up) = channel_frames(now);
    let reached = std::cell::Cell::new([0u64; 6]);
    smoke("relay channels", &[&down, &up], |bytes, random| {
        let (mut gateway, mut connector) = relay_pair(now);
        // The kind that leads says whom it is for; the other role takes it now and then.
        let to_gateway = matches!(bytes.get(3), Some(0x22 | 0x23)) != (random.u8(0..50) == 0);
        let session = if to_gateway {
            &mut gateway
        } else {
            &mut connector
        };
        let mut out = Vec::new();
        let mut counts = reached.get();
        for piece in pieces(bytes, random) {
            let mut used = 0;
            while let Ok(Some(event)) = session.next(piece, &mut used, now, &mut out) {
                let count = match event {
                    Event::ChannelUp { channels, .. } => {
                        for up in channels {
                            assert!((1..=relay::MAX_CLIENT_ID).contains(&up.client.len()));
                            assert!(up.client.bytes().all(|byte| byte.is_ascii_graphic()));
                        }
                        0
                    }
                    Event::ChannelDown(downs) => {
                        assert!(downs.count() > 0);
                        1
                    }
                    Event::ChannelClose(closes) => {
                        assert!(closes.count() > 0);
                        2
                    }
                    Event::Notify { payload, .. } => {
                        assert!(payload.len() <= relay::MAX_PUSH);
                        3
                    }
                    Event::Outcome { .. } => 4,
                    Event::Receipt(receipts) => {
                        assert!(receipts.count() > 0);
                        5
                    }
                    _ => continue,
                };
                counts[count] += 1;
            }
        }
        reached.set(counts);
    });
    let reached = reached.get();
    assert!(reached.iter().all(|&n| n > rounds() / 20), "{reached:?}");
}

#[test]
fn paths() {
    let corpus: &[&[u8]] = &[b"/a/b/../c?d=e", b"/%61/./b//c", b"/mp/x;y/%2e%2E/z?%20"];
    smoke("path", corpus, |bytes, _| {
        let mut scratch = Vec::new();
        if let Ok(normal) = path::normalise(bytes, &mut scratch) {
            let once = normal.path.to_vec();
            let mut again = Vec::new();
            let twice = path::normalise(&once, &mut again).expect("a normal path is fine");
            assert_eq!(twice.path, once, "normalising is done after one time");
        }
    });
}

/// Both sides, parked between the pieces.
#[test]
fn websocket_frames() {
    let client = || websocket::Role::Client(fastrand::Rng::with_seed(1));
    let limits = websocket::Limits {
        message_bytes: 256,
        ..Default::default()
    };
    let now = Instant::now();
    let good = |role| {
        let (mut socket, mut out) = (websocket::Socket::new(role, limits), Vec::new());
        socket.send_text(&mut out, "grüße €");
        socket.send_ping(&mut out, b"ping");
        socket.send_binary(&mut out, &[7; 200]);
        socket.close(&mut out, 1000, "bye", now);
        out
    };
    let fragments = b"\x01\x80\0\0\0\0\0\x82\0\0\0\0\xc3\xbc\x89\x80\0\0\0\0\x80\x81\0\0\0\0a";
    let (masked, plain) = (good(client()), good(websocket::Role::Server));
    smoke(
        "websocket",
        &[&masked, &plain, fragments],
        |bytes, random| {
            let role = match random.bool() {
                true => client(),
                false => websocket::Role::Server,
            };
            let (mut parked, mut out) = (websocket::Parked::default(), Vec::new());
            for piece in pieces(bytes, random) {
                let (mut input, mut used) = (piece.to_vec(), 0);
                let mut socket = parked.unpark(role.clone(), limits);
                loop {
                    let before = used;
                    match socket.next(&mut input, &mut used, now, &mut out) {
                        Ok(websocket::Event::NeedMore | websocket::Event::Ended) => break,
                        // a frame without payload may have its head in an earlier piece
                        Ok(_) => assert!(used > before || before == 0, "every step uses input"),
                        Err(fault) => {
                            assert!(websocket::is_sendable(fault.code) && socket.is_done());
                            return;
                        }
                    }
                }
                parked = socket.park();
                assert!(parked.kept_bytes() < 2048, "what is kept is bounded");
            }
        },
    );
}

#[test]
fn event_streams() {
    let corpus: &[&[u8]] = &[
        b"\xef\xbb\xbfid: 1\r\nevent: push\r\ndata: a\r\ndata: b\r\n\r\n: alive\n\nretry: 1500\n\n",
        b"data\r\rid\ndata: \xf0\x9f\x98\x80\n\n",
    ];
    smoke("event stream", corpus, |bytes, random| {
        let mut parser = event_stream::Parser::new(random.usize(0..100));
        for piece in pieces(bytes, random) {
            let mut used = 0;
            loop {
                let before = used;
                match parser.next(piece, &mut used) {
                    Ok(event_stream::Item::NeedMore) => break,
                    Ok(_) => assert!(used > before, "every step uses input"),
                    Err(event_stream::TooLong) => return,
                }
            }
            assert_eq!(used, piece.len());
        }
    });
}

#[test]
fn settings() {
    let good = br#"{"site":{"revision":1,"client_ca":[],"deny_serials":["aa"],"deny_clients":[]},"routes":[{"path":"/mp/","auth":"none","methods":[],"max_body":1,"timeout_ms":1,"case_insensitive":false}]}"#;
    smoke("settings", &[good], |bytes, _| {
        let _ = SiteDocument::decode(bytes);
    });
}

#[test]
fn proxy_headers() {
    let corpus: &[&[u8]] = &[
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xcb\0\x71\x07\x0a\0\0\x01\xc0\x01\x01\xbb\x16\x03\x01",
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x13\xcb\0\x71\x07\x0a\0\0\x01\xc0\x01\x01\xbb\x03\0\x04\0\0\0\0",
        b"\r\n\r\n\0\r\nQUIT\n\x21\x21\0\x28\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x05\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\xc0\x01\x01\xbb\x04\0\x01x",
        b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0",
        b"PROXY TCP4 203.0.113.7 10.0.0.1 49153 443\r\n",
    ];
    smoke("PROXY header", corpus, |bytes, random| {
        let mut header = proxy_protocol::Header::new();
        let mut taken = 0;
        for piece in pieces(bytes, random) {
            let mut used = 0;
            let outcome = header.next(piece, &mut used);
            taken += used;
            assert!(taken <= proxy_protocol::MAX_HEADER);
            match outcome {
                Ok(None) => assert_eq!(used, piece.len(), "what is needed is taken"),
                Ok(Some(Source::Client(address))) => {
                    assert_eq!(address.ip(), address.ip().to_canonical());
                    return;
                }
                Ok(Some(Source::Peer)) | Err(_) => return,
            }
        }
    });
}

/// No mutant of a signed token verifies: what verifies is the token itself.
#[test]
fn tokens_and_key_sets() {
    let (lab, now) = (tokens::Lab::new(), 1_750_000_000);
    let sets: Vec<String> = vec![
        tokens::jwks(&[&lab.rsa]),
        tokens::jwks(&[&lab.ec, &lab.ed]),
        tokens::jwks(&[&lab.site]),
    ];
    let issuers: Vec<Issuer> = lab
        .issuers()
        .iter()
        .map(|issuer| Issuer {
            name: issuer.name.into(),
            kind: if issuer.is_site {
                IssuerKind::Site
            } else {
                IssuerKind::Oidc
            },
            issuer: issuer.issuer.into(),
            audience: issuer.audience.iter().map(|&one| one.into()).collect(),
            tenants: issuer.tenants.iter().map(|&one| one.into()).collect(),
            id: issuer.id.into(),
            keys: issuer
                .jwks
                .as_ref()
                .map(|keys| Arc::new(KeySet::parse(keys.as_bytes()).expect("a good set"))),
        })
        .collect();
    let good = [
        lab.rsa.token(&lab.entra_claims(now)),
        lab.ec.token(&lab.idp_claims(now)),
        lab.ed.token(&lab.idp_claims(now)),
        lab.site.token(&lab.site_claims(now)),
    ];
    let corpus: Vec<&[u8]> = good.iter().map(|token| token.as_bytes()).collect();
    smoke("token", &corpus, |bytes, _| {
        let verified = verify(&issuers, bytes, now).is_ok();
        assert_eq!(verified, corpus.contains(&bytes));
    });
    // The claims themselves, signed: past the signature's check into everything behind it.
    let claims = [
        lab.idp_claims(now).to_string(),
        lab.site_claims(now).to_string(),
    ];
    let claims: Vec<&[u8]> = claims.iter().map(|claims| claims.as_bytes()).collect();
    let header = lab.ec.header().to_string();
    smoke("claims", &claims, |bytes, random| {
        let token = match random.bool() {
            true => lab.ec.token_of(&header, bytes),
            false => lab.ec.token_of(bytes, &header),
        };
        let _ = verify(&issuers, token.as_bytes(), now);
    });
    let sets: Vec<&[u8]> = sets.iter().map(|set| set.as_bytes()).collect();
    smoke("key set", &sets, |bytes, _| {
        if let Ok(set) = KeySet::parse(bytes) {
            assert!(set.len() <= 64);
        }
    });
}
