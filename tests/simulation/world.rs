//! The world of a simulation: processes of one shard each over simulated rings, and time.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use tidegate::client::channel;
use tidegate::client::channel::clients::Clients;
use tidegate::client::channel::job::Board;
use tidegate::client::load::figures::Times;
use tidegate::client::load::scenario::words::Think;
use tidegate::client::load::scenario::{Flags, Kind, Scenario};
use tidegate::client::load::shard::{Report, Shard};
use tidegate::client::load::timeline::Clock;
use tidegate::client::load::{self, Plan};
use tidegate::connector::hub::message::FromShard;
use tidegate::connector::notify::ToHub;
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
use tidegate::ring::{Event, ListenOptions, Receive, SocketId, Verbs, Wake};
use tidegate::shard::executor::Service;
use tidegate::shard::mesh::{self, Receiver, Sender};
use tidegate::shard::simulation::{Node, run};
use tidegate::wire::Field;
use tidegate::wire::http1::{self, Framing, ServerEvent};
use tidegate::wire::relay::Incarnations;
use tidegate::wire::tls;

pub const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
pub const GATEWAY: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2));
pub const UPSTREAM: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 4));
/// Virtual time between two looks of the control plane.
pub const STEP: Duration = Duration::from_millis(20);
/// What a draining process is given.
pub const DRAIN: Duration = Duration::from_secs(20);

/// Where the connector `cp-N` runs, counted from 0.
pub fn connector_address(n: usize) -> IpAddr {
    Ipv4Addr::new(10, 0, 1, 1 + n as u8).into()
}

/// A PKI and the config files, made once and removed at the end.
pub struct Lab(pub PathBuf);

