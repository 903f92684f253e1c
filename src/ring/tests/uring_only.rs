//! What only the real ring can get wrong: buffers, descriptors, queues, system calls.

use super::*;
use crate::ring::uring::Counters;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::fd::{AsFd, AsRawFd};

const MANY: usize = 12;

fn counters(bench: &Bench<Real>, which: usize) -> Counters {
    bench.world.0[which].counters()
}

/// What a reader that is now and then a little behind does.
#[test]
fn a_pause_that_is_over_at_once_asks_nothing_of_the_kernel() {
    let mut bench = Bench::<Real>::new();
    let (client, server) = bench.connected(true);
    let pause = |bench: &mut Bench<Real>| {
        bench.ring(1).receive(server, Receive::Large);
        bench.send(0, client, b"some");
        assert_eq!(bench.read(1, server, 4), b"some");
        bench.ring(1).receive(server, Receive::Paused);
        (bench.ring(1).now(), counters(bench, 1).polls)
    };
    for round in 0..10 {
        let (began, before) = pause(&mut bench);
        bench.turns(3);
        // Unless the machine stood still meanwhile.
        if bench.ring(1).now() - began < Duration::from_millis(10) {
            assert_eq!(counters(&bench, 1).polls, before, "round {round}");
        }
    }
    // One that lasts is polled for, once.
    let (_, before) = pause(&mut bench);
    bench.until("a poll", |bench| {
        (counters(bench, 1).polls > before).then_some(())
    });
    bench.turns(20);
    assert_eq!(counters(&bench, 1).polls, before + 1);
    bench.done(client, server);
}

/// Many sockets share very few buffers, which the owner holds on to for a while.
fn dry_group(mode: Receive) {
    let config = RingConfig {
        small_buffers: (2, 64),
        large_buffers: (1, 512),
        ..RingConfig::default()
    };
    let mut bench = Bench::<Real>::with(&config);
    let (_, addr) = bench.listen(true);
    let pairs: Vec<_> = (0..MANY).map(|_| bench.connect_to(addr)).collect();
    for (client, server) in &pairs {
        bench.ring(1).receive(*server, mode);
        let bytes: Vec<u8> = pattern(5_000)
            .into_iter()
            .map(|b| b ^ client.index as u8)
            .collect();
        bench.ring(0).send(*client, bytes);
        bench.ring(0).shutdown_write(*client);
    }
    bench.turns(30); // the bench holds every buffer now
    let held = bench.seen[1]
        .iter()
        .filter(|e| matches!(e, Event::Received { .. }))
        .count();
    assert!(held <= 2, "{held} buffers of 2");
    assert!(
        counters(&bench, 1).receives_put_off > 0,
        "the group never ran dry"
    );
    let put_off = counters(&bench, 1).receives_put_off;
    bench.turns(30);
    assert_eq!(
        counters(&bench, 1).receives_put_off,
        put_off,
        "tried again without buffers"
    );
    let mut got: BTreeMap<u32, Vec<u8>> = BTreeMap::new();
    let mut finished = 0;
    bench.until("everything", |bench| {
        for event in bench.seen[1].drain(..) {
            match event {
                Event::Received { socket, buf } => {
                    got.entry(socket.index).or_default().extend_from_slice(&buf)
                }
                Event::PeerFinished { .. } => finished += 1,
                other => panic!("a dry group is no failure: {other:?}"),
            }
        }
        (finished == MANY).then_some(())
    });
    for (client, server) in pairs {
        let expected: Vec<u8> = pattern(5_000)
            .into_iter()
            .map(|b| b ^ client.index as u8)
            .collect();
        assert!(got[&server.index] == expected, "{server:?} lost bytes");
    }
}

#[test]
fn a_dry_small_group_delays_and_loses_nothing() {
    dry_group(Receive::Small);
}

#[test]
fn a_dry_large_group_delays_and_loses_nothing() {
    dry_group(Receive::Large);
}

