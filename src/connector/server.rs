//! One connector process: config to plan, shards, the resolver thread, admin, signals.

use crate::control::config::{self, ConnectorConfig};
use crate::observe::metrics::{Gauge, ShardStats};
use crate::observe::process;
use crate::ring::Verbs;
use crate::shard::fleet::{self, FleetSpec};
use crate::shard::mesh::Sender;
use crate::wire::relay::PushId;
use std::path::Path;
use std::process::ExitCode;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use super::context::Context;
use super::hub::api;
use super::hub::call::{Answer, Request};
use super::hub::core::Settings;
use super::hub::thread::{Handle, Hub};
use super::notify::ToHub;
use super::plan::{self, Plan};
use super::reload::{LISTS_EVERY, Reloader};
use super::resolve::Resolver;
use super::shard::{Connector, Message};

/// Messages that may wait for a shard.
const MESH_QUEUE: usize = 4096;
/// How long the hub's numbers are waited for.
const HUB_PATIENCE: Duration = Duration::from_secs(1);
/// How long SIGTERM lets requests finish.
const DRAIN: Duration = Duration::from_secs(20);

/// `tidegate connector --config FILE`: runs until SIGTERM or SIGINT.
pub fn run(path: &Path) -> ExitCode {
    process::run("connector", || {
        let config = process::resolve(config::load_connector(path))?;
        serve(path, &config)
    })
}

/// The plan of a config at start.
pub fn plan(config: &ConnectorConfig) -> Result<Plan, String> {
    plan::build(config, None)
}

fn serve(file: &Path, config: &ConnectorConfig) -> Result<(), String> {
    let plan = Arc::new(plan(config)?);
    let signals = process::Signals::catch()?;
    let admin = process::bind_admin(config.admin)?;
    let api = config.notify.as_ref().map(api::bind).transpose()?;
    let hub = config.notify.is_some().then(Hub::new);
    let to_hub = hub.as_ref().map(Hub::sender);
    let resolver = Resolver::start().map_err(|e| format!("no thread for name lookups: {e}"))?;
    let shards = usize::from(plan.shards);
    let made = plan.clone();
    let spec = FleetSpec {
        busy_poll: config.busy_poll,
        ..FleetSpec::new("connector", shards, MESH_QUEUE)
    };
    let fleet = fleet::start(spec, move |ring, start| {
        let index = start.index;
        let resolver = resolver.replying_to(start.siblings[index].clone());
        let mut cx = Context::new(
            made.clone(),
            index as u16,
            ring.now(),
            resolver,
            fastrand::u64(..),
        );
        cx.hub = to_hub.clone().map(|hub| ToHub::new(hub, index));
        Ok(Connector::new(cx, start.receiver, start.siblings))
    })?;
    let notified = hub.as_ref().map(Hub::handle);
    if let (Some(hub), Some(notify), Some(api)) = (hub, &config.notify, api) {
        let settings = Settings {
            prefix: PushId::prefix(&config.site, &config.id),
            channels_per_client: notify.channels_per_client,
            seed: fastrand::u64(..),
        };
        let handle = hub.handle();
        hub.start(settings, fleet.senders.clone(), notify.store.clone())
            .map_err(|error| format!("no thread for notifications: {error}"))?;
        tracing::info!(listen = %api.address, store = %notify.store.display(), "notification API");
        api.serve(handle, &config.id)?;
    }
    tracing::info!(
        id = config.id, site = config.site, shards, gateways = config.gateways.len(), routes = config.routes.len(),
        admin = ?config.admin, "started"
    );
    let shards = fleet.senders.clone();
    let reloader = Arc::new(Reloader::new(
        file.to_path_buf(),
        config.clone(),
        plan,
        shards.clone(),
    ));
    let lists = reloader.clone();
    std::thread::Builder::new()
        .name("lists".into())
        .spawn(move || {
            loop {
                std::thread::sleep(LISTS_EVERY);
                lists.refresh_lists();
            }
        })
        .map_err(|e| format!("no thread for revocation lists: {e}"))?;
    let source = Source {
        shards: shards.clone(),
        hub: notified,
        reloader,
    };
    process::admin_until_signal(signals, admin, Arc::new(source))?;
    tracing::info!(seconds = DRAIN.as_secs(), "draining");
    for shard in &shards {
        let _ = shard.send(Message::Drain(Instant::now() + DRAIN));
    }
    fleet.join()
}

/// What admin shows of a connector.
struct Source {
    shards: Vec<Sender<Message>>,
    hub: Option<Handle>,
    reloader: Arc<Reloader>,
}

impl process::Source for Source {
    fn ask(&self, reply: &mpsc::SyncSender<ShardStats>) -> usize {
        self.shards
            .iter()
            .filter(|shard| shard.send(Message::Stats(reply.clone())).is_ok())
            .count()
    }

    /// A connector is ready when every link it wants is up and its settings were accepted.
    fn ready(&self, stats: &[ShardStats]) -> Result<(), Vec<String>> {
        if stats.len() < self.shards.len() {
            return Err(vec!["a shard does not answer".into()]);
        }
        let (up, wanted) = stats.iter().fold((0, 0), |(up, wanted), s| {
            (up + s.links, wanted + s.links_wanted)
        });
        if up == 0 || up < wanted {
            return Err(vec![format!("{up} of {wanted} links are up")]);
        }
        if stats.iter().all(|stats| stats.settings_accepted == 0) {
            return Err(vec!["no gateway has accepted the settings".into()]);
        }
        Ok(())
    }

    fn gauges(&self) -> Vec<Gauge> {
        let ends = self.reloader.certificate_ends();
        let mut gauges: Vec<_> = ends.iter().map(Gauge::certificate_expiry).collect();
        let hub = self.hub.as_ref();
        if let Some(Answer::Stats(stats)) =
            hub.and_then(|hub| hub.ask_within(Request::Stats, HUB_PATIENCE))
        {
            gauges.extend(stats.gauges());
        }
        gauges
    }

    fn reload(&self) -> process::Reloaded {
        self.reloader.reload()
    }
}
