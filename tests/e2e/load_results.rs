//! What `tidegate load` leaves behind, and clients on other hosts (here: other processes): agents, pages, comparisons.

use crate::harness::lab::tidegate;
use crate::harness::process::Process;
use crate::harness::upstream::What;
use crate::harness::{Lab, until};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

const SOON: Duration = Duration::from_secs(20);

/// The command that starts an agent, which leaves its process id in a file.
fn agent(lab: &Lab, name: &str) -> String {
    let program = tidegate().get_program().to_string_lossy().into_owned();
    let file = lab.file(&format!("{name}.pid"));
    format!(
        "{name}=sh -c 'echo $$ > {}; exec {program} load agent'",
        file.display()
    )
}

fn pid(lab: &Lab, name: &str) -> u32 {
    let file = lab.file(&format!("{name}.pid"));
    until("the agent's process id", SOON, || {
        fs::read_to_string(&file).ok()?.trim().parse().ok()
    })
}

/// Not there, or dead and only waited for.
fn is_gone(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')')
        .next()
        .is_none_or(|rest| rest.is_empty() || rest.starts_with(" Z"))
}

/// `tidegate load requests` of a path through the lab.
fn requests(lab: &Lab, path: &str) -> Command {
    let mut command = tidegate();
    command.args(["load", "requests", "--url", &lab.url(path), "--ca"]);
    command.arg(lab.file("ca.pem"));
    command
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[output.stdout.clone(), output.stderr.clone()].concat()).into_owned()
}

