//! `tidegate check --config F`: every complaint about a config file, without starting anything.

use super::config::{Complaint, ConnectorConfig, Kind, RouteConfig, load_connector, load_gateway};
use super::settings::{Auth, PublishedRoute};
use std::io::Write;
use std::path::Path;

/// All complaints about the file, whichever of the two it is; `Ok` holds its warnings.
pub fn complaints(path: &Path) -> Result<Vec<Complaint>, Vec<Complaint>> {
    read(path).map(|(warnings, _)| warnings)
}

/// Prints each complaint as `file:line: text (hint: …)` to `out`, what a connector's file publishes (route by route when
/// `verbose`), and a last line with the result. Exit code 0 when the file may be started with (warnings are printed all
/// the same), else 1.
pub fn run_to(path: &Path, verbose: bool, out: &mut dyn Write) -> i32 {
    let (found, published, code) = match read(path) {
        Ok((warnings, published)) => (warnings, published, 0),
        Err(found) => (found, Vec::new(), 1),
    };
    let errors = found.iter().filter(|complaint| !complaint.warning).count();
    let warnings = found.len() - errors;
    // A closed output changes nothing about the result.
    for complaint in &found {
        let _ = writeln!(out, "{complaint}");
    }
    for line in published.iter().take(if verbose { usize::MAX } else { 1 }) {
        let _ = writeln!(out, "{}: {line}", path.display());
    }
    let verdict = if code == 0 { "ok" } else { "not ok" };
    let _ = writeln!(
        out,
        "{}: {verdict} ({errors} errors, {warnings} warnings)",
        path.display()
    );
    code
}

/// As [`run_to`], to standard output.
pub fn run(path: &Path, verbose: bool) -> i32 {
    run_to(path, verbose, &mut std::io::stdout().lock())
}

/// The warnings, and what is published: how many routes, then a line each.
fn read(path: &Path) -> Result<(Vec<Complaint>, Vec<String>), Vec<Complaint>> {
    match Kind::of(path)? {
        Kind::Gateway => load_gateway(path).map(|(_, warnings)| (warnings, Vec::new())),
        Kind::Connector => {
            load_connector(path).map(|(config, warnings)| (warnings, publication(&config)))
        }
    }
}

fn publication(config: &ConnectorConfig) -> Vec<String> {
    let count = config.routes.len();
    let written = count - config.preset_routes.min(count);
    let count = format!(
        "publishes {count} routes: {written} by [[route]], {} by [[preset]]",
        config.preset_routes
    );
    let routes = config.routes.iter().zip(&config.settings.routes);
    let lines = routes.map(|(route, published)| line(route, published));
    std::iter::once(count).chain(lines).collect()
}

/// `/mp/  certificate  GET,HEAD  body 1073741824  60s  -> http://127.0.0.1:9080`
fn line(route: &RouteConfig, published: &PublishedRoute) -> String {
    let methods = match published.methods.as_slice() {
        [] => "any method".to_string(),
        methods => methods.join(","),
    };
    let auth = match published.auth {
        Auth::Certificate => "certificate",
        Auth::Token => "token",
        Auth::Any => "any",
        Auth::None => "none",
    };
    let body = match published.max_body {
        u64::MAX => "unlimited".to_string(),
        bytes => bytes.to_string(),
    };
    let wait = match published.timeout_ms {
        0 => "for ever".to_string(),
        ms if ms % 1000 == 0 => format!("{}s", ms / 1000),
        ms => format!("{ms}ms"),
    };
    let stripped = published.path.get(..route.strip).unwrap_or_default();
    let stripped = match stripped {
        "" => String::new(),
        prefix => format!(" without {prefix}"),
    };
    let upstreams: Vec<_> = route.upstream.iter().map(ToString::to_string).collect();
    format!(
        "{}  auth {auth}  {methods}  body {body}  wait {wait}  -> {}{stripped}",
        published.path,
        upstreams.join(", ")
    )
}
