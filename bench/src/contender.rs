//! A contender: a process that gets ready, waits until it is let go, and tells what it did.
//!
//! It speaks on its standard streams, so it can be written in any language: it reads one line of JSON with its task,
//! writes `ready`, reads `go`, does its work, and writes one line of JSON with its figures. One whose work has no end goes
//! on until it reads `stop`, and ends what it has begun before it tells. It ends when its standard input does.

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, bail};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::timeout;

/// How long a contender may take to get ready; one that waits for its servers is part of it.
const READY_WITHIN: Duration = Duration::from_secs(60);

/// Linux tells CPU times in hundredths of a second, whatever its own clock does.
const TICKS_PER_SECOND: f64 = 100.0;

/// A contender that is ready. Dropping it kills it.
#[derive(Debug)]
pub struct Contender {
    process: Child,
    commands: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
}

impl Contender {
    /// Starts a program with its task, and waits until it is ready.
    pub async fn start(program: &Path, arguments: &[&str], task: &impl Serialize) -> anyhow::Result<Contender> {
        let mut process = Command::new(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("{} cannot be run", program.display()))?;
        let (Some(commands), Some(output)) = (process.stdin.take(), process.stdout.take()) else {
            bail!("the contender has no standard streams");
        };
        let mut contender = Contender { process, commands, answers: BufReader::new(output).lines() };
        let task = serde_json::to_string(task)?;
        let answer = timeout(READY_WITHIN, contender.tell(&task)).await;
        match answer.with_context(|| format!("{} is not ready within {READY_WITHIN:?}", program.display()))??.as_str() {
            "ready" => Ok(contender),
            other => bail!("{} should be ready and says: {other}", program.display()),
        }
    }

    /// Lets it go, waits for its figures, `limit` at most, and adds the seconds of CPU that it took for them.
    pub async fn go<T: DeserializeOwned>(mut self, limit: Duration) -> anyhow::Result<(T, Option<f64>)> {
        let before = self.process.id().and_then(cpu_seconds);
        let figures = timeout(limit, self.tell("go")).await;
        let figures = figures.with_context(|| format!("a contender is not done within {limit:?}"))??;
        let after = self.process.id().and_then(cpu_seconds);
        let figures = serde_json::from_str(&figures).with_context(|| format!("a contender's figures: {figures}"))?;
        drop(self.commands);
        self.process.wait().await?;
        Ok((figures, before.zip(after).map(|(before, after)| after - before)))
    }

    /// Its process id, as long as it runs.
    pub fn pid(&self) -> Option<u32> {
        self.process.id()
    }

    /// Fails when it has ended.
    pub fn check(&mut self) -> anyhow::Result<()> {
        match self.process.try_wait()? {
            None => Ok(()),
            Some(status) => bail!("a contender ended before it was told to: {status}"),
        }
    }

    /// Lets it go and leaves it at its work.
    pub async fn release(&mut self) -> anyhow::Result<()> {
        self.say("go").await
    }

    /// Tells it to stop, waits, `limit` at most, until it has ended what it has begun, and takes its figures.
    pub async fn stop<T: DeserializeOwned>(mut self, limit: Duration) -> anyhow::Result<T> {
        let figures = timeout(limit, self.tell("stop")).await;
        let figures = figures.with_context(|| format!("a contender has not stopped within {limit:?}"))??;
        let figures = serde_json::from_str(&figures).with_context(|| format!("a contender's figures: {figures}"))?;
        drop(self.commands);
        timeout(limit, self.process.wait()).await.context("a contender does not end")??;
        Ok(figures)
    }

    async fn tell(&mut self, line: &str) -> anyhow::Result<String> {
        self.say(line).await?;
        self.answers.next_line().await?.context("a contender ended before it was done")
    }

    async fn say(&mut self, line: &str) -> anyhow::Result<()> {
        self.commands.write_all(format!("{line}\n").as_bytes()).await.context("a contender has ended")
    }
}

/// The CPU time that a process has taken so far, where the system tells it.
pub fn cpu_seconds(pid: u32) -> Option<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the program's name in brackets, which may hold anything; the 14th and 15th are the times.
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<f64>().ok();
    Some((ticks()? + ticks()?) / TICKS_PER_SECOND)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    #[tokio::test]
    async fn a_contender_gets_its_task_says_ready_and_is_let_go() {
        let script = r#"read task; echo ready; read go; [ "$go" = go ] && echo "$task"; read end"#;
        let contender = Contender::start(Path::new("sh"), &["-c", script], &[1, 2]).await.unwrap();
        let (figures, _) = contender.go::<Vec<u32>>(READY_WITHIN).await.unwrap();
        assert_eq!(figures, [1, 2]);
    }

    #[tokio::test]
    async fn a_contender_works_until_it_is_told_to_stop() {
        let script = r#"read task; echo ready; read go; read stop; echo "[\"$go\", \"$stop\"]"; read end"#;
        let mut contender = Contender::start(Path::new("sh"), &["-c", script], &()).await.unwrap();
        assert!(contender.pid().is_some() && contender.check().is_ok());
        contender.release().await.unwrap();
        assert_eq!(contender.stop::<Vec<String>>(READY_WITHIN).await.unwrap(), ["go", "stop"]);
    }

    #[tokio::test]
    async fn a_contender_that_ends_or_fails_to_finish_is_told() {
        let start = |script: &'static str| async move { Contender::start(Path::new("sh"), &["-c", script], &()).await };
        let told = |error: anyhow::Error| format!("{error:#}");
        assert!(told(start("exit 1").await.unwrap_err()).contains("ended"));
        assert!(told(start("read task; echo no; read end").await.unwrap_err()).contains("says: no"));
        let slow = start("read task; echo ready; sleep 60").await.unwrap();
        assert!(told(slow.go::<u32>(Duration::from_millis(50)).await.unwrap_err()).contains("not done within"));
        // One that ends at once may be gone before it is let go.
        let odd = start("read task; echo ready; read go; echo nonsense; read end").await;
        assert!(told(odd.unwrap().go::<u32>(READY_WITHIN).await.unwrap_err()).contains("nonsense"));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_time_of_a_busy_process_is_told() {
        let before = cpu_seconds(std::process::id()).unwrap();
        let deadline = Instant::now() + Duration::from_secs(60);
        while cpu_seconds(std::process::id()).unwrap() < before + 0.05 {
            assert!(Instant::now() < deadline, "no time passes");
        }
    }
}
