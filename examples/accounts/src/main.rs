//! Accounts as a program: the daemon, and every command of an operator.

use std::convert::Infallible;
use std::process::ExitCode;

use accounts::{Balances, read_models};
use lockkeeper::cli::{self, Program};

fn main() -> ExitCode {
    let program = Program { read_models, promises: || Box::new(Balances) };
    ExitCode::from(cli::main::<_, Infallible>(&program, std::env::args_os()))
}