#[test]
fn a_socket_may_close_while_it_waits_for_buffers() {
    let config = RingConfig {
        small_buffers: (1, 64),
        ..RingConfig::default()
    };
    let mut bench = Bench::<Real>::with(&config);
    let (_, addr) = bench.listen(true);
    let (first, holder) = bench.connect_to(addr);
    bench.ring(1).receive(holder, Receive::Small);
    bench.ring(0).send(first, b"held".to_vec());
    bench.turns(10);
    for _ in 0..20 {
        let (client, server) = bench.connect_to(addr);
        bench.ring(1).receive(server, Receive::Small);
        bench.ring(0).send(client, b"waits".to_vec());
        bench.turns(3);
        bench.ring(1).close(server);
        bench.ring(0).close(client);
    }
    let (client, server) = bench.connect_to(addr);
    bench.ring(1).receive(server, Receive::Small);
    bench.ring(0).send(client, b"served".to_vec());
    assert_eq!(bench.taken(1, holder), b"held");
    assert_eq!(bench.read(1, server, 6), b"served");
}

#[test]
fn a_full_descriptor_table_puts_accepts_off() {
    let config = RingConfig {
        direct_descriptors: 4,
        ..RingConfig::default()
    };
    let mut bench = Bench::<Real>::with(&config);
    let (_, addr) = bench.listen(true);
    for _ in 0..6 {
        bench
            .ring(0)
            .connect(addr, &ConnectOptions::default())
            .unwrap();
    }
    bench.turns(100);
    let accepted = |bench: &Bench<Real>| {
        let sockets = bench.seen[1].iter().filter_map(|event| match event {
            Event::Accepted { socket, .. } => Some(*socket),
            _ => None,
        });
        sockets.collect::<Vec<_>>()
    };
    let open = accepted(&bench);
    assert_eq!(open.len(), 4, "as many as the table holds");
    assert!(
        bench.seen[0]
            .iter()
            .all(|e| matches!(e, Event::Connected { .. })),
        "none refused"
    );
    bench.ring(1).close(open[0]);
    bench.until("the fifth", |bench| {
        (accepted(bench).len() == 5).then_some(())
    });
    bench.ring(1).abort(open[1]);
    bench.until("the sixth", |bench| {
        (accepted(bench).len() == 6).then_some(())
    });
}

#[test]
fn tiny_queues_overflow_without_loss() {
    let config = RingConfig {
        submissions: 2,
        completions: 4,
        events_per_turn: 3,
        ..RingConfig::default()
    };
    let mut bench = Bench::<Real>::with(&config);
    let (_, addr) = bench.listen(true);
    let options = ConnectOptions {
        timeout: Some(Duration::from_secs(20)),
        ..Default::default()
    };
    let clients: Vec<SocketId> = (0..100)
        .map(|_| bench.ring(0).connect(addr, &options).unwrap())
        .collect();
    let mut echoed = 0;
    bench.until("every echo", |bench| {
        for which in 0..2 {
            for event in std::mem::take(&mut bench.seen[which]) {
                match event {
                    Event::Connected { socket } => {
                        bench.ring(0).receive(socket, Receive::Small);
                        bench.ring(0).send(socket, b"echo".to_vec());
                    }
                    Event::Accepted { socket, .. } => bench.ring(1).receive(socket, Receive::Small),
                    Event::Received { socket, buf } if which == 1 => {
                        bench.ring(1).send(socket, buf.to_vec())
                    }
                    Event::Received { .. } => echoed += 1,
                    Event::Sent { .. } => {}
                    other => panic!("{other:?}"),
                }
            }
        }
        (echoed == clients.len()).then_some(())
    });
    assert_eq!(
        counters(&bench, 0).stale_completions + counters(&bench, 1).stale_completions,
        0
    );
}

#[test]
fn a_turn_gives_a_bounded_number_of_events() {
    let config = RingConfig {
        events_per_turn: 5,
        ..RingConfig::default()
    };
    let mut ring = Ring::new(&config).unwrap();
    let any = "127.0.0.1:0".parse().unwrap();
    let (_, addr) = ring.listen(any, &listen_options(true)).unwrap();
    let streams: Vec<TcpStream> = (0..20).map(|_| TcpStream::connect(addr).unwrap()).collect();
    let mut accepted = 0;
    while accepted < streams.len() {
        ring.turn_or_sleep(Some(Instant::now() + Duration::from_secs(1)))
            .unwrap();
        let events = std::iter::from_fn(|| ring.poll_event()).count();
        assert!(events <= 5, "{events} events in a turn");
        accepted += events;
    }
}

