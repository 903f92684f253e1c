//! When to come back: the server's word, else full jitter over a span that doubles.

use std::time::Duration;

const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(60);
/// A channel that was open for this long makes the next failure a first one.
pub const STABLE: Duration = Duration::from_secs(60);

/// Failures in a row.
#[derive(Default)]
pub struct Wait {
    failures: u32,
}

impl Wait {
    pub fn reset(&mut self) {
        self.failures = 0;
    }

    /// How long to wait now. `told` is what the server said for this very departure.
    pub fn next(&mut self, told: Option<Duration>, random: f64) -> Duration {
        let span = FIRST.saturating_mul(1 << self.failures.min(6)).min(LONGEST);
        self.failures = self.failures.saturating_add(1);
        told.unwrap_or_else(|| span.mul_f64(random.clamp(0.0, 1.0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_span_doubles_up_to_its_end_and_the_servers_word_counts() {
        let mut wait = Wait::default();
        let spans: Vec<_> = (0..8).map(|_| wait.next(None, 1.0).as_secs()).collect();
        assert_eq!(spans, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(
            wait.next(Some(Duration::from_millis(7)), 1.0).as_millis(),
            7
        );
        wait.reset();
        assert_eq!(wait.next(None, 0.5).as_millis(), 500);
    }
}
