//! The record plane against published vectors and against itself.

use super::*;
use crate::wire::Put;
use proptest::prelude::*;

const SUITES: [Suite; 6] = [
    Suite::Tls13Aes128Gcm,
    Suite::Tls13Aes256Gcm,
    Suite::Tls13ChaCha20Poly1305,
    Suite::Tls12Aes128Gcm,
    Suite::Tls12Aes256Gcm,
    Suite::Tls12ChaCha20Poly1305,
];

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text
        .chars()
        .filter_map(|c| c.to_digit(16))
        .map(|digit| digit as u8)
        .collect();
    digits
        .chunks(2)
        .map(|pair| pair[0] << 4 | pair[1])
        .collect()
}

/// Keys of either form, for any suite.
fn keys(suite: Suite) -> Keys {
    let bytes: Vec<u8> = (0..48).collect();
    match suite.hash() {
        Some((_, length)) => Keys::from_secret(suite, &bytes[..length]).unwrap(),
        None => Keys::from_key_iv(suite, &bytes[..suite.key_len()], &bytes[32..44]).unwrap(),
    }
}

fn pair(suite: Suite) -> (Sealer, Opener) {
    (Sealer::new(keys(suite), 0), Opener::new(keys(suite), 0))
}

fn sealed(sealer: &mut Sealer, content_type: ContentType, plain: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    sealer.append(content_type, plain, &mut out).unwrap();
    out
}

/// Opens every record in `bytes`: the plaintext and the lengths of the records.
fn open_all(opener: &mut Opener, bytes: &mut [u8]) -> (Vec<u8>, Vec<usize>) {
    let (mut plain, mut lengths, mut at) = (Vec::new(), Vec::new(), 0);
    while let Some(header) = Header::read(&bytes[at..]) {
        let record = &mut bytes[at..at + header.record_len()];
        let (content_type, range) = opener.open(record).unwrap();
        assert_eq!(content_type, ContentType::ApplicationData);
        lengths.push(range.len());
        plain.extend_from_slice(&record[range]);
        at += header.record_len();
    }
    assert_eq!(at, bytes.len());
    (plain, lengths)
}

/// RFC 8448 §3: traffic secrets, keys, and the records of the client and of the server.
#[test]
fn rfc_8448_simple_1rtt() {
    let suite = Suite::Tls13Aes128Gcm;
    let client = hex("9e40646ce79a7f9dc05af8889bce6552875afa0b06df0087f792ebb7c17504a5");
    let server = hex("a11af9f05531f856ad47116b45a950328204b4f44bfb6b3a4b4f1f3fcb631643");
    let client = Keys::from_secret(suite, &client).unwrap();
    let server = Keys::from_secret(suite, &server).unwrap();
    assert!(client.matches(
        &hex("17422dda596ed5d9acd890e3c63f5051"),
        &hex("5b78923dee08579033e523d9")
    ));
    assert!(server.matches(
        &hex("9f02283b6c9c07efc26bb9f2ac92e356"),
        &hex("cf782b88dd83549aadf1e984")
    ));
    assert!(!server.matches(
        &hex("9f02283b6c9c07efc26bb9f2ac92e356"),
        &hex("cf782b88dd83549aadf1e985")
    ));

    let plain: Vec<u8> = (0..50).collect();
    let data = hex(
        "17 03 03 00 43 a2 3f 70 54 b6 2c 94 d0 af fa fe 82 28 ba 55 cb ef ac ea 42 f9 14 aa 66 bc
         ab 3f 2b 98 19 a8 a5 b4 6b 39 5b d5 4a 9a 20 44 1e 2b 62 97 4e 1f 5a 62 92 a2 97 70 14 bd
         1e 3d ea e6 3a ee bb 21 69 49 15 e4",
    );
    let close = hex("1703030013c9872760655666b74d7ff1153efd6db6d0b0e3");
    let mut sealer = Sealer::new(client.clone(), 0);
    assert_eq!(
        sealed(&mut sealer, ContentType::ApplicationData, &plain),
        data
    );
    assert_eq!(sealed(&mut sealer, ContentType::Alert, &[1, 0]), close);

    // The server's NewSessionTicket took its sequence number 0.
    let mut data = hex(
        "17 03 03 00 43 2e 93 7e 11 ef 4a c7 40 e5 38 ad 36 00 5f c4 a4 69 32 fc 32 25 d0 5f 82 aa
         1b 36 e3 0e fa f9 7d 90 e6 df fc 60 2d cb 50 1a 59 a8 fc c4 9c 4b f2 e5 f0 a2 1c 00 47 c2
         ab f3 32 54 0d d0 32 e1 67 c2 95 5d",
    );
    let mut opener = Opener::new(server, 1);
    let (content_type, range) = opener.open(&mut data).unwrap();
    assert_eq!(
        (content_type, &data[range]),
        (ContentType::ApplicationData, &plain[..])
    );
    let mut close = hex("1703030013b58fd67166ebf599d24720cfbe7efa7a8864a9");
    let (content_type, range) = opener.open(&mut close).unwrap();
    assert_eq!(
        (content_type, &close[range]),
        (ContentType::Alert, &[1, 0][..])
    );
}

