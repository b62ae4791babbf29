//! The shop, as far as the bench's jobs need it: the rows are those that lockkeeper writes.

use std::collections::HashMap;
use std::fmt;

use anyhow::{Context, bail};
use serde::Deserialize;
use serde_json::value::RawValue;
use uuid::Uuid;

/// Thousandths.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Money(u64);

impl Money {
    /// What `quantity` pieces cost, and `more`.
    pub fn times_plus(self, quantity: u32, more: Money) -> Money {
        Money(self.0 * u64::from(quantity) + more.0)
    }
}

impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:03}", self.0 / 1000, self.0 % 1000)
    }
}

impl std::str::FromStr for Money {
    type Err = anyhow::Error;

    /// Reads what the server writes, which has three decimals.
    fn from_str(text: &str) -> anyhow::Result<Money> {
        match text.split_once('.') {
            Some((whole, parts)) if parts.len() == 3 => Ok(Money(whole.parse::<u64>()? * 1000 + parts.parse::<u64>()?)),
            _ => bail!("{text} is no DECIMAL(10,3)"),
        }
    }
}

/// A row of `items`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    pub id: String,
    pub name: String,
    pub supply_price: Money,
    pub vat: Money,
    pub total_price: Money,
    pub is_tax_free: bool,
    pub stock: u32,
    pub sale_status: String,
    pub member_id: u64,
    pub version: u64,
}

/// Reads a row of `items`.
pub const SELECT_ITEMS: &str = "SELECT item_id, name, CAST(supply_price AS CHAR), CAST(vat AS CHAR), \
                                CAST(total_price AS CHAR), is_tax_free, stock, sale_status, member_id, version FROM items";

impl Item {
    /// Of a row that [`SELECT_ITEMS`] gave.
    pub fn of(row: &sqlx::mysql::MySqlRow) -> anyhow::Result<Item> {
        use sqlx::Row;
        Ok(Item {
            id: String::from_utf8(row.try_get(0)?)?,
            name: row.try_get(1)?,
            supply_price: row.try_get::<String, _>(2)?.parse()?,
            vat: row.try_get::<String, _>(3)?.parse()?,
            total_price: row.try_get::<String, _>(4)?.parse()?,
            is_tax_free: row.try_get(5)?,
            stock: row.try_get(6)?,
            sale_status: row.try_get(7)?,
            member_id: row.try_get(8)?,
            version: row.try_get(9)?,
        })
    }
}

/// A job as the bench writes it.
#[derive(Debug, Deserialize)]
pub struct Job<'a> {
    pub id: Uuid,
    #[serde(rename = "type")]
    pub job_type: &'a str,
    pub key: &'a str,
    #[serde(borrow)]
    pub data: &'a RawValue,
}

/// What a job wants.
#[derive(Debug)]
pub enum Command {
    Restock { item: String, quantity: u32 },
    Place { order: String, member_id: u64, lines: Vec<Wish> },
}

/// One line of an order that is to be placed.
#[derive(Debug, Deserialize)]
pub struct Wish {
    pub item_id: String,
    pub quantity: u32,
}

impl Job<'_> {
    /// Reads the data.
    pub fn command(&self) -> anyhow::Result<Command> {
        #[derive(Deserialize)]
        struct Restock {
            quantity: u32,
        }
        #[derive(Deserialize)]
        struct Place {
            member_id: u64,
            lines: Vec<Wish>,
        }
        let key = self.key.to_owned();
        match self.job_type {
            "item.restock" => {
                let Restock { quantity } = serde_json::from_str(self.data.get())?;
                Ok(Command::Restock { item: key, quantity })
            }
            "order.place" => {
                let Place { member_id, lines } = serde_json::from_str(self.data.get())?;
                Ok(Command::Place { order: key, member_id, lines })
            }
            other => bail!("this peer does no jobs of type {other}"),
        }
    }

    /// A digest of what the job says.
    pub fn fingerprint(&self) -> [u8; 16] {
        let mut text = Vec::new();
        for field in [self.job_type, self.key, self.data.get()] {
            text.extend_from_slice(&(field.len() as u64).to_be_bytes());
            text.extend_from_slice(field.as_bytes());
        }
        Uuid::new_v5(&Uuid::NAMESPACE_OID, &text).into_bytes()
    }
}

