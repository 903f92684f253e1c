//! What presence costs: `cargo test --release --lib hub::measure -- --ignored --nocapture`.

use super::core::{Core, Settings};
use super::message::{FromShard, GatewayShard, LinkId, Ups};
use crate::wire::relay::{ChannelAuth, ChannelKey, ChannelKind, ChannelUp};
use std::time::Instant;

/// Channels of one CHANNEL_UP.
const A_FRAME: usize = 250;

fn resident_bytes() -> usize {
    let text = std::fs::read_to_string("/proc/self/statm").expect("/proc/self/statm");
    let pages = text.split(' ').nth(1).and_then(|n| n.parse::<usize>().ok());
    pages.expect("resident pages") * 4096
}

/// A full list, frame by frame, with ids of 36 bytes.
fn list(core: &mut Core, link: LinkId, clients: u32) {
    let numbers: Vec<u32> = (0..clients).collect();
    let last = numbers.len().div_ceil(A_FRAME) - 1;
    for (frame, numbers) in numbers.chunks(A_FRAME).enumerate() {
        let id = |n: &u32| format!("cert:corp/device-{n:07}.corp.example");
        let ids: Vec<String> = numbers.iter().map(id).collect();
        let up = |(n, client): (&u32, _)| ChannelUp {
            key: ChannelKey {
                slot: *n,
                generation: 1,
            },
            kind: ChannelKind::EventStream,
            auth: ChannelAuth::Certificate,
            since: 1_700_000_000,
            client,
        };
        let ids = ids.iter().map(String::as_str);
        let ups: Ups = numbers.iter().zip(ids).map(up).collect();
        let message = FromShard::Up {
            link,
            list_starts: frame == 0,
            list_ends: frame == last,
            ups,
        };
        core.handle_shard(0, message);
    }
    while core.next_deadline().is_some_and(|at| at <= Instant::now()) {
        core.begin_turn(Instant::now(), 2);
    }
}

#[test]
#[ignore = "measures"]
fn a_list_of_clients() {
    for clients in [300_000, 1_000_000] {
        let before = resident_bytes();
        let settings = Settings {
            prefix: [1; 6],
            channels_per_client: 1,
            seed: 9,
        };
        let mut core = Core::new(settings, 1, Instant::now(), 1);
        let link = LinkId(1);
        let gateway = GatewayShard {
            instance: 0,
            boot: 1,
            shard: 0,
        };
        core.handle_shard(0, FromShard::LinkUp { link, gateway });
        let begun = Instant::now();
        list(&mut core, link, clients);
        let took = begun.elapsed();
        let bytes = resident_bytes().saturating_sub(before) / clients as usize;
        let counted = core.stats().presence_bytes / u64::from(clients);
        let begun = Instant::now();
        list(&mut core, link, clients);
        let again = begun.elapsed();
        assert_eq!(core.stats().clients, u64::from(clients));
        println!(
            "{clients}: {took:?}, again {again:?}; {bytes} bytes a client resident, {counted} counted"
        );
        // Kept, so that the next one's memory is its own.
        std::mem::forget(core);
    }
}
