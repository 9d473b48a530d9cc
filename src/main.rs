fn main() -> std::process::ExitCode {
    ace_dt::cli::main()
}
