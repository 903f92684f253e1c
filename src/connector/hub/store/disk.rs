//! The file: three tables, and what its errors mean.
//!
//! ```text
//! pushes    push id (16)                → JSON: see `Record`
//! settled   push id (16) ‖ client id    → nothing: the client has it; without client id: it was cancelled
//! keys      idempotency key             → push id, hash, until when
//! ```

use crate::wire::relay::PushId;
use redb::{
    Database, DatabaseError, Durability, ReadableDatabase, ReadableTable, StorageError,
    TableDefinition,
};
use std::path::Path;

use super::{Command, Loaded, News, Record, StoredKey};

const PUSHES: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("pushes");
const SETTLED: TableDefinition<'_, &[u8], ()> = TableDefinition::new("settled");
const KEYS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("keys");
/// Pages that redb keeps in memory: rows are written once and rarely read.
const CACHE_BYTES: usize = 16 << 20;

/// Why the file cannot be used, in a line for an operator; and whether room would help.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Trouble {
    pub why: String,
    pub full: bool,
}

impl Trouble {
    fn new(why: String) -> Trouble {
        Trouble { why, full: false }
    }

    pub(super) fn damaged() -> Trouble {
        Trouble::new("the store's file is damaged; move it away to begin with an empty one".into())
    }
}

/// An open file.
pub struct Disk {
    database: Database,
}

impl Disk {
    /// Opens the file, or makes it.
    pub fn open(file: &Path) -> Result<Disk, Trouble> {
        let shown = file.display();
        let mut builder = Database::builder();
        builder.set_cache_size(CACHE_BYTES);
        let database = builder.create(file).map_err(|error| {
            Trouble::new(match error {
                DatabaseError::DatabaseAlreadyOpen | DatabaseError::LockProtocolMismatch => format!(
                    "{shown} is in use by another process: each connector needs a store of its own"
                ),
                DatabaseError::UpgradeRequired(version) => format!(
                    "{shown} has format {version} of an earlier version: move it away, or upgrade it"
                ),
                DatabaseError::Storage(StorageError::Io(error)) => {
                    format!("{shown} cannot be opened: {error}")
                }
                error => format!(
                    "{shown} is no store, or damaged: {error}; move it away to begin with an empty one"
                ),
            })
        })?;
        Disk::with(database)
    }

    /// A database that was opened otherwise.
    pub fn with(database: Database) -> Result<Disk, Trouble> {
        let mut disk = Disk { database };
        // All tables are there from now on, so that reading finds them.
        disk.commit(&[])?;
        Ok(disk)
    }

    /// One transaction, on disk when this returns.
    pub fn commit(&mut self, commands: &[Command]) -> Result<(), Trouble> {
        self.write(commands).map_err(said)
    }

    fn write(&self, commands: &[Command]) -> Result<(), redb::Error> {
        let mut transaction = self.database.begin_write()?;
        transaction.set_durability(Durability::Immediate)?;
        {
            let mut pushes = transaction.open_table(PUSHES)?;
            let mut settled = transaction.open_table(SETTLED)?;
            let mut keys = transaction.open_table(KEYS)?;
            for command in commands {
                match command {
                    Command::Put { id, record, key } => {
                        if let Some(record) = record {
                            // Texts and numbers: serialising them cannot fail.
                            let row = serde_json::to_vec(record).unwrap_or_default();
                            pushes.insert(&id.0[..], &row[..])?;
                        }
                        if let Some(key) = key {
                            keys.insert(&*key.key, &key.encode()[..])?;
                        }
                    }
                    // Of one that was forgotten there is nothing to note.
                    Command::Acknowledge(push, client) => {
                        if pushes.get(&push.0[..])?.is_some() {
                            settled.insert(&row_of(*push, client)[..], ())?;
                        }
                    }
                    Command::Cancel(push) => {
                        if pushes.get(&push.0[..])?.is_some() {
                            settled.insert(&push.0[..], ())?;
                        }
                    }
                    Command::Forget(push) => {
                        pushes.remove(&push.0[..])?;
                        let rows = settled_of(&settled, *push)?;
                        for row in rows {
                            settled.remove(&row[..])?;
                        }
                    }
                    Command::ForgetKey(key) => {
                        keys.remove(&**key)?;
                    }
                }
            }
        }
        transaction.commit()?;
        Ok(())
    }

