//! What pages are put together from besides charts: key figures, tables, the machine, the scenario.

use super::super::words::{self, count, figure, kibibytes, micros};
use super::super::{Environment, ProcessUse, RawHistogram, Run, histogram};
use super::escape;
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// A cell of a table.
pub enum Cell {
    Number(String),
    /// To the left, and broken into lines where it is long.
    Text(String),
    /// HTML of our own.
    Html(String),
}

/// A number.
pub fn n(text: impl Into<String>) -> Cell {
    Cell::Number(text.into())
}

pub fn t(text: impl Into<String>) -> Cell {
    Cell::Text(text.into())
}

/// Rows under headings; nothing without a row. The first column is to the left.
pub fn table(headings: &[Cell], rows: &[Vec<Cell>]) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let row = |tag: &str, cells: &[Cell]| {
        let cells = cells.iter().map(|cell| match cell {
            Cell::Number(text) => format!("<{tag}>{}</{tag}>", escape(text)),
            Cell::Text(text) => format!("<{tag} class=\"text\">{}</{tag}>", escape(text)),
            Cell::Html(html) => format!("<{tag}>{html}</{tag}>"),
        });
        format!("<tr>{}</tr>\n", cells.collect::<String>())
    };
    let body: String = rows.iter().map(|cells| row("td", cells)).collect();
    format!(
        "<div class=\"scroll\"><table>\n<thead>{}</thead>\n<tbody>\n{body}</tbody>\n</table></div>\n",
        row("th", headings).trim_end()
    )
}

/// A heading and what is below it; nothing without that.
pub fn section(heading: &str, html: &str) -> String {
    if html.trim().is_empty() {
        String::new()
    } else {
        format!(
            "<section>\n<h2>{}</h2>\n{html}</section>\n",
            escape(heading)
        )
    }
}

pub fn note(text: &str) -> String {
    format!("<p class=\"note\">{}</p>\n", escape(text))
}

/// A key figure: its value, what it is, and a word more.
pub fn tile(value: &str, name: &str, more: &str, bad: bool) -> String {
    let class = if bad { "tile bad" } else { "tile" };
    let more = if more.is_empty() {
        String::new()
    } else {
        format!("<small>{}</small>", escape(more))
    };
    format!(
        "<div class=\"{class}\"><b>{}</b><span>{}</span>{more}</div>\n",
        escape(value),
        escape(name)
    )
}

pub fn warnings(texts: &[String]) -> String {
    if texts.is_empty() {
        return String::new();
    }
    let each: String = texts
        .iter()
        .map(|text| format!("<p>{}</p>\n", escape(text)))
        .collect();
    format!("<div class=\"warnings\" role=\"note\">\n{each}</div>\n")
}

/// A percentile of those that a result names.
pub fn named(values: &BTreeMap<String, u64>, name: &str) -> String {
    values
        .get(name)
        .filter(|us| **us > 0)
        .map_or_else(|| "–".to_owned(), |us| micros(*us as f64))
}

/// Percentiles with how many were slower, from the raw histogram.
pub fn percentile_table(run: &Run) -> String {
    const SHOWN: [(&str, f64); 8] = [
        ("50 %", 0.5),
        ("75 %", 0.75),
        ("90 %", 0.9),
        ("99 %", 0.99),
        ("99.9 %", 0.999),
        ("99.99 %", 0.9999),
        ("99.999 %", 0.999_99),
        ("the slowest", 1.0),
    ];
    let all = histogram::total(&run.histogram_us);
    let serviced = !run.service_histogram_us.is_empty();
    let at = |raw: &RawHistogram, q| micros(histogram::at_quantile(raw, q) as f64);
    let told = |q: f64| q >= 1.0 || (1.0 - q) * all as f64 >= 1.0;
    let rows = SHOWN
        .iter()
        .filter(|(_, q)| all > 0 && told(*q))
        .map(|(name, q)| {
            let mut row = vec![n(*name), n(at(&run.histogram_us, *q))];
            if serviced {
                row.push(n(at(&run.service_histogram_us, *q)));
            }
            row.push(n(count(((1.0 - q) * all as f64).round() as u64)));
            row
        });
    let rows: Vec<_> = rows.collect();
    let mut headings = vec![
        n(format!("of all {}", words::kind(run).many)),
        n("took at most"),
    ];
    if serviced {
        headings = vec![
            n(format!("of all {}", words::kind(run).many)),
            n("from when it was due, at most"),
            n("from when it was sent, at most"),
        ];
    }
    headings.push(n("and so many were slower"));
    let html = table(&headings, &rows);
    if html.is_empty() {
        html
    } else {
        html + &note(&format!("The mean is {}.", micros(run.latency_mean_us)))
    }
}

