//! The `lifeboat` command.

use lifeboat::sys::program::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(lifeboat::cli::main(std::env::args_os().collect()))
}
