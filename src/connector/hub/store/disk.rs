//! The file: two tables, and what its errors mean.
//!
//! ```text
//! pushes    push id (16)                   → JSON: created, expires, all, key, payload
//! targets   push id (16) ‖ client id       → one byte: bit 0 attempted, bit 1 acknowledged
//! ```

use crate::wire::relay::PushId;
use redb::{
    Database, DatabaseError, Durability, ReadableDatabase, ReadableTable, StorageError,
    TableDefinition,
};
use serde::{Deserialize, Serialize};
use std::path::Path;

use super::{Command, StoredPush, StoredTarget};

const PUSHES: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("pushes");
const TARGETS: TableDefinition<'_, &[u8], u8> = TableDefinition::new("targets");
const ATTEMPTED: u8 = 1;
const ACKNOWLEDGED: u8 = 2;
/// Pages that redb keeps in memory: rows are written once and rarely read.
const CACHE_BYTES: usize = 16 << 20;

/// A push without its targets.
#[derive(Serialize, Deserialize)]
struct Row {
    created_ms: u64,
    expires_ms: u64,
    all: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<(Box<str>, [u8; 32])>,
    payload: Box<str>,
}

/// An open file.
pub struct Disk {
    database: Database,
}

impl Disk {
    /// Opens the file, or makes it. The error is one line for an operator.
    pub fn open(file: &Path) -> Result<Disk, String> {
        let shown = file.display();
        let mut builder = Database::builder();
        builder.set_cache_size(CACHE_BYTES);
        let database = builder.create(file).map_err(|error| match error {
            DatabaseError::DatabaseAlreadyOpen | DatabaseError::LockProtocolMismatch => {
                format!(
                    "{shown} is in use by another process: each connector needs a store of its own"
                )
            }
            DatabaseError::UpgradeRequired(version) => format!(
                "{shown} has format {version} of an earlier version: move it away, or upgrade it"
            ),
            DatabaseError::Storage(StorageError::Io(error)) => {
                format!("{shown} cannot be opened: {error}")
            }
            error => format!(
                "{shown} is no store, or damaged: {error}; move it away to begin with an empty one"
            ),
        })?;
        Disk::with(database)
    }

    /// A database that was opened otherwise.
    pub fn with(database: Database) -> Result<Disk, String> {
        let disk = Disk { database };
        // Both tables are there from now on, so that reading finds them.
        disk.write(&[]).map_err(said)?;
        Ok(disk)
    }

    /// One transaction, on disk when this returns.
    pub fn commit(&mut self, commands: &[Command]) -> Result<(), String> {
        self.write(commands).map_err(said)
    }

    fn write(&self, commands: &[Command]) -> Result<(), redb::Error> {
        let mut transaction = self.database.begin_write()?;
        transaction.set_durability(Durability::Immediate)?;
        {
            let mut pushes = transaction.open_table(PUSHES)?;
            let mut targets = transaction.open_table(TARGETS)?;
            for command in commands {
                match command {
                    Command::Put(push) => {
                        let row = Row {
                            created_ms: push.created_ms,
                            expires_ms: push.expires_ms,
                            all: push.all,
                            key: push.key.clone(),
                            payload: push.payload.clone(),
                        };
                        // Texts and numbers: serialising them cannot fail.
                        let row = serde_json::to_vec(&row).unwrap_or_default();
                        pushes.insert(&push.push.0[..], &row[..])?;
                        for target in &push.targets {
                            let mut flags = if target.attempted { ATTEMPTED } else { 0 };
                            flags |= if target.acknowledged { ACKNOWLEDGED } else { 0 };
                            targets.insert(&key(push.push, &target.client)[..], flags)?;
                        }
                    }
                    Command::Attempted { push, clients } => {
                        for client in clients {
                            raise(&pushes, &mut targets, *push, client, ATTEMPTED)?;
                        }
                    }
                    Command::Acknowledged { push, client } => {
                        raise(&pushes, &mut targets, *push, client, ACKNOWLEDGED)?;
                    }
                    Command::Forget(push) => {
                        pushes.remove(&push.0[..])?;
                        forget_targets(&mut targets, *push)?;
                    }
                }
            }
        }
        transaction.commit()?;
        Ok(())
    }

