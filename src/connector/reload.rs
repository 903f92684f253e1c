//! The file read again: a newer plan for the shards, whose settings the gateways judge anew.
//!
//! Routes, endpoints and gateways keep their numbers over reloads, since exchanges, pools and links refer to them by
//! number: what is gone stays in its place unused, what is new follows. So a request that is under way ends on the
//! route and upstream that it began with.

use crate::control::certificates::expiry::unix_now;
use crate::control::certificates::pem;
use crate::control::config::{self, ConnectorConfig};
use crate::control::settings::{MAX_CRL_BYTES, PublishedCrl};
use crate::control::snapshot::{MAX_LIST_BYTES, RevocationList};
use crate::observe::process::{Reloaded, lines};
use crate::shard::mesh::Sender;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use rustls::pki_types::CertificateDer;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::{Duration, Instant};

use super::plan::{self, Plan};
use super::shard::Message;

/// How long a reload waits for the gateways' verdicts.
const VERDICTS: Duration = Duration::from_secs(5);
/// Verdicts that may wait: one a gateway instance.
const VERDICTS_MAX: usize = 1024;
/// How often the files of revocation lists are looked at: their dates only, unless these have changed.
pub const LISTS_EVERY: Duration = Duration::from_secs(2);
/// A file that was written so shortly before it was read may have been written again without another date.
const SETTLED: Duration = Duration::from_secs(5);

/// A gateway's verdict on the settings that a reload published.
pub struct Verdict {
    pub gateway: String,
    pub instance: u16,
    /// Why not.
    pub accepted: Result<(), String>,
}

/// What reloads, one at a time.
pub struct Reloader {
    file: PathBuf,
    shards: Vec<Sender<Message>>,
    state: Mutex<State>,
}

struct State {
    config: ConnectorConfig,
    plan: Arc<Plan>,
    /// Of the files of revocation lists, as they were when they were read last.
    stamps: Vec<Option<Stamp>>,
}

/// What changes with a file's contents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    bytes: u64,
    /// When data and inode were changed last, seconds and nanoseconds.
    changed: [(i64, i64); 2],
}

impl Stamp {
    fn of(file: &Path) -> Option<Stamp> {
        let facts = std::fs::metadata(file).ok()?;
        Some(Stamp {
            inode: facts.ino(),
            bytes: facts.size(),
            changed: [
                (facts.mtime(), facts.mtime_nsec()),
                (facts.ctime(), facts.ctime_nsec()),
            ],
        })
    }

    /// A change after `now` would show in the dates, coarse as a file system may keep them.
    fn is_settled(&self, unix_now: i64) -> bool {
        let settled = unix_now.saturating_sub_unsigned(SETTLED.as_secs());
        self.changed.iter().all(|(seconds, _)| *seconds < settled)
    }
}

impl Reloader {
    pub fn new(
        file: PathBuf,
        config: ConnectorConfig,
        plan: Arc<Plan>,
        shards: Vec<Sender<Message>>,
    ) -> Self {
        Self {
            file,
            shards,
            state: Mutex::new(State {
                config,
                plan,
                stamps: Vec::new(),
            }),
        }
    }

    /// In force.
    pub fn with_config<T>(&self, read: impl FnOnce(&ConnectorConfig) -> T) -> T {
        read(&self.lock().config)
    }

    /// Reads the file again. A wrong one, or what takes a restart, changes nothing.
    pub fn reload(&self) -> Reloaded {
        let mut state = self.lock();
        let (config, warnings) = match config::load_connector(&self.file) {
            Ok(loaded) => loaded,
            Err(complaints) => return Reloaded::Refused(lines(&complaints)),
        };
        let fixed = fixed_keys(&state.config, &config);
        if !fixed.is_empty() {
            let say =
                |key: &&str| format!("{key} changed, which takes a restart (nothing was reloaded)");
            return Reloaded::Refused(fixed.iter().map(say).collect());
        }
        let verdicts = match self.put_in_force(&mut state, config) {
            Ok(verdicts) => verdicts,
            Err(why) => return Reloaded::Refused(vec![why]),
        };
        drop(state);
        let mut notes = lines(&warnings);
        notes.extend(await_verdicts(&verdicts));
        Reloaded::Done(notes)
    }

