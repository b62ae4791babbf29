//! Faults of the database's disk: full, and set back to an earlier day.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use sqlx::Connection;

use crate::site::Site;
use support::eventually;

/// A data folder on a file system of limited size. The folder as it was comes back when this is dropped.
pub struct SmallDisk {
    data: PathBuf,
    aside: PathBuf,
}

fn succeeds(command: &mut Command) -> Result<String, String> {
    let output = command.output().map_err(|error| error.to_string())?;
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).trim().to_owned();
    if output.status.success() { Ok(text) } else { Err(text) }
}

impl SmallDisk {
    /// Moves `data` to such a file system with `spare` MiB beyond what it holds. The error says why it cannot be.
    fn mount(data: &Path, spare: u64) -> Result<Self, String> {
        let used = succeeds(Command::new("du").args(["-sm", "--apparent-size"]).arg(data))?;
        let used: u64 = used.split_whitespace().next().and_then(|used| used.parse().ok()).ok_or("du says nothing")?;
        let aside = data.with_extension("aside");
        std::fs::rename(data, &aside).map_err(|error| error.to_string())?;
        let disk = Self { data: data.to_owned(), aside };
        // From here on, whatever fails is undone by the drop.
        std::fs::create_dir(data).map_err(|error| error.to_string())?;
        let size = format!("size={}m", used + spare);
        succeeds(Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(data))?;
        succeeds(Command::new("cp").args(["-a", "--sparse=never"]).arg(disk.aside.join(".")).arg(data))?;
        Ok(disk)
    }

    fn ballast(&self) -> PathBuf {
        self.data.join("ballast")
    }

    /// Leaves no byte free.
    fn fill(&self) {
        let mut file = std::fs::File::create(self.ballast()).expect("a file on the small disk");
        for size in [1 << 20, 4096, 1] {
            while file.write_all(&vec![0; size]).is_ok() {}
        }
    }

    fn relieve(&self) {
        std::fs::remove_file(self.ballast()).expect("the ballast goes");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Where nothing was mounted this fails, and there is nothing to undo.
        let _ = succeeds(Command::new("umount").arg(&self.data));
        let _ = std::fs::remove_dir_all(&self.data);
        std::fs::rename(&self.aside, &self.data).expect("the data folder comes back");
    }
}

fn disk(site: &Site) -> &SmallDisk {
    site.disk.as_ref().expect("the small disk")
}

/// The database can write no further page; then there is room again, and the server is restarted if it has ended.
pub async fn full(site: &mut Site) {
    let data = site.servers.path().join("database");
    site.servers.database.kill();
    let mounted = SmallDisk::mount(&data, 12);
    site.servers.database.restart().await.expect("the database starts again");
    match mounted {
        Ok(disk) => site.disk = Some(disk),
        Err(why) => {
            site.not_run = Some(format!("no file system of limited size can be mounted here: {why}"));
            return;
        }
    }
    site.under_load().await;
    let before = site.receipts().await;
    disk(site).fill();
    let refused = async || {
        let (_, metrics) = site.daemons[0].get("/metrics").await?;
        let failed = |line: &&str| {
            (line.starts_with("lockkeeper_store_errors_total") || line.starts_with("lockkeeper_store_commit_unknown"))
                && !line.ends_with(" 0")
        };
        metrics.lines().find(failed).map(str::to_owned)
    };
    let first = eventually("I7: the refusal is counted", refused).await;
    println!("    with the disk full: {first}");
    site.not_ready("database").await;
    disk(site).relieve();
    // InnoDB refuses some writes and ends itself at others.
    if sqlx::MySqlConnection::connect(&site.servers.database.url("")).await.is_err() {
        println!("    the server had ended itself");
        site.servers.database.restart().await.expect("the database starts again");
    }
    assert!(site.receipts().await >= before, "I1: what was committed is there");
    site.mended().await;
}

/// A failover to a server that lacks the last commits: the data folder of some time ago comes back under the daemon.
pub async fn set_back(site: &mut Site) {
    set_back_under(site, 1).await;
}

/// The same, under so many daemons.
pub async fn set_back_under(site: &mut Site, daemons: usize) {
    site.under_load().await;
    while site.daemons.len() < daemons {
        site.daemon(&[]).await;
    }
    let data = site.servers.path().join("database");
    let copy = data.with_extension("copy");
    site.servers.database.kill();
    succeeds(Command::new("cp").arg("-a").arg(&data).arg(&copy)).expect("the data folder is copied");
    site.servers.database.restart().await.expect("the database starts again");
    site.mended().await;
    let enough = site.receipts().await + 200;
    eventually("some more jobs are done", async || (site.receipts().await >= enough).then_some(())).await;
    site.servers.database.kill();
    std::fs::remove_dir_all(&data).expect("the data folder goes");
    std::fs::rename(&copy, &data).expect("the copy takes its place");
    site.servers.database.restart().await.expect("the database starts again");
    assert!(site.receipts().await < enough, "commits are gone");
    site.counted("lockkeeper_store_went_back_total", 1.0).await;
    site.logged("has lost commits").await;
    site.mended().await;
    // What was acknowledged and is gone only its producer still has.
    site.resend().await;
}
