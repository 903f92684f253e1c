//! The page of one run.

use super::super::words::{self, count, figure};
use super::super::{Run, warnings};
use super::parts::{self, micros_fine, named, section, tile};
use super::{begun, document, escape, figures};

/// More members than this are read better in their table.
const DRAWN_MEMBERS: usize = 8;

/// The whole page.
pub fn page(run: &Run) -> String {
    let mut main = heading(run);
    main += &parts::warnings(&warnings::of(run));
    main += &key_figures(run);
    main += &section("Throughput", &throughput(run));
    main += &section("Latency", &latency(run));
    main += &section("What it cost", &cost(run));
    main += &section("Answers and errors", &parts::errors(run));
    main += &section("Members of the mix", &members(run));
    main += &section("Hosts", &parts::agents(run));
    main += &section("Machine and programs", &machine(run));
    main += &section("To repeat it", &parts::scenario(run));
    document(&format!("tidegate load {}: {}", run.kind, run.url), &main)
}

fn heading(run: &Run) -> String {
    let mut kicker = format!("tidegate load {}", run.kind);
    if !run.started.is_empty() {
        kicker += &format!(" · {}", begun(&run.started));
    }
    let sentence = words::sentence(run);
    let target = if run.url.is_empty() {
        String::new()
    } else {
        format!(
            "<p class=\"lead\">To <code>{}</code></p>\n",
            escape(&run.url)
        )
    };
    format!(
        "<p class=\"kicker\">{}</p>\n<h1>{}</h1>\n{target}",
        escape(&kicker),
        escape(&sentence)
    )
}

fn key_figures(run: &Run) -> String {
    let kind = words::kind(run);
    let mut tiles = String::new();
    if run.kind == "transfer" {
        let per_second = format!("{}/s", words::bytes(run.body_bytes_per_second));
        tiles += &tile(&per_second, "bodies, both ways", "", false);
    }
    let intended =
        words::rate(run).map_or_else(String::new, |rate| format!("of {} intended", figure(rate)));
    let rate = format!("{}/s", figure(run.requests_per_second));
    tiles += &tile(&rate, &format!("{} completed", kind.many), &intended, false);
    for (name, word, more) in [
        ("p50", "half took at most", "p50"),
        ("p99", "99 of 100 took at most", "p99"),
        ("p99.9", "999 of 1,000 took at most", "p99.9"),
        ("max", "the slowest took", "max"),
    ] {
        tiles += &tile(&named(&run.latency_us, name), word, more, false);
    }
    if run.handshakes_resumed > 0 {
        let full = format!("{} full", count(run.handshakes_full));
        tiles += &tile(
            &count(run.handshakes_resumed),
            "handshakes resumed",
            &full,
            false,
        );
    }
    let failed = words::failures(run);
    let share = words::percent(failed as f64, words::attempts(run) as f64);
    tiles += &tile(
        &count(failed),
        &format!("{} failed", kind.many),
        &share,
        failed > 0,
    );
    if !run.processes.is_empty() {
        let names: Vec<_> = run
            .processes
            .iter()
            .map(|process| process.name.as_str())
            .collect();
        if run.kind == "transfer" {
            let sum: f64 = run
                .processes
                .iter()
                .map(|process| process.cpu_seconds_per_gb)
                .sum();
            tiles += &tile(
                &format!("{} s", figure(sum)),
                "CPU a GB",
                &names.join(" + "),
                false,
            );
        } else {
            let sum: f64 = run
                .processes
                .iter()
                .map(|process| process.cpu_us_per_request)
                .sum();
            tiles += &tile(
                &micros_fine(sum),
                &format!("CPU a {}", kind.one),
                &names.join(" + "),
                false,
            );
        }
    }
    // One row, or two of a length.
    let columns = match tiles.matches("<b>").count() {
        n if n > 7 => n.div_ceil(2),
        n => n,
    };
    format!("<div class=\"tiles\" style=\"--n:{columns}\">\n{tiles}</div>\n")
}

fn halves(charts: impl IntoIterator<Item = super::chart::Chart>) -> String {
    let html: String = charts.into_iter().map(|chart| chart.figure()).collect();
    if html.is_empty() {
        html
    } else {
        format!("<div class=\"halves\">\n{html}</div>\n")
    }
}

fn throughput(run: &Run) -> String {
    figures::throughput(run).figure()
        + &halves(
            [figures::bytes(run), figures::backlog(run)]
                .into_iter()
                .flatten(),
        )
}

fn latency(run: &Run) -> String {
    let kind = words::kind(run);
    let both = !run.service_histogram_us.is_empty();
    let mut html = if words::rate(run).is_some() {
        parts::note(&format!(
            "Latency is counted from the moment at which a {one} was due, to its end: what a client feels, waiting for a free \
             connection included. Counted from when it was sent instead, a server that stalls would look quick, because nothing \
             is sent meanwhile.",
            one = kind.one
        ))
    } else {
        parts::note(&format!(
            "Latency is counted {}. Each connection waits for its answer before it asks again, so a slow server is asked less: \
             for what clients feel at a given rate, run with --rate.",
            kind.latency
        ))
    };
    html += &figures::latency_over_time(run).figure();
    let mut curves = vec![(
        if both {
            "from when it was due"
        } else {
            "latency"
        },
        &run.histogram_us,
    )];
    if both {
        curves.push(("from when it was sent", &run.service_histogram_us));
    }
    let note = format!("What part of all {} took at most how long.", kind.many);
    html += &figures::percentiles("Latency by percentile", &note, &curves).figure();
    html + &parts::percentile_table(run)
}

fn cost(run: &Run) -> String {
    halves(figures::processes(run)) + &parts::processes(run)
}

fn members(run: &Run) -> String {
    let mut html = parts::members(run);
    let curves: Vec<_> = run
        .members
        .iter()
        .map(|member| (member.name.as_str(), &member.histogram_us))
        .collect();
    if (2..=DRAWN_MEMBERS).contains(&curves.len()) {
        html += &figures::percentiles("Latency by percentile, each member", "", &curves).figure();
    }
    html
}

fn machine(run: &Run) -> String {
    let mut html = parts::environment(&run.environment);
    if !run.agents.is_empty() {
        html += &parts::note(
            "The machine is the one that coordinated the hosts of the load, and that the named processes ran on.",
        );
    } else if run.load.cpu_seconds > 0.0 && run.seconds > 0.0 {
        html += &parts::note(&format!(
            "The machine is the one that the load came from; on loopback the servers ran there too, and shared its cores. The \
             load generator used {} cores with {}, {} each {}.",
            figure(run.load.cpu_seconds / run.seconds),
            words::plural(run.shards as u64, "thread"),
            micros_fine(run.load.cpu_us_per_request),
            words::kind(run).one
        ));
    }
    html
}