#[test]
fn a_connect_gives_up_in_time() {
    // A listener whose backlog is full drops further connection requests.
    let full = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    full.bind(&"127.0.0.1:0".parse::<SocketAddr>().unwrap().into())
        .unwrap();
    full.listen(0).unwrap();
    let addr = full.local_addr().unwrap().as_socket().unwrap();
    let mut bench = Bench::<Real>::new();
    let options = ConnectOptions {
        timeout: Some(Duration::from_millis(50)),
        ..Default::default()
    };
    let clients: Vec<SocketId> = (0..4)
        .map(|_| bench.ring(0).connect(addr, &options).unwrap())
        .collect();
    let last = clients[3];
    assert_eq!(bench.failed(0, last), ErrorKind::TimedOut);
    clients
        .into_iter()
        .for_each(|client| bench.ring(0).close(client));
    bench.turns(10);
    assert_eq!(bench.world.0[0].sockets(), 0);
}

#[test]
fn accepted_sockets_inherit_their_options() {
    let mut bench = Bench::<Real>::new();
    let (client, server) = bench.connected(false);
    bench.ring(1).detach(server);
    let fd = bench.until("Detached", |bench| match bench.seen[1].pop_front()? {
        Event::Detached { fd, .. } => Some(fd),
        other => panic!("{other:?}"),
    });
    let socket = socket2::SockRef::from(&fd);
    assert!(socket.tcp_nodelay().unwrap() && socket.keepalive().unwrap());
    assert!(!socket.nonblocking().unwrap());
    let flags = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", fd.as_raw_fd())).unwrap();
    assert!(close_on_exec(&flags), "{flags}");
    bench.ring(0).close(client);
}

/// The flags line is octal; O_CLOEXEC is 0o2000000.
fn close_on_exec(fdinfo: &str) -> bool {
    let flags = fdinfo
        .lines()
        .find_map(|line| line.strip_prefix("flags:"))
        .unwrap();
    i64::from_str_radix(flags.trim(), 8).unwrap() & 0o2000000 != 0
}

#[test]
fn no_descriptor_of_ours_survives_an_exec() {
    let mut ring = Ring::new(&RingConfig::default()).unwrap();
    ring.listen("127.0.0.1:0".parse().unwrap(), &listen_options(true))
        .unwrap();
    for entry in std::fs::read_dir("/proc/self/fd").unwrap() {
        let path = entry.unwrap().path();
        let link = std::fs::read_link(&path).unwrap_or_default();
        let link = link.to_string_lossy();
        if link.contains("io_uring") || link.contains("eventfd") || link.contains("socket:") {
            let info = path.to_string_lossy().replace("/fd/", "/fdinfo/");
            let Ok(info) = std::fs::read_to_string(info) else {
                continue;
            }; // closed meanwhile
            assert!(close_on_exec(&info), "{link}: {info}");
        }
    }
}

#[test]
fn a_listener_goes_to_the_next_process_with_its_backlog() {
    let mut old = Ring::new(&RingConfig::default()).unwrap();
    let any = "[::1]:0".parse().unwrap();
    let (listener, addr) = old.listen(any, &listen_options(true)).unwrap();
    let inherited = old
        .listener(listener)
        .unwrap()
        .as_fd()
        .try_clone_to_owned()
        .unwrap();
    old.stop_listening(listener);
    old.turn_or_sleep(Some(Instant::now() + Duration::from_millis(10)))
        .unwrap();
    assert!(old.poll_event().is_none());
    assert!(old.listener(listener).is_none());
    let mut waiting = TcpStream::connect(addr).unwrap(); // neither accepts at the moment
    drop(old);
    let mut new = Ring::new(&RingConfig::default()).unwrap();
    let (_, same) = new.adopt_listener(inherited, true).unwrap();
    assert_eq!(same, addr);
    let socket = loop {
        new.turn_or_sleep(Some(Instant::now() + Duration::from_secs(10)))
            .unwrap();
        match new.poll_event() {
            Some(Event::Accepted { socket, peer, .. }) => {
                assert_eq!(peer, waiting.local_addr().unwrap());
                break socket;
            }
            Some(other) => panic!("{other:?}"),
            None => {}
        }
    };
    new.send(socket, b"hello".to_vec());
    new.turn().unwrap();
    let mut answer = [0; 5];
    waiting.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"hello");
}