/// CPU and memory of the processes.
pub fn processes(run: &Run) -> String {
    let transfer = run.kind == "transfer";
    let kind = words::kind(run);
    let load = (run.load != ProcessUse::default()).then_some(&run.load);
    let all: Vec<_> = run.processes.iter().chain(load).collect();
    let cost = |process: &ProcessUse| {
        if transfer {
            process.cpu_seconds_per_gb
        } else {
            process.cpu_us_per_request
        }
    };
    let most = all
        .iter()
        .map(|process| cost(process))
        .filter(|cost| cost.is_finite())
        .fold(0.0, f64::max);
    let rows = all.iter().enumerate().map(|(at, process)| {
        let own = std::ptr::eq(*process, &run.load);
        let name = if own {
            "load generator".to_owned()
        } else {
            process.name.clone()
        };
        let part = if most > 0.0 {
            (cost(process) / most * 100.0).clamp(0.0, 100.0)
        } else {
            0.0
        };
        let cores = if run.seconds > 0.0 {
            process.cpu_seconds / run.seconds
        } else {
            0.0
        };
        let bar = format!(
            "<div class=\"bar\"><i class=\"c{}\" style=\"width:{part:.1}%\"></i></div>",
            at % 8
        );
        vec![
            n(name),
            n(if transfer {
                format!("{} s", figure(cost(process)))
            } else {
                micros_fine(cost(process))
            }),
            Cell::Html(bar),
            n(figure(cores)),
            n(format!("{} s", figure(process.cpu_seconds))),
            n(kibibytes(process.rss_kib)),
            n(kibibytes(process.peak_rss_kib)),
        ]
    });
    let rows: Vec<_> = rows.collect();
    let cost = if transfer {
        "CPU a GB".to_owned()
    } else {
        format!("CPU a {}", kind.one)
    };
    let headings = [
        n("process"),
        n(cost),
        n(""),
        n("cores used"),
        n("CPU in all"),
        n("memory at the end"),
        n("memory peak"),
    ];
    let html = table(&headings, &rows);
    if html.is_empty() {
        return html;
    }
    let of = if transfer {
        "CPU a GB: seconds of CPU for 1,000,000,000 bytes of bodies, both ways together."
    } else {
        "CPU a request: the process's CPU time in the measured span, divided by what was completed in it."
    };
    html + &note(&format!(
        "{} CPU time is the kernel's count of all threads, network code run on behalf of the process included; memory is \
         resident memory.",
        of.replace("request", kind.one)
    ))
}

/// Microseconds with three digits: `0.84 µs`, `12.3 µs`.
pub fn micros_fine(us: f64) -> String {
    if us < 999.5 {
        format!("{} µs", figure(us))
    } else {
        micros(us)
    }
}

/// Errors by class, and statuses.
pub fn errors(run: &Run) -> String {
    let (failed, attempts) = (words::failures(run), words::attempts(run));
    let share = |n: u64| words::percent(n as f64, attempts as f64);
    let rows: Vec<_> = run
        .errors
        .iter()
        .map(|(class, times)| {
            let example = run.error_examples.get(class).cloned().unwrap_or_default();
            vec![
                n(class.clone()),
                n(count(*times)),
                n(share(*times)),
                t(example),
            ]
        })
        .collect();
    let mut html = table(
        &[
            n("what failed"),
            n("how often"),
            n("of all"),
            t("the first one, in its own words"),
        ],
        &rows,
    );
    if failed == 0 {
        html += &format!(
            "<p>None of {} {} failed.</p>\n",
            count(attempts),
            escape(words::kind(run).many)
        );
    }
    let rows: Vec<_> = run
        .statuses
        .iter()
        .map(|(status, times)| {
            vec![
                n(status.clone()),
                n(count(*times)),
                n(words::percent(*times as f64, run.requests as f64)),
            ]
        })
        .collect();
    html + &table(&[n("status"), n("answers"), n("of all answers")], &rows)
}