    /// Publishes revocation lists whose files have changed. They are no part of the settings' revision.
    pub fn refresh_lists(&self) {
        let mut state = self.lock();
        let files = &state.config.crl_files;
        let stamps: Vec<_> = files.iter().map(|file| Stamp::of(file)).collect();
        if stamps.is_empty() || stamps == state.stamps {
            return;
        }
        let now = unix_now();
        let settled = |stamp: &Option<Stamp>| stamp.is_none_or(|stamp| stamp.is_settled(now));
        state.stamps = if stamps.iter().all(settled) {
            stamps
        } else {
            Vec::new()
        };
        let mut config = state.config.clone();
        if !reread_lists(&mut config) {
            return;
        }
        match self.put_in_force(&mut state, config) {
            Ok(_) => tracing::info!("newer revocation lists are published"),
            Err(why) => tracing::error!(why, "newer revocation lists cannot be published"),
        }
    }

    fn put_in_force(
        &self,
        state: &mut State,
        config: ConnectorConfig,
    ) -> Result<mpsc::Receiver<Verdict>, String> {
        let plan = Arc::new(plan::build(&config, Some(&state.plan))?);
        (state.config, state.plan) = (config, plan);
        // The receiver's end comes when every shard has heard all it waits for.
        let (sender, verdicts) = mpsc::sync_channel(VERDICTS_MAX);
        for shard in &self.shards {
            let plan = state.plan.clone();
            let _ = shard.send(Message::Plan(plan, sender.clone()));
        }
        Ok(verdicts)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A state is replaced whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the gateways said, a line each, refusals first.
fn await_verdicts(verdicts: &mpsc::Receiver<Verdict>) -> Vec<String> {
    let until = Instant::now() + VERDICTS;
    let (mut accepted, mut notes) = (0, Vec::new());
    loop {
        match verdicts.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Ok(Verdict {
                gateway,
                instance,
                accepted: Err(why),
            }) => {
                notes.push(format!(
                    "REFUSED by gateway {gateway}, instance {instance}: {why}"
                ));
            }
            Ok(_) => accepted += 1,
            Err(mpsc::RecvTimeoutError::Disconnected) => break,
            Err(mpsc::RecvTimeoutError::Timeout) => {
                notes.push("some gateways have not answered yet".into());
                break;
            }
        }
    }
    if accepted > 0 {
        notes.push(format!("settings accepted by {accepted} gateway instances"));
    }
    notes
}

/// Keys of the file whose change takes a restart.
fn fixed_keys(old: &ConnectorConfig, new: &ConnectorConfig) -> Vec<&'static str> {
    let checks = [
        ("[connector] id", old.id != new.id),
        ("[connector] site", old.site != new.site),
        ("[connector] shards", old.shards != new.shards),
        ("[connector] admin", old.admin != new.admin),
    ];
    checks
        .iter()
        .filter(|(_, changed)| *changed)
        .map(|(key, _)| *key)
        .collect()
}

/// Reads the files of revocation lists again. True when one of them holds another list; one that cannot be read, that no
/// CA of the site signed, or that is older, is left as it was.
fn reread_lists(config: &mut ConnectorConfig) -> bool {
    let mut changed = false;
    let cas = config.settings.site.client_ca.iter();
    let cas: Vec<_> = cas
        .filter_map(|ca| pem::certificates_in(&ca.pem).ok())
        .flatten()
        .collect();
    let published = config
        .settings
        .site
        .crl
        .iter_mut()
        .filter_map(|list| match list {
            PublishedCrl::Der(text) => Some(text),
            PublishedCrl::Url(_) => None,
        });
    for (file, text) in config.crl_files.iter().zip(published) {
        match reread(file, text, &cas) {
            Ok(None) => {}
            Ok(Some(newer)) => (*text, changed) = (newer, true),
            Err(why) => {
                tracing::warn!(file = %file.display(), why, "a revocation list is left as it was")
            }
        }
    }
    changed
}

/// The list of the file as it is published, if it is another one than `known`.
fn reread(file: &Path, known: &str, cas: &[CertificateDer<'_>]) -> Result<Option<String>, String> {
    let bytes = pem::read_bounded(file, MAX_LIST_BYTES as u64)?;
    let list = RevocationList::read(&bytes)?;
    let newer = BASE64_STANDARD.encode(list.der());
    if newer == known {
        return Ok(None);
    }
    if newer.len() > MAX_CRL_BYTES {
        return Err("is too large to be published: name it by address".into());
    }
    if !list.is_signed_by_any(cas) {
        return Err(format!("is signed by no CA of client_ca ({})", list.issuer));
    }
    let known = BASE64_STANDARD.decode(known).unwrap_or_default();
    if RevocationList::read(&known).is_ok_and(|known| list.is_older_than(&known)) {
        return Err("is older than the list that is published".into());
    }
    Ok(Some(newer))
}
