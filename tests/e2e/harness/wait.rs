//! Waiting: always for a condition, always with a deadline.

use std::time::{Duration, Instant};

/// How often a condition is looked at.
const STEP: Duration = Duration::from_millis(5);

/// Looks until there is something, or fails the test with `what` was awaited.
#[track_caller]
pub fn until<T>(what: &str, within: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + within;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "not within {within:?}: {what}");
        std::thread::park_timeout(STEP);
    }
}

/// Lets a measured stretch of time pass: for "nothing happens meanwhile", never to wait for something.
pub fn observe_for(stretch: Duration) {
    let end = Instant::now() + stretch;
    while let Some(left) = end
        .checked_duration_since(Instant::now())
        .filter(|left| !left.is_zero())
    {
        std::thread::park_timeout(left);
    }
}
