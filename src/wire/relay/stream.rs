//! The states of a stream as an event table. No bytes, no credit, no queue: what may come next, and when the id is free.
//!
//! Each side's direction is open until that side has sent END or RESET. The id is free for its next generation when both
//! have. The diagram stands in the specification (see the folder's front page).

use super::Role;

/// Most interim heads before the final one.
pub const MAX_INTERIM: u8 = 16;

/// One direction of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Half {
    Open,
    Ended,
    Reset,
}

/// Where the response head stands; only on the connector's direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum HeadPhase {
    /// So many interim heads have passed.
    Awaited(u8),
    Passed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct State {
    /// What we have sent.
    pub ours: Half,
    /// What the peer has sent.
    pub theirs: Half,
    head: HeadPhase,
    we_answer: bool,
}

/// What to do with a frame of the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Hand it to the owner.
    Deliver,
    /// It crossed our RESET: drop it.
    Ignore,
    /// RESET while our direction is open: hand it to the owner and answer with RESET.
    DeliverAndAnswer,
    /// The peer broke the protocol on this stream: RESET(protocol).
    BreakStream(&'static str),
    /// The peer's bookkeeping cannot be trusted: the session ends.
    BreakSession(&'static str),
}

/// A frame of the peer, as far as the state is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received {
    Head { interim: bool },
    Data,
    End,
    Reset,
}

impl State {
    pub fn new(role: Role) -> State {
        State {
            ours: Half::Open,
            theirs: Half::Open,
            head: HeadPhase::Awaited(0),
            we_answer: role == Role::Connector,
        }
    }

    /// Both directions have ended: the id is free.
    pub fn is_free(self) -> bool {
        self.ours != Half::Open && self.theirs != Half::Open
    }

    /// The peer sends a frame.
    pub fn receive(&mut self, frame: Received) -> Verdict {
        use Received::{Data, End, Head, Reset};
        match (self.theirs, self.ours, frame) {
            (_, _, Head { .. }) if self.we_answer => Verdict::BreakSession("HEAD from a gateway"),
            (Half::Open | Half::Ended, _, Reset) => self.receive_reset(),
            (Half::Ended | Half::Reset, _, _) => Verdict::BreakSession("frame after END or RESET"),
            (Half::Open, Half::Reset, End) => {
                self.theirs = Half::Ended;
                Verdict::Ignore
            }
            (Half::Open, Half::Reset, _) => Verdict::Ignore,
            (Half::Open, _, Head { interim }) => self.pass_head(interim),
            (Half::Open, _, Data | End) if !self.we_answer && self.head != HeadPhase::Passed => {
                Verdict::BreakSession("body before its head")
            }
            (Half::Open, _, Data) => Verdict::Deliver,
            (Half::Open, _, End) => {
                self.theirs = Half::Ended;
                Verdict::Deliver
            }
        }
    }

    /// May we send a head? Counts it when so. False: after END or RESET, twice, or too many interim ones.
    pub fn send_head(&mut self, interim: bool) -> bool {
        self.we_answer && self.ours == Half::Open && self.pass_head(interim) == Verdict::Deliver
    }

    /// May we send body bytes or END now?
    pub fn may_send_body(self) -> bool {
        self.ours == Half::Open && (!self.we_answer || self.head == HeadPhase::Passed)
    }

    pub fn sent_end(&mut self) {
        debug_assert!(self.ours == Half::Open);
        self.ours = Half::Ended;
    }

    /// Also after END: then it says that the peer's direction is no longer wanted.
    pub fn sent_reset(&mut self) {
        self.ours = Half::Reset;
    }

    fn receive_reset(&mut self) -> Verdict {
        self.theirs = Half::Reset;
        match self.ours {
            Half::Open => Verdict::DeliverAndAnswer,
            Half::Ended => Verdict::Deliver,
            Half::Reset => Verdict::Ignore,
        }
    }

    fn pass_head(&mut self, interim: bool) -> Verdict {
        self.head = match (self.head, interim) {
            (HeadPhase::Passed, _) => return Verdict::BreakSession("HEAD after the final HEAD"),
            (HeadPhase::Awaited(_), false) => HeadPhase::Passed,
            (HeadPhase::Awaited(MAX_INTERIM), true) => {
                return Verdict::BreakStream("too many interim heads");
            }
            (HeadPhase::Awaited(n), true) => HeadPhase::Awaited(n + 1),
        };
        Verdict::Deliver
    }
}
