//! What the demo's producers push: seeded, so that a run can be repeated.

use rand::rngs::SmallRng;
use rand::seq::{SliceRandom, index};
use rand::{RngExt, SeedableRng};
use serde_json::json;
use uuid::Uuid;

use lockkeeper::audit::JobId;

/// The most lines of an order, and the most pieces of a line.
const MAX_LINES: usize = 5;
const MAX_PIECES: u32 = 2;

/// One in so many jobs of a producer is a cancellation, a restock; one in so many is sent twice.
const ORDERS_PER_CANCEL: usize = 25;
const ORDERS_PER_RESTOCK: usize = 150;
const JOBS_PER_RESEND: u32 = 100;

/// A job to be pushed.
#[derive(Clone, Debug)]
pub struct Job {
    /// Its id.
    pub id: JobId,
    /// Its type.
    pub job_type: &'static str,
    /// Its aggregate's id.
    pub key: String,
    /// Its data.
    pub data: String,
}

impl Job {
    fn new(job_type: &'static str, key: String, data: serde_json::Value) -> Self {
        Self { id: JobId(Uuid::now_v7()), job_type, key, data: data.to_string() }
    }

    /// Adds it to `pipeline` as an entry of `stream`.
    pub fn push(&self, pipeline: &mut redis::Pipeline, stream: &str, reply: &str) {
        let fields = [
            ("type", self.job_type),
            ("key", &self.key),
            ("data", &self.data),
            ("id", &self.id.to_string()),
            ("src", "demo"),
            ("reply", reply),
        ];
        pipeline.cmd("XADD").arg(stream).arg("*").arg(&fields).ignore();
    }
}

/// The items on offer. Their ids begin with `prefix`, which sets them apart from those of earlier runs on kept data.
#[derive(Clone, Debug)]
pub struct Offer {
    /// How all ids of this run begin.
    pub prefix: String,
    /// How many items there are.
    pub items: usize,
    /// How many pieces there are of each at first.
    pub stock: u32,
}

impl Offer {
    fn item(&self, number: usize) -> String {
        format!("{}item-{number}", self.prefix)
    }

    /// Jobs that make every item known.
    pub fn registrations(&self) -> Vec<Job> {
        let register = |number| {
            let price = format!("{}.{:03}", 1 + number % 9, number * 37 % 1000);
            let data = json!({
                "name": format!("Item {number}"), "supply_price": price, "vat": "0.100",
                "is_tax_free": number % 5 == 0, "stock": self.stock, "member_id": 1
            });
            Job::new("item.register", self.item(number), data)
        };
        (1..=self.items).map(register).collect()
    }

    /// Jobs that put every item on sale.
    pub fn sale_permits(&self) -> Vec<Job> {
        (1..=self.items).map(|number| Job::new("item.allow_sale", self.item(number), json!({}))).collect()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Place,
    Cancel,
    Restock,
}

/// One producer's jobs, one after the other.
#[derive(Debug)]
pub struct Shopper {
    offer: Offer,
    number: usize,
    rng: SmallRng,
    /// For what depends on the answers, whose timing must not change the orders.
    aside: SmallRng,
    kinds: Vec<Kind>,
    orders: usize,
}

impl Shopper {
    /// The producer of this number, which places `orders` orders, cancels some and restocks now and then.
    pub fn new(offer: &Offer, number: usize, orders: usize, seed: u64) -> Self {
        let mut rng = SmallRng::seed_from_u64(seed.wrapping_add(number as u64));
        let mut kinds = vec![Kind::Place; orders];
        kinds.extend(vec![Kind::Cancel; orders / ORDERS_PER_CANCEL]);
        kinds.extend(vec![Kind::Restock; orders / ORDERS_PER_RESTOCK]);
        kinds.shuffle(&mut rng);
        Self { offer: offer.clone(), number, aside: rng.fork(), rng, kinds, orders: 0 }
    }

    /// How many jobs are still to come.
    pub fn remaining(&self) -> usize {
        self.kinds.len()
    }

    /// Whether the job just made is to be sent twice.
    pub fn sends_twice(&mut self) -> bool {
        self.aside.random_ratio(1, JOBS_PER_RESEND)
    }

    /// The next job. A cancellation is of one of the orders that `standing` takes out, or else of one that is not placed
    /// yet, which is rejected.
    pub fn next(&mut self, standing: impl FnOnce(&mut SmallRng) -> Option<String>) -> Option<Job> {
        Some(match self.kinds.pop()? {
            Kind::Place => self.place(),
            Kind::Cancel => {
                let order = standing(&mut self.aside).unwrap_or_else(|| self.order(self.orders + 1));
                Job::new("order.cancel", order, json!({ "reason": "changed my mind" }))
            }
            Kind::Restock => {
                let item = self.rng.random_range(1..=self.offer.items);
                let quantity = self.rng.random_range(1..=20);
                Job::new("item.restock", self.offer.item(item), json!({ "quantity": quantity }))
            }
        })
    }

    fn order(&self, order: usize) -> String {
        format!("{}order-{}-{order}", self.offer.prefix, self.number)
    }

    fn place(&mut self) -> Job {
        self.orders += 1;
        let most = MAX_LINES.min(self.offer.items);
        let count = self.rng.random_range(1..=most);
        let items = index::sample(&mut self.rng, self.offer.items, count);
        let mut lines = Vec::with_capacity(count);
        for item in items {
            let quantity = self.rng.random_range(1..=MAX_PIECES);
            lines.push(json!({ "item_id": self.offer.item(item + 1), "quantity": quantity }));
        }
        let data = json!({ "member_id": self.number, "lines": lines });
        Job::new("order.place", self.order(self.orders), data)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shop::Shop;
    use lockkeeper::domain::Domain;

    fn offer() -> Offer {
        Offer { prefix: "r-".to_owned(), items: 3, stock: 5 }
    }

    fn all(seed: u64) -> Vec<Job> {
        let mut shopper = Shopper::new(&offer(), 1, 300, seed);
        let mut jobs = offer().registrations();
        jobs.extend(offer().sale_permits());
        jobs.extend(std::iter::from_fn(|| shopper.next(|_| None)));
        jobs
    }

    #[test]
    fn every_job_is_well_formed() {
        for job in all(7) {
            Shop::command(job.job_type, &job.key, 1, &job.data).unwrap();
        }
    }

    #[test]
    fn a_seed_repeats_the_jobs_and_every_kind_is_among_them() {
        let texts = |seed| all(seed).into_iter().map(|job| (job.job_type, job.key, job.data)).collect::<Vec<_>>();
        assert_eq!(texts(7), texts(7));
        assert_ne!(texts(7), texts(8));
        let count = |job_type| texts(7).iter().filter(|(of, ..)| *of == job_type).count();
        assert_eq!((count("order.place"), count("order.cancel"), count("item.restock")), (300, 12, 2));
    }
}
