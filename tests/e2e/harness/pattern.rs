//! Bodies whose every byte tells its place: nothing can be lost, doubled, swapped or left from another body unseen.

const WORD: usize = 8;

/// SplitMix64's output function over a word's index.
fn word(seed: u64, index: u64) -> [u8; WORD] {
    let mut z = seed.wrapping_add(index.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (z ^ (z >> 31)).to_le_bytes()
}

/// Writes the bytes from `offset` on of the body with this seed.
pub fn fill(seed: u64, offset: u64, mut out: &mut [u8]) {
    let mut index = offset / WORD as u64;
    let within = (offset % WORD as u64) as usize;
    if within > 0 {
        let first = &word(seed, index)[within..];
        let n = first.len().min(out.len());
        out[..n].copy_from_slice(&first[..n]);
        out = &mut out[n..];
        index += 1;
    }
    for place in out.chunks_mut(WORD) {
        place.copy_from_slice(&word(seed, index)[..place.len()]);
        index += 1;
    }
}

/// The whole body.
pub fn body(seed: u64, size: u64) -> Vec<u8> {
    let mut whole = vec![0; usize::try_from(size).expect("a body that fits memory")];
    fill(seed, 0, &mut whole);
    whole
}

/// Compares what arrives with what was sent.
pub struct Check {
    seed: u64,
    offset: u64,
    wrong_at: Option<u64>,
    expected: Vec<u8>,
}

impl Check {
    pub fn new(seed: u64) -> Check {
        Check {
            seed,
            offset: 0,
            wrong_at: None,
            expected: Vec::new(),
        }
    }

    pub fn feed(&mut self, bytes: &[u8]) {
        self.expected.resize(bytes.len(), 0);
        fill(self.seed, self.offset, &mut self.expected);
        if self.wrong_at.is_none() && self.expected != bytes {
            let at = self
                .expected
                .iter()
                .zip(bytes)
                .position(|(a, b)| a != b)
                .unwrap_or(0);
            self.wrong_at = Some(self.offset + at as u64);
        }
        self.offset += bytes.len() as u64;
    }

    /// `N bytes right`, or what is wrong.
    pub fn verdict(&self) -> String {
        match self.wrong_at {
            None => format!("{} bytes right", self.offset),
            Some(at) => format!("byte {at} of {} is wrong", self.offset),
        }
    }
}

/// A small generator for sizes and choices: the same seed, the same run.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Random {
        Random(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(1);
        u64::from_le_bytes(word(0x5eed, self.0))
    }

    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end.max(1)
    }
}

#[test]
fn a_body_is_the_same_however_it_is_cut() {
    let whole = body(7, 1000);
    for step in [1, 3, 8, 13, 999] {
        let (mut check, mut offset) = (Check::new(7), 0);
        for part in whole.chunks(step) {
            let mut same = vec![0; part.len()];
            fill(7, offset, &mut same);
            assert_eq!(same, part);
            offset += part.len() as u64;
            check.feed(part);
        }
        assert_eq!(check.verdict(), "1000 bytes right");
    }
}

#[test]
fn a_wrong_byte_is_found() {
    let mut whole = body(7, 1000);
    whole[613] ^= 1;
    let mut check = Check::new(7);
    whole.chunks(100).for_each(|part| check.feed(part));
    assert_eq!(check.verdict(), "byte 613 of 1000 is wrong");
    let mut swapped = Check::new(7);
    swapped.feed(&body(8, 10));
    assert_eq!(swapped.verdict(), "byte 0 of 10 is wrong");
}
