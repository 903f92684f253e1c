//! PROXY protocol version 2, receiving side: what a balancer says of the client before the client's first byte
//! (HAProxy's proxy-protocol.txt, section 2.2).
//!
//! ```text
//! 12 bytes signature │ version 2, command │ family, transport │ u16 length │ addresses │ TLVs
//! ```
//!
//! | command | family | outcome |
//! |---|---|---|
//! | PROXY | TCP over IPv4 or IPv6 | the source address of the block; TLVs are skipped, a CRC32c among them is checked |
//! | PROXY | UNSPEC | the peer's own address; the block is ignored |
//! | PROXY | AF_UNIX, DGRAM, unknown | error: no client of a TLS listener has such an address |
//! | LOCAL | any | the peer's own address; the block is ignored (the balancer's health checks) |
//!
//! A header may come in any pieces; what cannot become one fails at its first wrong byte. At most [`MAX_HEADER`] bytes
//! are kept, and none before the first ones came.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Bytes of addresses and TLVs that are taken. The format allows 65,535; balancers send 12 to a few hundred.
pub const MAX_BLOCK: usize = 2048;
/// The longest header that is taken.
pub const MAX_HEADER: usize = FIXED + MAX_BLOCK;

const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// Signature, version and command, family and transport, length of the rest.
const FIXED: usize = 16;
const V1: &[u8] = b"PROXY ";
/// Type of the TLV that holds the checksum of the whole header.
const TYPE_CRC32C: u8 = 0x03;

/// Whose connection it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The client's address and port, canonical (no IPv4 inside IPv6).
    Client(SocketAddr),
    /// The balancer speaks for itself, or does not know: the connection's own address counts.
    Peer,
}

/// Why there is no header, and never will be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed(pub &'static str);

/// A header on its way.
#[derive(Debug, Default)]
pub struct Header {
    bytes: Vec<u8>,
}

impl Header {
    pub fn new() -> Header {
        Header::default()
    }

    /// True before the first byte.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Takes from `input[*used..]` what belongs to the header and no byte more. `None`: all is used, more is needed.
    pub fn next(&mut self, input: &[u8], used: &mut usize) -> Result<Option<Source>, Malformed> {
        loop {
            let wanted = self.wanted()?;
            let missing = wanted - self.bytes.len();
            if missing == 0 {
                return source(&self.bytes).map(Some);
            }
            let rest = input.get(*used..).unwrap_or_default();
            let piece = &rest[..missing.min(rest.len())];
            if piece.is_empty() {
                return Ok(None);
            }
            self.bytes.extend_from_slice(piece);
            *used += piece.len();
            check_signature(&self.bytes)?;
        }
    }

    /// Bytes of the header as far as is known: its fixed part, then all of it.
    fn wanted(&self) -> Result<usize, Malformed> {
        let Some(&[.., version_command, family, high, low]) = self.bytes.get(..FIXED) else {
            return Ok(FIXED);
        };
        check_kind(version_command, family)?;
        let block = usize::from(u16::from_be_bytes([high, low]));
        if block > MAX_BLOCK {
            return Err(Malformed("PROXY protocol: the header is too long"));
        }
        Ok(FIXED + block)
    }
}

fn check_signature(bytes: &[u8]) -> Result<(), Malformed> {
    let known = bytes.len().min(SIGNATURE.len());
    if bytes[..known] == SIGNATURE[..known] {
        return Ok(());
    }
    let begins = |with: &[u8]| bytes.iter().zip(with).all(|(a, b)| a == b);
    Err(Malformed(if begins(V1) {
        "PROXY protocol v1: only version 2 is taken"
    } else if bytes[0] == 22 {
        "TLS without a PROXY protocol header"
    } else {
        "no PROXY protocol header"
    }))
}

const LOCAL: u8 = 0x20;
const PROXY: u8 = 0x21;
const UNSPEC: u8 = 0x00;
const TCP4: u8 = 0x11;
const TCP6: u8 = 0x21;

