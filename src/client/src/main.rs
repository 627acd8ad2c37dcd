//! The client: see `leyden --help`.

use std::process::ExitCode;

fn main() -> ExitCode {
    leyden_client::cli::main()
}
