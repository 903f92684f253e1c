//! Which request comes next: drawn by the weights of the members, from a seed.
//!
//! A shard draws its picks in the order in which it sends, so the same seed sends the same sequence whatever the answers'
//! times are. Gaps between arrivals have a stream of their own.

use std::time::Duration;

use super::scenario::words::Think;

/// What is drawn from a seed apart from the others.
#[derive(Clone, Copy)]
pub enum Stream {
    Picks,
    Arrivals,
}

/// The random numbers of one stream of one shard.
pub fn rng(seed: u64, shard: usize, stream: Stream) -> fastrand::Rng {
    // An odd factor for each, so that neighbouring seeds and shards do not share a stream.
    let apart = (shard as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15)
        ^ (stream as u64 + 1).wrapping_mul(0xc2b2_ae3d_27d4_eb4f);
    let mut mixed = fastrand::Rng::with_seed(seed ^ apart);
    fastrand::Rng::with_seed(mixed.u64(..))
}

/// One request that was drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pick {
    pub member: usize,
    /// Of the member's paths.
    pub path: usize,
    /// Of that path's numbers.
    pub number: u64,
    /// After the answer.
    pub think: Duration,
}

/// Of one member what picks are drawn from.
#[derive(Clone, Debug)]
pub struct Choice {
    pub weight: u32,
    /// How many different ones each of its paths stands for.
    pub paths: Vec<u64>,
    pub think: Option<Think>,
}

/// The sequence of one shard.
pub struct Mix {
    rng: fastrand::Rng,
    choices: Vec<Choice>,
    whole: u64,
}

impl Mix {
    /// `choices` are not empty, have weights above 0, and a path each at least.
    pub fn new(choices: Vec<Choice>, seed: u64, shard: usize) -> Mix {
        let whole = choices.iter().map(|choice| u64::from(choice.weight)).sum();
        assert!(whole > 0, "a mix has members of some weight");
        Mix {
            rng: rng(seed, shard, Stream::Picks),
            choices,
            whole,
        }
    }

    pub fn draw(&mut self) -> Pick {
        let mut at = if self.choices.len() == 1 {
            0
        } else {
            self.rng.u64(..self.whole)
        };
        let mut member = 0;
        while at >= u64::from(self.choices[member].weight) {
            at -= u64::from(self.choices[member].weight);
            member += 1;
        }
        let choice = &self.choices[member];
        let path = match choice.paths.len() {
            1 => 0,
            paths => self.rng.usize(..paths),
        };
        let number = match choice.paths[path] {
            1 => 0,
            count => self.rng.u64(..count),
        };
        let think = choice.think.map_or(Duration::ZERO, |think| {
            let spread = (think.to - think.from).as_micros() as u64;
            think.from + Duration::from_micros(self.rng.u64(..=spread))
        });
        Pick {
            member,
            path,
            number,
            think,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choices() -> Vec<Choice> {
        let think = Think::new("10ms..20ms").ok();
        vec![
            Choice {
                weight: 7,
                paths: vec![1, 1000],
                think,
            },
            Choice {
                weight: 0,
                paths: vec![1],
                think: None,
            },
            Choice {
                weight: 3,
                paths: vec![1],
                think: None,
            },
        ]
    }

    fn picks(seed: u64, shard: usize) -> Vec<Pick> {
        let mut mix = Mix::new(choices(), seed, shard);
        (0..100_000).map(|_| mix.draw()).collect()
    }

    #[test]
    fn shares_match_weights() {
        let all = picks(1, 0);
        let of = |member| all.iter().filter(|pick| pick.member == member).count();
        assert!((69_000..71_000).contains(&of(0)), "{}", of(0));
        assert_eq!(of(1), 0);
        let numbered = all.iter().filter(|pick| pick.path == 1);
        assert!(numbered.clone().all(|pick| pick.number < 1000));
        assert!((34_000..36_000).contains(&numbered.count()));
        let thinks = all
            .iter()
            .filter(|pick| pick.member == 0)
            .map(|pick| pick.think);
        let range = Duration::from_millis(10)..=Duration::from_millis(20);
        assert!(thinks.clone().all(|think| range.contains(&think)));
        assert!(thinks.max() > thinks.min());
    }

    #[test]
    fn a_seed_is_a_sequence() {
        assert_eq!(picks(5, 0), picks(5, 0));
        assert_ne!(picks(5, 0), picks(6, 0));
        assert_ne!(picks(5, 0), picks(5, 1));
    }
}
