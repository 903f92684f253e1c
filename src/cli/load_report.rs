//! `tidegate load report` and `load diff`: result files to text and pages.

use crate::client::result::diff::{self, Comparison};
use crate::client::result::file::{self, Named};
use crate::client::result::{Run, html, text};
use std::path::PathBuf;

#[derive(clap::Args)]
pub struct Report {
    /// Results of `load … --json`; NAME=FILE gives one the name that it goes by
    #[arg(required = true, value_name = "[NAME=]FILE")]
    results: Vec<String>,
    /// Writes a page that needs nothing else: charts of one run, or several runs over each other
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

#[derive(clap::Args)]
pub struct Diff {
    /// The result to compare with, as [NAME=]FILE
    #[arg(value_name = "A")]
    a: String,
    /// The result that is compared, as [NAME=]FILE
    #[arg(value_name = "B")]
    b: String,
    /// Writes the comparison as a page that needs nothing else
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Ends with status 2 when B is worse than A by more than this, e.g. 5, beyond the noise of its seconds: in throughput,
    /// p50, p99, CPU of a process that both name, or failures (of which any count, where A had none)
    #[arg(long, value_name = "PERCENT", value_parser = percent)]
    fail_above: Option<f64>,
}

fn percent(text: &str) -> Result<f64, String> {
    let number = text.trim_end_matches('%').trim().parse::<f64>();
    match number {
        Ok(number) if number.is_finite() && number >= 0.0 => Ok(number),
        _ => Err("a percentage from 0 on, e.g. 5".to_owned()),
    }
}

pub fn report(options: &Report) -> Result<bool, String> {
    let mut runs = Vec::new();
    for text in &options.results {
        let named = Named::new(text);
        let run = named.read()?;
        runs.push((named.name, run));
    }
    for (at, (name, run)) in runs.iter().enumerate() {
        if runs.len() > 1 {
            let gap = if at > 0 { "\n" } else { "" };
            println!("{gap}── {name}");
        }
        print!("{}", text::report(run));
    }
    if let Some(path) = &options.html {
        let page = match &runs[..] {
            [(_, run)] => html::page(run),
            _ => {
                let named: Vec<_> = runs
                    .iter()
                    .map(|(name, run)| (name.as_str(), run))
                    .collect();
                html::several(&named)
            }
        };
        file::write(path, &page)?;
    }
    Ok(true)
}

/// False when B is worse than is allowed.
pub fn diff(options: &Diff) -> Result<bool, String> {
    let named = [Named::new(&options.a), Named::new(&options.b)];
    let (a, b) = (named[0].read()?, named[1].read()?);
    let runs: [&Run; 2] = [&a, &b];
    let names = if named[0].name == named[1].name {
        // `before/run.json after/run.json`: their paths tell them apart.
        named.map(|named| named.path.display().to_string())
    } else {
        named.map(|named| named.name)
    };
    let comparison = Comparison::new(names, runs)?;
    print!("{}", diff::report(&comparison));
    if let Some(path) = &options.html {
        file::write(path, &html::comparison(&comparison, runs))?;
    }
    let Some(percent) = options.fail_above else {
        return Ok(true);
    };
    let worse = comparison.worse_than(percent);
    for row in &worse {
        let ratio = diff::ratio_text(row);
        eprintln!(
            "tidegate load: {} is worse by more than {percent} %: {ratio} of A's",
            row.name
        );
    }
    Ok(worse.is_empty())
}
