//! The ledger: which tokens were issued, blocked and unblocked, in order; lines of JSON that are only ever added.
//!
//! A line is on disk before its command says that it is done. A line cut short by a crash is passed over: its command
//! had not ended. The file is locked while a command changes the folder.

use super::super::claims::is_plain;
use super::LEDGER;
use crate::control::certificates::pem;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Some 300 000 tokens.
const MAX_LEDGER_BYTES: u64 = 64 << 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    Client,
    Registration,
}

impl Kind {
    /// The claim `kind`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Registration => "registration",
        }
    }
}

/// A line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case", deny_unknown_fields)]
pub enum Event {
    Issued {
        id: String,
        kind: Kind,
        sub: String,
        issued: i64,
        expires: i64,
    },
    Blocked {
        id: String,
        at: i64,
    },
    Unblocked {
        id: String,
        at: i64,
    },
}

/// What the lines come to for one token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    pub id: String,
    pub kind: Kind,
    pub subject: String,
    /// Unix seconds.
    pub issued: i64,
    pub expires: i64,
    pub blocked: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    Valid,
    /// Whether blocked or not.
    Expired,
    Blocked,
}

impl State {
    pub fn word(self) -> &'static str {
        match self {
            Self::Valid => "valid",
            Self::Expired => "expired",
            Self::Blocked => "blocked",
        }
    }
}

/// A token as `list --json` shows it.
#[derive(Debug, Serialize)]
pub struct Row<'a> {
    id: &'a str,
    kind: Kind,
    client: &'a str,
    issued: i64,
    expires: i64,
    state: State,
}

impl Token {
    pub fn state(&self, now: i64) -> State {
        match (now >= self.expires, self.blocked) {
            (true, _) => State::Expired,
            (false, true) => State::Blocked,
            (false, false) => State::Valid,
        }
    }

    pub fn row(&self, now: i64) -> Row<'_> {
        Row {
            id: &self.id,
            kind: self.kind,
            client: &self.subject,
            issued: self.issued,
            expires: self.expires,
            state: self.state(now),
        }
    }
}

/// The ledger read and, while this value lives, locked.
#[derive(Debug)]
pub struct Ledger {
    path: PathBuf,
    file: File,
    /// Bytes in the file.
    len: u64,
    /// The last line has no end.
    torn: bool,
    unreadable: usize,
    tokens: Vec<Token>,
    places: HashMap<String, usize>,
}

impl Ledger {
    /// Opens the ledger, or makes it, and keeps other commands from changing the folder.
    pub fn open_or_make(dir: &Path) -> Result<Self, String> {
        let mut options = OpenOptions::new();
        let ledger = Self::open(
            dir,
            options.append(true).create(true).mode(0o600),
            File::lock,
        )?;
        // The file's name is to be as lasting as its lines.
        let synced = File::open(dir).and_then(|dir| dir.sync_all());
        synced.map_err(|error| format!("cannot write {}: {error}", dir.display()))?;
        Ok(ledger)
    }

    /// Opens the ledger and keeps other commands from changing the folder.
    pub fn open_to_change(dir: &Path) -> Result<Self, String> {
        Self::open(dir, OpenOptions::new().append(true), File::lock)
    }

    /// Opens the ledger while no command changes it.
    pub fn open_to_read(dir: &Path) -> Result<Self, String> {
        Self::open(dir, OpenOptions::new().read(true), File::lock_shared)
    }

    fn open(
        dir: &Path,
        options: &OpenOptions,
        lock: impl Fn(&File) -> std::io::Result<()>,
    ) -> Result<Self, String> {
        let path = dir.join(LEDGER);
        let file = options.open(&path).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => {
                format!(
                    "{} does not exist (hint: `tidegate token init` makes it)",
                    path.display()
                )
            }
            _ => format!("cannot open {}: {error}", path.display()),
        })?;
        lock(&file).map_err(|error| format!("cannot lock {}: {error}", path.display()))?;
        Self::read(path, file)
    }

    fn read(path: PathBuf, file: File) -> Result<Self, String> {
        let text = pem::read_bounded(&path, MAX_LEDGER_BYTES)?;
        let mut ledger = Self {
            path,
            file,
            len: text.len() as u64,
            torn: text.last().is_some_and(|byte| *byte != b'\n'),
            unreadable: 0,
            tokens: Vec::new(),
            places: HashMap::new(),
        };
        for line in text
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
        {
            match serde_json::from_slice::<Event>(line) {
                Ok(event) => ledger.apply(event),
                Err(_) => ledger.unreadable += 1,
            }
        }
        Ok(ledger)
    }

    /// In order of issue.
    pub fn tokens(&self) -> &[Token] {
        &self.tokens
    }

    pub fn find(&self, id: &str) -> Option<&Token> {
        self.places.get(id).map(|&at| &self.tokens[at])
    }

    /// Lines passed over.
    pub fn unreadable(&self) -> usize {
        self.unreadable
    }

    /// Adds a line; it is on disk when this returns.
    pub fn append(&mut self, event: Event) -> Result<(), String> {
        let mut line = serde_json::to_vec(&event).map_err(|error| error.to_string())?;
        line.push(b'\n');
        if self.torn {
            line.insert(0, b'\n');
        }
        let path = self.path.display();
        if self.len + line.len() as u64 > MAX_LEDGER_BYTES {
            return Err(format!(
                "{path} is full (hint: put it away; tokens that it holds can then be blocked by [site] deny = {{ tokens = […] }})"
            ));
        }
        if let Err(error) = self
            .file
            .write_all(&line)
            .and_then(|()| self.file.sync_all())
        {
            // What is half there is taken back, or passed over by the next reader.
            let _ = self.file.set_len(self.len);
            return Err(format!("cannot write {path}: {error}"));
        }
        self.len += line.len() as u64;
        self.torn = false;
        self.apply(event);
        Ok(())
    }

    fn apply(&mut self, event: Event) {
        let (id, blocked) = match event {
            Event::Issued {
                id,
                kind,
                sub,
                issued,
                expires,
            } => {
                // What no command of this kind wrote must not reach a terminal or a list.
                if !is_id(&id) || !is_plain(&sub) || self.places.contains_key(&id) {
                    self.unreadable += 1;
                    return;
                }
                self.places.insert(id.clone(), self.tokens.len());
                self.tokens.push(Token {
                    id,
                    kind,
                    subject: sub,
                    issued,
                    expires,
                    blocked: false,
                });
                return;
            }
            Event::Blocked { id, .. } => (id, true),
            Event::Unblocked { id, .. } => (id, false),
        };
        match self.places.get(&id) {
            Some(&at) => self.tokens[at].blocked = blocked,
            None => self.unreadable += 1,
        }
    }
}

fn is_id(id: &str) -> bool {
    id.len() == 32
        && id
            .bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}
