//! The file read again: a newer plan for the shards, whose settings the gateways judge anew.
//!
//! Routes, endpoints and gateways keep their numbers over reloads, since exchanges, pools and links refer to them by
//! number: what is gone stays in its place unused, what is new follows. So a request that is under way ends on the
//! route and upstream that it began with.

use crate::control::certificates::expiry::Expiry;
use crate::control::config::{self, ConnectorConfig};
use crate::observe::process::{Reloaded, lines};
use crate::shard::mesh::Sender;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::{Duration, Instant};

use super::lists::Lists;
use super::plan::{self, Plan};
use super::shard::Message;

/// How long a reload waits for the gateways' verdicts.
const VERDICTS: Duration = Duration::from_secs(5);
/// Verdicts that may wait: one a gateway instance.
const VERDICTS_MAX: usize = 1024;
/// How often the files of revocation lists are looked at.
pub const LISTS_EVERY: Duration = Duration::from_secs(2);

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
    /// Apart from the state, which a reload holds while it reads files.
    ends: Mutex<Vec<Expiry>>,
}

struct State {
    config: ConnectorConfig,
    plan: Arc<Plan>,
    lists: Lists,
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
            ends: Mutex::new(ends(&config)),
            state: Mutex::new(State {
                config,
                plan,
                lists: Lists::default(),
            }),
        }
    }

    /// The ends of the certificates in force, as their files were when they came into force.
    pub fn certificate_ends(&self) -> Vec<Expiry> {
        lock(&self.ends).clone()
    }

    /// Reads the file again. A wrong one, or what takes a restart, changes nothing.
    pub fn reload(&self) -> Reloaded {
        let mut state = lock(&self.state);
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
        let plan = match plan::build(&config, Some(&state.plan)) {
            Ok(plan) => Arc::new(plan),
            Err(why) => return Reloaded::Refused(vec![why]),
        };
        *lock(&self.ends) = ends(&config);
        *state = State {
            config,
            plan: plan.clone(),
            lists: Lists::default(),
        };
        // The receiver's end comes when every shard has heard all it waits for.
        let (sender, verdicts) = mpsc::sync_channel(VERDICTS_MAX);
        self.tell(&plan, Some(sender));
        drop(state);
        let mut notes = lines(&warnings);
        notes.extend(await_verdicts(&verdicts));
        Reloaded::Done(notes)
    }

    /// Publishes revocation lists whose files have changed. They are no part of the settings' revision, and nothing but
    /// them changes: another file that is being written keeps no list back.
    pub fn refresh_lists(&self) {
        let mut state = lock(&self.state);
        let State {
            config,
            plan,
            lists,
        } = &mut *state;
        let Some((document, hash)) = lists.refresh(config) else {
            return;
        };
        *plan = Arc::new(plan.publishing(document, hash));
        self.tell(plan, None);
        tracing::info!("newer revocation lists are published");
    }

    fn tell(&self, plan: &Arc<Plan>, verdicts: Option<mpsc::SyncSender<Verdict>>) {
        for shard in &self.shards {
            let message = Message::Plan(plan.clone(), verdicts.clone());
            // It must not go on by the old one.
            if shard.insist(message).is_err() {
                tracing::error!("a shard takes no messages: it goes on by the old plan");
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is in there is replaced whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Ends of the certificates that the connector presents, to gateways and to upstreams.
fn ends(config: &ConnectorConfig) -> Vec<Expiry> {
    let mut files = vec![&config.tls.certificate];
    for route in &config.routes {
        let own = route.tls.identity.as_ref().map(|own| &own.certificate);
        files.extend(own.filter(|file| !files.contains(file)));
    }
    files
        .into_iter()
        .flat_map(|file| Expiry::of_file(file).unwrap_or_default())
        .collect()
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
        ("[connector] busy_poll_us", old.busy_poll != new.busy_poll),
        ("[connector] admin", old.admin != new.admin),
        ("[notify]", old.notify != new.notify),
    ];
    checks
        .iter()
        .filter(|(_, changed)| *changed)
        .map(|(key, _)| *key)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connector::testing::{Nobody, Place};
    use crate::shard::mesh::{self, Receiver};

    fn reloader(place: &Place) -> (Reloader, Receiver<Message>) {
        let (sender, receiver) = mesh::channel(4, Nobody);
        let (config, plan) = place.load();
        (
            Reloader::new(place.config(), config, plan, vec![sender]),
            receiver,
        )
    }

    fn told(shard: &Receiver<Message>) -> Option<(Arc<Plan>, Option<mpsc::SyncSender<Verdict>>)> {
        match shard.receive()? {
            Message::Plan(plan, verdicts) => Some((plan, verdicts)),
            _ => panic!("something else than a plan"),
        }
    }

    #[test]
    fn a_newer_list_is_published_while_another_file_is_half_written() {
        let place = Place::new();
        let (reloader, shard) = reloader(&place);
        let before = reloader.state.lock().unwrap().plan.clone();
        reloader.refresh_lists();
        assert!(told(&shard).is_none(), "nothing has changed");

        place.write("cp-1.pem", "-----BEGIN CERTIFICATE-----\nMII");
        assert!(matches!(reloader.reload(), Reloaded::Refused(_)));
        place.revoke("client-b");
        reloader.refresh_lists();
        let (plan, verdicts) = told(&shard).expect("the list is published");
        assert!(verdicts.is_none(), "nobody waits for verdicts");
        assert_ne!(plan.document_hash, before.document_hash);
        assert!(Arc::ptr_eq(&plan.gateway_tls, &before.gateway_tls));
        reloader.refresh_lists();
        assert!(told(&shard).is_none(), "it is published once");
    }

    #[test]
    fn a_list_that_no_gateway_would_take_changes_nothing() {
        let (place, other) = (Place::new(), Place::new());
        let (reloader, shard) = reloader(&place);
        for wrong in [
            std::fs::read_to_string(other.file("clients.crl")).unwrap(),
            place.list_that_ended(),
            "-----BEGIN X509 CRL-----".into(),
        ] {
            place.write("clients.crl", &wrong);
            reloader.refresh_lists();
            assert!(told(&shard).is_none(), "{wrong}");
        }
        place.revoke_anew("client-b");
        reloader.refresh_lists();
        assert!(told(&shard).is_some(), "and a good one counts again");
    }

    #[test]
    fn the_ends_of_certificates_are_those_in_force() {
        let place = Place::new();
        let (reloader, _shard) = reloader(&place);
        let ends = reloader.certificate_ends();
        assert_eq!(ends.len(), 1);
        place.write("cp-1.pem", "");
        assert_eq!(reloader.certificate_ends(), ends);
    }
}
