//! The whole tunnel in one thread on virtual time: gateway, connectors, upstream and clients over simulated rings, with
//! a seeded network that cuts bytes anywhere, delays, resets and partitions. What clients got is counted against what
//! they asked for. `TIDEGATE_SIM_SEEDS=N` runs more seeds; a failure prints its seed.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use tidegate::client::requests::{Job, Measured, Progress, Requests};
use tidegate::connector::{self, resolve::Resolver, shard::Connector};
use tidegate::control::certificates::{load_roots, provider};
use tidegate::control::config::{load_connector, load_gateway};
use tidegate::control::pki;
use tidegate::control::publication::Published;
use tidegate::control::snapshot::{Registry, Snapshot};
use tidegate::gateway::control::Order;
use tidegate::gateway::links::Shared;
use tidegate::gateway::publishing::Backlog;
use tidegate::gateway::{self, shard::Gateway};
use tidegate::observe::metrics::ShardStats;
use tidegate::ring::sim::{Death, RingId, SimConfig, SimNet, SimRing};
use tidegate::ring::{Event, ListenOptions, Receive, SocketId, Verbs};
use tidegate::shard::executor::Service;
use tidegate::shard::mesh::{self, Sender};
use tidegate::shard::simulation::{Node, run};
use tidegate::wire::Field;
use tidegate::wire::http1::{self, Framing, ServerEvent};
use tidegate::wire::relay::Incarnations;
use tidegate::wire::tls;

const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
const GATEWAY: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2));
const UPSTREAM: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 4));
/// Virtual time between two looks of the control plane.
const STEP: Duration = Duration::from_millis(20);
/// What a draining process is given.
const DRAIN: Duration = Duration::from_secs(20);

/// Where the connector `cp-N` runs, counted from 0.
fn connector_address(n: usize) -> IpAddr {
    Ipv4Addr::new(10, 0, 1, 1 + n as u8).into()
}

/// A PKI and the config files, made once and removed at the end.
struct Lab(PathBuf);

impl Lab {
    fn new(connectors: usize) -> Lab {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!(
            "tidegate-sim-{}-{}",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        );
        let dir = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&dir).unwrap();
        let place = || pki::Place {
            dir: dir.clone(),
            force: true,
        };
        let validity = pki::Validity::default;
        pki::init(&pki::Init {
            place: place(),
            validity: validity(),
        })
        .unwrap();
        pki::server(&pki::Server {
            place: place(),
            validity: validity(),
            names: vec!["10.0.0.2".into()],
        })
        .unwrap();
        let gateway = "[gateway]\nname = \"sim\"\nshards = 1\n[listen]\nclients = [\"10.0.0.2:443\"]\n\
            relay = [\"10.0.0.2:10140\"]\nadmin = \"127.0.0.1:1\"\n[tls]\ncertificate = \"server.pem\"\n\
            key = \"server.key\"\n[relay]\nconnector_ca = \"ca.pem\"\n[log]\naccess = \"off\"\n";
        let connector = "[connector]\nid = \"CP\"\nsite = \"main\"\nshards = 1\nadmin = \"127.0.0.1:2\"\n\
            tls = { certificate = \"CP.pem\", key = \"CP.key\", gateway_ca = \"ca.pem\" }\n\
            [[gateway]]\nhost = \"10.0.0.2\"\nport = 10140\n[site]\nrevision = 1\n\
            client_ca = [{ name = \"lab\", file = \"clients-ca.pem\" }]\n\
            [[route]]\npath = \"/x/\"\nupstream = [\"http://10.0.0.4:80\"]\nauth = \"none\"\n";
        std::fs::write(dir.join("gateway.toml"), gateway).unwrap();
        for n in 0..connectors {
            let id = format!("cp-{n}");
            std::fs::write(dir.join(format!("{id}.toml")), connector.replace("CP", &id)).unwrap();
            let (place, validity) = (place(), validity());
            pki::connector(&pki::Connector {
                id: id.as_str().into(),
                place,
                validity,
            })
            .unwrap();
        }
        Lab(dir)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A gateway process of one shard, its control plane run by hand between slices of time.
struct GatewayHost {
    ring: SimRing,
    service: Gateway,
    publications: mpsc::Receiver<Order>,
    backlog: Arc<Backlog>,
    registry: Mutex<Registry>,
    published: Arc<Published<Snapshot>>,
    plan: Arc<gateway::plan::Plan>,
    shards: Vec<Sender<gateway::shard::Message>>,
}

impl GatewayHost {
    fn start(net: &SimNet, lab: &Lab, seed: u64) -> GatewayHost {
        let (config, _) = load_gateway(&lab.0.join("gateway.toml")).unwrap();
        let plan = Arc::new(gateway::server::plan(&config).unwrap());
        let mut ring = net.ring(GATEWAY);
        let registry = Registry::new(&config.sites);
        let published = Arc::new(Published::from_arc(registry.current()));
        let names = registry.ids();
        let registry = Mutex::new(registry);
        let (sender, receiver) = mesh::channel(64, ring.waker());
        let (control, publications) = mpsc::sync_channel(16);
        let backlog = Arc::new(Backlog::default());
        let shared = Arc::new(Shared {
            incarnations: Arc::new(Mutex::new(Incarnations::new())),
            shards: vec![sender.clone()],
            control,
            backlog: backlog.clone(),
            names,
        });
        let cx = gateway::context::Context::new(
            plan.clone(),
            0,
            ring.now(),
            published.clone(),
            None,
            seed,
        );
        let mut service = Gateway::new(cx, shared, receiver);
        let options = ListenOptions {
            reuse_port: true,
            backlog: 1024,
            direct: true,
            user_timeout: Duration::from_secs(60),
        };
        let (clients, _) = ring.listen(config.listen_clients[0], &options).unwrap();
        let plain = ListenOptions {
            direct: false,
            ..options
        };
        let (relay, _) = ring.listen(config.listen_relay[0], &plain).unwrap();
        service.clients_on(clients);
        service.relay_on(relay);
        GatewayHost {
            ring,
            service,
            publications,
            backlog,
            registry,
            published,
            plan,
            shards: vec![sender],
        }
    }

