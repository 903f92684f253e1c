//! Properties over random frames, cuts and messages.

use super::*;
use proptest::collection::vec;
use proptest::prelude::*;

fn cut<'a>(mut rest: &'a [u8], cuts: &[usize]) -> Vec<&'a [u8]> {
    let mut pieces = Vec::new();
    for cut in cuts {
        let (piece, after) = rest.split_at((*cut).min(rest.len()));
        pieces.push(piece);
        rest = after;
    }
    pieces.push(rest);
    pieces
}

/// First bytes that mostly make sense.
fn first() -> impl Strategy<Value = u8> {
    prop_oneof![
        4 => Just(0x81), 4 => Just(0x01), 6 => Just(0x00), 6 => Just(0x80), 2 => Just(0x82), 2 => Just(0x02),
        3 => Just(0x89), 2 => Just(0x8a), 1 => Just(0x88), 1 => any::<u8>(),
    ]
}

fn payload() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => "[a-zäß€😀]{0,12}".prop_map(String::into_bytes),
        1 => vec(any::<u8>(), 0..200),
        1 => Just(vec![0x03, 0xe8]),
    ]
}

proptest! {
    #[test]
    fn any_split_gives_the_same(
        frames in vec((first(), payload()), 0..8),
        flips in vec((any::<proptest::sample::Index>(), any::<u8>()), 0..2),
        cuts in vec(0usize..20, 0..40),
    ) {
        let mut input: Vec<u8> = frames.iter().flat_map(|(b, p)| raw(*b, p)).collect();
        for (at, byte) in flips {
            if !input.is_empty() {
                let at = at.index(input.len());
                input[at] = byte;
            }
        }
        let limits = Limits { message_bytes: 150, ..Limits::default() };
        let (seen, fault, _) = read(Role::Server, limits, &[&input]);
        let (again, fault_again, _) = read(Role::Server, limits, &cut(&input, &cuts));
        prop_assert_eq!((seen, fault), (again, fault_again));
    }

    #[test]
    fn both_sides_understand_each_other(
        messages in vec(prop_oneof![
            any::<String>().prop_map(Seen::Text),
            vec(any::<u8>(), 0..2000).prop_map(Seen::Binary),
        ], 0..6),
        cuts in vec(0usize..300, 0..20),
        seed in any::<u64>(),
    ) {
        let limits = Limits { message_bytes: 4096, ..Limits::default() };
        let client = || Role::Client(fastrand::Rng::with_seed(seed));
        for (sender, receiver) in [(client(), Role::Server), (Role::Server, client())] {
            let (mut socket, mut wire) = (Socket::new(sender, limits), Vec::new());
            for message in &messages {
                match message {
                    Seen::Text(text) => socket.send_text(&mut wire, text),
                    Seen::Binary(bytes) => socket.send_binary(&mut wire, bytes),
                    _ => unreachable!(),
                };
            }
            socket.close(&mut wire, 1000, "done", Instant::now());
            let mut expected = messages.clone();
            expected.push(Seen::Close(Some(1000), "done".to_owned()));
            let (seen, fault, mut answer) = read(receiver, limits, &cut(&wire, &cuts));
            prop_assert_eq!((seen, fault), (expected, None));
            let close = socket.next(&mut answer, &mut 0, Instant::now(), &mut wire);
            prop_assert_eq!(close, Ok(Event::Close { code: Some(1000), reason: "" }));
        }
    }
}
