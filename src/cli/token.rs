//! `tidegate token …`: results on stdout, what is said beside them on stderr, so that `$(tidegate token issue …)` is the
//! token and nothing else.

use crate::control::certificates::expiry::unix_now;
use crate::control::tokens::site;
use std::process::ExitCode;

pub fn run(command: &site::Command) -> ExitCode {
    let (mut out, mut notes) = (std::io::stdout().lock(), std::io::stderr().lock());
    match site::run(command, unix_now(), &mut out, &mut notes) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            drop(notes);
            eprintln!("tidegate token: {error}");
            ExitCode::FAILURE
        }
    }
}
