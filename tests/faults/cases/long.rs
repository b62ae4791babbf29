//! What must hold for long: a hundred restarts in turn, and a database that is away for a minute.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use sqlx::Row;

use crate::load::{ITEMS, Job};
use crate::site::Site;
use support::eventually;

/// How soon the jobs of a daemon that drains have run.
const HANDED_OVER: Duration = Duration::from_secs(1);

/// The ids of the jobs that the owner has in hand. KEYS: stream.
const HELD: &str = "local jobs = {} \
    for _, row in ipairs(redis.call('XPENDING', KEYS[1], 'lockkeeper', '-', '+', 5000)) do \
        local entry = redis.call('XRANGE', KEYS[1], row[1], row[1])[1] \
        if entry then for i = 1, #entry[2], 2 do \
            if entry[2][i] == 'id' then jobs[#jobs + 1] = entry[2][i + 1] end end end \
    end return jobs";

/// Two daemons, restarted in turn while they have much to do: the owner of the stream each time.
pub async fn restarted_in_turn(site: &mut Site) {
    site.under_load().await;
    site.daemon(&[]).await;
    let (mut delays, mut left) = (Vec::new(), 0);
    for restart in 0..100 {
        let jobs = burst(site, 20);
        site.push(&jobs).await;
        let held = eventually("the owner has jobs in hand", async || {
            let held: Vec<String> = site.world.redis_do(&["EVAL", HELD, "1", &site.world.stream]).await;
            (!held.is_empty()).then_some(held)
        })
        .await;
        let leaving_since = now(site).await;
        let mut owner = site.daemons.remove(0);
        assert_eq!(owner.terminate().await, Some(0), "restart {restart}");
        let log = owner.process.last_lines();
        assert!(log.contains("end=Drained"), "{log}");
        left += number_after(&log, " left=");
        for job in &held {
            site.world.receipt(lockkeeper::job::JobId::from_text(job)).await;
        }
        delays.extend(committed_after(site, &held, leaving_since).await);
        // The other one owns the stream by now, so it is the next to leave.
        site.daemon(&[]).await;
    }
    delays.sort_unstable();
    let at = |share: f64| delays[((delays.len() - 1) as f64 * share) as usize];
    let (half, most, worst) = (at(0.5), at(0.99), at(1.0));
    println!(
        "    {} jobs were in hand at 100 drains, {left} were left to the other; committed after {half:?} (half of them), \
         {most:?} (99 %), {worst:?} (all)",
        delays.len()
    );
    site.recovery = Some(worst);
    assert!(left > 0, "no drain had anything to leave");
    assert!(worst < HANDED_OVER, "a job of a drained daemon ran only {worst:?} later");
}

fn burst(site: &Site, times: u32) -> Vec<Job> {
    let restock = |number| Job::new("item.restock", &site.world.id(format!("item{number}")), r#"{"quantity":1}"#);
    (0..times).flat_map(|_| (0..ITEMS).map(restock)).collect()
}

/// The database's clock, in microseconds.
async fn now(site: &Site) -> i64 {
    let text = "SELECT CAST(UNIX_TIMESTAMP(NOW(6)) * 1000000 AS SIGNED)";
    sqlx::raw_sql(text).fetch_one(&mut site.root().await).await.expect("the time").get(0)
}

/// How long after `since` each of these jobs was committed.
async fn committed_after(site: &Site, jobs: &[String], since: i64) -> Vec<Duration> {
    let ids: Vec<String> = jobs.iter().map(|job| format!("0x{}", job.replace('-', ""))).collect();
    let text = format!(
        "SET time_zone = '+00:00'; SELECT CAST(UNIX_TIMESTAMP(recorded_at) * 1000000 AS SIGNED) FROM receipts \
         WHERE job_id IN ({})",
        ids.join(",")
    );
    let rows = sqlx::raw_sql(&text).fetch_all(&mut site.root().await).await.expect("the receipts");
    rows.iter().map(|row| Duration::from_micros(u64::try_from(row.get::<i64, _>(0) - since).unwrap_or(0))).collect()
}

fn number_after(log: &str, name: &str) -> u64 {
    let rest = log.rsplit(name).next().unwrap_or_default();
    rest.chars().take_while(char::is_ascii_digit).collect::<String>().parse().unwrap_or(0)
}

/// No database for a minute while jobs keep coming in.
pub async fn minute_without_database(site: &mut Site) {
    site.under_load().await;
    let log_before = site.logs().len();
    site.servers.database.kill();
    let since = Instant::now();
    site.counted(r#"lockkeeper_reading_state{state="store_away"}"#, 1.0).await;
    let (_, in_hand) = site.world.left().await;
    while since.elapsed() < Duration::from_secs(60) {
        site.not_ready("database").await;
        let (_, pending) = site.world.left().await;
        assert!(pending <= in_hand, "reading goes on without a database: {in_hand} in hand, then {pending}");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    let seconds = since.elapsed().as_secs();
    calm(&site.logs()[log_before..], seconds);
    let (waiting, _) = site.world.left().await;
    site.servers.database.restart().await.expect("the database starts again");
    site.resumed().await;
    println!("    {waiting} entries had come together");
    site.settle().await;
    site.in_order().await;
}

/// At most one line a second for each cause.
fn calm(log: &str, seconds: u64) {
    let mut lines: HashMap<String, u64> = HashMap::new();
    for line in log.lines().filter(|line| line.contains(" WARN ") || line.contains(" ERROR ")) {
        let text = line.split_once(' ').map_or(line, |(_, text)| text);
        let cause: String = text.chars().filter(|character| !character.is_ascii_digit()).collect();
        *lines.entry(cause).or_default() += 1;
    }
    let most = lines.into_iter().max_by_key(|(_, count)| *count).unwrap_or_default();
    assert!(most.1 <= seconds + 2, "{} lines in {seconds} s: {}", most.1, most.0);
}
