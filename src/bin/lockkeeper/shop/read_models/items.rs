//! The read model `items`: every item as it is now.

use crate::shop::item::{self, Item};
use crate::shop::{Event, Shop};
use lockkeeper::projection::{JSON_ID, Sql};

use lockkeeper::projection::{Change, Projection};

/// Writes the table `items`.
pub struct Items;

impl Projection<Shop> for Items {
    fn name(&self) -> &'static str {
        "items"
    }

    /// The items of which nothing but the stock has changed, which is nearly all of them under load, are a statement of their own:
    /// what need not be written costs the database nothing.
    fn write(&self, changes: &[Change<'_, Shop>], sql: &mut Sql) {
        let items = changes.iter().filter_map(|change| Some((change, change.state.item()?)));
        let (stock, all): (Vec<_>, Vec<_>) = items.partition(|(change, _)| change.events.iter().all(is_about_stock));
        if stock.len() > FEW {
            update_stock(sql, &stock);
        } else {
            upsert(sql, &stock, "stock=VALUES(stock),version=VALUES(version);");
        }
        upsert(
            sql,
            &all,
            "name=VALUES(name),supply_price=VALUES(supply_price),vat=VALUES(vat),\
             total_price=VALUES(total_price),is_tax_free=VALUES(is_tax_free),stock=VALUES(stock),\
             sale_status=VALUES(sale_status),member_id=VALUES(member_id),version=VALUES(version);",
        );
    }
}

/// Up to so many items an upsert costs the server less than an update from a list, which begins with 50 to 100 us. Of 600 items the
/// update costs it 1 to 2 us less each (MariaDB 10.11; MySQL 9.7: 3 to 5).
const FEW: usize = 32;

fn is_about_stock(event: &Event) -> bool {
    match event {
        Event::Item(event) => match event {
            item::Event::Restocked(_) | item::Event::StockReserved(_) | item::Event::StockReleased(_) => true,
            item::Event::Registered(_)
            | item::Event::Repriced(_)
            | item::Event::SaleAllowed(_)
            | item::Event::SaleDenied(_) => false,
        },
        Event::Order(_) => false,
    }
}

