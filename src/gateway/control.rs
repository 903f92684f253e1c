//! The control thread: what connectors publish, what was fetched, and the process's own file become snapshots and plans.
//!
//! It is the one place that changes either, one order after another, so that no shard ever sees a mixture: a wrong
//! document, key set or file changes nothing.

use crate::control::certificates::expiry::Expiry;
use crate::control::config::{self, GatewayConfig};
use crate::control::fetch::{Fetched, Fetches, Outcome};
use crate::control::publication::Published;
use crate::control::snapshot::{Registry, Snapshot};
use crate::observe::process::{Reloaded, lines};
use crate::shard::mesh::Sender;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, mpsc};

use super::links::Publication;
use super::plan::{self, Plan, Secrets};
use super::shard::Message;

/// Orders that may wait for the control thread.
pub const ORDERS: usize = 256;

pub enum Order {
    Publication(Publication),
    Fetched(Fetched),
    /// Read the config file again.
    Reload(mpsc::SyncSender<Reloaded>),
}

/// What the control thread works on.
pub struct Control {
    pub file: PathBuf,
    /// In force.
    pub config: GatewayConfig,
    pub secrets: Secrets,
    pub plan: Arc<Plan>,
    pub registry: Arc<Mutex<Registry>>,
    pub published: Arc<Published<Snapshot>>,
    pub shards: Vec<Sender<Message>>,
    pub fetches: Arc<Fetches>,
    /// Ends of the certificates in force, as their files were when they came into force.
    pub ends: Arc<Mutex<Vec<Expiry>>>,
}

impl Control {
    /// Until nobody can give orders any more.
    pub fn run(mut self, orders: &mpsc::Receiver<Order>) {
        for order in orders {
            match order {
                Order::Publication(publication) => {
                    judge(
                        publication,
                        &self.registry,
                        &self.published,
                        &self.plan,
                        &self.shards,
                    );
                    self.want();
                }
                Order::Fetched(fetched) => self.fetched(fetched),
                Order::Reload(reply) => {
                    let outcome = reply.try_send(self.reload());
                    if let Err(mpsc::TrySendError::Disconnected(reloaded)) = outcome {
                        // Who asked was told to look into the log.
                        reloaded.log();
                    }
                }
            }
        }
    }

    /// Tells the fetching thread what the sites' settings name now.
    fn want(&self) {
        let wanted = lock(&self.registry).wanted();
        self.fetches.want(&wanted);
    }

    fn fetched(&self, fetched: Fetched) {
        let Fetched { source, outcome } = fetched;
        let mut registry = lock(&self.registry);
        let outcome = match outcome {
            Outcome::Bytes(bytes) => match registry.fetched(&source, &bytes) {
                Ok(snapshot) => {
                    self.fetches.judged(&source, true);
                    Ok(snapshot)
                }
                Err(why) => {
                    let (kind, shown) = (source.kind(), source.shown());
                    tracing::error!(kind, source = shown, why, "what was fetched is no good");
                    Err(self.fetches.judged(&source, false))
                }
            },
            Outcome::Failed(_) => Err(false),
            Outcome::TooOld => Err(true),
        };
        let snapshot = match outcome {
            Ok(snapshot) => snapshot,
            Err(false) => None,
            Err(true) => {
                let dropped = registry.expired(&source);
                if dropped.is_some() {
                    tracing::error!(
                        kind = source.kind(),
                        source = source.shown(),
                        "dropped: nothing good came for too long"
                    );
                }
                dropped
            }
        };
        // Also when nothing changed: requests that wait for these keys learn that there are no others.
        let snapshot = snapshot.unwrap_or_else(|| registry.current());
        drop(registry);
        self.fetches.applied(&source, snapshot.number);
        self.publish(snapshot);
    }

    fn publish(&self, snapshot: Arc<Snapshot>) {
        self.published.set(snapshot);
        for shard in &self.shards {
            let _ = shard.send(Message::Snapshot);
        }
    }

