//! `tidegate check --config F`: every complaint about a config file, without starting anything.

use super::config::{Complaint, Kind, load_connector, load_gateway};
use std::io::Write;
use std::path::Path;

/// All complaints about the file, whichever of the two it is; `Ok` holds its warnings.
pub fn complaints(path: &Path) -> Result<Vec<Complaint>, Vec<Complaint>> {
    match Kind::of(path)? {
        Kind::Gateway => load_gateway(path).map(|(_, warnings)| warnings),
        Kind::Connector => load_connector(path).map(|(_, warnings)| warnings),
    }
}

/// Prints each complaint as `file:line: text (hint: …)` to `out`, and a last line with the result. Exit code 0 when
/// the file may be started with (warnings are printed all the same), else 1.
pub fn run_to(path: &Path, out: &mut dyn Write) -> i32 {
    let (found, code) = match complaints(path) {
        Ok(warnings) => (warnings, 0),
        Err(found) => (found, 1),
    };
    let errors = found.iter().filter(|complaint| !complaint.warning).count();
    let warnings = found.len() - errors;
    // A closed output changes nothing about the result.
    for complaint in &found {
        let _ = writeln!(out, "{complaint}");
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
pub fn run(path: &Path) -> i32 {
    run_to(path, &mut std::io::stdout().lock())
}
