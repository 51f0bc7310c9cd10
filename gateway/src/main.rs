//! The `stile` command: its arguments and exit codes; what it does is in the library.

use std::process::ExitCode;

/// Of the program alone: the library leaves the choice to who uses it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    stile_gateway::cli::main()
}
