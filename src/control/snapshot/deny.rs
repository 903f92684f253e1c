//! Deny-lists: who may not come in whatever else speaks for them.

use super::ClientIdentity;
use crate::control::settings::{SiteSettings, serial_key};
use std::collections::HashSet;

/// The deny-lists of one site.
#[derive(Debug, Default)]
pub struct DenyLists {
    serials: HashSet<String>,
    /// Lower case.
    clients: HashSet<String>,
    /// As issued: ids of tokens are case-sensitive.
    tokens: HashSet<String>,
}

impl DenyLists {
    pub fn new(settings: &SiteSettings) -> Self {
        let lower = |client: &String| client.to_ascii_lowercase();
        Self {
            serials: settings
                .deny_serials
                .iter()
                .filter_map(|s| serial_key(s))
                .collect(),
            clients: settings.deny_clients.iter().map(lower).collect(),
            tokens: settings.deny_tokens.iter().cloned().collect(),
        }
    }

    /// Why this identity is denied, if it is.
    pub fn denies(&self, identity: &ClientIdentity) -> Option<String> {
        if !self.serials.is_empty()
            && let Some(serial) = identity.serial().and_then(serial_key)
            && self.serials.contains(&serial)
        {
            return Some(format!("certificate {serial} is on the deny-list"));
        }
        if let Some(token) = identity.token_id()
            && self.tokens.contains(token)
        {
            return Some(format!("token {token} is on the deny-list"));
        }
        if !self.clients.is_empty()
            && self
                .clients
                .contains(&identity.client_id.to_ascii_lowercase())
        {
            return Some(format!("client {} is on the deny-list", identity.client_id));
        }
        None
    }
}