    fn control(&self) {
        while let Ok(Order::Publication(publication)) = self.publications.try_recv() {
            gateway::control::judge(
                publication,
                &self.registry,
                &self.published,
                &self.plan,
                &self.shards,
            );
        }
    }
}

/// A connector process of one shard.
struct ConnectorHost {
    ring: SimRing,
    service: Connector,
    mailbox: Sender<connector::shard::Message>,
}

fn start_connector(net: &SimNet, lab: &Lab, n: usize, seed: u64) -> ConnectorHost {
    let (config, _) = load_connector(&lab.0.join(format!("cp-{n}.toml"))).unwrap();
    let plan = Arc::new(connector::server::plan(&config).unwrap());
    let ring = net.ring(connector_address(n));
    let (sender, receiver) = mesh::channel(64, ring.waker());
    let resolver = Resolver::start().unwrap().replying_to(sender.clone());
    let cx = connector::context::Context::new(plan, 0, ring.now(), resolver, seed);
    let service = Connector::new(cx, receiver, vec![sender.clone()]);
    ConnectorHost {
        ring,
        service,
        mailbox: sender,
    }
}

/// An HTTP server: `/x/N` is answered with N bytes, an upload with its length as text.
#[derive(Default)]
struct Upstream {
    connections: Vec<Option<Served>>,
}

/// A connection, its HTTP core, what waits to be sent, and the request that is being received.
type Served = (SocketId, http1::Server, Vec<u8>, Asked);

#[derive(Default, Clone, Copy)]
struct Asked {
    size: usize,
    body: usize,
}

impl Service<SimRing> for Upstream {
    fn handle(&mut self, ring: &mut SimRing, event: Event) {
        match event {
            Event::Accepted { socket, .. } => {
                let index = socket.index as usize;
                self.connections
                    .resize_with(self.connections.len().max(index + 1), || None);
                let limits = http1::Limits {
                    head_bytes: 65_536,
                    header_count: 100,
                    trailer_bytes: 4096,
                };
                self.connections[index] = Some((
                    socket,
                    http1::Server::new(limits),
                    Vec::new(),
                    Asked::default(),
                ));
                ring.receive(socket, Receive::Small);
            }
            Event::Received { socket, buf } => {
                let Some(Some((_, http, out, asked))) =
                    self.connections.get_mut(socket.index as usize)
                else {
                    return;
                };
                let mut used = 0;
                loop {
                    let done = match http
                        .next(&buf, &mut used)
                        .expect("a proxy writes valid HTTP")
                    {
                        ServerEvent::NeedMore => break,
                        ServerEvent::Head(head) => {
                            let path = std::str::from_utf8(head.target).unwrap();
                            let size = path.rsplit('/').next().and_then(|n| n.parse().ok());
                            *asked = Asked {
                                size: size.unwrap_or(0),
                                body: 0,
                            };
                            false
                        }
                        ServerEvent::Data(bytes) => {
                            asked.body += bytes.len();
                            false
                        }
                        ServerEvent::End { .. } => true,
                    };
                    if done {
                        let body = match asked.body {
                            0 => vec![b'x'; asked.size],
                            n => n.to_string().into_bytes(),
                        };
                        let framing = match asked.size % 3 {
                            0 => Framing::Chunked,
                            _ => Framing::Length(body.len() as u64),
                        };
                        let field = Field {
                            name: b"X-Upstream",
                            value: b"sim",
                        };
                        http.send_head(out, 200, b"OK", [field], framing);
                        http.send_data(out, &body);
                        assert!(http.send_end(out, []));
                    }
                }
                if !out.is_empty() && !ring.send_in_flight(socket) {
                    ring.send(socket, std::mem::take(out));
                }
            }
            Event::Sent { socket, .. } => {
                if let Some(Some((_, _, out, _))) = self.connections.get_mut(socket.index as usize)
                    && !out.is_empty()
                {
                    ring.send(socket, std::mem::take(out));
                }
            }
            Event::PeerFinished { socket }
            | Event::PeerGone { socket }
            | Event::Failed { socket, .. } => {
                self.connections[socket.index as usize] = None;
                ring.close(socket);
            }
            _ => {}
        }
    }
    fn end_turn(&mut self, _: &mut SimRing) {}
    fn next_deadline(&self) -> Option<Instant> {
        None
    }
    fn is_finished(&self) -> bool {
        false
    }
}

fn job(lab: &Lab, size: usize, body: u64, seconds: u64) -> Arc<Job> {
    let roots = load_roots(&lab.0.join("ca.pem")).unwrap_or_else(|wrong| panic!("{}", wrong.text));
    let mut config = rustls::ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    tls::prepare_client_config(&mut config);
    Arc::new(Job {
        address: (GATEWAY, 443).into(),
        tls: Some((Arc::new(config), "10.0.0.2".try_into().unwrap())),
        host: "10.0.0.2".into(),
        target: format!("/x/{size}"),
        method: if body > 0 { "POST" } else { "GET" }.into(),
        headers: Vec::new(),
        body,
        requests: 0,
        warm_up: Duration::ZERO,
        duration: Duration::from_secs(seconds),
        timeout: Duration::from_secs(30),
        progress: Progress::default(),
    })
}

/// The world: everything started, and time moved in slices with the control plane in between.
struct World {
    net: SimNet,
    lab: Lab,
    gateway: GatewayHost,
    connectors: Vec<ConnectorHost>,
    upstream: (SimRing, Upstream),
    clients: Vec<(SimRing, Requests, mpsc::Receiver<Measured>)>,
    seed: u64,
    starts: u64,
}

impl World {
    fn new(seed: u64, config: SimConfig) -> World {
        World::with_connectors(1, seed, config)
    }