    /// Gives all pushes and keys that have not expired, `at_once` at a time; the others are forgotten.
    pub fn load(
        &self,
        now_ms: u64,
        at_once: usize,
        tell: &mut dyn FnMut(News),
    ) -> Result<(), Trouble> {
        let old = self.read(now_ms, at_once, tell).map_err(said)?;
        for part in old.chunks(1000) {
            self.write(part).map_err(said)?;
        }
        Ok(())
    }

    /// Gives what is not worth keeping.
    fn read(
        &self,
        now_ms: u64,
        at_once: usize,
        tell: &mut dyn FnMut(News),
    ) -> Result<Vec<Command>, redb::Error> {
        let transaction = self.database.begin_read()?;
        let pushes = transaction.open_table(PUSHES)?;
        let settled = transaction.open_table(SETTLED)?;
        let keys = transaction.open_table(KEYS)?;
        let mut old = Vec::new();
        let mut part = Vec::new();
        for entry in pushes.iter()? {
            let (id, row) = entry?;
            let Ok(id) = <[u8; 16]>::try_from(id.value()).map(PushId) else {
                continue;
            };
            let record: Record = match serde_json::from_slice(row.value()) {
                Ok(record) => record,
                // Of a later version, or damaged: it stays where it is, and is not sent.
                Err(error) => {
                    tracing::error!(push = %id, %error, "a stored push cannot be read");
                    continue;
                }
            };
            if record.expires_ms <= now_ms {
                old.push(Command::Forget(id));
                continue;
            }
            let rows = settled_of(&settled, id)?;
            let clients = rows.iter().filter_map(|row| row.get(id.0.len()..));
            part.push(Loaded {
                id,
                record,
                cancelled: rows.iter().any(|row| row.len() == id.0.len()),
                acknowledged: clients
                    .filter(|client| !client.is_empty())
                    .map(|client| String::from_utf8_lossy(client).into())
                    .collect(),
            });
            if part.len() >= at_once {
                tell(News::Loaded {
                    pushes: std::mem::take(&mut part),
                    keys: Vec::new(),
                });
            }
        }
        let mut known = Vec::new();
        for entry in keys.iter()? {
            let (key, row) = entry?;
            match StoredKey::decode(key.value(), row.value()) {
                Some(stored) if stored.until_ms > now_ms => known.push(stored),
                _ => old.push(Command::ForgetKey(key.value().into())),
            }
        }
        if !part.is_empty() || !known.is_empty() {
            tell(News::Loaded {
                pushes: part,
                keys: known,
            });
        }
        Ok(old)
    }
}

fn row_of(push: PushId, client: &str) -> Vec<u8> {
    [&push.0[..], client.as_bytes()].concat()
}

/// The rows of a push in `settled`.
fn settled_of(
    settled: &impl ReadableTable<&'static [u8], ()>,
    push: PushId,
) -> Result<Vec<Vec<u8>>, redb::Error> {
    let mut rows = Vec::new();
    for entry in settled.range(&push.0[..]..)? {
        let (row, _) = entry?;
        if !row.value().starts_with(&push.0) {
            break;
        }
        rows.push(row.value().to_vec());
    }
    Ok(rows)
}

fn said(error: redb::Error) -> Trouble {
    match error {
        redb::Error::Io(error) if error.kind() == std::io::ErrorKind::StorageFull => Trouble {
            why: format!("the disk of the store is full: {error}"),
            full: true,
        },
        error => Trouble::new(format!("the store cannot be written: {error}")),
    }
}
