//! The `stile` command: its arguments and exit codes; what it does is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    stile_gateway::cli::main()
}
