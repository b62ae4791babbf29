//! An item: what it costs, whether it may be sold, and how many are left.
//!
//! Its stock changes by its own jobs and by orders, which [`reserve`](Item::reserve) and [`release`](Item::release) it.

use std::sync::Arc;

use lockkeeper::domain;
use lockkeeper::domain::declare::Empty;
use lockkeeper::domain::fields::{Count, Line, Number};
use lockkeeper::{events, jobs, names};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::money::{Money, Price};

#[cfg(test)]
mod tests;

/// The aggregate type.
pub const KIND: &str = "item";

jobs! {
    /// A job about an item. Counts are as wide as a job may write them: a large one is rejected, not malformed.
    Job {
        /// Makes the item known; it is not yet on sale.
        Register(Registration) = "item.register",
        /// Adds to the stock.
        Restock(Restock) = "item.restock",
        /// Changes the price.
        Reprice(Reprice) = "item.reprice",
        /// Lets orders take the item.
        AllowSale(Empty) = "item.allow_sale",
        /// Keeps orders from taking the item.
        DenySale(Empty) = "item.deny_sale",
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
pub struct Registration {
    name: Line<255>,
    /// Without tax.
    supply_price: Price,
    /// The tax on it.
    vat: Price,
    is_tax_free: bool,
    stock: Count<0>,
    /// Who sells it.
    member_id: Number,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
pub struct Restock {
    quantity: Count<1>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
pub struct Reprice {
    supply_price: Price,
    vat: Price,
}

names! {
    /// Why a job is refused on account of an item.
    Rejection {
        /// An item of this id is already registered.
        ItemExists = "item_exists",
        /// No item of this id was registered.
        ItemNotFound = "item_not_found",
        /// The item may not be sold now.
        ItemNotOnSale = "item_not_on_sale",
        /// Fewer are left than the order wants.
        ItemStockShortage = "item_stock_shortage",
        /// A sum or a stock would leave the range of its column.
        OutOfRange = "out_of_range",
    }
}

impl From<Rejection> for domain::Rejection {
    fn from(rejection: Rejection) -> Self {
        Self(rejection.as_str())
    }
}

events! {
    /// Something that happened to an item.
    Event {
        Registered(Registered) = "item.registered",
        Restocked(Restocked) = "item.restocked",
        Repriced(Repriced) = "item.repriced",
        /// Orders may take the item.
        SaleAllowed(Empty) = "item.sale_allowed",
        /// Orders may not take the item.
        SaleDenied(Empty) = "item.sale_denied",
        /// An order took from the stock.
        StockReserved(StockMoved) = "item.stock_reserved",
        /// A cancelled order gave its share back.
        StockReleased(StockMoved) = "item.stock_released",
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Registered {
    pub name: Arc<str>,
    pub supply_price: Money,
    pub vat: Money,
    pub is_tax_free: bool,
    pub stock: u32,
    pub member_id: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Restocked {
    pub quantity: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Repriced {
    pub supply_price: Money,
    pub vat: Money,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StockMoved {
    /// The order that took or gave back.
    pub order_id: Arc<str>,
    pub quantity: u32,
}

/// An item as its events left it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Item {
    pub name: Arc<str>,
    pub supply_price: Money,
    pub vat: Money,
    pub is_tax_free: bool,
    pub is_on_sale: bool,
    pub stock: u32,
    pub member_id: u64,
}

impl Item {
    /// What one piece costs.
    pub fn total_price(&self) -> Money {
        self.supply_price.plus(self.vat)
    }

    /// What happens to the item when the order takes `quantity` of it.
    pub fn reserve(&self, order_id: &Arc<str>, quantity: u64) -> Result<StockMoved, Rejection> {
        if !self.is_on_sale {
            return Err(Rejection::ItemNotOnSale);
        }
        match u32::try_from(quantity) {
            Ok(quantity) if quantity <= self.stock => Ok(StockMoved { order_id: order_id.clone(), quantity }),
            Ok(_) | Err(_) => Err(Rejection::ItemStockShortage),
        }
    }

    /// What happens to the item when the order gives `quantity` of it back. The stock may have grown so much in the
    /// meantime that it has no room for them.
    pub fn release(&self, order_id: &Arc<str>, quantity: u32) -> Result<StockMoved, Rejection> {
        self.stock.checked_add(quantity).ok_or(Rejection::OutOfRange)?;
        Ok(StockMoved { order_id: order_id.clone(), quantity })
    }
}

/// What the job brings about on this item, or on none.
pub fn decide(job: &Job, item: Option<&Item>) -> Result<Event, Rejection> {
    let known = item.ok_or(Rejection::ItemNotFound);
    match job {
        Job::Register(_) if item.is_some() => Err(Rejection::ItemExists),
        Job::Register(registration) => register(registration),
        Job::Restock(Restock { quantity }) => restock(known?, quantity.0),
        Job::Reprice(Reprice { supply_price, vat }) => {
            known?;
            check_price(supply_price.0, vat.0)?;
            Ok(Event::Repriced(Repriced { supply_price: supply_price.0, vat: vat.0 }))
        }
        Job::AllowSale(Empty {}) => known.map(|_| Event::SaleAllowed(Empty {})),
        Job::DenySale(Empty {}) => known.map(|_| Event::SaleDenied(Empty {})),
    }
}

fn register(new: &Registration) -> Result<Event, Rejection> {
    check_price(new.supply_price.0, new.vat.0)?;
    Ok(Event::Registered(Registered {
        name: new.name.0.clone(),
        supply_price: new.supply_price.0,
        vat: new.vat.0,
        is_tax_free: new.is_tax_free,
        stock: u32::try_from(new.stock.0).map_err(|_| Rejection::OutOfRange)?,
        member_id: new.member_id.0,
    }))
}

fn restock(item: &Item, quantity: u64) -> Result<Event, Rejection> {
    let quantity = u32::try_from(quantity).map_err(|_| Rejection::OutOfRange)?;
    item.stock.checked_add(quantity).ok_or(Rejection::OutOfRange)?;
    Ok(Event::Restocked(Restocked { quantity }))
}

/// Neither part is negative, so a total that fits has parts that fit.
fn check_price(supply_price: Money, vat: Money) -> Result<(), Rejection> {
    if supply_price.plus(vat).fits() { Ok(()) } else { Err(Rejection::OutOfRange) }
}

/// The item after `event`. An event other than the first on an unknown item has no effect; no decision leads there. The
/// arithmetic saturates because a damaged log must not panic; what `decide` lets through stays within range.
pub fn evolve(item: Option<Item>, event: &Event) -> Option<Item> {
    if let Event::Registered(new) = event {
        let Registered { name, supply_price, vat, is_tax_free, stock, member_id } = new.clone();
        return Some(Item { name, supply_price, vat, is_tax_free, is_on_sale: false, stock, member_id });
    }
    let item = item?;
    Some(match event {
        Event::Registered(_) => item,
        Event::Restocked(Restocked { quantity }) | Event::StockReleased(StockMoved { quantity, .. }) => {
            Item { stock: item.stock.saturating_add(*quantity), ..item }
        }
        Event::StockReserved(moved) => Item { stock: item.stock.saturating_sub(moved.quantity), ..item },
        Event::Repriced(Repriced { supply_price, vat }) => Item { supply_price: *supply_price, vat: *vat, ..item },
        Event::SaleAllowed(Empty {}) => Item { is_on_sale: true, ..item },
        Event::SaleDenied(Empty {}) => Item { is_on_sale: false, ..item },
    })
}
