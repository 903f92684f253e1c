//! Queued pushes while every process is killed at random moments, against a model: what was accepted reaches its client and
//! nobody else, and comes again only as a repeat. `TIDEGATE_E2E_CRASHES=N` kills more often.

use super::{token, with_tokens};
use crate::harness::channel::{Frame, PATH, Socket, UPGRADE};
use crate::harness::{Lab, Tls, tls};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

const CLIENTS: usize = 6;
/// From the last kill until everything that was accepted is acknowledged.
const RECOVERY: Duration = Duration::from_secs(90);

/// What the world promised and what clients saw.
#[derive(Default)]
struct Model {
    /// Accepted pushes and whose they are.
    accepted: BTreeMap<String, usize>,
    /// By client: pushes that it has seen, whether it forgot to acknowledge them or not.
    seen: Vec<BTreeSet<String>>,
    /// What broke the promise.
    wrong: Vec<String>,
}

struct World {
    model: Mutex<Model>,
    stop: AtomicBool,
    /// Nobody is killed any more: clients come back at once.
    settling: AtomicBool,
    /// A client that must drop its connection now.
    drop_client: AtomicU64,
}

/// One connection of a client: until it breaks, or the world wants it to.
fn attend(world: &World, client: usize, socket: &mut Socket, random: &mut fastrand::Rng) {
    socket.tls.patience(Duration::from_millis(200));
    // It leaves by itself too, so that pushes wait for it when somebody is killed.
    let mut left = random.u32(1..30);
    while left > 0 && !world.stop.load(Ordering::Relaxed) {
        let wanted = client as u64 + 1;
        if world
            .drop_client
            .compare_exchange(wanted, 0, Ordering::Relaxed, Ordering::Relaxed)
            .is_ok()
        {
            return;
        }
        let text = match socket.try_next() {
            Ok(Frame::Text(text)) => text,
            Ok(Frame::Ping(_) | Frame::Pong(_)) => continue,
            Ok(Frame::Close(..)) => return,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => continue,
            Err(_) => return,
        };
        left -= 1;
        let envelope: Value = serde_json::from_str(&text).expect("JSON");
        let push = envelope["push"].as_str().expect("an id").to_owned();
        let repeat = envelope["repeat"] == true;
        let mut model = world.model.lock().expect("the model");
        if envelope["payload"]["client"] != client {
            model.wrong.push(format!("client {client} got {envelope}"));
        }
        if !model.seen[client].insert(push.clone()) && !repeat {
            let text = format!("client {client} got {push} again, unmarked");
            model.wrong.push(text);
        }
        drop(model);
        // Some receipts are forgotten: the push comes again.
        if random.u8(..) < 200 {
            let receipt = format!("{{\"receipt\":\"{push}\"}}");
            let frame = crate::harness::channel::frame(0x81, receipt.as_bytes());
            if socket.tls.try_send(frame).is_err() {
                return;
            }
        }
    }
}

/// A client that comes back whatever happens.
fn run_client(
    world: &World,
    lab_port: u16,
    config: &std::sync::Arc<rustls::ClientConfig>,
    client: usize,
    bearer: &str,
) {
    let mut random = fastrand::Rng::with_seed(client as u64);
    while !world.stop.load(Ordering::Relaxed) {
        if let Ok(mut tls) = Tls::try_connect_to(lab_port, config)
            && tls
                .try_send(format!(
                    "GET {PATH} HTTP/1.1\r\nHost: localhost\r\n{UPGRADE}{bearer}\r\n"
                ))
                .is_ok()
            && tls.try_head().is_ok_and(|head| head.status == 101)
        {
            attend(world, client, &mut Socket { tls }, &mut random);
        }
        let away = if world.settling.load(Ordering::Relaxed) {
            20
        } else {
            random.u64(20..600)
        };
        std::thread::park_timeout(Duration::from_millis(away));
    }
}

/// Pushes as fast as answers come, and notes what was accepted.
fn run_pusher(world: &World, lab: &Lab, stop_pushing: &AtomicBool) {
    let api = lab.api();
    let mut number = 0;
    while !stop_pushing.load(Ordering::Relaxed) {
        number += 1;
        let client = number % CLIENTS;
        let body = json!({
            "to": {"clients": [format!("site:main/pc-{client}")]},
            "payload": {"client": client, "n": number},
            "queue": true, "ttl_s": 600,
        });
        let accepted = api
            .try_ask("POST", "/v1/push", "", &body.to_string())
            .ok()
            .filter(|answer| answer.status == 202)
            .and_then(|answer| serde_json::from_slice::<Value>(&answer.body).ok());
        match accepted {
            Some(answer) => {
                let push = answer["push"].as_str().expect("an id").to_owned();
                let mut model = world.model.lock().expect("the model");
                model.accepted.insert(push, client);
            }
            None => std::thread::park_timeout(Duration::from_millis(20)),
        }
        std::thread::park_timeout(Duration::from_millis(2));
    }
}

