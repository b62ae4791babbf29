//! Which build a plain name shows, and builds that are let go.

use std::time::{Duration, Instant};

use super::problem::{Problem, label};
use crate::domain::Domain;
use crate::projection::Code;
use crate::projection::shown;
use crate::store::sql::Tables;
use crate::store::{Alone, Build, BuildState, Mode, Named, Repeat, Store, StoreError};

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
    is_written(store, build).await?;
    if build.mode != Mode::Inline {
        has_caught_up(store, build).await?;
    }
    let alone = store.alone().await?;
    let switched = switch_alone(&alone, code, build, &mut told).await;
    alone.close().await;
    switched
}

async fn switch_alone<D: Domain>(
    alone: &Alone,
    code: Code<'_, D>,
    build: &Build,
    told: &mut impl FnMut(String),
) -> Result<Option<u16>, Problem> {
    // Whoever was alone before may have retired it.
    let builds = is_written(alone.store(), build).await?;
    let before = shown(&build.name, &builds).map(|build| build.build);
    let views: Vec<_> = code
        .tables()
        .iter()
        .map(|table| table.show("CREATE OR REPLACE", table.name, &Tables::Build(build.build).name(table.name)))
        .collect();
    replace(alone, code, &views, told).await?;
    alone.store().note_shown(&build.name, build.build).await?;
    Ok(before.filter(|before| *before != build.build))
}

/// All builds; fails unless this one is written.
async fn is_written(store: &Store, build: &Build) -> Result<Vec<Build>, Problem> {
    let (_, builds) = store.builds().await?;
    let state = builds.iter().find(|one| label(one) == label(build)).map_or(BuildState::Dropped, |now| now.state);
    if !state.is_written() {
        let text = format!("{} is {}: only what is written can be shown", label(build), state.as_str());
        return Err(Problem::refused(text));
    }
    Ok(builds)
}

async fn replace<D: Domain>(
    alone: &Alone,
    code: Code<'_, D>,
    views: &[String],
    told: &mut impl FnMut(String),
) -> Result<(), Problem> {
    let names: Vec<_> = code.tables().iter().map(|table| table.name.to_owned()).collect();
    for (name, named) in names.iter().zip(alone.store().named(&names).await?) {
        if named == Some(Named::Table) {
            let text = format!(
                "there is a table {name}, which is nobody's: rename it, so that the name can show the read model"
            );
            return Err(Problem::refused(text));
        }
    }
    loop {
        match alone.define_within(WAIT, views).await {
            Ok(()) => return Ok(()),
            Err(StoreError::Repeat(Repeat::LockWait)) => {
                let readers = alone.store().long_statements().await.unwrap_or_default();
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

/// Nobody writes the build any more. The one that is shown only if the read model `is_given_up`. `code` is what is known of its tables.
pub async fn retire<D: Domain>(
    store: &Store,
    code: Option<Code<'_, D>>,
    build: &Build,
    is_given_up: bool,
) -> Result<(), Problem> {
    let names = code.map_or(vec![&*build.name], |code| code.tables().iter().map(|table| table.name).collect());
    let alone = store.alone().await?;
    let retired = retire_alone(alone.store(), &names, build, is_given_up).await;
    alone.close().await;
    retired
}

async fn retire_alone(store: &Store, names: &[&str], build: &Build, is_given_up: bool) -> Result<(), Problem> {
    let (_, builds) = store.builds().await?;
    let now = builds.iter().find(|one| label(one) == label(build)).map_or(build.state, |build| build.state);
    // What is shown is what the views say: whoever changed them may have been killed before it was written down.
    let mut is_shown = now == BuildState::Shown;
    for name in names {
        is_shown |= shows(store, name, build).await?;
    }
    if is_shown && now.is_written() && !is_given_up {
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

/// Whether the view of this name shows the build's table.
async fn shows(store: &Store, name: &str, build: &Build) -> Result<bool, Problem> {
    if store.named(&[name.to_owned()]).await? != [Some(Named::View)] {
        return Ok(false);
    }
    let Some(text) = store.shown_by(name).await? else {
        return Err(Problem::refused(format!("the account may not see what the view {name} shows: GRANT SHOW VIEW")));
    };
    Ok(text.contains(&format!("`{}`", Tables::Build(build.build).name(name))))
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
    let alone = store.alone().await?;
    let dropped = drop_alone(&alone, code, build).await;
    alone.close().await;
    dropped
}

async fn drop_alone<D: Domain>(alone: &Alone, code: Code<'_, D>, build: &Build) -> Result<(), Problem> {
    let (_, builds) = alone.store().builds().await?;
    let state = builds.iter().find(|one| label(one) == label(build)).map_or(build.state, |now| now.state);
    if state == BuildState::Dropped {
        return Ok(());
    }
    if state != BuildState::Retired {
        return Err(Problem::refused(format!("{} is {}: retire it first", label(build), state.as_str())));
    }
    let is_given_up = !builds.iter().any(|one| one.name == build.name && one.state.is_written());
    let mut drops = Vec::new();
    for table in code.tables() {
        if shows(alone.store(), table.name, build).await? {
            if !is_given_up {
                let text = format!("{} is still shown: switch to the build that is written first", label(build));
                return Err(Problem::refused(text));
            }
            drops.push(format!("DROP VIEW IF EXISTS {}", table.name));
        }
        drops.push(format!("DROP TABLE IF EXISTS {}", Tables::Build(build.build).name(table.name)));
    }
    alone.define(&drops).await?;
    set(alone.store(), build, &[BuildState::Retired], BuildState::Dropped, Mode::Log).await
}
