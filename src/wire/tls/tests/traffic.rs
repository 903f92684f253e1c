//! What an established connection does: key updates, the orderly end, memory.

use super::*;
use crate::wire::record::MAX_PLAINTEXT;

#[test]
fn key_updates_both_ways_interleaved_with_data() {
    each(|we_serve, suite, random| {
        if suite.tls13().is_none() {
            return;
        }
        let (mut ours, mut peer) = connected(we_serve, &[suite], random);
        let (mut there, mut back) = (Vec::new(), Vec::new());
        for _ in 0..60 {
            match random.u8(..6) {
                0 => ours.tls.update_keys(random.bool()),
                1 => peer.tls.refresh_traffic_keys().unwrap(),
                2 | 3 => {
                    let part = vec![random.u8(..); random.usize(1..40_000)];
                    let bytes = ours.send(&part);
                    peer.receive(&bytes);
                    there.extend(part);
                }
                _ => {
                    let part = vec![random.u8(..); random.usize(1..40_000)];
                    let bytes = peer.send(&part);
                    ours.receive_split(&bytes, random);
                    back.extend(part);
                }
            }
            if random.bool() {
                pump(&mut ours, &mut peer, random);
            }
            if random.u8(..8) == 0 {
                ours.tls.drop_keys();
            }
            assert_eq!((&ours.error, &peer.error), (&None, &None));
        }
        pump(&mut ours, &mut peer, random);
        assert!(peer.received == there && ours.received == back);
    });
}

#[test]
fn key_update_answers_coalesce_and_come_before_data() {
    let aes = suite(0x1301);
    let (mut server, mut client) = ours_only(aes, client_config(&[aes], false));
    for _ in 0..5 {
        client.tls.update_keys(true);
        let bytes = client.send(b"x");
        server.receive(&bytes);
    }
    assert_eq!(server.received, b"xxxxx");
    assert!(server.tls.wants_transmit());
    let bytes = server.send(b"answer");
    // One KeyUpdate of five bytes, one record of data.
    let around = 5 + 17;
    assert_eq!(bytes.len(), (around + 5) + (around + 6));
    client.receive(&bytes);
    assert_eq!((client.received, client.error), (b"answer".to_vec(), None));
    assert!(!server.tls.wants_transmit());
    // It did not ask for one itself.
    assert!(!client.tls.wants_transmit());
}

#[test]
fn key_updates_do_not_exist_in_tls12() {
    let aes = suite(0xc02b);
    let (mut server, _) = ours_only(aes, client_config(&[aes], false));
    server.tls.update_keys(true);
    assert!(!server.tls.wants_transmit());
}

#[test]
fn close_notify_from_the_peer_ends_its_half() {
    each(|we_serve, suite, random| {
        let (mut ours, mut peer) = connected(we_serve, &[suite], random);
        let mut bytes = peer.send(b"last words");
        peer.tls.send_close_notify();
        bytes.extend(peer.control());
        bytes.extend(b"whatever comes behind it");
        ours.receive(&bytes);
        assert_eq!(
            (&ours.received[..], ours.closed),
            (&b"last words"[..], true)
        );
        ours.receive(b"and later");
        assert_eq!(ours.error, None);
        // Our half is open still.
        let bytes = ours.send(b"thanks");
        peer.receive(&bytes);
        assert_eq!(peer.received, b"thanks");
        assert!(!peer.closed);
        ours.tls.close();
        let bytes = ours.control();
        peer.receive(&bytes);
        assert!(peer.closed);
    });
}

#[test]
fn close_goes_behind_the_data_of_its_transmit() {
    each(|we_serve, suite, random| {
        let (mut ours, mut peer) = connected(we_serve, &[suite], random);
        ours.tls.close();
        ours.tls.close();
        assert!(ours.tls.wants_transmit());
        let bytes = ours.send(b"last words");
        peer.receive(&bytes);
        assert_eq!(
            (&peer.received[..], peer.closed),
            (&b"last words"[..], true)
        );
        assert!(!ours.tls.wants_transmit());
        assert!(ours.control().is_empty());
        // The other half goes on, key updates included; there is no answering them any more.
        if suite.tls13().is_some() {
            peer.tls.refresh_traffic_keys().unwrap();
        }
        let bytes = peer.send(b"still here");
        ours.receive(&bytes);
        assert_eq!(
            (&ours.received[..], &ours.error),
            (&b"still here"[..], &None)
        );
        assert!(!ours.tls.wants_transmit());
    });
}

/// The end of a stream without close_notify never looks like an orderly one.
#[test]
fn truncation_is_not_a_close() {
    each(|we_serve, suite, random| {
        let (mut ours, mut peer) = connected(we_serve, &[suite], random);
        let mut bytes = peer.send(&[7; 1000]);
        peer.tls.send_close_notify();
        bytes.extend(peer.control());
        bytes.pop();
        ours.receive_split(&bytes, random);
        assert_eq!(
            (ours.received.len(), ours.closed, &ours.error),
            (1000, false, &None)
        );
        assert!(ours.tls.partial() > 0);
    });
}

