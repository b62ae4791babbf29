//! The read model `items`: every item as it is now.

use lockkeeper::domain::AggregateId;
use lockkeeper::projection::{Column, Rows, StateProjection, Table, Touches};

use crate::shop::{Event, Shop, State, item};

/// Keeps the table `items`.
pub struct Items {
    /// Of this code.
    pub version: u16,
}

const MONEY: &str = "DECIMAL(10,3)";

/// As it is described.
pub const ITEMS: Table = Table {
    name: "items",
    key: &[Column::id("item_id")],
    columns: &[
        Column::new("name", "VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin"),
        Column::new("supply_price", MONEY),
        Column::new("vat", MONEY),
        Column::new("total_price", MONEY),
        Column::new("is_tax_free", "BOOLEAN"),
        Column::new("stock", "INT UNSIGNED"),
        Column::new("sale_status", "VARCHAR(8) CHARACTER SET ascii COLLATE ascii_bin"),
        Column::new("member_id", "BIGINT UNSIGNED"),
        Column::new("version", "BIGINT UNSIGNED"),
    ],
    indexes: &[],
};

impl StateProjection<Shop> for Items {
    fn table(&self) -> &'static Table {
        const { &ITEMS }
    }

    fn version(&self) -> u16 {
        self.version
    }

    fn aggregates(&self) -> &'static [&'static str] {
        &["item"]
    }

    fn rows(&self, aggregate: &AggregateId, version: u64, state: &State, rows: &mut Rows<'_>) {
        let Some(item) = state.item() else { return };
        rows.add(&[
            (&*aggregate.id).into(),
            (&*item.name).into(),
            item.supply_price.into(),
            item.vat.into(),
            item.total_price().into(),
            item.is_tax_free.into(),
            item.stock.into(),
            if item.is_on_sale { "ALLOW" } else { "DENY" }.into(),
            item.member_id.into(),
            version.into(),
        ]);
    }

    /// Under load nearly all that happens to an item is about its stock.
    fn touches(&self, event: &Event) -> Touches {
        use item::Event::{Registered, Repriced, Restocked, SaleAllowed, SaleDenied, StockReleased, StockReserved};
        match event {
            Event::Item(Restocked(_) | StockReserved(_) | StockReleased(_)) => Touches::Columns(&["stock", "version"]),
            Event::Item(Registered(_) | Repriced(_) | SaleAllowed(_) | SaleDenied(_)) => Touches::Rows,
            Event::Order(_) => Touches::Nothing,
        }
    }
}
