//! Credit: how many body bytes a side may still send, on a stream and on the session.
//!
//! A stream's window bounds what a reader that does not read can hold: its bytes count from arrival until the owner has
//! consumed them. The session's window bounds what is on the way and not yet dispatched: its bytes count until they are
//! charged to their stream, so stalled streams cannot use it up.

/// Every stream starts with this much credit in each direction.
pub const STREAM_CREDIT: u32 = 65_536;
/// Every session starts with this much credit in each direction.
pub const SESSION_CREDIT: u32 = 1 << 20;
/// No credit ever exceeds this.
pub const MAX_CREDIT: u32 = i32::MAX as u32;

/// A window's growth needs half of it consumed within two round trips; this much when they are shorter.
const GROWTH_FLOOR_MS: u32 = 10;

/// What we may still send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SendCredit(u32);

impl SendCredit {
    pub fn new(credit: u32) -> SendCredit {
        SendCredit(credit)
    }

    pub fn left(self) -> usize {
        self.0 as usize
    }

    /// Takes `n` of it; the caller has looked at `left`.
    pub fn spend(&mut self, n: usize) {
        debug_assert!(n <= self.left());
        self.0 = self.0.saturating_sub(n as u32);
    }

    /// CREDIT came. False when it is 0 or more than a peer may grant.
    pub fn grant(&mut self, n: u32) -> bool {
        match self.0.checked_add(n) {
            Some(sum) if n > 0 && sum <= MAX_CREDIT => {
                self.0 = sum;
                true
            }
            _ => false,
        }
    }
}

/// What the peer may still send on a stream, and what it gets back when.
/// At all times: credit + pending + bytes received and not consumed = window.
#[derive(Clone, Copy, Debug)]
pub struct StreamWindow {
    credit: u32,
    pending: u32,
    window: u32,
    /// When the last grant went out, in session milliseconds.
    granted_ms: u32,
}

impl StreamWindow {
    /// `window` above [`STREAM_CREDIT`] is owed from the start (`grant_start`); below it counts as `STREAM_CREDIT`.
    pub fn new(window: u32, now_ms: u32) -> StreamWindow {
        let window = window.clamp(STREAM_CREDIT, MAX_CREDIT);
        StreamWindow {
            credit: STREAM_CREDIT,
            pending: window - STREAM_CREDIT,
            window,
            granted_ms: now_ms,
        }
    }

    /// A DATA frame of `n` bytes is charged. False: the peer had not so much credit.
    pub fn charge(&mut self, n: usize) -> bool {
        match u32::try_from(n)
            .ok()
            .and_then(|n| self.credit.checked_sub(n))
        {
            Some(left) => {
                self.credit = left;
                true
            }
            None => false,
        }
    }

    /// The owner is done with `n` bytes (at most what it holds). True when a grant is due.
    pub fn consumed(&mut self, n: usize) -> bool {
        let held = self.held();
        debug_assert!(n <= held as usize, "consumed more than was received");
        let n = u32::try_from(n).unwrap_or(u32::MAX).min(held);
        self.pending += n;
        n > 0 && self.is_due()
    }

    /// Half of the window can be given back.
    pub fn is_due(self) -> bool {
        self.pending > 0 && self.pending >= self.window / 2
    }

    /// Bytes received and not yet consumed.
    pub fn held(self) -> u32 {
        self.window - self.credit - self.pending
    }

    /// Takes what a configured window holds above the common start, when the stream begins.
    pub fn grant_start(&mut self) -> u32 {
        let grant = std::mem::take(&mut self.pending);
        self.credit += grant;
        grant
    }

    /// Takes what can be granted now; grows the window when the owner consumed half of it within two round trips.
    pub fn grant(&mut self, now_ms: u32, round_trip_ms: u32, most: u32) -> u32 {
        let pace = round_trip_ms.saturating_mul(2).max(GROWTH_FLOOR_MS);
        let mut grant = std::mem::take(&mut self.pending);
        if self.window < most && now_ms.saturating_sub(self.granted_ms) <= pace {
            let grown = self.window.saturating_mul(2).min(most).min(MAX_CREDIT);
            grant += grown - self.window;
            self.window = grown;
        }
        self.granted_ms = now_ms;
        self.credit += grant;
        grant
    }
}

/// What the peer may still send on the session.
#[derive(Clone, Copy, Debug)]
pub struct SessionWindow {
    credit: u32,
    owed: u32,
    window: u32,
}

impl SessionWindow {
    /// `window` above [`SESSION_CREDIT`] is owed from the start; below it counts as `SESSION_CREDIT`.
    pub fn new(window: u32) -> SessionWindow {
        let window = window.clamp(SESSION_CREDIT, MAX_CREDIT);
        SessionWindow {
            credit: SESSION_CREDIT,
            owed: window - SESSION_CREDIT,
            window,
        }
    }

    /// A DATA frame came and is dispatched in the same breath: its bytes are owed back. False: an overrun.
    pub fn pass(&mut self, n: usize) -> bool {
        match u32::try_from(n)
            .ok()
            .and_then(|n| Some((self.credit.checked_sub(n)?, n)))
        {
            Some((left, n)) => {
                self.credit = left;
                self.owed += n;
                true
            }
            None => false,
        }
    }

    pub fn is_due(self) -> bool {
        self.owed >= self.window / 2
    }

    /// Takes all that is owed; 0: nothing.
    pub fn grant(&mut self) -> u32 {
        let grant = std::mem::take(&mut self.owed);
        self.credit += grant;
        grant
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn consuming_nothing_grants_nothing() {
        let mut window = StreamWindow::new(4 * STREAM_CREDIT, 0);
        assert!(
            !window.consumed(0),
            "what the window holds from the start goes with OPEN"
        );
        assert_eq!(window.grant_start(), 3 * STREAM_CREDIT);
        assert!(!window.consumed(0));
    }

    #[test]
    fn window_is_always_the_sum_of_its_parts() {
        let mut random = fastrand::Rng::with_seed(1);
        let (mut window, mut now) = (StreamWindow::new(0, 0), 0);
        for _ in 0..10_000 {
            now += random.u32(0..30);
            window.charge(random.usize(0..100_000));
            window.consumed(random.usize(0..=window.held() as usize));
            if window.is_due() {
                let (held, before) = (window.held(), window.window);
                let grant = window.grant(now, 1, 1 << 20);
                assert!(grant >= before / 2 && window.held() == held);
            }
            assert!((STREAM_CREDIT..=1 << 20).contains(&window.window));
            assert_eq!(
                window.credit + window.pending + window.held(),
                window.window
            );
        }
        assert_eq!(window.window, 1 << 20, "it grew");
    }
}
