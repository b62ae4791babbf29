//! The counter as a program: the daemon, and every command of an operator.

use std::convert::Infallible;
use std::process::ExitCode;

use counter::Counter;
use lockkeeper::audit::LogOnly;
use lockkeeper::cli::{self, Program};
use lockkeeper::daemon::ReadModels;

fn main() -> ExitCode {
    let program = Program::<Counter> { read_models: ReadModels::default, promises: || Box::new(LogOnly) };
    ExitCode::from(cli::main::<_, Infallible>(&program, std::env::args_os()))
}
