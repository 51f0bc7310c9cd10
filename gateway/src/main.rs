//! The `stile` command: its arguments and exit codes; what it does is in the library.

use std::process::ExitCode;

/// Of the program alone: the library leaves the choice to who uses it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    stile_gateway::cli::main(release)
}

/// Gives memory that this thread has freed back to the system: the allocator looks for it only while the thread works.
#[expect(unsafe_code, reason = "the allocator offers this in C alone")]
fn release() {
    unsafe extern "C" {
        fn mi_collect(force: bool);
    }
    // SAFETY: mimalloc, which is linked as the global allocator, lets any thread call this at any time.
    unsafe { mi_collect(true) }
}
