//! The command line; see `tidegate::cli`.

use std::process::ExitCode;

fn main() -> ExitCode {
    tidegate::cli::main()
}
