//! The program.

fn main() -> std::process::ExitCode {
    ace_dt::main()
}
