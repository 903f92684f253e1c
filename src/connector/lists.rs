//! Revocation lists that are published from files: looked at again and again, read only when they have changed.

use crate::control::certificates::expiry::unix_now;
use crate::control::config::{ConnectorConfig, ListToPublish, list_to_publish, read_list_file};
use crate::control::settings::{MAX_DOCUMENT_BYTES, PublishedCrl, sha256};
use crate::control::snapshot::RevocationList;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

/// A file that has changed no longer ago than this is read again, whatever its dates say.
const SETTLED: Duration = Duration::from_secs(5);

/// What the files held when they were looked at last.
#[derive(Default)]
pub struct Lists {
    /// Of the files as they were when all of them were read and settled.
    stamps: Vec<Option<Stamp>>,
    /// By the file's number. None: not looked at since the config was read.
    seen: Vec<Option<Seen>>,
}

#[derive(PartialEq, Eq)]
enum Seen {
    Bytes([u8; 32]),
    Unreadable(String),
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

impl Lists {
    /// Whether files may hold something else than what was read last, by their dates.
    fn may_have_changed(&mut self, config: &ConnectorConfig) -> bool {
        let stamps: Vec<_> = config
            .crl_files
            .iter()
            .map(|file| Stamp::of(file))
            .collect();
        if stamps == self.stamps {
            return false;
        }
        let now = unix_now();
        let settled = |stamp: &Option<Stamp>| stamp.is_none_or(|stamp| stamp.is_settled(now));
        let all = stamps.iter().all(settled);
        self.stamps = if all { stamps } else { Vec::new() };
        true
    }

    /// Looks at the config's files again, and puts what they hold now into its settings: the document and its hash when
    /// that is another. A list that cannot be published leaves the one before, and is told once.
    pub fn refresh(&mut self, config: &mut ConnectorConfig) -> Option<(Vec<u8>, [u8; 32])> {
        if config.crl_files.is_empty() || !self.may_have_changed(config) {
            return None;
        }
        self.seen.resize_with(config.crl_files.len(), || None);
        let mut settings = config.settings.clone();
        let mut changed = false;
        let published = settings.site.crl.iter_mut().filter_map(|list| match list {
            PublishedCrl::Der(text) => Some(text),
            PublishedCrl::Url(_) => None,
        });
        for ((file, text), seen) in config.crl_files.iter().zip(published).zip(&mut self.seen) {
            match look(file, seen, config) {
                Ok(Some(newer)) if newer.text == *text => {}
                Ok(Some(newer)) if newer.list.next_update() <= unix_now() => {
                    // Unasked it would shut out all of its CA; a reload takes it.
                    tracing::error!(file = %file.display(), "a newer revocation list is out of date and not published");
                }
                Ok(Some(newer)) if is_older(&newer, text) => {
                    tracing::error!(file = %file.display(), "the revocation list is older than the one that is published");
                }
                Ok(Some(newer)) => {
                    changed = true;
                    *text = newer.text;
                }
                Ok(None) => {}
                Err(why) => {
                    tracing::error!(file = %file.display(), why, "a newer revocation list cannot be published");
                }
            }
        }
        if !changed {
            return None;
        }
        let (document, hash) = settings.encode();
        if document.len() > MAX_DOCUMENT_BYTES {
            let bytes = document.len();
            tracing::error!(
                bytes,
                "newer revocation lists cannot be published: the settings would have over 4 MiB"
            );
            return None;
        }
        config.settings = settings;
        Some((document, hash))
    }
}

fn is_older(list: &ListToPublish, known: &str) -> bool {
    let known = BASE64_STANDARD.decode(known).unwrap_or_default();
    RevocationList::read(&known).is_ok_and(|known| list.list.is_older_than(&known))
}

/// What the file holds, when it is something else than was seen. An error is given once.
fn look(
    file: &Path,
    seen: &mut Option<Seen>,
    config: &ConnectorConfig,
) -> Result<Option<ListToPublish>, String> {
    let read = read_list_file(file);
    let now = match &read {
        Ok(bytes) => Seen::Bytes(sha256(bytes)),
        Err(why) => Seen::Unreadable(why.clone()),
    };
    if seen.as_ref() == Some(&now) {
        return Ok(None);
    }
    *seen = Some(now);
    list_to_publish(file, &read?, &config.settings.site.client_ca)
        .map(Some)
        .map_err(|wrong| wrong.to_string())
}