/// Records of TLS 1.2 computed with another implementation (pyca/cryptography) from RFC 5246 §6.2.3.3, RFC 5288, RFC 7905.
#[test]
fn tls12_known_answers() {
    let cases = [
        (
            Suite::Tls12Aes128Gcm,
            "1703030034a4a5a6a7a8a8a8a86b55ecb0956ee934dba64f51dffedf013ec1ffabf67f4abcba430fc4b2d5\
             157572887e264b950037846d7966",
        ),
        (
            Suite::Tls12Aes256Gcm,
            "1703030034a4a5a6a7a8a8a8a85fab320dd9ea2b8b95f3179fd349c895cf4a27f9fd975ec5e40d76bd85b7\
             041e6e0a17b8625630771bbc7727",
        ),
        (
            Suite::Tls12ChaCha20Poly1305,
            "170303002c33f4d1cdf3846aede87f2a5f4e63fb852e47f5c1eed5995a8b27d57770fa7ec1000c7e9cb6dd\
             c0e64ec66bd6",
        ),
    ];
    let plain = b"Tidegate record known answer";
    for (suite, record) in cases {
        let key: Vec<u8> = (0..suite.key_len() as u8).collect();
        let iv: Vec<u8> = (0xa0..0xac).collect();
        let keys = Keys::from_key_iv(suite, &key, &iv).unwrap();
        let mut sealer = Sealer::new(keys.clone(), 0x01_0203);
        let mut out = sealed(&mut sealer, ContentType::ApplicationData, plain);
        assert_eq!(out, hex(record), "{suite:?}");
        let mut opener = Opener::new(keys, 0x01_0203);
        let (_, range) = opener.open(&mut out).unwrap();
        assert_eq!(&out[range], plain);
    }
}

#[test]
fn full_records_and_no_empty_one() {
    for suite in SUITES {
        for (put, lengths) in [
            (0, vec![]),
            (1, vec![1]),
            (MAX_PLAINTEXT, vec![MAX_PLAINTEXT]),
            (MAX_PLAINTEXT + 1, vec![MAX_PLAINTEXT, 1]),
            (2 * MAX_PLAINTEXT, vec![MAX_PLAINTEXT; 2]),
        ] {
            let (mut sealer, mut opener) = pair(suite);
            let mut out = Outgoing::new(suite.layout(), vec![9; 7]);
            out.put(&[]);
            out.put(&vec![7; put]);
            out.put(&[]);
            out.end_record();
            assert_eq!((out.staged(), out.records()), (put, lengths.len()));
            let mut bytes = out.seal(&mut sealer).unwrap();
            let around = usize::from(suite.layout().prefix) + usize::from(suite.layout().suffix);
            assert_eq!(bytes.len(), put + lengths.len() * around);
            assert_eq!(open_all(&mut opener, &mut bytes), (vec![7; put], lengths));
        }
    }
}

#[test]
fn ended_records_stay_apart() {
    let (mut sealer, mut opener) = pair(Suite::Tls13Aes128Gcm);
    let mut out = Outgoing::new(sealer.layout(), Vec::new());
    for part in [&b"one"[..], b"three", b"", b"4"] {
        out.put(part);
        out.end_record();
    }
    let mut bytes = out.seal(&mut sealer).unwrap();
    assert_eq!(
        open_all(&mut opener, &mut bytes),
        (b"onethree4".to_vec(), vec![3, 5, 1])
    );
}

#[test]
fn clear_text_is_laid_out_as_it_is() {
    let mut recycled = Vec::with_capacity(100_000);
    recycled.push(1);
    let mut out = Outgoing::clear_text(recycled);
    assert!(out.is_empty());
    out.put(&[5; 40_000]);
    out.put(&[6; 10]);
    assert_eq!(out.staged(), 40_010);
    let bytes = out.into_clear_text();
    assert_eq!((bytes.len(), bytes.capacity()), (40_010, 100_000));
    assert!(bytes[..40_000].iter().all(|&b| b == 5) && bytes[40_000..] == [6; 10]);
}