    /// Gives all pushes that have not expired, `at_once` at a time; the others are forgotten.
    pub fn load(
        &self,
        now_ms: u64,
        at_once: usize,
        give: &mut dyn FnMut(Vec<StoredPush>),
    ) -> Result<(), String> {
        let mut expired = Vec::new();
        self.read(now_ms, at_once, give, &mut expired)
            .map_err(said)?;
        for part in expired.chunks(1000) {
            self.write(part).map_err(said)?;
        }
        Ok(())
    }

    fn read(
        &self,
        now_ms: u64,
        at_once: usize,
        give: &mut dyn FnMut(Vec<StoredPush>),
        expired: &mut Vec<Command>,
    ) -> Result<(), redb::Error> {
        let transaction = self.database.begin_read()?;
        let pushes = transaction.open_table(PUSHES)?;
        let targets = transaction.open_table(TARGETS)?;
        let mut part = Vec::new();
        for entry in pushes.iter()? {
            let (id, row) = entry?;
            let Ok(id) = <[u8; 16]>::try_from(id.value()) else {
                continue;
            };
            let push = PushId(id);
            let row: Row = match serde_json::from_slice(row.value()) {
                Ok(row) => row,
                // Of a later version, or damaged: it stays where it is, and is not sent.
                Err(error) => {
                    tracing::error!(%push, %error, "a stored push cannot be read");
                    continue;
                }
            };
            if row.expires_ms <= now_ms {
                expired.push(Command::Forget(push));
                continue;
            }
            let mut of_push = Vec::new();
            for entry in targets.range(&id[..]..)? {
                let (at, flags) = entry?;
                let Some(client) = at.value().strip_prefix(&id[..]) else {
                    break;
                };
                of_push.push(StoredTarget {
                    client: String::from_utf8_lossy(client).into(),
                    attempted: flags.value() & ATTEMPTED != 0,
                    acknowledged: flags.value() & ACKNOWLEDGED != 0,
                });
            }
            part.push(StoredPush {
                push,
                payload: row.payload,
                created_ms: row.created_ms,
                expires_ms: row.expires_ms,
                all: row.all,
                targets: of_push,
                key: row.key,
            });
            if part.len() >= at_once {
                give(std::mem::take(&mut part));
            }
        }
        if !part.is_empty() {
            give(part);
        }
        Ok(())
    }
}

type Targets<'t> = redb::Table<'t, &'static [u8], u8>;

fn key(push: PushId, client: &str) -> Vec<u8> {
    [&push.0[..], client.as_bytes()].concat()
}

/// Sets a flag of one target; of a push that was forgotten there is none.
fn raise(
    pushes: &redb::Table<'_, &'static [u8], &'static [u8]>,
    targets: &mut Targets<'_>,
    push: PushId,
    client: &str,
    flag: u8,
) -> Result<(), redb::Error> {
    if pushes.get(&push.0[..])?.is_none() {
        return Ok(());
    }
    let key = key(push, client);
    let flags = targets.get(&key[..])?.map_or(0, |flags| flags.value());
    targets.insert(&key[..], flags | flag)?;
    Ok(())
}

fn forget_targets(targets: &mut Targets<'_>, push: PushId) -> Result<(), redb::Error> {
    let mut keys = Vec::new();
    for entry in targets.range(&push.0[..]..)? {
        let (key, _) = entry?;
        if !key.value().starts_with(&push.0) {
            break;
        }
        keys.push(key.value().to_vec());
    }
    for key in keys {
        targets.remove(&key[..])?;
    }
    Ok(())
}

/// One line for an operator.
fn said(error: redb::Error) -> String {
    match error {
        redb::Error::Io(error) if error.kind() == std::io::ErrorKind::StorageFull => {
            format!("the disk is full: {error}")
        }
        error => format!("the store cannot be written: {error}"),
    }
}