fn check_kind(version_command: u8, family: u8) -> Result<(), Malformed> {
    Err(Malformed(match (version_command, family) {
        (LOCAL, _) | (PROXY, UNSPEC | TCP4 | TCP6) => return Ok(()),
        (PROXY, 0x12 | 0x22 | 0x32) => "PROXY protocol: the client is said to speak datagrams",
        (PROXY, 0x31) => "PROXY protocol: the client is said to have a Unix socket",
        (PROXY, _) => "PROXY protocol: unknown address family or transport",
        (0x20..=0x2f, _) => "PROXY protocol: unknown command",
        _ => "PROXY protocol: unknown version",
    }))
}

/// Reads a header that is complete and of a kind that `check_kind` let pass.
fn source(header: &[u8]) -> Result<Source, Malformed> {
    const SHORT: Malformed = Malformed("PROXY protocol: the addresses do not fit the header");
    let (fixed, block) = header.split_at(FIXED);
    let (address, tlvs): (SocketAddr, &[u8]) = match (fixed[12], fixed[13]) {
        (PROXY, TCP4) => {
            let (addresses, tlvs) = block.split_first_chunk::<12>().ok_or(SHORT)?;
            let [a, b, c, d, _, _, _, _, high, low, _, _] = *addresses;
            let port = u16::from_be_bytes([high, low]);
            ((Ipv4Addr::new(a, b, c, d), port).into(), tlvs)
        }
        (PROXY, TCP6) => {
            let (addresses, tlvs) = block.split_first_chunk::<36>().ok_or(SHORT)?;
            let (source, rest) = addresses.split_first_chunk::<16>().ok_or(SHORT)?;
            let port = u16::from_be_bytes([rest[16], rest[17]]);
            let address = IpAddr::from(Ipv6Addr::from(*source)).to_canonical();
            ((address, port).into(), tlvs)
        }
        _ => return Ok(Source::Peer),
    };
    check_tlvs(header, tlvs)?;
    Ok(Source::Client(address))
}

/// Walks the TLVs to the block's end, and checks the CRC32c if there is one.
fn check_tlvs(header: &[u8], mut tlvs: &[u8]) -> Result<(), Malformed> {
    let mut checksum: Option<(usize, [u8; 4])> = None;
    while !tlvs.is_empty() {
        let &[kind, high, low, ref rest @ ..] = tlvs else {
            return Err(Malformed("PROXY protocol: a TLV is cut"));
        };
        let length = usize::from(u16::from_be_bytes([high, low]));
        let Some((value, next)) = rest.split_at_checked(length) else {
            return Err(Malformed("PROXY protocol: a TLV is cut"));
        };
        if kind == TYPE_CRC32C {
            let Ok(value) = <[u8; 4]>::try_from(value) else {
                return Err(Malformed("PROXY protocol: the checksum has no 4 bytes"));
            };
            if checksum
                .replace((header.len() - rest.len(), value))
                .is_some()
            {
                return Err(Malformed("PROXY protocol: two checksums"));
            }
        }
        tlvs = next;
    }
    let Some((at, said)) = checksum else {
        return Ok(());
    };
    // The sender counted the checksum's own four bytes as zero.
    let (before, rest) = header.split_at(at);
    let crc = crc32c(crc32c(crc32c(!0, before), &[0; 4]), &rest[4..]);
    if !crc != u32::from_be_bytes(said) {
        return Err(Malformed("PROXY protocol: wrong checksum"));
    }
    Ok(())
}

/// CRC-32C (Castagnoli, reflected), continued from `crc`; begins with all ones and ends inverted.
fn crc32c(crc: u32, bytes: &[u8]) -> u32 {
    const TABLE: [u32; 256] = table();
    bytes.iter().fold(crc, |crc, byte| {
        crc >> 8 ^ TABLE[usize::from(crc as u8 ^ byte)]
    })
}