#[test]
fn a_layout_of_another_suite_is_refused() {
    let (mut sealer, _) = pair(Suite::Tls13Aes128Gcm);
    let mut out = Outgoing::new(Suite::Tls12Aes128Gcm.layout(), Vec::new());
    out.put(b"x");
    assert_eq!(out.seal(&mut sealer), Err(SealError::Length));
}

#[test]
fn no_key_seals_more_than_its_limit() {
    for suite in SUITES {
        let (mut sealer, _) = pair(suite);
        let limit = suite.record_limit();
        assert_eq!(sealer.remaining(), limit - 16);
        sealer.set_sequence(limit - 16);
        assert_eq!(sealer.remaining(), 0);
        // The last ones are for alerts and KeyUpdate.
        for _ in 0..16 {
            sealed(&mut sealer, ContentType::Alert, &[1, 0]);
        }
        let mut out = b"kept".to_vec();
        assert_eq!(
            sealer.append(ContentType::Alert, &[1, 0], &mut out),
            Err(SealError::Exhausted)
        );
        assert_eq!(out, b"kept");
        assert_eq!(sealer.update(), suite.is_tls13());
        assert_eq!(sealer.remaining() > 0, suite.is_tls13());
    }
}

#[test]
fn a_receiving_sequence_never_wraps() {
    for suite in SUITES {
        let (mut sealer, mut opener) = pair(suite);
        let mut record = sealed(&mut sealer, ContentType::ApplicationData, b"x");
        opener.set_sequence(u64::MAX);
        assert_eq!(opener.open(&mut record), Err(OpenError::Exhausted));
    }
}

#[test]
fn too_long_is_refused_on_both_sides() {
    for suite in SUITES {
        let (mut sealer, mut opener) = pair(suite);
        let mut out = Vec::new();
        let long = vec![1; MAX_PLAINTEXT + 1];
        assert_eq!(
            sealer.append(ContentType::ApplicationData, &long, &mut out),
            Err(SealError::Length)
        );
        assert_eq!(
            sealer.seal(ContentType::Alert, &mut [0; 10]),
            Err(SealError::Length)
        );
        let most = if suite.is_tls13() {
            MAX_PLAINTEXT + 256
        } else {
            MAX_PLAINTEXT + if suite.has_explicit_nonce() { 24 } else { 16 }
        };
        let header = |length| Header {
            content_type: 23,
            length,
        };
        assert_eq!(opener.check(header(most)), Ok(()));
        assert_eq!(opener.check(header(most + 1)), Err(OpenError::Overflow));
        let mut record = vec![0; HEADER_LEN + most + 1];
        record[..3].copy_from_slice(&[23, 3, 3]);
        record[3..5].copy_from_slice(&(most as u16 + 1).to_be_bytes());
        assert_eq!(opener.open(&mut record), Err(OpenError::Overflow));
    }
}

/// Builds what our own sealer never does: inner plaintext of TLS 1.3 with padding.
fn seal_padded(suite: Suite, inner: &[u8]) -> Vec<u8> {
    use ring::aead::{Aad, Nonce};
    let expanded = keys(suite).expand().unwrap();
    let length = (inner.len() + 16) as u16;
    let header = [23, 3, 3, (length >> 8) as u8, length as u8];
    let mut body = inner.to_vec();
    let nonce = Nonce::assume_unique_for_key(expanded.nonce(0));
    expanded
        .key
        .seal_in_place_append_tag(nonce, Aad::from(header), &mut body)
        .unwrap();
    [&header[..], &body].concat()
}

#[test]
fn tls13_padding_is_removed_and_judged() {
    let suite = Suite::Tls13Aes256Gcm;
    let open = |inner: &[u8]| {
        let mut record = seal_padded(suite, inner);
        let opened = Opener::new(keys(suite), 0).open(&mut record);
        opened.map(|(content_type, range)| (content_type, record[range].to_vec()))
    };
    let data = ContentType::ApplicationData;
    assert_eq!(open(b"ab\x17\0\0\0"), Ok((data, b"ab".to_vec())));
    assert_eq!(open(b"\x17\0"), Ok((data, Vec::new())));
    assert_eq!(
        open(b"a\0\x16"),
        Ok((ContentType::Handshake, b"a\0".to_vec()))
    );
    assert_eq!(open(b"\0\0\0"), Err(OpenError::Unexpected));
    assert_eq!(open(b""), Err(OpenError::Unexpected));
    assert_eq!(open(b"a\x14"), Err(OpenError::Unexpected));
    assert_eq!(open(b"a\x63"), Err(OpenError::Unexpected));
    let mut full = vec![1; MAX_PLAINTEXT];
    full.push(23);
    assert_eq!(open(&full), Ok((data, vec![1; MAX_PLAINTEXT])));
    full.push(0);
    assert_eq!(open(&full), Err(OpenError::Overflow));
}