#[test]
fn a_source_address_is_kept() {
    let mut bench = Bench::<Real>::new();
    let (_, addr) = bench.listen(true);
    for direct in [false, true] {
        let source = Some("127.0.0.77".parse().unwrap());
        let options = ConnectOptions {
            source,
            direct,
            ..Default::default()
        };
        bench.ring(0).connect(addr, &options).unwrap();
        let peer = bench.event(1, "Accepted", |event| match event {
            Event::Accepted { peer, .. } => Some(*peer),
            _ => None,
        });
        assert_eq!(Some(peer.ip()), source);
    }
}

/// The table's entries come back whichever way a socket ends, and a full table refuses.
#[test]
fn direct_connections_take_entries_and_give_them_back() {
    let config = RingConfig {
        direct_descriptors: 4,
        ..RingConfig::default()
    };
    let mut bench = Bench::<Real>::with(&config);
    let (_, addr) = bench.listen(false);
    let options = ConnectOptions {
        direct: true,
        timeout: Some(Duration::from_secs(20)),
        ..Default::default()
    };
    for round in 0..5 {
        let held: Vec<_> = (0..4)
            .map(|_| bench.ring(0).connect(addr, &options).unwrap())
            .collect();
        let full = bench.ring(0).connect(addr, &options).unwrap_err();
        assert_eq!(full.raw_os_error(), Some(libc::ENFILE));
        if round % 2 == 0 {
            bench.until("all connected", |bench| {
                let connected = |e: &&Event| matches!(e, Event::Connected { .. });
                (bench.seen[0].iter().filter(connected).count() == 4).then_some(())
            });
        } // else they are given up on their way into the table
        for (index, socket) in held.into_iter().enumerate() {
            match index % 2 {
                0 => bench.ring(0).close(socket),
                _ => bench.ring(0).abort(socket),
            }
        }
        bench.until("none held", |bench| {
            (bench.world.0[0].sockets() == 0).then_some(())
        });
        bench.seen[0].clear();
    }
}

#[test]
fn a_dropped_ring_gives_everything_back() {
    let open = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let before = open();
    let mut ends = Vec::new();
    for round in 0..20 {
        let mut bench = Bench::<Real>::new();
        let (client, server) = bench.connected(round % 2 == 0);
        bench.ring(0).receive(client, Receive::Paused);
        bench.ring(1).receive(server, Receive::Small);
        bench.ring(0).send(client, pattern(10_000_000)); // stalls
        bench.turns(round % 5);
        // the buffers that it received outlive their ring
        ends.extend(bench.seen[1].drain(..));
    }
    let held: usize = ends
        .iter()
        .map(|event| match event {
            Event::Received { buf, .. } => buf.iter().filter(|byte| **byte == 0).count().max(1),
            _ => 0,
        })
        .sum();
    assert!(held > 0, "nothing was received");
    // other tests of this process open and close descriptors too, so not exactly
    assert!(
        open() < before + 200,
        "{} descriptors before, {} after",
        before,
        open()
    );
}

#[test]
fn the_clock_stands_still_within_a_turn() {
    let mut ring = Ring::new(&RingConfig::default()).unwrap();
    ring.turn().unwrap();
    let now = ring.now();
    std::hint::black_box(pattern(1_000_000));
    assert_eq!(ring.now(), now);
    ring.turn().unwrap();
    assert!(ring.now() > now);
}

#[test]
fn an_abort_of_a_stalled_send_gives_its_memory_back_at_once() {
    let mut bench = Bench::<Real>::new();
    let (_, addr) = bench.listen(true);
    let mut stream = TcpStream::connect(addr).unwrap();
    let server = bench.event(1, "Accepted", |event| match event {
        Event::Accepted { socket, .. } => Some(*socket),
        _ => None,
    });
    stream.write_all(b"unread").unwrap();
    bench.ring(1).send(server, pattern(20_000_000));
    bench.turns(10);
    assert_eq!(bench.ring(1).stalled_bytes(), 20_000_000);
    bench.ring(1).abort(server);
    bench.turns(10);
    assert_eq!(bench.ring(1).stalled_bytes(), 0);
    assert_eq!(bench.world.0[1].sockets(), 0);
    let mut rest = Vec::new();
    let error = stream.read_to_end(&mut rest).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}
