//! Revocation lists that are published from files: looked at again and again, read only when they have changed.

use crate::control::certificates::expiry::unix_now;
use crate::control::config::{ConnectorConfig, ListToPublish, list_to_publish, read_list_file};
use crate::control::settings::{MAX_DOCUMENT_BYTES, PublishedCrl, sha256};
use std::path::Path;

/// What the files held when they were looked at last.
#[derive(Default)]
pub struct Lists {
    /// By the file's number. None: not looked at since the config was read.
    seen: Vec<Option<Seen>>,
}

#[derive(PartialEq, Eq)]
enum Seen {
    Bytes([u8; 32]),
    Unreadable(String),
}

impl Lists {
    /// Looks at the config's files again, and puts what they hold now into its settings: the document and its hash when
    /// that is another. A list that cannot be published leaves the one before, and is told once.
    pub fn refresh(&mut self, config: &mut ConnectorConfig) -> Option<(Vec<u8>, [u8; 32])> {
        if config.crl_files.is_empty() {
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
                Ok(Some(newer)) if newer.next_update <= unix_now() => {
                    // Unasked it would shut out all of its CA; a reload takes it.
                    tracing::error!(file = %file.display(), "a newer revocation list is out of date and not published");
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
