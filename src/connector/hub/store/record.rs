//! A queued push as it lies in the store: JSON, so that a person can read what is there.

use crate::connector::hub::push::{Audience, Push};
use crate::wire::relay::PushId;
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Unix milliseconds.
    pub created_ms: u64,
    pub expires_ms: u64,
    /// `None`: to all.
    pub clients: Option<Vec<String>>,
    /// JSON text itself.
    pub payload: String,
}

impl Record {
    pub fn of(push: &Push) -> Record {
        Record {
            created_ms: push.created_ms,
            expires_ms: push.expires_ms,
            clients: match &push.audience {
                Audience::Clients(recipients) => {
                    Some(recipients.iter().map(|(id, _)| id.to_owned()).collect())
                }
                Audience::All { .. } => None,
            },
            payload: String::from_utf8_lossy(&push.payload).into_owned(),
        }
    }
}

/// An idempotency key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredKey {
    pub key: Box<str>,
    /// Of what came with it.
    pub hash: [u8; 32],
    pub push: PushId,
    /// Unix milliseconds.
    pub until_ms: u64,
}

const KEY_BYTES: usize = 16 + 32 + 8;

impl StoredKey {
    pub fn encode(&self) -> Vec<u8> {
        [&self.push.0[..], &self.hash, &self.until_ms.to_be_bytes()].concat()
    }

    pub fn decode(key: &str, bytes: &[u8]) -> Option<StoredKey> {
        let bytes: &[u8; KEY_BYTES] = bytes.try_into().ok()?;
        let (push, rest) = bytes.split_first_chunk::<16>()?;
        let (hash, rest) = rest.split_first_chunk::<32>()?;
        Some(StoredKey {
            key: key.into(),
            hash: *hash,
            push: PushId(*push),
            until_ms: u64::from_be_bytes(rest.try_into().ok()?),
        })
    }
}