    fn with_connectors(connectors: usize, seed: u64, config: SimConfig) -> World {
        println!("seed {seed}");
        let lab = Lab::new(connectors);
        let net = SimNet::new(seed, config);
        let gateway = GatewayHost::start(&net, &lab, seed);
        let start = |n| start_connector(&net, &lab, n, seed + 1 + n as u64);
        let connectors: Vec<_> = (0..connectors).map(start).collect();
        let mut upstream = (net.ring(UPSTREAM), Upstream::default());
        let options = ListenOptions {
            reuse_port: false,
            backlog: 1024,
            direct: false,
            user_timeout: Duration::from_secs(60),
        };
        upstream.0.listen((UPSTREAM, 80).into(), &options).unwrap();
        World {
            net,
            lab,
            gateway,
            starts: connectors.len() as u64,
            connectors,
            upstream,
            clients: Vec::new(),
            seed,
        }
    }

    fn add_clients(&mut self, connections: usize, size: usize, body: u64, seconds: u64) {
        let ring = self.net.ring(CLIENT);
        let (results_in, results) = mpsc::sync_channel(1);
        let job = job(&self.lab, size, body, seconds);
        let service = Requests::new(job, connections, ring.now(), results_in);
        self.clients.push((ring, service, results));
    }

    fn run_for(&mut self, time: Duration) {
        let until = self.net.now() + time;
        while self.net.now() < until {
            let slice = (self.net.now() + STEP).min(until);
            let mut nodes = vec![
                Node {
                    ring: &mut self.gateway.ring,
                    service: &mut self.gateway.service,
                },
                Node {
                    ring: &mut self.upstream.0,
                    service: &mut self.upstream.1,
                },
            ];
            for ConnectorHost { ring, service, .. } in &mut self.connectors {
                nodes.push(Node { ring, service });
            }
            for (ring, service, _) in &mut self.clients {
                nodes.push(Node { ring, service });
            }
            run(&self.net, &mut nodes, slice);
            self.gateway.control();
        }
    }