/// A row of `events` but for its position and its time.
#[derive(Debug)]
pub struct Event {
    pub aggregate_type: &'static str,
    pub aggregate_id: String,
    pub version: u64,
    pub event_id: [u8; 16],
    pub event_type: &'static str,
    pub payload: String,
    pub metadata: String,
}

/// A row of `orders` and those of `order_items` that belong to it.
#[derive(Debug)]
pub struct Order {
    pub id: String,
    pub member_id: u64,
    pub total_price: Money,
    pub lines: Vec<Line>,
}

/// A row of `order_items`.
#[derive(Debug)]
pub struct Line {
    pub item_id: String,
    pub price: Money,
    pub quantity: u32,
    pub is_tax_free: bool,
}

/// What a job brings about, besides the changes of its items.
#[derive(Debug)]
pub struct Done {
    pub events: Vec<Event>,
    pub order: Option<Order>,
}

/// Does a job: changes its items, which must be there. The bench's jobs are such that none is rejected.
pub fn decide(job: Uuid, command: &Command, items: &mut HashMap<String, Item>) -> anyhow::Result<Done> {
    let mut events = Vec::new();
    let mut happened = |aggregate_type, id: &str, version, event_type, payload| {
        let index = events.len() as u32;
        events.push(Event {
            aggregate_type,
            aggregate_id: id.to_owned(),
            version,
            event_id: Uuid::new_v5(&job, &index.to_be_bytes()).into_bytes(),
            event_type,
            payload,
            metadata: format!(r#"{{"job":"{job}"}}"#),
        });
    };
    let order = match command {
        Command::Restock { item: id, quantity } => {
            let item = items.get_mut(id).with_context(|| format!("there is no {id}"))?;
            item.version += 1;
            item.stock = item.stock.checked_add(*quantity).context("no room for more stock")?;
            happened("item", id, item.version, "item.restocked", format!(r#"{{"quantity":{quantity}}}"#));
            None
        }
        Command::Place { order, member_id, lines } => {
            let mut reserved = Vec::with_capacity(lines.len());
            let mut total_price = Money::default();
            for Wish { item_id, quantity } in lines {
                let item = items.get_mut(item_id).with_context(|| format!("there is no {item_id}"))?;
                anyhow::ensure!(item.sale_status == "ALLOW" && item.stock >= *quantity, "{item_id} cannot be sold");
                item.version += 1;
                item.stock -= quantity;
                total_price = item.total_price.times_plus(*quantity, total_price);
                let line = Line {
                    item_id: item_id.clone(),
                    price: item.total_price,
                    quantity: *quantity,
                    is_tax_free: item.is_tax_free,
                };
                reserved.push((line, item.version));
            }
            let placed = placed(*member_id, total_price, reserved.iter().map(|(line, _)| line));
            happened("order", order, 1, "order.placed", placed);
            for (line, version) in &reserved {
                let payload = format!(r#"{{"order_id":{},"quantity":{}}}"#, quoted(order), line.quantity);
                happened("item", &line.item_id, *version, "item.stock_reserved", payload);
            }
            let lines = reserved.into_iter().map(|(line, _)| line).collect();
            Some(Order { id: order.clone(), member_id: *member_id, total_price, lines })
        }
    };
    Ok(Done { events, order })
}

fn placed<'l>(member_id: u64, total_price: Money, lines: impl Iterator<Item = &'l Line>) -> String {
    let line = |Line { item_id, price, quantity, is_tax_free }: &Line| {
        let item_id = quoted(item_id);
        format!(r#"{{"item_id":{item_id},"quantity":{quantity},"price":"{price}","is_tax_free":{is_tax_free}}}"#)
    };
    let lines: Vec<String> = lines.map(line).collect();
    format!(r#"{{"member_id":{member_id},"total_price":"{total_price}","lines":[{}]}}"#, lines.join(","))
}

fn quoted(text: &str) -> serde_json::Value {
    serde_json::Value::String(text.to_owned())
}
