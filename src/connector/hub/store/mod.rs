//! Queued pushes on disk: what the hub says to the store and hears of it. The thread stands in `worker`, the tables in
//! `disk`, what a row holds in `record`.
//!
//! ```text
//! hub ── Command ─▶ queue ─▶ [ all that is there ▸ one transaction ▸ fsync ] ── News ─▶ hub
//! ```
//! The hub answers 202 when [`News::Committed`] names the push. A store that cannot be opened or written is closed and
//! tried again; meanwhile queued pushes are refused with the reason, and everything else goes on. What was to be noted of
//! older pushes meanwhile is kept, and noted later. A file that belongs to another process, or holds something else, is
//! never written to.

pub mod disk;
mod record;
pub mod worker;

pub use record::{Record, StoredKey};
pub use worker::Store;

use crate::wire::relay::PushId;

/// From the hub.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// A queued push, an idempotency key, or both; told by [`News::Committed`] or [`News::Failed`].
    Put {
        id: PushId,
        record: Option<Record>,
        key: Option<StoredKey>,
    },
    /// The client has it.
    Acknowledge(PushId, Box<str>),
    Cancel(PushId),
    /// Its results are old.
    Forget(PushId),
    ForgetKey(Box<str>),
}

/// To the hub.
#[derive(Debug, PartialEq, Eq)]
pub enum News {
    /// What was stored before, a part at a time.
    Loaded {
        pushes: Vec<Loaded>,
        keys: Vec<StoredKey>,
    },
    /// All of it was loaded: pushes can be queued.
    Opened,
    Committed {
        puts: Vec<PushId>,
        commands: usize,
    },
    /// Not written, and nothing more is until [`News::Opened`].
    Failed {
        puts: Vec<PushId>,
        why: String,
        full: bool,
    },
}

/// A push as the store has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    pub id: PushId,
    pub record: Record,
    pub acknowledged: Vec<Box<str>>,
    pub cancelled: bool,
}

/// Whether the store can be used.
#[derive(Debug, Clone)]
pub struct Condition(Result<(), (String, bool)>);

impl Condition {
    pub fn opening() -> Condition {
        Condition(Err(("the store is being opened".into(), false)))
    }

    pub fn open() -> Condition {
        Condition(Ok(()))
    }

    pub fn failed(why: String, full: bool) -> Condition {
        Condition(Err((why, full)))
    }

    pub fn is_open(&self) -> bool {
        self.0.is_ok()
    }

    /// Why not, and whether the disk is full.
    pub fn broken(&self) -> Option<(String, bool)> {
        self.0.clone().err()
    }
}

#[cfg(test)]
mod tests;
