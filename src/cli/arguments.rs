//! Arguments that commands share.

use clap::Args;

/// Machine-readable output.
#[derive(Clone, Copy, Debug, Args)]
pub struct Json {
    /// Print JSON, one object per line
    #[arg(long)]
    pub json: bool,
}
