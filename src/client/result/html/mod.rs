//! A run, or several, as one page that needs nothing else: style and script are in it, charts are SVG drawn here, nothing is
//! asked of anywhere (the page's own policy forbids it), and light or dark follows the reader's system.
//!
//! - Every text that comes from a file or a command line goes through [`escape`]; the policy lets no script run but ours.
//! - Charts are drawn by `chart` from what `figures` chooses; `parts` has the tables; `single` and `several` are the pages.

mod chart;
mod figures;
mod parts;
mod several;
mod single;

pub use several::{comparison, several};
pub use single::page;

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

const STYLE: &str = include_str!("style.css");
const SCRIPT: &str = include_str!("page.js");

/// A text as HTML, for contents and for attributes in double quotes. Characters that no page may hold become `�`.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            '\n' | '\t' => escaped.push(c),
            c if c.is_control() => escaped.push('\u{fffd}'),
            c => escaped.push(c),
        }
    }
    escaped
}

/// A whole page around what `main` holds.
fn document(title: &str, main: &str) -> String {
    let hash = digest::digest(&digest::SHA256, SCRIPT.as_bytes());
    let hash = BASE64_STANDARD.encode(hash);
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; script-src \
         'sha256-{hash}'; base-uri 'none'; form-action 'none'\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n{main}\
         <footer>Written by tidegate {} (load).</footer>\n</main>\n<script>{SCRIPT}</script>\n</body>\n</html>\n",
        escape(title),
        env!("CARGO_PKG_VERSION")
    )
}

/// A run's begin as people write it: `2026-01-02 03:04:05 UTC`.
fn begun(started: &str) -> String {
    match started.split_once('T') {
        Some((day, time)) if time.ends_with('Z') => {
            let time = time.trim_end_matches('Z');
            format!("{day} {} UTC", time.split('.').next().unwrap_or(time))
        }
        _ => started.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::diff::Comparison;
    use super::super::{ProcessUse, Run, testing};
    use super::*;

    /// Elements that have an end, balanced and properly nested.
    fn well_formed(html: &str) {
        const VOID: [&str; 8] = [
            "meta", "rect", "path", "circle", "br", "!doctype", "line", "hr",
        ];
        let body = html.replace(STYLE, "").replace(SCRIPT, "");
        let mut open = Vec::new();
        for tag in body
            .split('<')
            .skip(1)
            .map(|rest| rest.split('>').next().unwrap())
        {
            let name = tag
                .trim_start_matches('/')
                .split_whitespace()
                .next()
                .unwrap()
                .trim_end_matches('/');
            if VOID.contains(&name) {
                continue;
            }
            if tag.starts_with('/') {
                assert_eq!(open.pop(), Some(name), "in {tag}");
            } else {
                open.push(name);
            }
        }
        assert_eq!(open, Vec::<&str>::new());
        for wrong in [
            "NaN",
            "inf\"",
            "Infinity",
            "src=",
            "http-equiv=\"refresh",
            "url(",
        ] {
            assert!(!body.contains(wrong), "{wrong}");
        }
    }

    /// A run in which whoever can set a text has set one that would run.
    fn hostile() -> Run {
        const EVIL: &str = "\"'><script>alert(1)</script>\u{1b}";
        let mut run = testing::run();
        let evil = || EVIL.to_owned();
        (run.url, run.version, run.started) = (evil(), evil(), evil());
        (run.environment.cpu, run.environment.kernel) = (evil(), evil());
        run.environment.mitigations.insert(evil(), evil());
        run.environment.versions.insert(evil(), evil());
        run.scenario[EVIL] = EVIL.into();
        run.statuses.insert(evil(), 1);
        run.errors.insert(evil(), 1);
        run.error_examples.insert(evil(), evil());
        run.members[0].name = evil();
        run.members[0].statuses.insert(evil(), 1);
        run.processes[0].name = evil();
        run.agents = vec![run.as_agent(EVIL)];
        run
    }

    fn harmless(html: &str) {
        well_formed(html);
        assert!(!html.contains("<script>alert") && !html.contains('\u{1b}'));
        assert!(html.contains("&lt;script&gt;alert"));
        assert_eq!(html.matches("<script").count(), 1);
    }

    #[test]
    fn no_text_of_a_result_becomes_markup() {
        let (run, other) = (hostile(), testing::run());
        harmless(&page(&run));
        let name = "</title><script>alert(2)</script>";
        harmless(&several(&[(name, &run), ("b", &other)]));
        let names = [name.to_owned(), "b".to_owned()];
        let compared = Comparison::new(names, [&run, &other]).unwrap();
        harmless(&comparison(&compared, [&run, &other]));
    }

    #[test]
    fn pages_of_all_shapes_are_whole() {
        let mut runs = vec![Run::default(), testing::run()];
        for kind in ["handshakes", "transfer"] {
            runs.push(Run {
                kind: kind.into(),
                ..testing::run()
            });
        }
        // A second long: one moment, and one dot in each chart.
        let mut short = testing::run();
        short.timeline.drain(..1);
        short.timeline.truncate(1);
        short.processes.truncate(1);
        short.processes[0].timeline.truncate(1);
        (short.requests, short.seconds) = (3, 1.0);
        runs.push(short);
        let mut five = testing::run();
        five.processes = (0..5)
            .map(|at| ProcessUse {
                name: format!("p{at}"),
                ..five.processes[0].clone()
            })
            .collect();
        runs.push(five);
        // Figures that no run has.
        let mut wrong = testing::run();
        (
            wrong.seconds,
            wrong.requests_per_second,
            wrong.latency_mean_us,
        ) = (f64::NAN, f64::INFINITY, -1.0);
        (wrong.requests, wrong.connections) = (u64::MAX, usize::MAX);
        wrong.timeline[0].at = f64::NEG_INFINITY;
        wrong.timeline[1].requests = u64::MAX;
        wrong.errors = [("a".into(), u64::MAX), ("b".into(), 1)].into();
        wrong.processes[0].timeline[0].cpu_percent = f64::NAN;
        wrong.histogram_us = vec![(u64::MAX, u64::MAX)];
        runs.push(wrong);
        for run in &runs {
            well_formed(&page(run));
        }
        let named: Vec<_> = runs.iter().map(|run| ("one", run)).collect();
        well_formed(&several(&named));
        well_formed(&several(&named[..1]));
    }

    #[test]
    fn a_page_tells_all_that_was_measured() {
        let html = page(&testing::run());
        for part in [
            "5,000 requests a second",
            "Throughput over time",
            "Latency over time",
            "Latency by percentile",
            "from when it was sent",
            "CPU over time",
            "Memory over time",
            "broken off",
            "no answer within 30 s",
            "A Processor",
            "retbleed",
            "ca = &quot;ca.pem&quot;",
        ] {
            assert!(html.contains(part), "{part}");
        }
    }

    #[test]
    fn begins_are_readable() {
        assert_eq!(begun("2026-01-02T03:04:05.678Z"), "2026-01-02 03:04:05 UTC");
        assert_eq!(begun("yesterday"), "yesterday");
    }
}