#[test]
fn generations_follow_each_other_and_differ() {
    for suite in SUITES.into_iter().filter(|suite| suite.is_tls13()) {
        let (mut sealer, mut opener) = pair(suite);
        let mut seen = Vec::new();
        for _ in 0..3 {
            let mut record = sealed(&mut sealer, ContentType::ApplicationData, b"same");
            assert!(!seen.contains(&record));
            seen.push(record.clone());
            assert!(opener.open(&mut record).is_ok());
            assert!(sealer.update() && opener.update());
        }
    }
}

#[test]
fn parked_keys_come_back() {
    for suite in SUITES {
        let (mut sealer, mut opener) = pair(suite);
        for _ in 0..3 {
            let mut record = sealed(&mut sealer, ContentType::ApplicationData, b"x");
            assert!(opener.open(&mut record).is_ok());
            sealer.park();
            opener.park();
            assert!(sealer.is_parked() && opener.is_parked());
        }
    }
}

#[test]
fn wrong_lengths_give_no_keys() {
    for suite in SUITES {
        for length in 0..80 {
            let bytes = vec![1; length];
            let right = suite.hash().is_some_and(|(_, hash)| hash == length);
            assert_eq!(Keys::from_secret(suite, &bytes).is_some(), right);
            let right = length == suite.key_len();
            assert_eq!(Keys::from_key_iv(suite, &bytes, &[0; 12]).is_some(), right);
            let right = length == 12;
            let key = vec![1; suite.key_len()];
            assert_eq!(Keys::from_key_iv(suite, &key, &bytes).is_some(), right);
        }
    }
}

fn any_suite() -> impl Strategy<Value = Suite> {
    proptest::sample::select(SUITES.to_vec())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// However data is cut when it is put, it comes out whole and in order.
    #[test]
    fn seal_then_open_is_identity(
        suite in any_suite(),
        parts in prop::collection::vec((0usize..20_000, any::<bool>()), 0..8),
        seed in any::<u64>(),
    ) {
        let (mut sealer, mut opener) = pair(suite);
        let mut random = fastrand::Rng::with_seed(seed);
        let mut out = Outgoing::new(suite.layout(), Vec::new());
        let mut expected = Vec::new();
        for (length, end) in parts {
            let part: Vec<u8> = (0..length).map(|_| random.u8(..)).collect();
            out.put(&part);
            if end {
                out.end_record();
            }
            expected.extend_from_slice(&part);
        }
        prop_assert_eq!(out.staged(), expected.len());
        let records = out.records();
        let mut bytes = out.seal(&mut sealer).unwrap();
        let (plain, lengths) = open_all(&mut opener, &mut bytes);
        prop_assert_eq!(lengths.len(), records);
        prop_assert!(lengths.iter().all(|&length| (1..=MAX_PLAINTEXT).contains(&length)));
        prop_assert!(plain == expected);
    }

    /// Any flipped bit of a record, header included, fails; a whole one still opens afterwards.
    #[test]
    fn any_flipped_bit_fails(
        suite in any_suite(),
        plain in prop::collection::vec(any::<u8>(), 0..100),
        at in any::<prop::sample::Index>(),
        bit in 0u8..8,
    ) {
        let (mut sealer, mut opener) = pair(suite);
        let good = sealed(&mut sealer, ContentType::ApplicationData, &plain);
        let mut bad = good.clone();
        bad[at.index(good.len())] ^= 1 << bit;
        prop_assert!(opener.open(&mut bad).is_err());
        let mut good = good;
        let (_, range) = opener.open(&mut good).unwrap();
        prop_assert_eq!(&good[range], &plain[..]);
    }

    /// No bytes at all make opening panic, and none authenticate.
    #[test]
    fn noise_never_opens(suite in any_suite(), mut noise in prop::collection::vec(any::<u8>(), 0..200)) {
        let (_, mut opener) = pair(suite);
        prop_assert!(opener.open(&mut noise).is_err());
        if let [_, _, _, high, low, rest @ ..] = noise.as_mut_slice() {
            [*high, *low] = (rest.len() as u16).to_be_bytes();
            noise[0] = 23;
            prop_assert!(opener.open(&mut noise).is_err());
        }
    }

    /// A record opens only in its place.
    #[test]
    fn order_is_kept(suite in any_suite(), skip in 1u64..5) {
        let (mut sealer, mut opener) = pair(suite);
        let mut first = sealed(&mut sealer, ContentType::ApplicationData, b"first");
        opener.set_sequence(skip);
        prop_assert_eq!(opener.open(&mut first), Err(OpenError::BadMac));
    }
}
