//! What the scenarios are made of: jobs about a thousand items, the same ones for every contender of a run.

use std::fmt::Write;
use std::path::Path;

use anyhow::Context;
use rand::rngs::SmallRng;
use rand::seq::index;
use rand::{RngExt, SeedableRng};
use serde::Serialize;
use uuid::Uuid;

use lockkeeper::job::JobId;

/// How many items there are. They are called `item-0` and so on.
pub const ITEMS: usize = 1_000;

/// How many of each: more than any run can take, and there is room for more than any run can add.
pub const STOCK: u32 = 1_000_000_000;

/// How many items an order is of.
const LINES: usize = 3;

/// What the jobs are about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Scenario {
    /// `item.restock`, every item as likely as any other.
    Uniform,
    /// `item.restock` of one item.
    Hot,
    /// `order.place` of three items.
    Orders,
    /// `item.restock`, the n-th item once for n times that the first is taken.
    Zipf,
    /// The jobs of `uniform`, one after the other at a given rate.
    Latency,
}

impl Scenario {
    pub fn name(self) -> &'static str {
        match self {
            Self::Uniform => "uniform",
            Self::Hot => "hot",
            Self::Orders => "orders",
            Self::Zipf => "zipf",
            Self::Latency => "latency",
        }
    }

    /// How many events each of its jobs brings about.
    pub fn events_per_job(self) -> u64 {
        match self {
            Self::Orders => 1 + LINES as u64,
            Self::Uniform | Self::Hot | Self::Zipf | Self::Latency => 1,
        }
    }
}

/// A job to be run.
#[derive(Clone, Debug)]
pub struct Job {
    pub id: JobId,
    pub job_type: &'static str,
    pub key: String,
    /// A JSON object.
    pub data: String,
}

impl Job {
    fn new(job_type: &'static str, key: String, data: String) -> Job {
        Job { id: JobId(Uuid::now_v7()), job_type, key, data }
    }

