//! One gateway process: config to plan, shards, the control thread, admin, signals.

use crate::control::certificates::expiry::Expiry;
use crate::control::config::{self, GatewayConfig};
use crate::control::fetch::Fetches;
use crate::control::publication::Published;
use crate::control::snapshot::{Registry, Snapshot};
use crate::observe::access;
use crate::observe::metrics::{Gauge, ShardStats};
use crate::observe::process::{self, Reloaded};
use crate::ring::uring::Ring;
use crate::ring::{ListenOptions, Verbs};
use crate::shard::fleet::{self, FleetSpec};
use crate::shard::mesh::Sender;
use crate::wire::relay::Incarnations;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};

use super::context::Context;
use super::control::{self, Control, ORDERS, Order};
use super::links::Shared;
use super::plan::{self, Plan, Secrets};
use super::publishing::Backlog;
use super::shard::{Gateway, Message};

/// Messages that may wait for a shard.
const MESH_QUEUE: usize = 4096;
/// How long SIGTERM lets requests finish.
const DRAIN: Duration = Duration::from_secs(20);
/// TCP_USER_TIMEOUT of clients and of links.
const CLIENT_USER_TIMEOUT: Duration = Duration::from_secs(60);
const LINK_USER_TIMEOUT: Duration = Duration::from_secs(15);
/// Connections that the kernel queues for a shard's listener.
const BACKLOG: u32 = 4096;
/// How long a reload may take before its caller is told that it has no answer.
const RELOAD_PATIENCE: Duration = Duration::from_secs(10);

/// `tidegate gateway --config FILE`: runs until SIGTERM or SIGINT.
pub fn run(path: &Path) -> ExitCode {
    process::run("gateway", || {
        let config = process::resolve(config::load_gateway(path))?;
        serve(path, &config)
    })
}

/// The plan of a config at start.
pub fn plan(config: &GatewayConfig) -> Result<Plan, String> {
    plan::build(config, &config.sites, &Secrets::new()?, fastrand::u128(..))
}

fn serve(file: &Path, config: &GatewayConfig) -> Result<(), String> {
    let secrets = Secrets::new()?;
    let plan = plan::build(config, &config.sites, &secrets, fastrand::u128(..))?;
    let plan = Arc::new(plan);
    let signals = process::Signals::catch()?;
    let admin = process::bind_admin(config.admin)?;
    let registry = Registry::new(&config.sites);
    let names = registry.ids();
    let published = Arc::new(Published::from_arc(registry.current()));
    let registry = Arc::new(Mutex::new(registry));
    let (orders, waiting) = mpsc::sync_channel(ORDERS);
    let fetched = orders.clone();
    let fetches = Fetches::start(config.fetch.clone(), move |result| {
        let _ = fetched.send(Order::Fetched(result));
    })?;
    // Also while it is off: a reload may turn it on.
    let (access, _access_writer) = access::to_stdout().map_err(|e| format!("access log: {e}"))?;
    let incarnations = Arc::new(Mutex::new(Incarnations::new()));
    let backlog = Arc::new(Backlog::default());

    let fleet = {
        let (plan, published, config) = (plan.clone(), published.clone(), config.clone());
        let (access, control, fetches) = (access.clone(), orders.clone(), fetches.clone());
        let spec = FleetSpec {
            busy_poll: config.busy_poll,
            ..FleetSpec::new("gateway", usize::from(plan.shards), MESH_QUEUE)
        };
        fleet::start(spec, move |ring, start| {
            let shared = Arc::new(Shared {
                incarnations: incarnations.clone(),
                shards: start.siblings,
                control: control.clone(),
                backlog: backlog.clone(),
                names: names.clone(),
            });
            let (index, access) = (start.index as u16, Some(access.clone()));
            let mut cx = Context::new(
                plan.clone(),
                index,
                ring.now(),
                published.clone(),
                access,
                fastrand::u64(..),
            );
            cx.fetches = Some(fetches.clone());
            let mut gateway = Gateway::new(cx, shared, start.receiver);
            listen(ring, &config, &mut gateway)?;
            Ok(gateway)
        })?
    };
    let shards = fleet.senders.clone();
    let ends = Arc::new(Mutex::new(control::ends(config)));
    let control = Control {
        file: file.to_path_buf(),
        config: config.clone(),
        secrets,
        plan: plan.clone(),
        registry: registry.clone(),
        published: published.clone(),
        shards: shards.clone(),
        fetches: fetches.clone(),
        ends: ends.clone(),
    };
    std::thread::Builder::new()
        .name("control".into())
        .spawn(move || control.run(&waiting))
        .map_err(|e| format!("no thread for the control plane: {e}"))?;

    tracing::info!(
        name = config.name, instance = config.instance, shards = plan.shards,
        clients = ?config.listen_clients, relay = ?config.listen_relay, admin = ?config.admin, "ready"
    );
    let source = Arc::new(Source {
        shards: shards.clone(),
        published,
        registry,
        fetches,
        orders,
        ends,
    });
    process::admin_until_signal(signals, admin, source)?;
    tracing::info!(seconds = DRAIN.as_secs(), "draining");
    for shard in &shards {
        let _ = shard.send(Message::Drain(Instant::now() + DRAIN));
    }
    fleet.join()
}

