//! The read model `items`: every item as it is now.

use crate::domain::item::Item;
use crate::domain::shop::Shop;
use crate::store::sql::Sql;

use super::{Change, Projection};

/// Writes the table `items`.
pub struct Items;

impl Projection<Shop> for Items {
    fn name(&self) -> &'static str {
        "items"
    }

    fn write(&self, changes: &[Change<'_, Shop>], sql: &mut Sql) {
        let mut items = changes.iter().filter_map(|change| Some((change, change.state.item()?))).peekable();
        if items.peek().is_none() {
            return;
        }
        sql.raw(
            "INSERT INTO items (item_id,name,supply_price,vat,total_price,is_tax_free,stock,sale_status,member_id,\
             version) VALUES ",
        );
        sql.list(items, |sql, (change, item)| row(sql, change, item));
        sql.raw(
            " ON DUPLICATE KEY UPDATE name=VALUES(name),supply_price=VALUES(supply_price),vat=VALUES(vat),\
             total_price=VALUES(total_price),is_tax_free=VALUES(is_tax_free),stock=VALUES(stock),\
             sale_status=VALUES(sale_status),member_id=VALUES(member_id),version=VALUES(version);",
        );
    }
}

fn row(sql: &mut Sql, change: &Change<'_, Shop>, item: &Item) {
    sql.raw("(").text(&change.aggregate.id);
    sql.raw(",").text(&item.name);
    sql.raw(",").decimal(item.supply_price.into());
    sql.raw(",").decimal(item.vat.into());
    sql.raw(",").decimal(item.total_price().into());
    sql.raw(",").boolean(item.is_tax_free);
    sql.raw(",").number(item.stock);
    sql.raw(",").text(if item.is_on_sale { "ALLOW" } else { "DENY" });
    sql.raw(",").number(item.member_id);
    sql.raw(",").number(change.version).raw(")");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::AggregateId;
    use crate::domain::shop::kit::{aggregate_id, given};

    const PEN: &str =
        r#"{"name":"Pen","supply_price":"1.000","vat":"0.100","is_tax_free":false,"stock":5,"member_id":7}"#;
    const INK: &str = r#"{"name":"Ink's \\","supply_price":"9999999.999","vat":"0.000","is_tax_free":true,"stock":4294967295,"member_id":18446744073709551615}"#;

    fn written(changes: &[(&AggregateId, u64, &crate::domain::shop::State)]) -> String {
        let changes: Vec<_> = changes
            .iter()
            .map(|&(aggregate, version, state)| Change { aggregate, version, state, events: &[] })
            .collect();
        let mut sql = Sql::new();
        Items.write(&changes, &mut sql);
        sql.into_string()
    }

    #[test]
    fn all_items_of_a_batch_are_one_statement() {
        let world = given(&[
            ("item/ink", "item.registered", INK),
            ("item/pen", "item.registered", PEN),
            ("item/pen", "item.sale_allowed", "{}"),
        ]);
        let [ink, pen] = ["item/ink", "item/pen"].map(aggregate_id);
        assert_eq!(
            written(&[(&ink, 1, &world.states[&ink]), (&pen, 2, &world.states[&pen])]),
            "INSERT INTO items (item_id,name,supply_price,vat,total_price,is_tax_free,stock,sale_status,member_id,version) \
             VALUES ('ink',x'496e6b2773205c',9999999.999,0.000,9999999.999,1,4294967295,'DENY',18446744073709551615,1),\
             ('pen','Pen',1.000,0.100,1.100,0,5,'ALLOW',7,2) ON DUPLICATE KEY UPDATE name=VALUES(name),\
             supply_price=VALUES(supply_price),vat=VALUES(vat),total_price=VALUES(total_price),\
             is_tax_free=VALUES(is_tax_free),stock=VALUES(stock),sale_status=VALUES(sale_status),\
             member_id=VALUES(member_id),version=VALUES(version);"
        );
    }

    #[test]
    fn a_batch_without_items_writes_nothing() {
        let world = given(&[("order/o1", "order.placed", r#"{"member_id":1,"total_price":"0.000","lines":[]}"#)]);
        let order = aggregate_id("order/o1");
        assert_eq!(written(&[]), "");
        assert_eq!(written(&[(&order, 1, &world.states[&order])]), "");
        assert_eq!(written(&[(&aggregate_id("item/pen"), 1, &crate::domain::shop::State::Nothing)]), "");
    }
}
