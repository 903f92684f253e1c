//! A run's report on a terminal.

use super::words::{self, count, figure, kibibytes, micros};
use super::{ProcessUse, Run, histogram, warnings};
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// Columns of the names on the left.
const NAMES: usize = 11;

/// The whole report, with a line's end at its end.
pub fn report(run: &Run) -> String {
    let mut text = String::new();
    let kind = words::kind(run);
    line(
        &mut text,
        "",
        &format!("{}\n  {}", clean(&run.url), words::sentence(run)),
    );
    line(&mut text, "answers", &throughput(run));
    let intended = words::rate(run).is_some();
    line(
        &mut text,
        "latency",
        &percentiles(
            &run.latency_us,
            intended.then_some("from when each was due"),
        ),
    );
    line(
        &mut text,
        "service",
        &percentiles(&run.service_us, Some("from when each was sent")),
    );
    line(&mut text, "status", &pairs(&run.statuses));
    line(&mut text, "connects", &connects(run));
    for (class, n) in &run.errors {
        let example = run.error_examples.get(class);
        let example = example.map_or_else(String::new, |text| format!(" ({})", clean(text)));
        line(
            &mut text,
            "failed",
            &format!("{} × {}{example}", count(*n), clean(class)),
        );
    }
    text += &members(run);
    text += &processes(run, kind.one);
    text += &agents(run);
    for warning in warnings::of(run) {
        line(&mut text, "WARNING", &warning);
    }
    text
}

/// Nothing when there is nothing to say.
fn line(text: &mut String, name: &str, value: &str) {
    match (name, value) {
        (_, "") => {}
        ("", value) => *text += &format!("{value}\n"),
        _ => *text += &format!("  {name:<NAMES$} {value}\n"),
    }
}

/// Texts of others, without what a terminal would obey.
fn clean(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect()
}

fn throughput(run: &Run) -> String {
    let mut text = format!(
        "{} in {} s: {} {}/s",
        count(run.requests),
        figure(run.seconds),
        figure(run.requests_per_second),
        words::kind(run).many
    );
    if let Some(rate) = words::rate(run) {
        _ = write!(text, " of {} intended", figure(rate));
    }
    if run.kind == "transfer" {
        _ = write!(
            text,
            ", {}/s of bodies",
            words::bytes(run.body_bytes_per_second)
        );
    } else if run.seconds > 0.0 {
        let received = run.bytes_received as f64 / run.seconds;
        _ = write!(text, ", {}/s received", words::bytes(received));
    }
    text
}

fn percentiles(values: &BTreeMap<String, u64>, note: Option<&str>) -> String {
    let known = histogram::QUANTILES
        .iter()
        .filter_map(|(name, _)| Some((name, values.get(*name)?)));
    let mut each: Vec<_> = known
        .map(|(name, us)| format!("{name} {}", micros(*us as f64)))
        .collect();
    // The percentiles of nothing are nothing, even where a file says 0.
    if each.is_empty() || values.values().all(|us| *us == 0) {
        return String::new();
    }
    each.extend(note.map(|note| format!("({note})")));
    each.join("   ")
}

fn pairs(counts: &BTreeMap<String, u64>) -> String {
    let each: Vec<_> = counts
        .iter()
        .map(|(name, n)| format!("{}: {}", clean(name), count(*n)))
        .collect();
    each.join("   ")
}

fn connects(run: &Run) -> String {
    let mut text = format!("{}   seed: {}", count(run.connects), run.seed);
    if run.handshakes_full + run.handshakes_resumed > 0 {
        _ = write!(
            text,
            "   handshakes: {} full, {} resumed",
            count(run.handshakes_full),
            count(run.handshakes_resumed)
        );
    }
    text
}

fn members(run: &Run) -> String {
    let mut rows = vec![row([
        "member", "requests", "share", "failed", "p50", "p99", "max", "statuses",
    ])];
    // The one of a plain run is the run.
    for member in run.members.iter().filter(|_| run.members.len() > 1) {
        let at = |name: &str| {
            member
                .latency_us
                .get(name)
                .map_or_else(|| "–".to_owned(), |us| micros(*us as f64))
        };
        rows.push(vec![
            clean(&member.name),
            count(member.requests),
            words::percent(member.requests as f64, run.requests as f64),
            count(member.failed),
            at("p50"),
            at("p99"),
            at("max"),
            pairs(&member.statuses),
        ]);
    }
    table(rows)
}

