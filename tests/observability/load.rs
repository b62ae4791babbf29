//! Jobs of every kind and end, without a pause.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use redis::aio::MultiplexedConnection;
use tokio::task::JoinHandle;

const ITEMS: u64 = 60;

/// Pushes until it is stopped.
pub struct Load {
    stop: Arc<AtomicBool>,
    task: JoinHandle<()>,
}

/// One entry's fields.
pub type Fields = Vec<(&'static str, String)>;

impl Load {
    pub fn start(redis: MultiplexedConnection, stream: String, prefix: String) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let task = tokio::spawn(async move {
            let mut redis = redis;
            for round in 0_u64.. {
                if stopped.load(Ordering::Relaxed) {
                    break;
                }
                // While the broker is away there is nobody to push to.
                let _ = push(&mut redis, &stream, &jobs(&prefix, round)).await;
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        });
        Self { stop, task }
    }

    pub async fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.expect("the load ends");
    }
}

/// Adds entries in one round trip.
pub async fn push(redis: &mut MultiplexedConnection, stream: &str, jobs: &[Fields]) -> redis::RedisResult<()> {
    let mut pipeline = redis::pipe();
    for fields in jobs {
        let command = pipeline.cmd("XADD").arg(stream).arg("*");
        for (name, value) in fields {
            command.arg(*name).arg(value);
        }
        command.ignore();
    }
    pipeline.query_async(redis).await
}

/// A job of this type for this aggregate.
pub fn job(job_type: &str, key: String, data: &str) -> Fields {
    let id = uuid::Uuid::now_v7().to_string();
    vec![("id", id), ("type", job_type.to_owned()), ("key", key), ("data", data.to_owned())]
}

/// An item to be sold.
pub fn item(key: String) -> Fields {
    let data = r#"{"name":"Pen","supply_price":"10","vat":"1","is_tax_free":false,"stock":1000,"member_id":7}"#;
    job("item.register", key, data)
}

/// What is pushed in one go: applied, rejected, expired, sent twice, not due; orders of several items, and some cancelled.
fn jobs(prefix: &str, round: u64) -> Vec<Fields> {
    let now_ms = u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis());
    let now_ms = now_ms.unwrap_or_default();
    let item_id = |number: u64| format!("{prefix}-item{}", number % ITEMS);
    if round == 0 {
        let numbers = (0..ITEMS).map(item_id);
        return numbers.flat_map(|key| [item(key.clone()), job("item.allow_sale", key, "{}")]).collect();
    }
    let order = |number: u64, items: u64| {
        let lines: Vec<String> =
            (0..items).map(|line| format!(r#"{{"item_id":"{}","quantity":1}}"#, item_id(number + line))).collect();
        let data = format!(r#"{{"member_id":1,"lines":[{}]}}"#, lines.join(","));
        job("order.place", format!("{prefix}-order{round}-{number}"), &data)
    };
    let mut jobs: Vec<Fields> = (0..4).map(|number| order(round + number, 1 + number % 3)).collect();
    jobs.push(job("item.restock", item_id(round), r#"{"quantity":5}"#));
    jobs.push(job("item.reprice", item_id(round + 1), r#"{"supply_price":"11","vat":"1.1"}"#));
    jobs.push(job("item.restock", format!("{prefix}-nothing"), r#"{"quantity":1}"#));
    jobs.push(job("order.cancel", format!("{prefix}-order{}-{}", round - 1, round - 1), r#"{"reason":"no need"}"#));
    let twice = job("item.restock", item_id(round + 2), r#"{"quantity":1}"#);
    jobs.extend([twice.clone(), twice]);
    let with = |mut fields: Fields, name, value: u64| {
        fields.push((name, value.to_string()));
        fields
    };
    jobs.push(with(job("item.restock", item_id(round), r#"{"quantity":1}"#), "exp", now_ms - 1000));
    jobs.push(with(job("item.restock", item_id(round), r#"{"quantity":1}"#), "at", now_ms + 2000));
    jobs
}