#[test]
fn no_accepted_push_is_lost_or_goes_astray_whoever_is_killed() {
    let kills: usize = std::env::var("TIDEGATE_E2E_CRASHES")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(12);
    let mut random = fastrand::Rng::with_seed(1);
    let mut lab = with_tokens().notify("").start();
    let bearers: Vec<String> = (0..CLIENTS)
        .map(|n| {
            let token = token(lab.dir(), &["issue", "--client", &format!("pc-{n}")]);
            format!("Authorization: Bearer {token}\r\n")
        })
        .collect();
    let world = World {
        model: Mutex::new(Model {
            seen: vec![BTreeSet::new(); CLIENTS],
            ..Model::default()
        }),
        stop: AtomicBool::new(false),
        settling: AtomicBool::new(false),
        drop_client: AtomicU64::new(0),
    };
    let (config, port) = (tls::config(&lab, None), lab.ports.clients);
    let stop_pushing = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let _stops = StopAtEnd(&world.stop);
        for (client, bearer) in bearers.iter().enumerate() {
            let (world, config) = (&world, &config);
            scope.spawn(move || run_client(world, port, config, client, bearer));
        }
        for round in 0..kills {
            // The pusher borrows the lab for its port alone; the lab changes hands between rounds.
            stop_pushing.store(false, Ordering::Relaxed);
            let span = Duration::from_millis(random.u64(50..900));
            std::thread::scope(|inner| {
                let (world, stop, lab) = (&world, &stop_pushing, &lab);
                let pusher = inner.spawn(move || run_pusher(world, lab, stop));
                std::thread::park_timeout(span);
                // Killed while pushes are on their way.
                match round % 3 {
                    0 => drop(
                        std::process::Command::new("kill")
                            .args(["-9", &pid(lab.connector.as_ref())])
                            .status(),
                    ),
                    1 => drop(
                        std::process::Command::new("kill")
                            .args(["-9", &lab.gateway.pid().to_string()])
                            .status(),
                    ),
                    _ => {
                        let client = random.u64(1..=CLIENTS as u64);
                        world.drop_client.store(client, Ordering::Relaxed);
                    }
                }
                std::thread::park_timeout(Duration::from_millis(random.u64(0..300)));
                stop.store(true, Ordering::Relaxed);
                pusher.join().expect("the pusher");
            });
            match round % 3 {
                0 => {
                    lab.kill_connector();
                    lab.spawn_connector();
                    lab.wait_connector();
                }
                1 => {
                    lab.gateway.kill();
                    lab.spawn_gateway();
                    lab.wait_gateway();
                    lab.wait_connector();
                }
                _ => {}
            }
        }
        world.settling.store(true, Ordering::Relaxed);
        settle(&world, &lab);
    });
    let model = world.model.into_inner().expect("the model");
    println!("{} pushes accepted, {kills} kills", model.accepted.len());
    assert!(model.wrong.is_empty(), "{:#?}", model.wrong);
    assert!(
        model.accepted.len() > 10 * kills,
        "{}",
        model.accepted.len()
    );
}

fn pid(process: Option<&crate::harness::process::Process>) -> String {
    process.map_or_else(String::new, |process| process.pid().to_string())
}

/// Waits until every accepted push was seen by its client.
fn settle(world: &World, lab: &Lab) {
    let end = Instant::now() + RECOVERY;
    loop {
        let missing: Vec<String> = {
            let model = world.model.lock().expect("the model");
            let missing = model
                .accepted
                .iter()
                .filter(|(push, client)| !model.seen[**client].contains(*push));
            missing.map(|(push, _)| push.clone()).collect()
        };
        if missing.is_empty() {
            return;
        }
        if Instant::now() >= end {
            let states: Vec<String> = missing
                .iter()
                .take(3)
                .map(|push| {
                    lab.api()
                        .ask("GET", &format!("/v1/push/{push}?clients=true"), "")
                        .text()
                })
                .collect();
            panic!("{} pushes are lost: {states:#?}", missing.len());
        }
        std::thread::park_timeout(Duration::from_millis(50));
    }
}

/// Threads end, also when the test fails.
struct StopAtEnd<'a>(&'a AtomicBool);

impl Drop for StopAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
