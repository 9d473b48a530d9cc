//! The program.

/// musl's own allocator is several times slower where threads contend.
#[cfg(target_env = "musl")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    ace_dt::main()
}