/// Opens this shard's listeners.
fn listen(ring: &mut Ring, config: &GatewayConfig, gateway: &mut Gateway) -> Result<(), String> {
    let clients = ListenOptions {
        reuse_port: true,
        backlog: BACKLOG,
        direct: true,
        user_timeout: CLIENT_USER_TIMEOUT,
    };
    let links = ListenOptions {
        direct: false,
        user_timeout: LINK_USER_TIMEOUT,
        ..clients.clone()
    };
    let mut open = |address: SocketAddr, options: &ListenOptions| {
        ring.listen(address, options)
            .map(|(id, _)| id)
            .map_err(|e| format!("cannot listen on {address}: {e}"))
    };
    for address in &config.listen_clients {
        gateway.clients_on(open(*address, &clients)?);
    }
    for address in &config.listen_relay {
        gateway.relay_on(open(*address, &links)?);
    }
    Ok(())
}

/// What admin shows of a gateway.
struct Source {
    shards: Vec<Sender<Message>>,
    published: Arc<Published<Snapshot>>,
    registry: Arc<Mutex<Registry>>,
    fetches: Arc<Fetches>,
    orders: mpsc::SyncSender<Order>,
    ends: Arc<Mutex<Vec<Expiry>>>,
}

impl process::Source for Source {
    fn ask(&self, reply: &mpsc::SyncSender<ShardStats>) -> usize {
        self.shards
            .iter()
            .filter(|shard| shard.send(Message::Stats(reply.clone())).is_ok())
            .count()
    }

    /// A gateway is ready when it takes requests; what has no connector is answered so.
    fn ready(&self, stats: &[ShardStats]) -> Result<(), Vec<String>> {
        if stats.len() < self.shards.len() {
            return Err(vec!["a shard does not answer".into()]);
        }
        Ok(())
    }

    fn gauges(&self) -> Vec<Gauge> {
        let snapshot = self.published.get();
        let named = || snapshot.sites.iter().filter(|site| !site.name.is_empty());
        let site = |name, help, site: &str, value| Gauge {
            name,
            help,
            labels: vec![("site", site.to_owned())],
            value,
        };
        let published = named().map(|s| {
            let value = if s.published { 1.0 } else { 0.0 };
            site(
                "tidegate_site_published",
                "1 when the site has settings.",
                &s.name,
                value,
            )
        });
        let revisions = named().map(|s| {
            let help = "Revision of the site's settings in force.";
            site("tidegate_site_revision", help, &s.name, s.revision as f64)
        });
        let registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        let refused: Vec<_> = registry
            .refusals()
            .map(|(name, refused)| {
                let help = "Settings that connectors published and the gateway refused.";
                site("tidegate_site_settings_refused", help, name, refused as f64)
            })
            .collect();
        drop(registry);
        // A CA may have lists of several scopes: the first that runs out counts.
        let mut ends_of_lists: BTreeMap<(&str, &str), i64> = BTreeMap::new();
        for site in named() {
            for list in site.trust.revocation_lists() {
                let end = ends_of_lists
                    .entry((&site.name, &list.issuer))
                    .or_insert(i64::MAX);
                *end = (*end).min(list.next_update());
            }
        }
        let lists = ends_of_lists
            .into_iter()
            .map(|((site, issuer), end)| Gauge {
                name: "tidegate_crl_next_update_seconds",
                help: "When a revocation list in force is out of date, in seconds since 1970.",
                labels: vec![("site", site.to_owned()), ("issuer", issuer.to_owned())],
                value: end as f64,
            });
        let ends = self
            .ends
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        published
            .chain(revisions)
            .chain(refused)
            .chain(lists)
            .chain(self.fetches.gauges())
            .chain(ends.iter().map(Gauge::certificate_expiry))
            .collect()
    }

    fn reload(&self) -> Reloaded {
        let (reply, answer) = mpsc::sync_channel(1);
        if self.orders.try_send(Order::Reload(reply)).is_err() {
            return Reloaded::Refused(vec!["the control thread is busy: try again".into()]);
        }
        // Without an answer it may still happen, as soon as the control thread comes to it.
        answer
            .recv_timeout(RELOAD_PATIENCE)
            .unwrap_or(Reloaded::Unknown)
    }
}