impl Lab {
    pub fn new(connectors: usize) -> Lab {
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
pub struct GatewayHost {
    pub ring: SimRing,
    pub service: Gateway,
    publications: mpsc::Receiver<Order>,
    pub backlog: Arc<Backlog>,
    registry: Mutex<Registry>,
    published: Arc<Published<Snapshot>>,
    plan: Arc<gateway::plan::Plan>,
    pub shards: Vec<Sender<gateway::shard::Message>>,
}

impl GatewayHost {
    pub fn start(net: &SimNet, lab: &Lab, seed: u64) -> GatewayHost {
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

    pub fn control(&self) {
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
pub struct ConnectorHost {
    pub ring: SimRing,
    pub service: Connector,
    pub mailbox: Sender<connector::shard::Message>,
    /// What it would tell its hub.
    pub hub: Receiver<(usize, FromShard)>,
}

pub fn start_connector(net: &SimNet, lab: &Lab, n: usize, seed: u64) -> ConnectorHost {
    let (config, _) = load_connector(&lab.0.join(format!("cp-{n}.toml"))).unwrap();
    let plan = Arc::new(connector::server::plan(&config).unwrap());
    let ring = net.ring(connector_address(n));
    let (sender, receiver) = mesh::channel(64, ring.waker());
    let resolver = Resolver::start().unwrap().replying_to(sender.clone());
    let mut cx = connector::context::Context::new(plan, 0, ring.now(), resolver, seed);
    // It is read between slices of time, and wakes nobody.
    let (to_hub, hub) = mesh::channel(4096, Nobody);
    cx.hub = Some(ToHub::new(to_hub, 0));
    let service = Connector::new(cx, receiver, vec![sender.clone()]);
    ConnectorHost {
        ring,
        service,
        mailbox: sender,
        hub,
    }
}

struct Nobody;

impl Wake for Nobody {
    fn wake(&self) {}
}

/// An HTTP server: `/x/N` is answered with N bytes, an upload with its length as text.
#[derive(Default)]
pub struct Upstream {
    connections: Vec<Option<Served>>,
}

/// A connection, its HTTP core, what waits to be sent, and the request that is being received.
pub type Served = (SocketId, http1::Server, Vec<u8>, Asked);

#[derive(Default, Clone, Copy)]
pub struct Asked {
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

/// A closed loop of one shard of the load generator.
fn flags(lab: &Lab, connections: usize, size: usize, body: u64, seconds: u64, seed: u64) -> Flags {
    let method = if body > 0 { "POST" } else { "GET" };
    Flags {
        url: Some(format!("https://{GATEWAY}/x/{size}")),
        ca: Some(lab.0.join("ca.pem")),
        connections: Some(connections),
        method: Some(method.into()),
        body: Some(body),
        warm_up: Some(Duration::ZERO),
        duration: Some(Duration::from_secs(seconds)),
        seed: Some(seed),
        ..Flags::default()
    }
}

/// What clients measured.
pub struct Measured {
    pub latency: Times,
    pub statuses: BTreeMap<u16, u64>,
    pub errors: BTreeMap<String, u64>,
}

impl Measured {
    fn of(figures: &load::figures::Figures) -> Measured {
        let member = &figures.members[0];
        let errors = figures.errors.iter();
        Measured {
            latency: member.latency.clone(),
            statuses: member.statuses.iter().copied().collect(),
            errors: errors
                .map(|(class, (n, why))| (format!("{class:?}: {why}"), *n))
                .collect(),
        }
    }
}

fn channels(lab: &Lab, now: Instant) -> Arc<channel::job::Job> {
    let roots = load_roots(&lab.0.join("ca.pem")).unwrap_or_else(|wrong| panic!("{}", wrong.text));
    let mut config = rustls::ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    tls::prepare_parking_client_config(&mut config);
    Arc::new(channel::job::Job {
        address: (GATEWAY, 443).into(),
        server: "10.0.0.2".try_into().unwrap(),
        host: "10.0.0.2".into(),
        tls: Arc::new(config),
        identities: Some(pki::Identities::open(&lab.0).unwrap()),
        token: None,
        kinds: vec![channel::Kind::Sse, channel::Kind::WebSocket],
        sources: Vec::new(),
        rate: 0.0,
        at_once: 16,
        timeout: Duration::from_secs(30),
        silence: Duration::from_secs(90),
        poll_wait_s: 30,
        receipts: true,
        reconnect: true,
        epoch: now,
        stop: false.into(),
        leave: false.into(),
    })
}

/// The world: everything started, and time moved in slices with the control plane in between.
pub struct World {
    pub net: SimNet,
    pub lab: Lab,
    pub gateway: GatewayHost,
    pub connectors: Vec<ConnectorHost>,
    pub upstream: (SimRing, Upstream),
    pub clients: Vec<(SimRing, Shard, mpsc::Receiver<Report>)>,
    /// Those that hold channels.
    pub holders: Vec<(SimRing, Clients, Arc<Board>)>,
    pub seed: u64,
    pub starts: u64,
}

impl World {
    pub fn new(seed: u64, config: SimConfig) -> World {
        World::with_connectors(1, seed, config)
    }

    pub fn with_connectors(connectors: usize, seed: u64, config: SimConfig) -> World {
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
            holders: Vec::new(),
            seed,
        }
    }

    pub fn add_clients(&mut self, connections: usize, size: usize, body: u64, seconds: u64) {
        let flags = flags(&self.lab, connections, size, body, seconds, self.seed);
        self.add(flags, seconds);
    }

    fn add(&mut self, flags: Flags, seconds: u64) {
        let ring = self.net.ring(CLIENT);
        let (results_in, results) = mpsc::channel();
        let plan = Plan::new(Scenario::of(Kind::Requests, None, flags).unwrap()).unwrap();
        let clock = Clock::new(ring.now(), Duration::ZERO, Duration::from_secs(seconds));
        let service = Shard::new(Arc::new(plan), 0, clock, results_in);
        self.clients.push((ring, service, results));
    }

    /// Clients that wait between an answer and their next request.
    pub fn add_thinking_clients(&mut self, connections: usize, think: &str, seconds: u64) {
        let flags = Flags {
            think: Some(Think::new(think).unwrap()),
            ..flags(&self.lab, connections, 1024, 0, seconds, self.seed)
        };
        self.add(flags, seconds);
    }

    /// Clients of these numbers open a channel each, of all kinds in turn, and open it again when it ends.
    pub fn add_channels(&mut self, numbers: std::ops::Range<u32>) {
        let ring = self.net.ring(CLIENT);
        let board = Arc::new(Board::default());
        let job = channels(&self.lab, ring.now());
        let service = Clients::new(job, numbers, board.clone(), ring.now());
        self.holders.push((ring, service, board));
    }

    pub fn run_for(&mut self, time: Duration) {
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
            for (ring, service, _) in &mut self.holders {
                nodes.push(Node { ring, service });
            }
            run(&self.net, &mut nodes, slice);
            self.gateway.control();
        }
    }

    /// A `kill -9` of a connector, and its return.
    pub fn restart_connector(&mut self, n: usize) {
        let ring: RingId = self.connectors[n].ring.id();
        self.net.kill(ring, Death::Process);
        self.starts += 1;
        let seed = self.seed + 1 + self.starts;
        self.connectors[n] = start_connector(&self.net, &self.lab, n, seed);
    }

    /// A SIGTERM to a connector; gives the time until it has ended.
    pub fn drain_connector(&mut self, n: usize) -> Duration {
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
    pub fn counted(&mut self) -> ShardStats {
        let (reply, stats) = mpsc::sync_channel(1);
        let asked = self.gateway.shards[0].send(gateway::shard::Message::Stats(reply));
        assert!(asked.is_ok());
        self.run_for(STEP);
        stats.try_recv().expect("the shard answers")
    }

    /// All clients' results as one.
    pub fn total(self) -> Measured {
        let mut total = load::figures::Figures::new(1, false);
        for figures in self.figures() {
            total.merge(&figures);
        }
        Measured::of(&total)
    }

    pub fn results(self) -> Vec<Measured> {
        self.figures()
            .map(|figures| Measured::of(&figures))
            .collect()
    }

    fn figures(self) -> impl Iterator<Item = Box<load::figures::Figures>> {
        self.clients.into_iter().map(|(_, _, results)| {
            let done = results.try_iter().find_map(|report| match report {
                Report::Done(_, figures) => Some(figures),
                Report::Moment(..) => None,
            });
            done.expect("the clients have finished")
        })
    }
}