    /// A `kill -9` of a connector, and its return.
    fn restart_connector(&mut self, n: usize) {
        let ring: RingId = self.connectors[n].ring.id();
        self.net.kill(ring, Death::Process);
        self.starts += 1;
        let seed = self.seed + 1 + self.starts;
        self.connectors[n] = start_connector(&self.net, &self.lab, n, seed);
    }

    /// A SIGTERM to a connector; gives the time until it has ended.
    fn drain_connector(&mut self, n: usize) -> Duration {
        let began = self.net.now();
        let deadline = began + DRAIN;
        let mailbox = &self.connectors[n].mailbox;
        assert!(
            mailbox
                .send(connector::shard::Message::Drain(deadline))
                .is_ok()
        );
        while !Service::<SimRing>::is_finished(&self.connectors[n].service) {
            assert!(self.net.now() <= deadline + STEP, "it does not end");
            self.run_for(STEP);
        }
        self.net.now() - began
    }

    /// The gateway's counters.
    fn counted(&mut self) -> ShardStats {
        let (reply, stats) = mpsc::sync_channel(1);
        let asked = self.gateway.shards[0].send(gateway::shard::Message::Stats(reply));
        assert!(asked.is_ok());
        self.run_for(STEP);
        stats.try_recv().expect("the shard answers")
    }

    /// All clients' results as one.
    fn total(self) -> Measured {
        let mut total = Measured::new();
        for measured in self.results() {
            total.merge(&measured);
        }
        total
    }

