//! One gateway process: config to plan, shards, the control thread, admin, signals.

use crate::control::certificates::expiry::Expiry;
use crate::control::certificates::{clients_config, relay_config};
use crate::control::config::{self, AccessLog, GatewayConfig};
use crate::control::publication::Published;
use crate::control::snapshot::{Registry, Snapshot};
use crate::observe::access;
use crate::observe::metrics::{Gauge, ShardStats};
use crate::observe::process;
use crate::ring::uring::Ring;
use crate::ring::{ListenOptions, Verbs};
use crate::shard::fleet;
use crate::shard::mesh::Sender;
use crate::wire::http1;
use crate::wire::relay::Incarnations;
use crate::wire::tls;
use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use super::context::Context;
use super::links::{Publication, Shared};
use super::plan::{Plan, Timeouts};
use super::shard::{Gateway, Message};

/// Messages that may wait for a shard.
const MESH_QUEUE: usize = 4096;
/// Settings documents that may wait for the control thread.
const PUBLICATIONS: usize = 256;
/// How long SIGTERM lets requests finish.
const DRAIN: Duration = Duration::from_secs(20);
/// TCP_USER_TIMEOUT of clients and of links.
const CLIENT_USER_TIMEOUT: Duration = Duration::from_secs(60);
const LINK_USER_TIMEOUT: Duration = Duration::from_secs(15);
/// Connections that the kernel queues for a shard's listener.
const BACKLOG: u32 = 4096;

/// `tidegate gateway --config FILE`: runs until SIGTERM or SIGINT.
pub fn run(path: &Path) -> ExitCode {
    process::run("gateway", || {
        let config = process::resolve(config::load_gateway(path))?;
        serve(&config)
    })
}

/// Builds what all shards share.
pub fn plan(config: &GatewayConfig) -> Result<Plan, String> {
    let verifier = Arc::new(tls::verifier::PossessionOnly::new());
    let mut server_tls = clients_config(
        &config.tls,
        &config.sni,
        config.ticket_keys.as_deref(),
        verifier,
    )?;
    tls::prepare_server_config(&mut server_tls);
    let mut relay_tls = relay_config(&config.tls, &config.connector_ca)?;
    tls::prepare_server_config(&mut relay_tls);
    let limits = &config.limits;
    let share = |n: usize| n.div_ceil(config.shards.max(1));
    Ok(Plan {
        instance: config.instance,
        boot_id: fastrand::u128(..),
        shards: u16::try_from(config.shards).map_err(|_| "too many shards")?,
        server_tls: Arc::new(server_tls),
        relay_tls: Arc::new(relay_tls),
        site_names: config.sites.iter().map(|site| site.name.clone()).collect(),
        site_connectors: config
            .sites
            .iter()
            .map(|site| site.connectors.clone())
            .collect(),
        http: http1::Limits {
            head_bytes: limits.head_kib * 1024,
            header_count: limits.headers,
            trailer_bytes: 16 * 1024,
        },
        timeouts: Timeouts {
            head: Duration::from_secs(limits.head_seconds),
            body_idle: Duration::from_secs(limits.body_idle_seconds),
            idle: Duration::from_secs(limits.idle_seconds),
            hold: Duration::from_secs(2),
            close: Duration::from_secs(10),
            drain: Duration::from_secs(2),
            grace: Duration::from_secs(5),
        },
        half_close: limits.half_close,
        connections: share(limits.connections),
        balancers: config.proxy_protocol_from.clone(),
        connections_per_address: limits.connections_per_address,
        memory: share(limits.memory_mib * 1024 * 1024),
        access: config.access_log,
    })
}

fn serve(config: &GatewayConfig) -> Result<(), String> {
    let plan = Arc::new(plan(config)?);
    let admin = process::bind_admin(config.admin)?;
    let registry = Registry::new(&config.sites);
    let published = Arc::new(Published::from_arc(registry.current()));
    let registry = Arc::new(Mutex::new(registry));
    let (control, publications) = mpsc::sync_channel(PUBLICATIONS);
    let (access, _access_writer) = match config.access_log {
        AccessLog::Off => (None, None),
        _ => {
            let (sender, writer) = access::to_stdout().map_err(|e| format!("access log: {e}"))?;
            (Some(sender), Some(writer))
        }
    };
    let incarnations = Arc::new(Mutex::new(Incarnations::new()));

    let fleet = {
        let (plan, published, config, registry) = (
            plan.clone(),
            published.clone(),
            config.clone(),
            registry.clone(),
        );
        let access = access.clone();
        fleet::start(
            "gateway",
            usize::from(plan.shards),
            MESH_QUEUE,
            move |ring, start| {
                let names = registry.clone();
                let shared = Arc::new(Shared {
                    incarnations: incarnations.clone(),
                    shards: start.siblings,
                    control: control.clone(),
                    names: Box::new(move |id| {
                        names
                            .lock()
                            .map_or(u32::MAX, |mut registry| registry.connector_index(id))
                    }),
                });
                let (index, access) = (start.index as u16, access.clone());
                let cx = Context::new(
                    plan.clone(),
                    index,
                    ring.now(),
                    published.clone(),
                    access,
                    fastrand::u64(..),
                );
                let mut gateway = Gateway::new(cx, shared, start.receiver);
                listen(ring, &config, &mut gateway)?;
                Ok(gateway)
            },
        )?
    };
    let shards = fleet.senders.clone();
    let judged = (
        registry.clone(),
        published.clone(),
        plan.clone(),
        shards.clone(),
    );
    std::thread::Builder::new()
        .name("control".into())
        .spawn(move || {
            let (registry, published, plan, shards) = judged;
            for publication in publications {
                judge(publication, &registry, &published, &plan, &shards);
            }
        })
        .map_err(|e| format!("no thread for the control plane: {e}"))?;

    tracing::info!(
        name = config.name, instance = config.instance, shards = plan.shards,
        clients = ?config.listen_clients, relay = ?config.listen_relay, admin = ?config.admin, "ready"
    );
    let source = Arc::new(Source {
        shards: shards.clone(),
        published,
        expiry: Expiry::of_file(&config.tls.certificate).unwrap_or_default(),
    });
    process::admin_until_signal(admin, source)?;
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

/// The control thread's work: judges settings, makes the snapshot, tells the shards and the connector.
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
    } = publication;
    let site = &plan.site_names[site as usize];
    let Ok(mut registry) = registry.lock() else {
        return;
    };
    let outcome = registry.publish(site, &connector, hash, &document);
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
            (true, String::new())
        }
        Err(why) => {
            tracing::error!(site, connector, reason = why, "settings refused");
            (false, why)
        }
    };
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

/// What admin shows of a gateway.
struct Source {
    shards: Vec<Sender<Message>>,
    published: Arc<Published<Snapshot>>,
    expiry: Vec<Expiry>,
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
        let sites = &self.published.get().sites;
        let published = sites.iter().map(|site| Gauge {
            name: "tidegate_site_published",
            help: "1 when the site has settings.",
            labels: vec![("site", site.name.clone())],
            value: if site.published { 1.0 } else { 0.0 },
        });
        published
            .chain(self.expiry.iter().map(Gauge::certificate_expiry))
            .collect()
    }
}