    /// Reads the file again. What can only change with a restart, or is wrong, is told, and then nothing changes.
    fn reload(&mut self) -> Reloaded {
        let (config, warnings) = match config::load_gateway(&self.file) {
            Ok(loaded) => loaded,
            Err(complaints) => return Reloaded::Refused(lines(&complaints)),
        };
        let fixed = fixed_keys(&self.config, &config);
        if !fixed.is_empty() {
            let say =
                |key: &&str| format!("{key} changed, which takes a restart (nothing was reloaded)");
            return Reloaded::Refused(fixed.iter().map(say).collect());
        }
        // Only this thread changes the registry, so the numbers stay what they are while the plan is made.
        let sites = lock(&self.registry).numbered(&config.sites);
        let plan = match plan::build(&config, &sites, &self.secrets, self.plan.boot_id) {
            Ok(plan) => Arc::new(plan),
            Err(why) => return Reloaded::Refused(vec![why]),
        };
        let snapshot = lock(&self.registry).reconfigure(sites);
        self.fetches.set_plan(config.fetch.clone());
        *self.ends.lock().unwrap_or_else(PoisonError::into_inner) = ends(&config);
        self.config = config;
        self.plan = plan;
        // The plan first: a shard must know a site before a snapshot routes to it.
        for shard in &self.shards {
            // It must not go on by the old one.
            if shard.insist(Message::Plan(self.plan.clone())).is_err() {
                tracing::error!("a shard takes no messages: it goes on by the old file");
            }
        }
        self.publish(snapshot);
        self.want();
        Reloaded::Done(lines(&warnings))
    }
}

/// Keys of the file whose change takes a restart.
fn fixed_keys(old: &GatewayConfig, new: &GatewayConfig) -> Vec<&'static str> {
    let checks = [
        ("[gateway] name", old.name != new.name),
        ("[gateway] instance", old.instance != new.instance),
        ("[gateway] shards", old.shards != new.shards),
        ("[gateway] busy_poll_us", old.busy_poll != new.busy_poll),
        ("[listen] clients", old.listen_clients != new.listen_clients),
        ("[listen] relay", old.listen_relay != new.listen_relay),
        ("[listen] admin", old.admin != new.admin),
    ];
    checks
        .iter()
        .filter(|(_, changed)| *changed)
        .map(|(key, _)| *key)
        .collect()
}

/// The ends of all certificates that the file names.
pub fn ends(config: &GatewayConfig) -> Vec<Expiry> {
    let sni = config.sni.iter().map(|(_, files)| &files.certificate);
    [&config.tls.certificate, &config.connector_ca]
        .into_iter()
        .chain(sni)
        .flat_map(|file| Expiry::of_file(file).unwrap_or_default())
        .collect()
}

fn lock(registry: &Mutex<Registry>) -> std::sync::MutexGuard<'_, Registry> {
    // Every change of the registry is whole before the next begins.
    registry.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Judges settings, makes the snapshot, tells the shards and the connector.
pub fn judge(
    publication: Publication,
    registry: &Mutex<Registry>,
    published: &Published<Snapshot>,
    plan: &Plan,
    shards: &[Sender<Message>],
) {
    let Publication {
        site,
        connector,
        hash,
        document,
        reply_to,
        place,
    } = publication;
    let site = plan.sites.get(site as usize).map_or("", |site| &site.name);
    let mut registry = lock(registry);
    let outcome = registry.publish(site, &connector, hash, &document);
    let overruled = registry.overruled(site, &connector);
    drop(registry);
    let (accepted, text) = match outcome {
        Ok(snapshot) => {
            tracing::info!(
                site,
                connector,
                snapshot = snapshot.number,
                "settings accepted"
            );
            published.set(snapshot);
            for shard in shards {
                let _ = shard.send(Message::Snapshot);
            }
            let note = overruled.unwrap_or_default();
            if !note.is_empty() {
                tracing::warn!(site, connector, note, "routes taken, settings not");
            }
            (true, note)
        }
        Err(why) => {
            tracing::error!(site, connector, reason = why, "settings refused");
            (false, why)
        }
    };
    drop((document, place));
    let (shard, link, stamp) = reply_to;
    if let Some(shard) = shards.get(usize::from(shard)) {
        let _ = shard.send(Message::Published {
            link,
            stamp,
            hash,
            accepted,
            text,
        });
    }
}
