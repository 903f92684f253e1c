//! Instructions that a request costs gateway and connector, end to end and the same on a machine that is busy with other
//! things: the whole tunnel runs over simulated rings (`tests/simulation`) under callgrind, which counts what each of the
//! two does while it has the word. Two runs of different length are compared, so that start, handshakes and settings
//! count for nothing. What the simulated ring itself does is left out; what the kernel would do is not in it, nor is the
//! processor's VAES, which callgrind does not know (records cost more instructions here than on most servers).
//!
//! Promises: `gateway_instructions_*` and `connector_instructions_*` in tuning/budgets.toml.
//!
//! ```text
//! cargo bench --bench instructions              needs valgrind
//! cargo bench --bench instructions -- --json FILE
//! ```

#[path = "../tests/simulation/world.rs"]
#[expect(dead_code, reason = "the simulation's tests use the rest")]
mod world;

use serde_json::json;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;
use tidegate::ring::sim::SimConfig;
use world::World;

/// Tells a run under callgrind what to do: `connections size body latency_us seconds`.
const WORK: &str = "TIDEGATE_INSTRUCTIONS_WORK";
const SEED: u64 = 7;

/// What is counted: a name, connections, bytes down and up, one-way delay, and virtual seconds of the two runs.
struct Case {
    name: &'static str,
    connections: usize,
    size: usize,
    body: u64,
    latency_us: u64,
    seconds: [u64; 2],
}

const CASES: &[Case] = &[
    Case {
        name: "1 KiB, one connection",
        connections: 1,
        size: 1024,
        body: 0,
        latency_us: 100,
        seconds: [1, 3],
    },
    Case {
        name: "1 KiB, 64 connections",
        connections: 64,
        size: 1024,
        body: 0,
        latency_us: 5_000,
        seconds: [1, 3],
    },
    Case {
        name: "64 KiB down, 8 connections",
        connections: 8,
        size: 65_537,
        body: 0,
        latency_us: 5_000,
        seconds: [1, 3],
    },
    Case {
        name: "64 KiB up, 8 connections",
        connections: 8,
        size: 0,
        body: 65_536,
        latency_us: 5_000,
        seconds: [1, 3],
    },
];

/// Who is counted, and the functions in which he has the word.
const SIDES: [(&str, &str); 2] = [
    (
        "gateway",
        "*gateway::shard::Gateway as tidegate::shard::executor::Service*",
    ),
    (
        "connector",
        "*connector::shard::Connector as tidegate::shard::executor::Service*",
    ),
];

fn main() -> ExitCode {
    if let Ok(work) = std::env::var(WORK) {
        run(&work);
        return ExitCode::SUCCESS;
    }
    match compare() {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("instructions: {why}");
            ExitCode::FAILURE
        }
    }
}

/// One run of the world; prints how many requests were answered.
fn run(work: &str) {
    let numbers: Vec<u64> = work.split(' ').filter_map(|n| n.parse().ok()).collect();
    let [connections, size, body, latency_us, seconds] = numbers[..] else {
        panic!("{WORK} is {work:?}");
    };
    let latency = Duration::from_micros(latency_us);
    let config = SimConfig {
        latency: (latency, latency),
        split: false,
        ..SimConfig::default()
    };
    let mut world = World::new(SEED, config);
    world.run_for(Duration::from_secs(3));
    world.add_clients(connections as usize, size as usize, body, seconds);
    world.run_for(Duration::from_secs(seconds + 1));
    let measured = world.total();
    assert!(measured.errors.is_empty(), "{:?}", measured.errors);
    println!("answered {}", measured.latency.len());
}

fn compare() -> Result<(), String> {
    let mut arguments = std::env::args()
        .skip(1)
        .filter(|argument| argument != "--bench");
    let json = match (arguments.next().as_deref(), arguments.next()) {
        (None, _) => None,
        (Some("--json"), Some(file)) => Some(PathBuf::from(file)),
        _ => return Err("usage: cargo bench --bench instructions [-- --json FILE]".into()),
    };
    let folder = std::env::temp_dir().join(format!("tidegate-instructions-{}", std::process::id()));
    std::fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let mut results = Vec::new();
    println!("| instructions a request | gateway | connector |\n|---|---:|---:|");
    for case in CASES {
        let mut counts = [0.0; 2];
        for ((_, functions), count) in SIDES.iter().zip(&mut counts) {
            let [short, long] = case
                .seconds
                .map(|seconds| count_run(case, seconds, functions, &folder));
            let (short, long) = (short?, long?);
            *count = (long.instructions - short.instructions) / (long.requests - short.requests);
        }
        println!("| {} | {:.0} | {:.0} |", case.name, counts[0], counts[1]);
        results.push(json!({"case": case.name, "gateway": counts[0], "connector": counts[1]}));
    }
    let _ = std::fs::remove_dir_all(&folder);
    if let Some(file) = json {
        let text = format!("{:#}\n", json!({"instructions_a_request": results}));
        std::fs::write(&file, text).map_err(|error| format!("{}: {error}", file.display()))?;
    }
    Ok(())
}

struct Counted {
    requests: f64,
    instructions: f64,
}

/// Runs this program under callgrind, counting only within the functions of that pattern.
fn count_run(case: &Case, seconds: u64, functions: &str, folder: &Path) -> Result<Counted, String> {
    let own = std::env::current_exe().map_err(|error| error.to_string())?;
    let out = folder.join("callgrind.out");
    let work = format!(
        "{} {} {} {} {seconds}",
        case.connections, case.size, case.body, case.latency_us
    );
    let done = Command::new("valgrind")
        .args([
            "--tool=callgrind",
            "--quiet",
            &format!("--toggle-collect={functions}"),
        ])
        .arg(format!("--callgrind-out-file={}", out.display()))
        .arg(own)
        .env(WORK, work)
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| format!("valgrind (a Debian package) cannot be run: {error}"))?;
    let said = String::from_utf8_lossy(&done.stdout);
    let requests = said
        .lines()
        .find_map(|line| line.strip_prefix("answered ")?.parse().ok())
        .ok_or_else(|| format!("{}: the run failed: {said}", case.name))?;
    let annotated = Command::new("callgrind_annotate")
        .args(["--threshold=100", "--show-percs=no", "--auto=no"])
        .arg(&out)
        .output()
        .map_err(|error| format!("callgrind_annotate cannot be run: {error}"))?;
    let instructions = instructions(&String::from_utf8_lossy(&annotated.stdout))?;
    Ok(Counted {
        requests,
        instructions,
    })
}

/// All functions' own instructions but the simulated ring's.
fn instructions(annotated: &str) -> Result<f64, String> {
    let mut functions = annotated.lines().filter_map(|line| {
        let (count, name) = line.trim_start().split_once(' ')?;
        let count: f64 = count.replace(',', "").parse().ok()?;
        name.contains(':').then_some((count, name))
    });
    let sum: f64 = functions
        .by_ref()
        // By its name, or by the file of what was inlined elsewhere.
        .filter(|(_, name)| !name.contains("ring::sim") && !name.contains("/ring/sim/"))
        .map(|(count, _)| count)
        .sum();
    if sum > 0.0 {
        Ok(sum)
    } else {
        Err("callgrind counted nothing: the functions have other names now".into())
    }
}