fn read(file: &Path) -> Value {
    let text = fs::read_to_string(file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    serde_json::from_str(&text).expect("a result")
}

fn seen(lab: &Lab, path: &str) -> usize {
    let all = lab.upstream.seen().into_iter();
    all.filter(|seen| seen.what == What::Began && seen.target.contains(path))
        .count()
}

fn sum(values: &Value, key: &str) -> u64 {
    let values = values.as_array().expect("a list").iter();
    values
        .map(|value| value[key].as_u64().expect("a number"))
        .sum()
}

#[test]
fn two_agents_are_one_run() {
    let lab = Lab::start();
    let (json_file, page) = (lab.file("two.json"), lab.file("two.html"));
    let own = std::process::id();
    let output = requests(&lab, "/t/two")
        .args(["-c", "5", "-n", "1001", "--shards", "2", "--seed", "7"])
        .args([
            "--agent",
            &agent(&lab, "near"),
            "--agent",
            &agent(&lab, "far"),
        ])
        .arg(format!("--pid=test={own}"))
        .arg("--json")
        .arg(&json_file)
        .arg("--html")
        .arg(&page)
        .output()
        .expect("tidegate load");
    assert!(output.status.success(), "{}", said(&output));
    let run = read(&json_file);
    assert_eq!(
        (&run["requests"], &run["connections"], &run["seed"]),
        (&json!(1001), &json!(5), &json!(7))
    );
    assert_eq!(seen(&lab, "/t/two"), 1001);
    let histogram = run["histogram_us"].as_array().expect("a histogram").iter();
    assert_eq!(
        histogram
            .map(|bucket| bucket[1].as_u64().unwrap())
            .sum::<u64>(),
        1001
    );
    assert_eq!(sum(&run["timeline"], "requests"), 1001);
    let agents = &run["agents"];
    let names: Vec<_> = agents
        .as_array()
        .unwrap()
        .iter()
        .map(|agent| agent["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["near", "far"]);
    assert_eq!(
        (&agents[0]["requests"], &agents[1]["requests"]),
        (&json!(501), &json!(500))
    );
    assert_eq!(
        (&agents[0]["connections"], &agents[1]["connections"]),
        (&json!(3), &json!(2))
    );
    assert!(
        agents[1]["load"]["cpu_seconds"].as_f64() > Some(0.0),
        "{agents}"
    );
    assert!(
        agents[1]["environment"]["cores"].as_u64() >= Some(1),
        "{agents}"
    );
    assert_eq!(run["processes"][0]["name"], "test");
    assert!(is_gone(pid(&lab, "near")) && is_gone(pid(&lab, "far")));

    // What the page shows as its scenario is one.
    let page = fs::read_to_string(page).expect("a page");
    let scenario = page
        .split("<pre>")
        .nth(1)
        .and_then(|rest| rest.split("</pre>").next());
    let scenario = scenario
        .expect("a scenario")
        .replace("&quot;", "\"")
        .replace("&lt;", "<");
    let file = lab.file("again.toml");
    fs::write(&file, scenario.replace("&gt;", ">").replace("&amp;", "&")).unwrap();
    let again = lab.file("again.json");
    let output = tidegate()
        .args(["load", "requests", "-n", "20", "--scenario"])
        .arg(&file)
        .arg("--json")
        .arg(&again)
        .output()
        .expect("tidegate load");
    assert!(output.status.success(), "{}", said(&output));
    let repeated = read(&again);
    assert_eq!(
        (
            &repeated["requests"],
            &repeated["seed"],
            &repeated["connections"]
        ),
        (&json!(20), &json!(7), &json!(5))
    );
    assert_eq!(seen(&lab, "/t/two"), 1021);
}

#[test]
fn an_agent_that_dies_in_the_run_is_told() {
    let lab = Lab::start();
    let file = lab.file("lost.json");
    let mut command = requests(&lab, "/t/lost");
    command
        .args(["-c", "2", "-d", "3s", "--warm-up", "0s"])
        .args([
            "--agent",
            &agent(&lab, "stays"),
            "--agent",
            &agent(&lab, "dies"),
            "--json",
        ])
        .arg(&file);
    let mut load = Process::start("load", lab.dir(), &mut command);
    lab.upstream.wait_for(What::Began, "/t/lost", SOON);
    let killed = Command::new("sh")
        .args(["-c", &format!("kill -KILL {}", pid(&lab, "dies"))])
        .status();
    assert!(killed.expect("sh").success());
    let status = load.wait_exit(SOON);
    assert_eq!(status.code(), Some(2), "{}", load.log());
    assert!(
        load.log().contains("agent dies ended: signal: 9"),
        "{}",
        load.log()
    );
    let run = read(&file);
    assert_eq!(run["errors"]["agent lost"], 1, "{run}");
    let agents = &run["agents"];
    assert_eq!(
        (&agents[0]["name"], &agents[0]["lost"]),
        (&json!("stays"), &json!(""))
    );
    assert_eq!(
        (&agents[1]["name"], &agents[1]["requests"]),
        (&json!("dies"), &json!(0))
    );
    assert!(
        agents[1]["lost"].as_str().unwrap().contains("signal: 9"),
        "{agents}"
    );
    assert!(run["requests"].as_u64() > Some(0) && run["requests"] == agents[0]["requests"]);
    assert!(
        run["seconds"].as_f64() > Some(2.9),
        "the others go on to the end"
    );
}

#[test]
fn no_agent_outlives_its_coordinator() {
    let lab = Lab::start();
    for (end, path) in [("KILL", "/t/killed"), ("TERM", "/t/terminated")] {
        let (one, other) = (format!("{end}-1"), format!("{end}-2"));
        let mut command = requests(&lab, path);
        command.args([
            "-c",
            "2",
            "-d",
            "10m",
            "--agent",
            &agent(&lab, &one),
            "--agent",
            &agent(&lab, &other),
        ]);
        let mut load = Process::start(&format!("load-{end}"), lab.dir(), &mut command);
        lab.upstream.wait_for(What::Began, path, SOON);
        load.signal(end);
        let status = load.wait_exit(SOON);
        if end == "TERM" {
            assert_eq!(status.code(), Some(1), "{}", load.log());
            assert!(load.log().contains("interrupted"), "{}", load.log());
        }
        for name in [one, other] {
            let pid = pid(&lab, &name);
            until("the agent ends", SOON, || is_gone(pid).then_some(()));
        }
    }
}

#[test]
fn results_are_shown_compared_and_refused() {
    let lab = Lab::start();
    let (a, b) = (lab.file("a.json"), lab.file("b.json"));
    let output = requests(&lab, "/t/result")
        .args(["-c", "2", "-n", "200", "--json"])
        .arg(&a)
        .output()
        .expect("tidegate load");
    assert!(output.status.success(), "{}", said(&output));
    let first = read(&a);
    assert_eq!(first["schema"], 1);
    assert!(!first["environment"]["kernel"].as_str().unwrap().is_empty());
    let mut slower = first.clone();
    slower["requests_per_second"] = json!(first["requests_per_second"].as_f64().unwrap() * 0.8);
    slower["environment"]["kernel"] = json!("another");
    fs::write(&b, slower.to_string()).unwrap();

    let load = |arguments: &[&str]| {
        tidegate()
            .arg("load")
            .args(arguments)
            .current_dir(lab.dir())
            .output()
            .expect("tidegate")
    };
    let same = load(&["diff", "a.json", "a.json", "--fail-above", "0"]);
    assert!(same.status.success(), "{}", said(&same));
    let worse = load(&[
        "diff",
        "old=a.json",
        "new=b.json",
        "--fail-above",
        "10",
        "--html",
        "diff.html",
    ]);
    assert_eq!(worse.status.code(), Some(2), "{}", said(&worse));
    assert!(
        said(&worse).contains("requests/s is worse by more than 10 %: 0.800"),
        "{}",
        said(&worse)
    );
    assert!(
        said(&worse).contains("kernel") && said(&worse).contains("another"),
        "{}",
        said(&worse)
    );
    let allowed = load(&["diff", "a.json", "b.json", "--fail-above", "30"]);
    assert!(allowed.status.success(), "{}", said(&allowed));
    let shown = load(&["report", "old=a.json", "b.json", "--html", "both.html"]);
    assert!(
        shown.status.success() && said(&shown).contains("── old"),
        "{}",
        said(&shown)
    );
    let page = fs::read_to_string(lab.file("both.html")).unwrap();
    assert!(page.contains("Load runs: old, b"));

    slower["schema"] = json!(99);
    fs::write(&b, slower.to_string()).unwrap();
    for (file, why) in [
        ("b.json", "schema 99"),
        ("none.json", "No such file"),
        ("ca.pem", "is not JSON"),
    ] {
        let refused = load(&["diff", "a.json", file]);
        assert_eq!(refused.status.code(), Some(1));
        assert!(
            said(&refused).contains(why) && said(&refused).contains(file),
            "{}",
            said(&refused)
        );
    }
}

#[test]
fn a_page_works_in_a_browser() {
    let lab = Lab::start();
    let page = lab.file("page.html");
    let output = requests(&lab, "/t/page")
        .args([
            "-c",
            "2",
            "-d",
            "2s",
            "--warm-up",
            "0s",
            "--rate",
            "200",
            "--html",
        ])
        .arg(&page)
        .output()
        .expect("tidegate load");
    assert!(output.status.success(), "{}", said(&output));
    let home = lab.file("browser");
    let browser = Command::new("chromium")
        .args([
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--no-first-run",
        ])
        .args([
            "--disable-background-networking",
            "--no-proxy-server",
            "--dump-dom",
        ])
        .arg(format!(
            "--user-data-dir={}",
            home.join("profile").display()
        ))
        .arg(format!("file://{}", page.display()))
        .env("HOME", &home)
        .output()
        .unwrap_or_else(|error| panic!("{error}: browser tests need chromium: scripts/need"));
    let shown = String::from_utf8_lossy(&browser.stdout);
    let charts = shown.matches("data-points=").count();
    assert!(charts >= 4, "{}", String::from_utf8_lossy(&browser.stderr));
    // The script, which the page's own policy must let run, gave each chart its pointer's box.
    assert_eq!(shown.matches("class=\"tip\"").count(), charts);
    assert_eq!(
        shown.matches("<svg").count(),
        fs::read_to_string(&page).unwrap().matches("<svg").count()
    );
}