/// The members of a mix.
pub fn members(run: &Run) -> String {
    // The one of a plain run is the run.
    let members = run.members.iter().filter(|_| run.members.len() > 1);
    let rows: Vec<_> = members
        .map(|member| {
            let statuses: Vec<_> = member
                .statuses
                .iter()
                .map(|(status, n)| format!("{status}: {}", count(*n)))
                .collect();
            let latency = |name| n(named(&member.latency_us, name));
            vec![
                n(member.name.clone()),
                n(count(member.requests)),
                n(words::percent(member.requests as f64, run.requests as f64)),
                n(count(member.failed)),
                latency("p50"),
                latency("p99"),
                latency("p99.9"),
                latency("max"),
                t(statuses.join(", ")),
            ]
        })
        .collect();
    let names = [
        "member", "answers", "of all", "failed", "p50", "p99", "p99.9", "max",
    ]
    .map(n);
    let headings: Vec<_> = names.into_iter().chain([t("by status")]).collect();
    table(&headings, &rows)
}

/// The hosts that the load came from.
pub fn agents(run: &Run) -> String {
    let rows: Vec<_> = run
        .agents
        .iter()
        .map(|agent| {
            let failed = agent
                .errors
                .values()
                .fold(0_u64, |sum, n| sum.saturating_add(*n));
            let cores = if agent.seconds > 0.0 {
                agent.load.cpu_seconds / agent.seconds
            } else {
                0.0
            };
            vec![
                n(agent.name.clone()),
                n(count(agent.connections as u64)),
                n(count(agent.requests)),
                n(figure(agent.requests_per_second)),
                n(named(&agent.latency_us, "p50")),
                n(named(&agent.latency_us, "p99")),
                n(count(failed)),
                n(figure(cores)),
                t(format!(
                    "{} × {}, kernel {}",
                    agent.environment.cores, agent.environment.cpu, agent.environment.kernel
                )),
            ]
        })
        .collect();
    let names = [
        "host",
        "connections",
        "completed",
        "a second",
        "p50",
        "p99",
        "failed",
        "cores used",
    ]
    .map(n);
    let headings: Vec<_> = names.into_iter().chain([t("machine")]).collect();
    let html = table(&headings, &rows);
    if html.is_empty() {
        return html;
    }
    html + &note(
        "All hosts began at the same moment. Counts and percentiles of the whole run are exact sums; of a single second, p50 is \
         the mean of the hosts' and p99 and max are the highest.",
    )
}

fn facts(pairs: &[(String, String)]) -> String {
    let each = pairs.iter().filter(|(_, value)| !value.is_empty());
    let each =
        each.map(|(name, value)| format!("<dt>{}</dt><dd>{}</dd>\n", escape(name), escape(value)));
    format!("<dl>\n{}</dl>\n", each.collect::<String>())
}

/// The machine that the load ran on.
pub fn environment(environment: &Environment) -> String {
    let mut pairs = vec![("processor".to_owned(), environment.cpu.clone())];
    let mut add = |name: &str, value: String| pairs.push((name.to_owned(), value));
    if environment.cores > 0 {
        add("cores it may use", environment.cores.to_string());
    }
    if environment.memory_kib > 0 {
        add("memory", kibibytes(environment.memory_kib));
    }
    add("kernel", environment.kernel.clone());
    for (name, version) in &environment.versions {
        add(name, version.clone());
    }
    let mut html = facts(&pairs);
    if !environment.mitigations.is_empty() {
        let pairs: Vec<_> = environment
            .mitigations
            .iter()
            .map(|(name, state)| (name.clone(), state.clone()))
            .collect();
        _ = write!(
            html,
            "<details><summary>Mitigations of the processor's weaknesses</summary>\n{}</details>\n",
            facts(&pairs)
        );
    }
    html
}

/// The scenario to copy, and how it is run again.
pub fn scenario(run: &Run) -> String {
    let text = words::scenario(run);
    if text.is_empty() {
        return String::new();
    }
    let kind = escape(&run.kind);
    format!(
        "<button type=\"button\" class=\"copy\" hidden>copy</button><pre>{}</pre>\n\
         <p class=\"note\">Saved as <code>scenario.toml</code>, the run is repeated by <code>tidegate load {kind} --scenario \
         scenario.toml --seed {}</code>, or with its result file: <code>tidegate load {kind} --scenario RESULT.json</code>. \
         The same seed sends the same sequence.</p>\n",
        escape(text.trim_end()),
        run.seed
    )
}