    /// One more of an item.
    pub fn restock(number: usize) -> Job {
        Job::new("item.restock", item(number), r#"{"quantity":1}"#.to_owned())
    }

    /// Adds it to `pipeline` as an entry of `stream`, with the name of a stream for its outcome, if that is wanted.
    pub fn push(&self, pipeline: &mut redis::Pipeline, stream: &str, reply: Option<&str>) {
        let command = pipeline.cmd("XADD").arg(stream).arg("*").arg("id").arg(self.id.to_string());
        command.arg("type").arg(self.job_type).arg("key").arg(&self.key).arg("data").arg(&self.data);
        if let Some(reply) = reply {
            command.arg("reply").arg(reply);
        }
        command.ignore();
    }

    /// Adds it to `lines` as a peer reads it. There is nothing in a type or a key that would have to be escaped.
    fn line(&self, lines: &mut String) {
        let Job { id, job_type, key, data } = self;
        let _ = writeln!(lines, r#"{{"id":"{id}","type":"{job_type}","key":"{key}","data":{data}}}"#);
    }
}

/// Jobs that make every item known, then jobs that put them on sale.
pub fn set_up() -> Vec<Job> {
    let register = |number: usize| {
        let price = format!("{}.{:03}", 1 + number % 9, number * 37 % 1000);
        let data = serde_json::json!({
            "name": format!("Item {number}"), "supply_price": price, "vat": "0.100",
            "is_tax_free": number.is_multiple_of(5), "stock": STOCK, "member_id": 1
        });
        Job::new("item.register", item(number), data.to_string())
    };
    let allow = |number| Job::new("item.allow_sale", item(number), "{}".to_owned());
    (0..ITEMS).map(register).chain((0..ITEMS).map(allow)).collect()
}

/// As many jobs of a scenario as anybody asks for. They are seeded: every backlog has the same ones but for their ids.
#[derive(Debug)]
pub struct Backlog {
    scenario: Scenario,
    rng: SmallRng,
    /// For each item, how likely it or one before it is.
    zipf: Vec<f64>,
    jobs: Vec<Job>,
}

impl Backlog {
    pub fn new(scenario: Scenario) -> Backlog {
        let mut sum = 0.0;
        let mut add = |rank: usize| {
            sum += 1.0 / rank as f64;
            sum
        };
        let zipf = (1..=ITEMS).map(&mut add).collect();
        Backlog { scenario, rng: SmallRng::seed_from_u64(1), zipf, jobs: Vec::new() }
    }

    /// The first so many.
    pub fn first(&mut self, count: usize) -> &[Job] {
        while self.jobs.len() < count {
            let job = self.next();
            self.jobs.push(job);
        }
        &self.jobs[..count]
    }

    /// Writes the first so many to a file, one line of JSON each.
    pub fn write(&mut self, count: usize, file: &Path) -> anyhow::Result<()> {
        let mut lines = String::new();
        self.first(count).iter().for_each(|job| job.line(&mut lines));
        std::fs::write(file, lines).with_context(|| format!("{} cannot be written", file.display()))
    }

    fn next(&mut self) -> Job {
        let number = match self.scenario {
            Scenario::Uniform | Scenario::Latency => self.rng.random_range(0..ITEMS),
            Scenario::Hot => 0,
            Scenario::Zipf => {
                let all = self.zipf.last().copied().unwrap_or_default();
                let point = self.rng.random_range(0.0..all);
                self.zipf.partition_point(|share| *share <= point)
            }
            Scenario::Orders => return self.order(),
        };
        Job::restock(number)
    }

    fn order(&mut self) -> Job {
        let items = index::sample(&mut self.rng, ITEMS, LINES).into_iter();
        let lines: Vec<String> =
            items.map(|number| format!(r#"{{"item_id":"{}","quantity":1}}"#, item(number))).collect();
        let data = format!(r#"{{"member_id":1,"lines":[{}]}}"#, lines.join(","));
        Job::new("order.place", format!("order-{}", self.jobs.len()), data)
    }
}

pub fn item(number: usize) -> String {
    format!("item-{number}")
}

#[cfg(test)]
mod tests {
    use foldhash::{HashMap, HashSet};

    use super::*;
    use crate::shop::Shop;
    use lockkeeper::domain::{AggregateId, Domain, States};

    const ALL: [Scenario; 5] = [Scenario::Uniform, Scenario::Hot, Scenario::Orders, Scenario::Zipf, Scenario::Latency];

    #[test]
    fn every_job_is_applied_with_as_many_events_as_its_scenario_says() {
        let mut states: HashMap<AggregateId, _> = HashMap::default();
        let mut run = |job: &Job| {
            let command = Shop::command(job.job_type, &job.key, 1, &job.data).unwrap();
            let events = Shop::decide(&command, &States::new(&states)).unwrap();
            for new in &events {
                Shop::evolve(states.entry(new.aggregate.clone()).or_default(), &new.event);
            }
            events.len() as u64
        };
        assert!(set_up().iter().all(|job| run(job) == 1));
        for scenario in ALL {
            let mut backlog = Backlog::new(scenario);
            assert!(backlog.first(500).iter().all(|job| run(job) == scenario.events_per_job()), "{scenario:?}");
        }
    }

    #[test]
    fn the_jobs_repeat_themselves_and_more_of_them_go_on_where_fewer_end() {
        for scenario in ALL {
            let (mut short, mut long) = (Backlog::new(scenario), Backlog::new(scenario));
            let text = |jobs: &[Job]| jobs.iter().map(|job| (job.key.clone(), job.data.clone())).collect::<Vec<_>>();
            let begun = text(short.first(10));
            assert_eq!(text(long.first(20))[..10], begun);
            assert_eq!(text(short.first(20)), text(long.first(20)));
        }
    }

    #[test]
    fn the_scenarios_differ_in_how_often_they_take_an_item() {
        let taken = |scenario| {
            let mut counts: HashMap<String, usize> = HashMap::default();
            Backlog::new(scenario)
                .first(10_000)
                .iter()
                .for_each(|job| *counts.entry(job.key.clone()).or_default() += 1);
            (counts.len(), counts.get("item-0").copied().unwrap_or_default(), counts.get("item-1").copied())
        };
        assert_eq!(taken(Scenario::Hot), (1, 10_000, None));
        let (kinds, first, _) = taken(Scenario::Uniform);
        assert!(kinds > 990 && first < 40, "{kinds} {first}");
        let (kinds, first, second) = taken(Scenario::Zipf);
        // The first of 1,000 has one part in 7.49.
        assert!(kinds > 600 && first.abs_diff(1_336) < 130 && second.unwrap().abs_diff(668) < 100, "{first}");
    }

    #[test]
    fn a_peer_reads_one_job_per_line() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("orders.jsonl");
        let mut backlog = Backlog::new(Scenario::Orders);
        backlog.write(3, &file).unwrap();
        let text = std::fs::read_to_string(file).unwrap();
        let lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), 3);
        for (line, job) in lines.iter().zip(backlog.first(3)) {
            assert_eq!((&line["id"], &line["type"]), (&job.id.to_string().into(), &"order.place".into()));
            let items: HashSet<&str> = line["data"]["lines"]
                .as_array()
                .unwrap()
                .iter()
                .map(|line| line["item_id"].as_str().unwrap())
                .collect();
            assert_eq!(items.len(), LINES);
        }
    }
}
