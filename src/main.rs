//! `lockkeeper`: argv in, exit code out.

#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(lockkeeper::cli::main(std::env::args_os()))
}