    fn results(self) -> Vec<Measured> {
        self.clients
            .into_iter()
            .map(|(_, _, results)| results.try_recv().expect("the clients have finished"))
            .collect()
    }
}

fn seeds() -> u64 {
    std::env::var("TIDEGATE_SIM_SEEDS")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(3)
}

#[test]
fn requests_pass_whatever_the_network_cuts() {
    for seed in 0..seeds() {
        let mut world = World::new(seed, SimConfig::default());
        world.run_for(Duration::from_secs(3));
        world.add_clients(4, 1024, 0, 2);
        world.add_clients(2, 300_001, 0, 2);
        world.add_clients(2, 0, 150_000, 2);
        world.run_for(Duration::from_secs(4));
        for measured in world.results() {
            assert!(measured.errors.is_empty(), "{:?}", measured.errors);
            assert_eq!(measured.statuses.keys().collect::<Vec<_>>(), [&200]);
            assert!(measured.latency.len() > 10, "{}", measured.latency.len());
        }
    }
}

#[test]
fn a_connectors_death_costs_only_what_was_on_its_link() {
    for seed in 100..100 + seeds() {
        let mut world = World::new(seed, SimConfig::default());
        world.run_for(Duration::from_secs(3));
        world.add_clients(8, 1024, 0, 6);
        world.run_for(Duration::from_secs(2));
        world.restart_connector(0);
        world.run_for(Duration::from_secs(6));
        let measured = world.results().remove(0);
        let of = |status| measured.statuses.get(&status).copied().unwrap_or(0);
        // Each of eight connections had at most one request on the link; the others waited for the next link.
        assert!(of(502) <= 8, "{:?}", measured.statuses);
        assert_eq!(of(503), 0, "{:?}", measured.statuses);
        assert!(of(200) > 100, "{:?}", measured.statuses);
        assert_eq!(measured.statuses.len(), 1 + usize::from(of(502) > 0));
        assert!(measured.errors.is_empty(), "{:?}", measured.errors);
    }
}

#[test]
fn a_partition_is_noticed_and_healed() {
    let mut world = World::new(7, SimConfig::default());
    world.run_for(Duration::from_secs(3));
    world.net.partition(GATEWAY, connector_address(0));
    world.run_for(Duration::from_secs(40));
    world.net.heal(GATEWAY, connector_address(0));
    world.run_for(Duration::from_secs(5));
    world.add_clients(4, 1024, 0, 2);
    world.run_for(Duration::from_secs(4));
    let measured = world.results().remove(0);
    assert_eq!(measured.statuses.keys().collect::<Vec<_>>(), [&200]);
    assert!(measured.errors.is_empty(), "{:?}", measured.errors);
}

/// The death of one of two connectors costs no client anything that may be asked twice.
#[test]
fn what_a_dead_connector_had_is_asked_of_the_other() {
    let mut retried = 0;
    for seed in 200..200 + seeds() {
        let mut world = World::with_connectors(2, seed, SimConfig::default());
        world.run_for(Duration::from_secs(3));
        world.add_clients(8, 1024, 0, 5);
        for n in [0, 1] {
            world.run_for(Duration::from_secs(2));
            world.restart_connector(n);
        }
        world.run_for(Duration::from_secs(3));
        let counted = world.counted();
        retried += counted.requests_retried;
        assert_eq!(counted.retries_withheld, 0);
        let measured = world.total();
        assert_eq!(measured.statuses.keys().collect::<Vec<_>>(), [&200]);
        // An answer that had begun breaks off, and no other.
        let cut: u64 = measured.errors.values().sum();
        assert_eq!(
            cut,
            counted.errors.get("connector_lost"),
            "{:?}",
            measured.errors
        );
        assert!(cut <= 16, "{:?}", measured.errors);
        assert!(measured.latency.len() > 100, "{}", measured.latency.len());
    }
    assert!(retried > 0, "no death met a request");
}

/// What may not be asked twice is answered with the loss, and nothing else is lost.
#[test]
fn a_dead_connectors_uploads_are_lost_and_named() {
    for seed in 300..300 + seeds() {
        let mut world = World::with_connectors(2, seed, SimConfig::default());
        world.run_for(Duration::from_secs(3));
        world.add_clients(8, 0, 2000, 6);
        world.run_for(Duration::from_secs(2));
        world.restart_connector(0);
        world.run_for(Duration::from_secs(6));
        let counted = world.counted();
        assert_eq!(counted.requests_retried, 0, "a POST was asked twice");
        let lost = counted.errors.get("connector_lost");
        let measured = world.total();
        let of = |status| measured.statuses.get(&status).copied().unwrap_or(0);
        assert!(lost <= 8 && of(502) == lost, "{:?}", measured.statuses);
        assert_eq!(measured.statuses.len(), 1 + usize::from(lost > 0));
        assert!(of(200) > 100 && measured.errors.is_empty());
    }
}

/// Connectors that are asked to end take nothing with them, whatever the method.
#[test]
fn connectors_restarted_in_turn_lose_nothing() {
    for seed in 400..400 + seeds() {
        let mut world = World::with_connectors(2, seed, SimConfig::default());
        world.run_for(Duration::from_secs(3));
        world.add_clients(4, 1024, 0, 8);
        world.add_clients(4, 0, 2000, 8);
        world.add_clients(1, 0, 70_000, 8);
        for n in [0, 1, 0, 1] {
            world.run_for(Duration::from_millis(500));
            let took = world.drain_connector(n);
            assert!(took < Duration::from_secs(5), "it took {took:?}");
            world.restart_connector(n);
            world.run_for(Duration::from_millis(700));
        }
        world.run_for(Duration::from_secs(6));
        let counted = world.counted();
        assert_eq!(counted.requests_retried, 0, "nothing had to be asked twice");
        let measured = world.total();
        assert_eq!(measured.statuses.keys().collect::<Vec<_>>(), [&200]);
        assert!(measured.errors.is_empty(), "{:?}", measured.errors);
        assert!(measured.latency.len() > 500, "{}", measured.latency.len());
    }
}

/// Whenever in a link's beginning the CA of connectors is replaced: it does not become one that carries requests.
#[test]
fn a_link_that_begins_under_the_old_ca_does_not_outlive_it() {
    let mut opened = Vec::new();
    for after in (0..160).map(|n| Duration::from_micros(250 * n)) {
        let mut world = World::new(600, SimConfig::default());
        let file = |name| std::fs::read_to_string(world.lab.0.join(name)).unwrap();
        let other = file("gateway.toml").replace("= \"ca.pem\"", "= \"clients-ca.pem\"");
        std::fs::write(world.lab.0.join("other.toml"), other).unwrap();
        let (config, _) = load_gateway(&world.lab.0.join("other.toml")).unwrap();
        let plan = Arc::new(gateway::server::plan(&config).unwrap());
        world.run_for(after);
        let sent = world.gateway.shards[0].send(gateway::shard::Message::Plan(plan));
        assert!(sent.is_ok());
        world.run_for(Duration::from_secs(2));
        let counted = world.counted();
        assert_eq!(counted.links, 0, "{after:?} after the start");
        opened.push(counted.links_opened);
    }
    // The canary: from before the first dial until after READY.
    assert_eq!((opened.first(), opened.last()), (Some(&0), Some(&1)));
}

/// The control thread has no room for more settings: the link stays up, and they are published again.
#[test]
fn settings_that_find_no_room_come_again() {
    for seed in 800..800 + seeds() {
        let mut world = World::with_connectors(2, seed, SimConfig::default());
        let backlog = world.gateway.backlog.clone();
        let others: Vec<_> = (0..).map_while(|_| backlog.enter(1)).collect();
        world.run_for(Duration::from_secs(3));
        let counted = world.counted();
        assert_eq!((counted.links, counted.links_lost), (2, 0));
        drop(others);
        world.run_for(Duration::from_secs(4));
        world.add_clients(4, 1024, 0, 1);
        world.run_for(Duration::from_secs(2));
        assert_eq!(world.counted().links_opened, 2);
        let measured = world.total();
        assert_eq!(measured.statuses.keys().collect::<Vec<_>>(), [&200]);
    }
}

/// What is kept of a request counts against the memory cap until its answer comes, and no longer.
#[test]
fn what_is_kept_for_a_retry_is_charged_until_the_answer() {
    let mut world = World::with_connectors(2, 900, SimConfig::default());
    world.run_for(Duration::from_secs(3));
    world.net.partition(connector_address(0), UPSTREAM);
    world.net.partition(connector_address(1), UPSTREAM);
    world.add_clients(8, 1024, 0, 1);
    world.run_for(Duration::from_millis(500));
    let counted = world.counted();
    assert_eq!(counted.requests_open, 8);
    assert!(
        counted.memory_charged > 8 * 100,
        "{}",
        counted.memory_charged
    );
    world.net.heal(connector_address(0), UPSTREAM);
    world.net.heal(connector_address(1), UPSTREAM);
    world.run_for(Duration::from_secs(30));
    let counted = world.counted();
    assert_eq!((counted.requests_open, counted.memory_charged), (0, 0));
}

/// A site without connectors: who gave up waiting leaves no trace among those that wait.
#[test]
fn requests_that_waited_in_vain_are_forgotten() {
    let mut world = World::with_connectors(0, 700, SimConfig::default());
    world.add_clients(8, 1024, 0, 3);
    world.run_for(Duration::from_millis(500));
    assert_eq!(world.counted().requests_held, 8);
    world.run_for(Duration::from_secs(5));
    assert_eq!(world.counted().requests_held, 0);
    let measured = world.total();
    assert_eq!(measured.statuses.keys().collect::<Vec<_>>(), [&503]);
}

/// The only connector of a site drains and comes back: requests wait for it meanwhile.
#[test]
fn requests_wait_while_the_only_connector_is_replaced() {
    for seed in 500..500 + seeds() {
        let mut world = World::new(seed, SimConfig::default());
        world.run_for(Duration::from_secs(3));
        world.add_clients(4, 1024, 0, 6);
        world.add_clients(4, 0, 2000, 6);
        world.run_for(Duration::from_secs(1));
        world.drain_connector(0);
        world.restart_connector(0);
        world.run_for(Duration::from_secs(7));
        let counted = world.counted();
        assert_eq!(counted.streams, 0, "a held request left its stream open");
        let measured = world.total();
        assert_eq!(measured.statuses.keys().collect::<Vec<_>>(), [&200]);
        assert!(measured.errors.is_empty(), "{:?}", measured.errors);
    }
}
