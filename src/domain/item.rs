//! An item: what it costs, whether it may be sold, and how many are left.
//!
//! Its stock changes by its own jobs and by orders, which [`reserve`](Item::reserve) and [`release`](Item::release) it.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::shop::{Empty, Money, Place, events, names, read, shared_text};
use super::{AggregateId, Malformed};

#[cfg(test)]
mod tests;

/// The aggregate type.
pub const KIND: &str = "item";

/// The longest name, in characters.
const MAX_NAME_CHARS: usize = 255;

names! {
    /// A job about an item.
    Job {
        /// Makes the item known; it is not yet on sale.
        Register = "item.register",
        /// Adds to the stock.
        Restock = "item.restock",
        /// Changes the price.
        Reprice = "item.reprice",
        /// Lets orders take the item.
        AllowSale = "item.allow_sale",
        /// Keeps orders from taking the item.
        DenySale = "item.deny_sale",
    }
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

impl From<Rejection> for super::Rejection {
    fn from(rejection: Rejection) -> Self {
        Self(rejection.as_str())
    }
}

/// A job about one item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// The item.
    pub item: AggregateId,
    /// What to do with it.
    pub action: Action,
}

/// What a job does with an item. Counts are as wide as a job may write them: a large one is rejected, not malformed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Make it known.
    Register(Registration),
    /// Add this many to the stock.
    Restock {
        /// At least 1.
        quantity: u64,
    },
    /// Change its price.
    Reprice {
        /// Without tax.
        supply_price: Money,
        /// The tax on it.
        vat: Money,
    },
    /// Put it on sale.
    AllowSale,
    /// Take it off sale.
    DenySale,
}

/// What a new item is like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registration {
    /// What it is called.
    pub name: Arc<str>,
    /// The price without tax.
    pub supply_price: Money,
    /// The tax on it.
    pub vat: Money,
    /// Whether it is free of tax.
    pub is_tax_free: bool,
    /// How many there are.
    pub stock: u64,
    /// Who sells it.
    pub member_id: u64,
}

events! {
    /// Something that happened to an item.
    Event {
        /// The item became known.
        Registered(Registered) = "item.registered",
        /// The stock grew.
        Restocked(Restocked) = "item.restocked",
        /// The price changed.
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

/// The payload of `item.registered`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registered {
    /// What it is called.
    #[serde(with = "shared_text")]
    pub name: Arc<str>,
    /// The price without tax.
    pub supply_price: Money,
    /// The tax on it.
    pub vat: Money,
    /// Whether it is free of tax.
    pub is_tax_free: bool,
    /// How many there are.
    pub stock: u32,
    /// Who sells it.
    pub member_id: u64,
}

/// The payload of `item.restocked`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restocked {
    /// How many were added.
    pub quantity: u32,
}

/// The payload of `item.repriced`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Repriced {
    /// The new price without tax.
    pub supply_price: Money,
    /// The new tax on it.
    pub vat: Money,
}

/// The payload of `item.stock_reserved` and `item.stock_released`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StockMoved {
    /// The order that took or gave back.
    #[serde(with = "shared_text")]
    pub order_id: Arc<str>,
    /// How many.
    pub quantity: u32,
}

/// An item as its events left it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Item {
    /// What it is called.
    #[serde(with = "shared_text")]
    pub name: Arc<str>,
    /// The price without tax.
    pub supply_price: Money,
    /// The tax on it.
    pub vat: Money,
    /// Whether it is free of tax.
    pub is_tax_free: bool,
    /// Whether orders may take it.
    pub is_on_sale: bool,
    /// How many are left.
    pub stock: u32,
    /// Who sells it.
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

/// Reads the data of a job about the item `key`.
pub fn command(job: Job, key: &str, data: &str) -> Result<Command, Malformed> {
    let action = match job {
        Job::Register => registration(data).map(Action::Register)?,
        Job::Restock => {
            let [quantity] = read(data, Place::Data, ["quantity"])?;
            Action::Restock { quantity: quantity.count(1)? }
        }
        Job::Reprice => {
            let [supply_price, vat] = read(data, Place::Data, ["supply_price", "vat"])?;
            Action::Reprice { supply_price: supply_price.money()?, vat: vat.money()? }
        }
        Job::AllowSale => read(data, Place::Data, []).map(|[]| Action::AllowSale)?,
        Job::DenySale => read(data, Place::Data, []).map(|[]| Action::DenySale)?,
    };
    Ok(Command { item: AggregateId::new(KIND, key), action })
}

