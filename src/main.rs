//! The `portway` command: hands its arguments to the library and exits with what comes back.
//! Promises nothing of its own.

use std::process::ExitCode;

/// Several threads that allocate small things all day: glibc's allocator keeps more and returns less.
#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    portway::cli::run(std::env::args_os())
}