/// TLS 1.3 changes its key before the limit; the peer follows.
#[test]
fn a_used_up_key_is_renewed() {
    for id in [0x1301, 0x1302, 0x1303] {
        let suite = suite(id);
        for from_client in [false, true] {
            let (server, client) = ours_only(suite, client_config(&[suite], false));
            let (mut from, mut to) = if from_client {
                (client, server)
            } else {
                (server, client)
            };
            let limit = from.tls.traffic_mut().suite().record_limit();
            from.tls.traffic_mut().sealer_mut().set_sequence(limit - 17);
            to.tls.traffic_mut().opener_mut().set_sequence(limit - 17);
            // One record is left: two make a KeyUpdate.
            let bytes = from.send(&[1; 10]);
            assert_eq!(bytes.len(), 5 + 10 + 17);
            to.receive(&bytes);
            let bytes = from.send(&vec![2; MAX_PLAINTEXT + 1]);
            to.receive(&bytes);
            assert_eq!(
                (to.received.len(), &to.error),
                (10 + MAX_PLAINTEXT + 1, &None)
            );
            assert!(from.tls.traffic_mut().sealer_mut().remaining() > limit / 2);
        }
    }
}

/// TLS 1.2 cannot: it ends in order.
#[test]
fn a_used_up_key_of_tls12_ends_the_connection() {
    let suite = suite(0xc02b);
    let (mut server, mut client) = ours_only(suite, client_config(&[suite], false));
    let limit = server.tls.traffic_mut().suite().record_limit();
    server
        .tls
        .traffic_mut()
        .sealer_mut()
        .set_sequence(limit - 16);
    client
        .tls
        .traffic_mut()
        .opener_mut()
        .set_sequence(limit - 16);
    let mut out = Outgoing::new(server.tls.layout(), Vec::new());
    out.put(b"one too many");
    let error = server.tls.transmit(out).unwrap_err();
    assert!(!error.peer);
    assert!(server.tls.wants_transmit());
    let bytes = server.control();
    client.receive(&bytes);
    assert_eq!((client.closed, client.error), (true, None));
}

#[test]
fn an_idle_server_connection_is_its_struct_alone() {
    each(|we_serve, suite, random| {
        let (mut ours, mut peer) = connected(we_serve, &[suite], random);
        let bytes = peer.send(&[1; 100_000]);
        ours.receive_split(&bytes, random);
        let _ = ours.send(&[2; 100_000]);
        ours.receive(&[]);
        ours.tls.drop_keys();
        let heap = ours.tls.memory() - size_of::<Connection>();
        let kernel = !we_serve && suite.tls13().is_some();
        assert_eq!(heap, if kernel { 1500 } else { 0 });
        println!("connection: {} bytes", size_of::<Connection>());
        assert!(size_of::<Connection>() <= 256);
    });
}

#[test]
fn a_partial_record_costs_what_came_of_it() {
    let aes = suite(0x1301);
    let (mut server, mut client) = ours_only(aes, client_config(&[aes], false));
    server.tls.drop_keys();
    let idle = server.tls.memory();
    let bytes = client.send(&[3; MAX_PLAINTEXT]);
    for (at, &byte) in bytes[..bytes.len() - 1].iter().enumerate() {
        server.receive(&[byte]);
        assert_eq!(server.tls.partial(), at + 1);
        let held = server.tls.memory() - idle;
        assert!(
            held <= (2 * at + 16).max(if at < 2048 { 0 } else { 17_000 }),
            "{at}: {held}"
        );
    }
    server.receive(&bytes[bytes.len() - 1..]);
    server.tls.drop_keys();
    assert_eq!(server.received, [3; MAX_PLAINTEXT]);
    assert_eq!((server.tls.partial(), server.tls.memory()), (0, idle));
}

#[test]
fn connections_move_between_threads() {
    fn is_send<T: Send>() {}
    is_send::<Connection>();
    is_send::<Outgoing>();
}

#[test]
fn nothing_is_sent_for_nothing() {
    each(|we_serve, suite, random| {
        let (mut ours, _) = connected(we_serve, &[suite], random);
        assert!(!ours.tls.wants_transmit());
        let out = Outgoing::new(ours.tls.layout(), Vec::with_capacity(777));
        let bytes = ours.tls.transmit(out).unwrap();
        assert_eq!((bytes.len(), bytes.capacity()), (0, 777));
    });
}

/// Secrets are not in what is printed.
#[test]
fn debug_output_has_no_secrets() {
    let aes = suite(0x1301);
    let (server, _) = ours_only(aes, client_config(&[aes], false));
    assert_eq!(
        format!("{:?}", server.tls),
        "Connection { phase: \"traffic\", .. }"
    );
}
