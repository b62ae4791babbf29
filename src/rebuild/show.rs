//! Which build a plain name shows, and builds that are let go.

use std::time::{Duration, Instant};

use super::code::Code;
use super::problem::{Problem, label};
use crate::domain::Domain;
use crate::projection::shown;
use crate::store::sql::Tables;
use crate::store::{Build, BuildState, Mode, Named, Repeat, Store, StoreError};

/// How long a change of a view waits for its readers at a time, in seconds: who reads next waits behind it.
const WAIT: u32 = 2;

/// How far behind the log a build may be that is read from it when it is shown, and how long it is waited for.
const LAG: u64 = 5000;
const CATCHES_UP_WITHIN: Duration = Duration::from_secs(60);

/// Has the plain names show `build`. `told` hears who is in the way. Returns the build that was shown before.
pub async fn switch<D: Domain>(
    store: &Store,
    code: Code<'_, D>,
    build: &Build,
    mut told: impl FnMut(String),
) -> Result<Option<u16>, Problem> {
    if !build.state.is_written() {
        let text = format!("{} is {}: only what is written can be shown", label(build), build.state.as_str());
        return Err(Problem::refused(text));
    }
    let (_, builds) = store.builds().await?;
    let before = shown(&build.name, &builds).map(|build| build.build);
    if build.mode == Mode::Log {
        has_caught_up(store, build).await?;
    }
    let alone = store.alone("builds").await?;
    let views: Vec<_> = code
        .tables()
        .iter()
        .map(|table| table.show("CREATE OR REPLACE", table.name, &Tables::Build(build.build).name(table.name)))
        .collect();
    let replaced = replace(&alone, code, &views, &mut told).await;
    alone.close().await;
    replaced?;
    store.note_shown(&build.name, build.build).await?;
    Ok(before.filter(|before| *before != build.build))
}

async fn replace<D: Domain>(
    store: &Store,
    code: Code<'_, D>,
    views: &[String],
    told: &mut impl FnMut(String),
) -> Result<(), Problem> {
    let names: Vec<_> = code.tables().iter().map(|table| table.name.to_owned()).collect();
    for (name, named) in names.iter().zip(store.named(&names).await?) {
        if named == Some(Named::Table) {
            let text = format!(
                "there is a table {name}, which is nobody's: rename it, so that the name can show the read model"
            );
            return Err(Problem::refused(text));
        }
    }
    loop {
        match store.define_within(WAIT, views).await {
            Ok(()) => return Ok(()),
            Err(StoreError::Repeat(Repeat::LockWait)) => {
                let readers = store.long_statements().await.unwrap_or_default();
                told(if readers.is_empty() { "somebody reads it".to_owned() } else { readers.join("; ") });
                // They go first, and whoever waited behind us.
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// Waits until the build has nearly all that the log has.
async fn has_caught_up(store: &Store, build: &Build) -> Result<(), Problem> {
    let (name, deadline) = (build.subscription(), Instant::now() + CATCHES_UP_WITHIN);
    loop {
        let checkpoint = store.checkpoints().await?.into_iter().find(|checkpoint| checkpoint.name == name);
        match checkpoint {
            Some(checkpoint) if checkpoint.lag() <= LAG => return Ok(()),
            Some(checkpoint) if Instant::now() > deadline => {
                let text =
                    format!("{} is {} events behind the log and does not catch up", label(build), checkpoint.lag());
                return Err(Problem::refused(text));
            }
            Some(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            None => return Err(Problem::refused(format!("{} has no checkpoint: nobody reads it", label(build)))),
        }
    }
}

/// Nobody writes the build any more. The one that is shown only if the read model `is_given_up`.
pub async fn retire(store: &Store, build: &Build, is_given_up: bool) -> Result<(), Problem> {
    let alone = store.alone("builds").await?;
    let retired = retire_alone(&alone, build, is_given_up).await;
    alone.close().await;
    retired
}

async fn retire_alone(store: &Store, build: &Build, is_given_up: bool) -> Result<(), Problem> {
    let (_, builds) = store.builds().await?;
    let now = builds.iter().find(|one| label(one) == label(build)).map_or(build.state, |build| build.state);
    // What is shown is what the view says: whoever changed it may have been killed before it was written down.
    let shows = store.shown_by(&build.name).await?;
    let is_shown =
        shows.is_some_and(|text| text.contains(&format!("`{}`", Tables::Build(build.build).name(&build.name))));
    if (is_shown || now == BuildState::Shown) && now.is_written() && !is_given_up {
        let text =
            format!("{} is shown: switch to another build first, or give the read model up with --shown", label(build));
        return Err(Problem::refused(text));
    }
    match now {
        BuildState::Retired | BuildState::Dropped => Ok(()),
        BuildState::Building | BuildState::Ready | BuildState::Shown | BuildState::Kept => {
            set(store, build, &[now], BuildState::Retired, build.mode).await
        }
    }
}

async fn set(store: &Store, build: &Build, from: &[BuildState], to: BuildState, mode: Mode) -> Result<(), Problem> {
    match store.set_build((&build.name, build.build), from, to, mode).await {
        Err(StoreError::Fenced(_)) => {
            let from: Vec<_> = from.iter().map(|state| state.as_str()).collect();
            Err(Problem::refused(format!("{} is not {} any more", label(build), from.join(" or "))))
        }
        done => Ok(done?),
    }
}

/// The build's tables are gone, and the names too if no other build is written.
pub async fn drop_build<D: Domain>(store: &Store, code: Code<'_, D>, build: &Build) -> Result<(), Problem> {
    if build.state == BuildState::Dropped {
        return Ok(());
    }
    if build.state != BuildState::Retired {
        let text = format!("{} is {}: retire it first", label(build), build.state.as_str());
        return Err(Problem::refused(text));
    }
    let (_, builds) = store.builds().await?;
    let is_given_up = !builds.iter().any(|one| one.name == build.name && one.state.is_written());
    let mut drops = Vec::new();
    for table in code.tables() {
        let name = Tables::Build(build.build).name(table.name);
        let shows = store.shown_by(table.name).await?;
        if is_given_up && shows.is_some_and(|text| text.contains(&format!("`{name}`"))) {
            drops.push(format!("DROP VIEW IF EXISTS {}", table.name));
        }
        drops.push(format!("DROP TABLE IF EXISTS {name}"));
    }
    store.patient().define(&drops).await?;
    set(store, build, &[BuildState::Retired], BuildState::Dropped, Mode::Log).await
}
