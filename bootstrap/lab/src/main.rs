//! `lab`: a Nitro host on a laptop.

use std::io::Write;
use std::process::ExitCode;

fn main() -> ExitCode {
    match lab::cli::main() {
        Ok(code) => code,
        Err(error) => {
            // With stderr gone there is nobody to tell.
            drop(writeln!(std::io::stderr(), "error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}
