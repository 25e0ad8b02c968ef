//! See the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    nitro_cli::cli::main()
}