const fn table() -> [u32; 256] {
    let mut table = [0; 256];
    let mut i = 0;
    while i < table.len() {
        let mut crc = i as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = crc >> 1 ^ if crc & 1 == 1 { 0x82f6_3b78 } else { 0 };
            bit += 1;
        }
        table[i] = crc;
        i += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn header(version_command: u8, family: u8, block: &[u8]) -> Vec<u8> {
        let mut header = SIGNATURE.to_vec();
        header.extend([version_command, family]);
        header.extend((block.len() as u16).to_be_bytes());
        header.extend(block);
        header
    }

    fn tcp4(tlvs: &[u8]) -> Vec<u8> {
        let mut block = vec![203, 0, 113, 7, 10, 0, 0, 1];
        block.extend([0xc0, 0x01, 0x01, 0xbb]);
        block.extend(tlvs);
        header(PROXY, TCP4, &block)
    }

    fn tcp6(source: &str) -> Vec<u8> {
        let mut block = source.parse::<Ipv6Addr>().unwrap().octets().to_vec();
        block.extend(Ipv6Addr::LOCALHOST.octets());
        block.extend([0xc0, 0x01, 0x01, 0xbb]);
        header(PROXY, TCP6, &block)
    }

    /// A header with its right checksum, between other TLVs.
    fn checked() -> Vec<u8> {
        let mut bytes = tcp4(&[4, 0, 1, 9, TYPE_CRC32C, 0, 4, 0, 0, 0, 0, 2, 0, 1, b'x']);
        let crc = !crc32c(!0, &bytes);
        bytes[35..39].copy_from_slice(&crc.to_be_bytes());
        bytes
    }

    /// The outcome, and how many bytes it took.
    fn read(bytes: &[u8]) -> Result<(Option<Source>, usize), &'static str> {
        let mut used = 0;
        match Header::new().next(bytes, &mut used) {
            Ok(source) => Ok((source, used)),
            Err(why) => Err(why.0),
        }
    }

    fn client(text: &str) -> Option<Source> {
        Some(Source::Client(text.parse().unwrap()))
    }

    #[test]
    fn the_source_is_the_client_and_no_byte_of_tls_is_taken() {
        for tlvs in [
            &[][..],
            &[4, 0, 0],
            &[0xe0, 0, 2, 1, 2, 1, 0, 2, b'h', b'2'],
        ] {
            let mut bytes = tcp4(tlvs);
            let length = bytes.len();
            bytes.extend(b"\x16\x03\x01");
            assert_eq!(read(&bytes), Ok((client("203.0.113.7:49153"), length)));
        }
        let bytes = tcp6("2001:db8::5");
        assert_eq!(read(&bytes), Ok((client("[2001:db8::5]:49153"), 52)));
        let mapped = tcp6("::ffff:203.0.113.7");
        assert_eq!(read(&mapped), Ok((client("203.0.113.7:49153"), 52)));
    }

    #[test]
    fn local_and_unknown_clients_keep_the_peers_address() {
        for (command, family, block) in [
            (LOCAL, UNSPEC, &[][..]),
            (LOCAL, TCP4, &[1, 2, 3]),
            (LOCAL, 0xff, &[0; 40]),
            (PROXY, UNSPEC, &[]),
            (PROXY, UNSPEC, &[7; 9]),
        ] {
            let bytes = header(command, family, block);
            assert_eq!(read(&bytes), Ok((Some(Source::Peer), bytes.len())));
        }
    }

    #[test]
    fn what_is_no_client_of_ours_is_refused_with_its_reason() {
        let cases: [(Vec<u8>, &str); 15] = [
            (
                b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n".to_vec(),
                "PROXY protocol v1",
            ),
            (b"P".to_vec(), "PROXY protocol v1"),
            (b"\x16\x03\x01\x02\x00".to_vec(), "TLS without"),
            (b"GET / HTTP/1.1\r\n".to_vec(), "no PROXY protocol header"),
            (b"\r\n\r\n\0\r\nQUIX\n".to_vec(), "no PROXY protocol header"),
            (header(0x11, TCP4, &[0; 12]), "unknown version"),
            (header(0x31, TCP4, &[0; 12]), "unknown version"),
            (header(0x22, TCP4, &[0; 12]), "unknown command"),
            (header(PROXY, 0x12, &[0; 12]), "datagrams"),
            (header(PROXY, 0x22, &[0; 36]), "datagrams"),
            (header(PROXY, 0x31, &[0; 216]), "Unix socket"),
            (header(PROXY, 0x41, &[0; 12]), "unknown address family"),
            (header(PROXY, 0x01, &[]), "unknown address family"),
            (header(PROXY, TCP4, &[0; 11]), "do not fit"),
            (header(PROXY, TCP6, &[0; 35]), "do not fit"),
        ];
        for (bytes, reason) in cases {
            let text = read(&bytes).unwrap_err();
            assert!(text.contains(reason), "{bytes:?}: {text}");
        }
    }

    #[test]
    fn length_is_bounded_before_anything_is_kept() {
        let longest = header(LOCAL, UNSPEC, &[0; MAX_BLOCK]);
        assert_eq!(longest.len(), MAX_HEADER);
        assert_eq!(read(&longest), Ok((Some(Source::Peer), MAX_HEADER)));
        let over = header(LOCAL, UNSPEC, &[0; MAX_BLOCK + 1]);
        let mut parser = Header::new();
        assert!(
            parser
                .next(&over, &mut 0)
                .unwrap_err()
                .0
                .contains("too long")
        );
        assert_eq!(parser.bytes.len(), FIXED);
    }

    #[test]
    fn tlvs_end_where_the_header_ends() {
        for tlvs in [&[1][..], &[1, 0], &[1, 0, 1], &[1, 0, 0, 2, 0xff, 0xff]] {
            assert!(read(&tcp4(tlvs)).unwrap_err().contains("TLV is cut"));
        }
    }

    #[test]
    fn a_checksum_is_checked() {
        // The check value of CRC-32C.
        assert_eq!(!crc32c(!0, b"123456789"), 0xe306_9283);
        let good = checked();
        assert_eq!(read(&good), Ok((client("203.0.113.7:49153"), good.len())));
        for at in FIXED..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 0x10;
            let changed_kind = [28, 32, 39].contains(&at);
            assert!(changed_kind || read(&bad).is_err(), "byte {at}");
        }
        let short = tcp4(&[TYPE_CRC32C, 0, 3, 0, 0, 0]);
        assert!(read(&short).unwrap_err().contains("no 4 bytes"));
        let two = tcp4(&[3, 0, 4, 0, 0, 0, 0, 3, 0, 4, 0, 0, 0, 0]);
        assert!(read(&two).unwrap_err().contains("two checksums"));
    }

    #[test]
    fn every_beginning_of_a_good_header_waits_for_more() {
        for good in [checked(), tcp6("2001:db8::5"), header(LOCAL, UNSPEC, &[])] {
            for end in 0..good.len() {
                assert_eq!(read(&good[..end]), Ok((None, end)));
            }
        }
    }

    proptest! {
        #[test]
        fn pieces_make_no_difference(
            flips in proptest::collection::vec((0usize..64, any::<u8>()), 0..3),
            cuts in proptest::collection::vec(1usize..20, 1..40),
            six in any::<bool>(),
        ) {
            let mut bytes = if six { tcp6("2001:db8::5") } else { checked() };
            for (at, with) in flips {
                let at = at % bytes.len();
                bytes[at] = with;
            }
            bytes.extend(b"\x16\x03\x01 and TLS");
            let whole = read(&bytes);
            let mut parser = Header::new();
            let (mut at, mut cuts) = (0, cuts.into_iter().cycle());
            let piecewise = loop {
                let end = bytes.len().min(at + cuts.next().unwrap());
                let mut used = at;
                match parser.next(&bytes[..end], &mut used) {
                    Err(why) => break Err(why.0),
                    Ok(Some(source)) => break Ok((Some(source), used)),
                    Ok(None) => prop_assert_eq!(used, end),
                }
                if end == bytes.len() {
                    break Ok((None, end));
                }
                at = end;
            };
            // A wrong beginning fails at its first wrong byte, when less is known of what it is.
            match (whole, piecewise) {
                (Err(_), Err(_)) => {}
                (whole, piecewise) => prop_assert_eq!(whole, piecewise),
            }
        }

        #[test]
        fn any_bytes_end_or_are_used(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let mut input = SIGNATURE.to_vec();
            input.extend(&bytes);
            if let Ok((source, used)) = read(&input) {
                prop_assert!(source.is_some() || used == input.len());
            }
        }
    }
}
