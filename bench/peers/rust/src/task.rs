//! What the bench and a peer that does jobs say to each other.

use std::io::{BufRead, BufReader, Stdin, Write, stdin, stdout};
use std::path::PathBuf;

use anyhow::Context;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// What `limit` is to do.
#[derive(Clone, Debug, Deserialize)]
pub struct Limit {
    /// A file with a job per line.
    pub jobs: PathBuf,
    /// A `mysql://` URL.
    pub database: String,
    /// How many jobs a transaction has.
    pub batch: usize,
    /// How many connections send them.
    pub connections: usize,
    /// The form of the statements, `text` or `bulk`; otherwise the best one for the server.
    #[serde(default)]
    pub form: Option<String>,
}

/// What `jobs` is to do.
#[derive(Clone, Debug, Deserialize)]
pub struct Jobs {
    /// A `mysql://` URL.
    pub database: String,
    /// The server with the stream, a `redis://` URL.
    pub broker: String,
    pub stream: String,
    /// The lock nodes.
    pub nodes: Vec<String>,
    /// How many jobs are done at the same time.
    pub concurrency: usize,
    pub lock_ttl_ms: u64,
    /// The stream that gets outcomes, if they are wanted.
    #[serde(default)]
    pub reply: Option<String>,
}

/// What was done between `go` and `stop`.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Figures {
    pub jobs: u64,
    pub events: u64,
    pub seconds: f64,
    /// There were no jobs left before it was told to stop.
    pub ran_out: bool,
    /// Transactions that were rolled back and begun anew.
    pub retries: u64,
}

/// The bench's end of the standard streams.
pub struct Bench {
    input: BufReader<Stdin>,
}

impl Bench {
    /// Reads the task.
    pub fn task<T: DeserializeOwned>() -> anyhow::Result<(Bench, T)> {
        let mut bench = Bench { input: BufReader::new(stdin()) };
        let task = serde_json::from_str(&bench.line()?).context("the task")?;
        Ok((bench, task))
    }

    /// Says that the peer is ready and waits until it is let go.
    pub fn ready(&mut self) -> anyhow::Result<()> {
        tell("ready")?;
        self.expect("go")
    }

    /// Waits until the peer is to stop.
    pub fn stop(&mut self) -> anyhow::Result<()> {
        self.expect("stop")
    }

    /// Tells the figures and waits until the bench has looked at what this process has cost, and closes.
    pub fn done(mut self, figures: &Figures) -> anyhow::Result<()> {
        tell(&serde_json::to_string(figures)?)?;
        let mut rest = String::new();
        while self.input.read_line(&mut rest)? > 0 {}
        Ok(())
    }

    fn expect(&mut self, word: &str) -> anyhow::Result<()> {
        let line = self.line()?;
        anyhow::ensure!(line == word, "the bench should say {word} and says: {line}");
        Ok(())
    }

    fn line(&mut self) -> anyhow::Result<String> {
        let mut line = String::new();
        anyhow::ensure!(self.input.read_line(&mut line)? > 0, "the standard input has ended");
        Ok(line.trim_end().to_owned())
    }
}

fn tell(line: &str) -> anyhow::Result<()> {
    let mut output = stdout();
    writeln!(output, "{line}")?;
    Ok(output.flush()?)
}
