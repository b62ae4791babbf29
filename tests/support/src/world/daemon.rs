//! A daemon as a test sees it.

use std::time::{Duration, Instant};

use throwaway::servers::Process;

use crate::PATIENCE;

/// A daemon process; it is killed when it goes out of scope.
pub struct Daemon {
    pub process: Process,
    pub listen: String,
}

impl Daemon {
    /// Waits until it is ready.
    pub async fn await_ready(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        while self.get("/readyz").await.is_none_or(|(status, _)| status != 200) {
            let ended = self.process.exit_status();
            assert!(ended.is_none(), "the daemon ended with {ended:?}:\n{}", self.process.last_lines());
            assert!(Instant::now() < deadline, "the daemon is not ready:\n{}", self.process.last_lines());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Status and body of a GET, `None` when nobody answers.
    pub async fn get(&self, path: &str) -> Option<(u16, String)> {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let mut socket = tokio::net::TcpStream::connect(&self.listen).await.ok()?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
        socket.write_all(request.as_bytes()).await.ok()?;
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await.ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        Some((head.split(' ').nth(1)?.parse().ok()?, body.to_owned()))
    }

    /// The value of a metric's series, as it is spelled on `/metrics`.
    pub async fn metric(&self, series: &str) -> Option<f64> {
        let (_, text) = self.get("/metrics").await?;
        let line = text.lines().find(|line| line.strip_prefix(series).is_some_and(|rest| rest.starts_with(' ')))?;
        line.rsplit(' ').next()?.parse().ok()
    }

    /// Sends SIGTERM and returns the exit code.
    pub async fn terminate(&mut self) -> Option<i32> {
        self.process.signal("TERM").expect("SIGTERM is sent");
        self.process.finished(PATIENCE).await.expect("the daemon ends").code()
    }
}
