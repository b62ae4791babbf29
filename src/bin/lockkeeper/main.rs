//! `lockkeeper`: the shop as a program. It sees of the library what any other program sees.

#![forbid(unsafe_code)]
#![deny(clippy::print_stdout, clippy::print_stderr)]
#![cfg_attr(not(test), warn(clippy::unwrap_used, clippy::expect_used))]

mod demo;
mod dev;
mod shop;

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use clap::Subcommand;
use lockkeeper::cli::Exit;
use lockkeeper::cli::{self, Failed, Own, Program};

/// A job is some two hundred small allocations that often end on another thread than they began on. The second version gives
/// memory back after 10 ms without use, the third after a second: 53 instead of 70 MiB in a run of orders, at the same cost.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What this program has beside the commands of every program.
#[derive(Debug, Subcommand)]
enum Errand {
    /// Sell limited stock to many buyers on throwaway servers, then audit the database and print a verdict
    Demo(demo::Demo),
    /// Keep throwaway servers and a daemon running until Ctrl-C, to try things out
    Dev(dev::Dev),
    /// Measure on throwaway servers, beside peers
    #[command(disable_help_flag = true)]
    Bench {
        /// The scenario and its options, for `lockkeeper-bench`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
}

impl Own for Errand {
    async fn run(self) -> Result<u8, Failed> {
        match self {
            Self::Demo(demo) => Ok(demo::demo(demo).await?),
            Self::Dev(dev) => Ok(dev::dev(dev).await?),
            Self::Bench { arguments } => bench(&arguments),
        }
    }
}

/// Becomes the program that measures, which is beside this one.
fn bench(arguments: &[OsString]) -> Result<u8, Failed> {
    let own = std::env::current_exe().map_err(|error| Failed::new(Exit::BROKEN, error))?;
    let program = own.with_file_name("lockkeeper-bench");
    let error = Command::new(&program).args(arguments).exec();
    let text = format!("{} cannot be run: {error}; `make bench` builds it", program.display());
    Err(Failed::new(Exit::UNAVAILABLE, text))
}

fn main() -> ExitCode {
    let program = Program { read_models: shop::read_models, promises: || Box::new(shop::Promises::default()) };
    ExitCode::from(cli::main::<_, Errand>(&program, std::env::args_os()))
}
