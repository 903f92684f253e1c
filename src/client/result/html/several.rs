//! Several runs on one page, and two compared.

use super::super::diff::{Comparison, Difference, Verdict, differences, interval_text, ratio_text};
use super::super::words::{self, count, figure, kibibytes};
use super::super::{Run, warnings};
use super::figures::{self, NamedRun};
use super::parts::{self, Cell, micros_fine, n, named, note, section, t, table};
use super::{begun, document, escape};
use std::fmt::Write as _;

/// The page of several runs: a table, and their curves over each other.
pub fn several(runs: &[NamedRun<'_>]) -> String {
    let all: Vec<_> = runs.iter().map(|(_, run)| *run).collect();
    let names: Vec<_> = runs.iter().map(|(name, _)| *name).collect();
    let title = format!("Load runs: {}", names.join(", "));
    let mut main = format!(
        "<p class=\"kicker\">tidegate load report</p>\n<h1>{}</h1>\n",
        escape(&title)
    );
    main += &common_sentence(runs);
    main += &doubts(runs);
    main += &section("Figures", &overview(runs));
    main += &charts(runs);
    main += &section(
        "What differs besides the figures",
        &unlike(&names, &differences(&all)),
    );
    main += &each(runs);
    document(&title, &main)
}

/// The page of two runs compared.
pub fn comparison(compared: &Comparison, runs: [&Run; 2]) -> String {
    let [a, b] = &compared.names;
    let title = format!("{b} against {a}");
    let named = [(a.as_str(), runs[0]), (b.as_str(), runs[1])];
    let mut main = format!(
        "<p class=\"kicker\">tidegate load diff</p>\n<h1>{}</h1>\n",
        escape(&title)
    );
    main += &common_sentence(&named);
    main += &doubts(&named);
    if !compared.unlike.is_empty() {
        let count = words::plural(compared.unlike.len() as u64, "thing");
        main += &parts::warnings(&[format!(
            "The runs differ in {count} besides their figures; see below before the figures are believed."
        )]);
    }
    main += &section("Figures", &figure_table(compared));
    main += &charts(&named);
    main += &section(
        "What differs besides the figures",
        &unlike(&[a, b], &compared.unlike),
    );
    main += &each(&named);
    document(&title, &main)
}

/// What was run, when it was the same each time.
fn common_sentence(runs: &[NamedRun<'_>]) -> String {
    let sentences: Vec<_> = runs.iter().map(|(_, run)| words::sentence(run)).collect();
    match sentences.first() {
        Some(first) if sentences.iter().all(|sentence| sentence == first) => {
            format!("<p class=\"lead\">Each: {}</p>\n", escape(first))
        }
        _ => String::new(),
    }
}

fn doubts(runs: &[NamedRun<'_>]) -> String {
    let told = runs.iter().flat_map(|(name, run)| {
        warnings::of(run)
            .into_iter()
            .map(move |text| format!("{name}: {text}"))
    });
    parts::warnings(&told.collect::<Vec<_>>())
}

fn charts(runs: &[NamedRun<'_>]) -> String {
    let curves: Vec<_> = runs
        .iter()
        .map(|(name, run)| (*name, &run.histogram_us))
        .collect();
    let note = "What part of all took at most how long.";
    let html = figures::percentiles("Latency by percentile", note, &curves).figure()
        + &figures::throughputs(runs).figure()
        + &figures::p99_over_time(runs).figure();
    section("Latency and throughput", &html)
}

fn overview(runs: &[NamedRun<'_>]) -> String {
    let transfer = runs.iter().any(|(_, run)| run.kind == "transfer");
    let names = [
        "run",
        "completed a second",
        "p50",
        "p90",
        "p99",
        "p99.9",
        "max",
        "failed",
    ]
    .map(n);
    let mut headings: Vec<_> = names.into_iter().collect();
    if transfer {
        headings.insert(1, n("bodies"));
    }
    let rows = runs.iter().map(|(name, run)| {
        let latency = |quantile| n(named(&run.latency_us, quantile));
        let mut row = vec![n(*name), n(figure(run.requests_per_second))];
        if transfer {
            row.insert(
                1,
                n(format!("{}/s", words::bytes(run.body_bytes_per_second))),
            );
        }
        row.extend(["p50", "p90", "p99", "p99.9", "max"].map(latency));
        row.push(n(count(words::failures(run))));
        row
    });
    table(&headings, &rows.collect::<Vec<_>>()) + &costs(runs)
}

/// CPU of each process of each run, as bars side by side.
fn costs(runs: &[NamedRun<'_>]) -> String {
    let cost = |run: &Run, at: usize| {
        let process = &run.processes[at];
        let cost = if run.kind == "transfer" {
            process.cpu_seconds_per_gb
        } else {
            process.cpu_us_per_request
        };
        if cost.is_finite() { cost.max(0.0) } else { 0.0 }
    };
    let sum = |run: &Run| {
        (0..run.processes.len())
            .map(|at| cost(run, at))
            .sum::<f64>()
    };
    let most = runs.iter().map(|(_, run)| sum(run)).fold(0.0, f64::max);
    if most <= 0.0 {
        return String::new();
    }
    // One name has one colour in all rows.
    let mut names: Vec<&str> = Vec::new();
    for process in runs.iter().flat_map(|(_, run)| &run.processes) {
        if !names.contains(&process.name.as_str()) {
            names.push(&process.name);
        }
    }
    let colour = |name: &str| names.iter().position(|known| *known == name).unwrap_or(0) % 8;
    let with_processes = runs.iter().filter(|(_, run)| !run.processes.is_empty());
    let rows = with_processes.map(|(name, run)| {
        let text = |value: f64| {
            if run.kind == "transfer" {
                format!("{} s", figure(value))
            } else {
                micros_fine(value)
            }
        };
        let (mut bar, mut shares) = (String::from("<div class=\"bar\">"), Vec::new());
        for (at, process) in run.processes.iter().enumerate() {
            let value = cost(run, at);
            _ = write!(
                bar,
                "<i class=\"c{}\" style=\"width:{:.2}%\" title=\"{}\"></i>",
                colour(&process.name),
                value / most * 100.0,
                escape(&process.name)
            );
            shares.push(format!("{} {}", process.name, text(value)));
        }
        let peak = run.processes.iter().fold(0_u64, |sum, process| {
            sum.saturating_add(process.peak_rss_kib)
        });
        vec![
            n(*name),
            n(text(sum(run))),
            Cell::Html(bar + "</div>"),
            t(shares.join(" + ")),
            n(kibibytes(peak)),
        ]
    });
    let transfer = runs.iter().all(|(_, run)| run.kind == "transfer");
    let what = if transfer {
        "CPU a GB"
    } else {
        "CPU for each completed"
    };
    let rows: Vec<_> = rows.collect();
    table(
        &[n("run"), n(what), n(""), t("of which"), n("memory peak")],
        &rows,
    ) + &note(
        "CPU time of the named processes, kernel time on their behalf included, divided by what was completed meanwhile.",
    )
}

fn figure_table(compared: &Comparison) -> String {
    let rows = compared.rows.iter().map(|row| {
        let verdict = row.verdict();
        let class = match verdict {
            Verdict::Better if row.interval.is_some() => "better",
            Verdict::Worse if row.interval.is_some() => "worse",
            _ => "",
        };
        vec![
            n(row.name.clone()),
            n(row.unit.text(row.values[0])),
            n(row.unit.text(row.values[1])),
            n(ratio_text(row)),
            n(row
                .interval
                .map_or_else(|| "–".to_owned(), |interval| interval_text(&interval))),
            Cell::Html(format!(
                "<span class=\"{class}\">{}</span>",
                row.verdict_text()
            )),
        ]
    });
    let rows: Vec<_> = rows.collect();
    let [a, b] = &compared.names;
    let headings = [
        n("figure"),
        n(a.as_str()),
        n(b.as_str()),
        n("ratio"),
        n("95 % of chance"),
        n(""),
    ];
    table(&headings, &rows)
        + &note(
            "95 % of chance: where the ratio lies by the spread of each run's seconds (circular block bootstrap, 2,000 draws, \
             fixed seed). When it holds 1.000, the difference may be noise; where there is none, nothing is known of noise. Two \
             runs of the same may differ by more than that: repeat them before a small difference is believed.",
        )
}

fn unlike(names: &[&str], found: &[Difference]) -> String {
    if found.is_empty() {
        return "<p>Nothing: machine, programs and scenario are the same.</p>\n".to_owned();
    }
    let rows = found.iter().map(|difference| {
        let values = difference.values.iter().map(|value| t(value.clone()));
        [n(difference.group), t(difference.what.clone())]
            .into_iter()
            .chain(values)
            .collect()
    });
    let rows: Vec<Vec<_>> = rows.collect();
    let headings: Vec<_> = [n(""), t("")]
        .into_iter()
        .chain(names.iter().map(|name| t(*name)))
        .collect();
    table(&headings, &rows)
}

/// Machine and scenario of each run, folded away.
fn each(runs: &[NamedRun<'_>]) -> String {
    let one = |(name, run): &NamedRun<'_>| {
        format!(
            "<details><summary>{}</summary>\n<p>{} {}</p>\n<p>To <code>{}</code></p>\n{}{}{}</details>\n",
            escape(name),
            escape(&begun(&run.started)),
            escape(&words::sentence(run)),
            escape(&run.url),
            parts::processes(run),
            parts::environment(&run.environment),
            parts::scenario(run)
        )
    };
    section("Each run", &runs.iter().map(one).collect::<String>())
}