/// Only of items that are there, so of all that have been registered before.
fn update_stock(sql: &mut Sql, items: &[(&Change<'_, Shop>, &Item)]) {
    let rows: Vec<_> = items.iter().map(|(change, item)| (&*change.aggregate.id, item.stock, change.version)).collect();
    sql.raw("UPDATE JSON_TABLE(").json(&rows).raw(", '$[*]' COLUMNS (id ").raw(JSON_ID).raw(" PATH '$[0]', ");
    sql.raw("stock INT UNSIGNED PATH '$[1]', version BIGINT UNSIGNED PATH '$[2]')) j ");
    sql.raw("STRAIGHT_JOIN items i ON i.item_id = CAST(j.id AS BINARY) SET i.stock = j.stock, i.version = j.version;");
}

fn upsert(sql: &mut Sql, items: &[(&Change<'_, Shop>, &Item)], columns: &'static str) {
    if items.is_empty() {
        return;
    }
    sql.raw(
        "INSERT INTO items (item_id,name,supply_price,vat,total_price,is_tax_free,stock,sale_status,member_id,version) \
         VALUES ",
    );
    sql.list(items, |sql, (change, item)| row(sql, change, item));
    sql.raw(" ON DUPLICATE KEY UPDATE ").raw(columns);
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
    use crate::shop::State;
    use crate::shop::kit::{aggregate_id, given};
    use lockkeeper::domain::{AggregateId, Domain};

    const PEN: &str =
        r#"{"name":"Pen","supply_price":"1.000","vat":"0.100","is_tax_free":false,"stock":5,"member_id":7}"#;
    const INK: &str = r#"{"name":"Ink's \\","supply_price":"9999999.999","vat":"0.000","is_tax_free":true,"stock":4294967295,"member_id":18446744073709551615}"#;

    fn event(event_type: &str, payload: &str) -> Event {
        Shop::decode(event_type, 1, payload.as_bytes()).expect("it is an event of the shop")
    }

    fn written(changes: &[(&AggregateId, u64, &State, &[Event])]) -> String {
        let changes: Vec<_> = changes
            .iter()
            .map(|&(aggregate, version, state, events)| Change { aggregate, version, state, events })
            .collect();
        let mut sql = Sql::new();
        Items.write(&changes, &mut sql);
        sql.into_string()
    }

    const INSERT: &str = "INSERT INTO items (item_id,name,supply_price,vat,total_price,is_tax_free,stock,sale_status,member_id,version) VALUES ";

    #[test]
    fn all_items_of_a_batch_are_one_statement() {
        let world = given(&[
            ("item/ink", "item.registered", INK),
            ("item/pen", "item.registered", PEN),
            ("item/pen", "item.sale_allowed", "{}"),
        ]);
        let [ink, pen] = ["item/ink", "item/pen"].map(aggregate_id);
        let (registered, allowed) = (event("item.registered", INK), event("item.sale_allowed", "{}"));
        let changes: [(_, _, _, &[Event]); 2] =
            [(&ink, 1, &world.states[&ink], &[registered]), (&pen, 2, &world.states[&pen], &[allowed])];
        let values = "('ink',x'496e6b2773205c',9999999.999,0.000,9999999.999,1,4294967295,'DENY',18446744073709551615,1),\
             ('pen','Pen',1.000,0.100,1.100,0,5,'ALLOW',7,2) ON DUPLICATE KEY UPDATE name=VALUES(name),\
             supply_price=VALUES(supply_price),vat=VALUES(vat),total_price=VALUES(total_price),\
             is_tax_free=VALUES(is_tax_free),stock=VALUES(stock),sale_status=VALUES(sale_status),\
             member_id=VALUES(member_id),version=VALUES(version);";
        assert_eq!(written(&changes), format!("{INSERT}{values}"));
    }

    #[test]
    fn items_of_which_only_the_stock_has_changed_are_a_statement_of_their_own() {
        let world = given(&[("item/ink", "item.registered", INK), ("item/pen", "item.registered", PEN)]);
        let [ink, pen] = ["item/ink", "item/pen"].map(aggregate_id);
        let (restocked, allowed) = (event("item.restocked", r#"{"quantity":1}"#), event("item.sale_allowed", "{}"));
        let both = [allowed.clone(), restocked.clone()];
        let restocked = [restocked];
        let sql = written(&[(&ink, 3, &world.states[&ink], &both), (&pen, 2, &world.states[&pen], &restocked)]);
        let pen = "('pen','Pen',1.000,0.100,1.100,0,5,'DENY',7,2) ON DUPLICATE KEY UPDATE stock=VALUES(stock),\
             version=VALUES(version);";
        assert!(sql.starts_with(&format!("{INSERT}{pen}{INSERT}('ink',")), "{sql}");
        assert!(sql.contains("sale_status=VALUES(sale_status)"), "{sql}");
    }

    #[test]
    fn the_stock_of_many_items_comes_as_a_list() {
        let world = given(&[("item/pen", "item.registered", PEN)]);
        let (pen, restocked) =
            (&world.states[&aggregate_id("item/pen")], [event("item.restocked", r#"{"quantity":1}"#)]);
        let pens: Vec<_> = (0..=FEW).map(|number| AggregateId::new("item", format!("p{number:02}'"))).collect();
        let changes: Vec<(_, _, _, &[Event])> = pens.iter().map(|id| (id, 2, pen, &restocked[..])).collect();
        assert!(written(&changes[1..]).starts_with(INSERT));
        let sql = written(&changes);
        let list: Vec<_> = pens.iter().map(|id| (&id.id, 5, 2)).collect();
        let mut expected = Sql::new();
        expected.raw("UPDATE JSON_TABLE(").json(&list).raw(", ");
        assert!(sql.starts_with(expected.as_str()), "{sql}");
        assert_eq!(sql.matches(';').count(), 1, "one statement: {sql}");
    }

    #[test]
    fn a_batch_without_items_writes_nothing() {
        let world = given(&[("order/o1", "order.placed", r#"{"member_id":1,"total_price":"0.000","lines":[]}"#)]);
        let order = aggregate_id("order/o1");
        assert_eq!(written(&[]), "");
        assert_eq!(written(&[(&order, 1, &world.states[&order], &[])]), "");
        assert_eq!(written(&[(&aggregate_id("item/pen"), 1, &State::Nothing, &[])]), "");
    }
}
