//! Pushes seen before: a connector sends again what it has no receipt for.

use std::collections::{HashSet, VecDeque};
use std::time::{Duration, Instant};

/// How long an id is remembered: the longest that a push waits for its receipt, unless its sender says otherwise.
const SPAN: Duration = Duration::from_secs(3_600);
/// Ids remembered at a time; beyond that the oldest is forgotten early.
const IDS_MAX: usize = 65_536;

#[derive(Default)]
pub struct Window {
    known: HashSet<String>,
    order: VecDeque<(Instant, String)>,
}

impl Window {
    /// True for an id that was not seen within the span.
    pub fn is_new(&mut self, id: &str, now: Instant) -> bool {
        while let Some((seen, _)) = self.order.front() {
            if self.order.len() < IDS_MAX && now.saturating_duration_since(*seen) < SPAN {
                break;
            }
            if let Some((_, old)) = self.order.pop_front() {
                self.known.remove(&old);
            }
        }
        let is_new = self.known.insert(id.to_owned());
        if is_new {
            self.order.push_back((now, id.to_owned()));
        }
        is_new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_known_for_an_hour_and_within_bounds() {
        let (mut window, begin) = (Window::default(), Instant::now());
        assert!(window.is_new("a", begin));
        assert!(!window.is_new("a", begin + SPAN - Duration::from_secs(1)));
        assert!(window.is_new("a", begin + SPAN));
        for n in 0..2 * IDS_MAX {
            assert!(window.is_new(&n.to_string(), begin + SPAN));
        }
        assert!(window.known.len() <= IDS_MAX && window.order.len() <= IDS_MAX);
    }
}
