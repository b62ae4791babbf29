//! The first build of a read model: the table that there is, or an empty one where the log is.

use std::time::Duration;

use super::models::Models;
use super::problem::Problem;
use crate::domain::Domain;
use crate::projection::Code;
use crate::projection::Table;
use crate::store::sql::Tables;
use crate::store::{Alone, Conflict, Mode, Named, Repeat, Store, StoreError};

/// What became of a read model that had no build.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Adopted {
    /// Its table is its first build, and its name a view that shows it.
    Table(&'static str),
    /// It has an empty table.
    New(&'static str),
    /// The log has events, and there are no rows of them: it has to be filled.
    Missing(&'static str),
}

const FIRST: Tables = Tables::Build(1);

/// The read models that have no build.
pub async fn missing<'a, D: Domain>(store: &Store, models: Models<'a, D>) -> Result<Vec<Code<'a, D>>, StoreError> {
    let (_, builds) = store.builds().await?;
    let newest = models.newest().into_iter();
    Ok(newest.filter(|code| !builds.iter().any(|build| build.name == code.name())).collect())
}

/// The names of those that [`adopt`] would give a first build.
pub async fn pending<D: Domain>(store: &Store, models: Models<'_, D>) -> Result<Vec<&'static str>, StoreError> {
    let (mut pending, is_empty) = (Vec::new(), store.sequence().await? == 0);
    for code in missing(store, models).await? {
        let names: Vec<_> = code.tables().iter().map(|table| table.name.to_owned()).collect();
        let is_there = store.named(&names).await?.iter().any(Option::is_some);
        if is_there || is_empty || code.mode() != Mode::Inline {
            pending.push(code.name());
        }
    }
    Ok(pending)
}

/// Gives each read model its first build, where that takes no reading of the log. Whoever else does the same waits.
pub async fn adopt<D: Domain>(store: &Store, models: Models<'_, D>) -> Result<Vec<Adopted>, Problem> {
    if missing(store, models).await?.is_empty() {
        return Ok(Vec::new());
    }
    let alone = store.alone().await?;
    let adopted = adopt_all(&alone, models).await;
    alone.close().await;
    adopted
}

async fn adopt_all<D: Domain>(alone: &Alone, models: Models<'_, D>) -> Result<Vec<Adopted>, Problem> {
    let (mut adopted, store) = (Vec::new(), alone.store());
    for code in missing(store, models).await? {
        let names: Vec<_> = code.tables().iter().map(|table| table.name.to_owned()).collect();
        let named = store.named(&names).await?;
        let is_table = named.contains(&Some(Named::Table));
        if is_table && named.contains(&None) {
            let text = format!("of the tables {} of {} only some are there", names.join(", "), code.name());
            return Err(Problem::refused(text));
        }
        for (table, _) in code.tables().iter().zip(&named).filter(|(_, named)| **named == Some(Named::View)) {
            is_ours(store, table.name).await?;
        }
        // Views whose tables have rows are what a renaming left that was not written down; without rows nobody knows what they left.
        let is_renamed = !is_table && named.iter().all(Option::is_some) && firsts_have_rows(store, &code).await?;
        adopted.push(if is_table || is_renamed {
            rename(alone, &code, &named).await?;
            store.adopt_build(&code.build(1), false).await?;
            Adopted::Table(code.name())
        } else if code.mode() == Mode::Inline && store.sequence().await? > 0 {
            Adopted::Missing(code.name())
        } else {
            create(alone, &code).await?;
            match store.adopt_build(&code.build(1), code.mode() == Mode::Inline).await {
                Ok(()) => Adopted::New(code.name()),
                // Somebody has written the first event meanwhile.
                Err(StoreError::Conflict(Conflict::Head)) => Adopted::Missing(code.name()),
                Err(error) => return Err(error.into()),
            }
        });
    }
    Ok(adopted)
}

/// Refuses a view that does not show what would be the first build.
async fn is_ours(store: &Store, view: &str) -> Result<(), Problem> {
    match store.shown_by(view).await? {
        Some(text) if text.contains(&format!("`{}`", FIRST.name(view))) => Ok(()),
        Some(_) => Err(Problem::refused(format!("there is a view {view}, which is nobody's: rename it"))),
        None => Err(Problem::refused(format!("the account may not see what the view {view} shows: GRANT SHOW VIEW"))),
    }
}

/// Whether any table of the first build has rows.
async fn firsts_have_rows<D: Domain>(store: &Store, code: &Code<'_, D>) -> Result<bool, StoreError> {
    let names: Vec<_> = code.tables().iter().map(|table| FIRST.name(table.name)).collect();
    for (name, named) in names.iter().zip(store.named(&names).await?) {
        if named.is_some() && store.has_rows(name).await? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Has the names that are tables become views of these tables, at one moment for whoever reads or writes them. What was left half done
/// is done again: as long as a name is a table, nothing else of this is anybody's.
async fn rename<D: Domain>(alone: &Alone, code: &Code<'_, D>, named: &[Option<Named>]) -> Result<(), Problem> {
    let tables = code.tables().iter().zip(named).filter(|(_, named)| **named == Some(Named::Table));
    let tables: Vec<&Table> = tables.map(|(table, _)| table).collect();
    if tables.is_empty() {
        return Ok(());
    }
    let (mut before, mut renames, mut after) = (Vec::new(), Vec::new(), Vec::new());
    for table in &tables {
        let (name, first) = (table.name, FIRST.name(table.name));
        let (copy, view) = (format!("{name}_copy"), format!("{name}_view"));
        before.push(format!("DROP TABLE IF EXISTS {first}"));
        before.push(format!("DROP VIEW IF EXISTS {view}"));
        before.push(format!("CREATE TABLE {first} LIKE {name}"));
        before.push(table.show("CREATE", &view, &first));
        renames.push(format!("{first} TO {copy}, {name} TO {first}, {view} TO {name}"));
        after.push(format!("DROP TABLE IF EXISTS {copy}"));
    }
    strangers(alone.store(), tables.iter().map(|table| FIRST.name(table.name))).await?;
    alone.define(&before).await?;
    let rename = [format!("RENAME TABLE {}", renames.join(", "))];
    let mut tries = 0;
    // Whoever reads or writes waits behind it, so it gives way to statements that take long.
    while let Err(error) = alone.define_within(WAIT, &rename).await {
        tries += 1;
        if !matches!(error, StoreError::Repeat(Repeat::LockWait)) || tries == TRIES {
            return Err(error.into());
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    alone.define(&after).await?;
    Ok(())
}

/// How long the change of a name waits for who uses it at a time, in seconds, and how often it is tried.
const WAIT: u32 = 2;
const TRIES: u32 = 20;

/// Refuses tables with rows that are of no build: they would be dropped.
pub(crate) async fn strangers(store: &Store, names: impl Iterator<Item = String>) -> Result<(), Problem> {
    let names: Vec<_> = names.collect();
    for (name, named) in names.iter().zip(store.named(&names).await?) {
        if named.is_some() && store.has_rows(name).await? {
            return Err(Problem::refused(format!(
                "there is a table {name} with rows, which is no build's: rename it or drop it"
            )));
        }
    }
    Ok(())
}

/// Creates empty tables, and the names that show them.
async fn create<D: Domain>(alone: &Alone, code: &Code<'_, D>) -> Result<(), Problem> {
    strangers(alone.store(), code.tables().iter().map(|table| FIRST.name(table.name))).await?;
    let mut statements = Vec::new();
    for table in code.tables() {
        let first = FIRST.name(table.name);
        statements.push(format!("DROP TABLE IF EXISTS {first}"));
        statements.push(table.create("TABLE", &first, true));
        statements.push(table.show("CREATE OR REPLACE", table.name, &first));
    }
    Ok(alone.define(&statements).await?)
}