fn registration(data: &str) -> Result<Registration, Malformed> {
    let names = ["name", "supply_price", "vat", "is_tax_free", "stock", "member_id"];
    let [name, supply_price, vat, is_tax_free, stock, member_id] = read(data, Place::Data, names)?;
    Ok(Registration {
        name: name.line_up_to(MAX_NAME_CHARS)?.into(),
        supply_price: supply_price.money()?,
        vat: vat.money()?,
        is_tax_free: is_tax_free.boolean()?,
        stock: stock.count(0)?,
        member_id: member_id.number()?,
    })
}

/// What `action` brings about on this item, or on none.
pub fn decide(action: &Action, item: Option<&Item>) -> Result<Event, Rejection> {
    let known = item.ok_or(Rejection::ItemNotFound);
    match action {
        Action::Register(registration) => match item {
            Some(_) => Err(Rejection::ItemExists),
            None => register(registration),
        },
        Action::Restock { quantity } => restock(known?, *quantity),
        Action::Reprice { supply_price, vat } => known.and_then(|_| reprice(*supply_price, *vat)),
        Action::AllowSale => known.map(|_| Event::SaleAllowed(Empty {})),
        Action::DenySale => known.map(|_| Event::SaleDenied(Empty {})),
    }
}

fn register(new: &Registration) -> Result<Event, Rejection> {
    check_price(new.supply_price, new.vat)?;
    Ok(Event::Registered(Registered {
        name: new.name.clone(),
        supply_price: new.supply_price,
        vat: new.vat,
        is_tax_free: new.is_tax_free,
        stock: u32::try_from(new.stock).map_err(|_| Rejection::OutOfRange)?,
        member_id: new.member_id,
    }))
}

fn restock(item: &Item, quantity: u64) -> Result<Event, Rejection> {
    let quantity = u32::try_from(quantity).map_err(|_| Rejection::OutOfRange)?;
    item.stock.checked_add(quantity).ok_or(Rejection::OutOfRange)?;
    Ok(Event::Restocked(Restocked { quantity }))
}

fn reprice(supply_price: Money, vat: Money) -> Result<Event, Rejection> {
    check_price(supply_price, vat)?;
    Ok(Event::Repriced(Repriced { supply_price, vat }))
}

/// Neither part is negative, so a total that fits has parts that fit.
fn check_price(supply_price: Money, vat: Money) -> Result<(), Rejection> {
    if supply_price.plus(vat).fits() { Ok(()) } else { Err(Rejection::OutOfRange) }
}

/// The item after `event`. An event other than the first on an unknown item has no effect; no decision leads there.
pub fn evolve(item: Option<Item>, event: &Event) -> Option<Item> {
    if let Event::Registered(registered) = event {
        return Some(Item {
            name: registered.name.clone(),
            supply_price: registered.supply_price,
            vat: registered.vat,
            is_tax_free: registered.is_tax_free,
            is_on_sale: false,
            stock: registered.stock,
            member_id: registered.member_id,
        });
    }
    item.map(|item| changed(item, event))
}

/// The arithmetic saturates because a damaged log must not panic; what `decide` lets through stays within range.
fn changed(mut item: Item, event: &Event) -> Item {
    match event {
        Event::Registered(_) => {}
        Event::Restocked(restocked) => item.stock = item.stock.saturating_add(restocked.quantity),
        Event::Repriced(repriced) => {
            item.supply_price = repriced.supply_price;
            item.vat = repriced.vat;
        }
        Event::SaleAllowed(Empty {}) => item.is_on_sale = true,
        Event::SaleDenied(Empty {}) => item.is_on_sale = false,
        Event::StockReserved(moved) => item.stock = item.stock.saturating_sub(moved.quantity),
        Event::StockReleased(moved) => item.stock = item.stock.saturating_add(moved.quantity),
    }
    item
}
