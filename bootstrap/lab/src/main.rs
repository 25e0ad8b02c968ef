//! `lab`: a Nitro host on a laptop.

use std::io::Write;
use std::process::ExitCode;

fn main() -> ExitCode {
    match lab::cli::main() {
        Ok(code) => code,
        Err(error) => {
            // If stderr is closed, the error cannot be reported.
            drop(writeln!(std::io::stderr(), "error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}