fn processes(run: &Run, one: &str) -> String {
    let of_bytes = run.kind == "transfer";
    let cost = if of_bytes {
        "CPU s/GB".to_owned()
    } else {
        format!("CPU µs/{one}")
    };
    let mut rows = vec![row(["process", &cost, "CPU s", "cores", "RSS", "peak"])];
    let load = (run.load != ProcessUse::default()).then_some(&run.load);
    let all = run.processes.iter().chain(load);
    for process in all {
        let own = std::ptr::eq(process, &run.load);
        let cost = if of_bytes {
            process.cpu_seconds_per_gb
        } else {
            process.cpu_us_per_request
        };
        let cores = if run.seconds > 0.0 {
            process.cpu_seconds / run.seconds
        } else {
            0.0
        };
        rows.push(vec![
            if own {
                "(load)".to_owned()
            } else {
                clean(&process.name)
            },
            figure(cost),
            figure(process.cpu_seconds),
            figure(cores),
            kibibytes(process.rss_kib),
            kibibytes(process.peak_rss_kib),
        ]);
    }
    table(rows)
}

fn agents(run: &Run) -> String {
    let mut rows = vec![row([
        "host",
        "requests",
        "a second",
        "p50",
        "p99",
        "failed",
        "load's cores",
    ])];
    for agent in &run.agents {
        let at = |name: &str| {
            agent
                .latency_us
                .get(name)
                .map_or_else(|| "–".to_owned(), |us| micros(*us as f64))
        };
        let failed = agent
            .errors
            .values()
            .fold(0_u64, |sum, n| sum.saturating_add(*n));
        let cores = if agent.seconds > 0.0 {
            agent.load.cpu_seconds / agent.seconds
        } else {
            0.0
        };
        rows.push(vec![
            clean(&agent.name),
            count(agent.requests),
            figure(agent.requests_per_second),
            at("p50"),
            at("p99"),
            count(failed),
            figure(cores),
        ]);
    }
    table(rows)
}

pub fn row<const N: usize>(cells: [&str; N]) -> Vec<String> {
    cells.map(str::to_owned).to_vec()
}

/// Columns under their headings, the first to the left and the others to the right; nothing without a row.
pub fn table(rows: Vec<Vec<String>>) -> String {
    if rows.len() < 2 {
        return String::new();
    }
    let rows: Vec<Vec<_>> = rows
        .iter()
        .map(|row| row.iter().map(|cell| clean(cell)).collect())
        .collect();
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |at: usize| {
        let cells = rows.iter().filter_map(|row| row.get(at));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<_> = (0..columns)
        .map(|at| {
            if at == 0 {
                width(0).max(NAMES)
            } else {
                width(at)
            }
        })
        .collect();
    let mut text = String::from("\n");
    for row in &rows {
        let mut line = String::from(" ");
        for (at, (cell, width)) in row.iter().zip(&widths).enumerate() {
            // Formatting counts characters, and so do the widths.
            _ = if at == 0 {
                write!(line, " {cell:<width$}")
            } else {
                write!(line, "  {cell:>width$}")
            };
        }
        text += line.trim_end();
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::testing;
    use super::*;

    #[test]
    fn everything_is_told() {
        let mut run = testing::run();
        run.agents = vec![run.as_agent("bench-2")];
        let text = report(&run);
        for part in [
            "https://localhost:8443/a",
            "50,000 in 10.0 s: 5,000 requests/s of 5,000 intended",
            "(from when each was due)",
            "(from when each was sent)",
            "200: 49,990   503: 10",
            "2 × timeout (no answer within 30 s)",
            "CPU µs/request",
            "bench-2",
            "WARNING     3 of 50,003 requests failed",
        ] {
            assert!(text.contains(part), "{part} in\n{text}");
        }
        let gateway = text
            .lines()
            .find(|line| line.trim_start().starts_with("gateway"))
            .unwrap();
        assert!(
            gateway.contains("80.0") && gateway.contains("4.00") && gateway.ends_with("23.4 MiB"),
            "{gateway}"
        );
        let heading = text.lines().find(|line| line.contains("process")).unwrap();
        assert_eq!(heading.chars().count(), gateway.chars().count());
    }

    #[test]
    fn an_empty_run_is_short_and_says_so() {
        let text = report(&Run::default());
        assert!(
            text.contains("Nothing was measured")
                && !text.contains("latency ")
                && text.lines().count() < 8,
            "{text}"
        );
    }

    #[test]
    fn transfers_are_told_in_bytes() {
        let mut run = Run {
            kind: "transfer".into(),
            body_bytes_per_second: 1.25e9,
            ..testing::run()
        };
        run.processes[0].cpu_seconds_per_gb = 0.75;
        let text = report(&run);
        assert!(
            text.contains("1.25 GB/s of bodies")
                && text.contains("CPU s/GB")
                && text.contains("0.750"),
            "{text}"
        );
    }

    #[test]
    fn a_terminal_obeys_no_name() {
        let mut run = testing::run();
        run.errors.insert("\x1b[2J".into(), 1);
        run.members[0].name = "a\nb".into();
        assert!(!report(&run).contains('\x1b') && !report(&run).contains("a\nb"));
    }
}
