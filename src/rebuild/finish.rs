//! A build that has caught up is written by everybody from now on.

use std::time::{Duration, Instant};

use super::fill::{Fill, Progress};
use super::problem::Problem;
use crate::domain::Domain;
use crate::page;
use crate::projection::Code;
use crate::store::sql::{Sql, Tables};
use crate::store::{Build, Mode, StoreError, subscription_of};

/// The most events that are left for the moment in which nobody commits.
const REST: u64 = 1000;

/// How old the word of a daemon may be that it can write a build, in seconds.
const VOUCHED_WITHIN: f64 = 15.0;

/// How often a build catches up before it says that writers are faster.
const ROUNDS: u32 = 20;

/// Makes the other keys, catches up, and has everybody write the build. `is_unattended` says that no daemon runs. Returns how long nobody
/// could commit, in milliseconds; nothing for a build that is read from the log.
pub async fn finish<D: Domain>(
    mut fill: Fill<'_, D>,
    is_unattended: bool,
    told: impl FnMut(Progress),
) -> Result<Option<f64>, Problem> {
    let finished = run(&mut fill, is_unattended, told).await;
    if finished.is_err() {
        fill.leave().await;
    }
    finished
}

async fn run<D: Domain>(
    fill: &mut Fill<'_, D>,
    is_unattended: bool,
    mut told: impl FnMut(Progress),
) -> Result<Option<f64>, Problem> {
    // Keys that are there cost each row that is written, and made at once cost little.
    fill.until(REST / 2, &mut told).await?;
    let tables = Tables::Build(fill.build);
    for table in fill.code.tables() {
        let name = tables.name(table.name);
        let Some(indexes) = table.add_indexes(&name) else { continue };
        if fill.store.secondary_keys(&name).await? < table.indexes.len() {
            let patient = fill.store.patient();
            fill.while_beating(patient.add_keys(&indexes)).await??;
        }
    }
    for round in 0..ROUNDS {
        fill.until(REST / 2, &mut told).await?;
        if round == 0 && !is_unattended {
            fill.while_beating(vouched(fill)).await??;
        }
        if fill.code.mode() != Mode::Inline {
            let handed_over = fill.store.hand_over((fill.code.name(), fill.build), fill.token).await;
            // An answer that was lost says nothing: the build does.
            return match handed_over {
                Err(_) if is_written(fill).await? => Ok(None),
                handed_over => Ok(handed_over.map(|()| None)?),
            };
        }
        if let Some(held) = take_over(fill).await? {
            return Ok(Some(held));
        }
    }
    Err(Problem::refused(format!(
        "{}@{}: events are written faster than the build catches up with them; nothing has changed, and running this again goes on: at \
         a quieter hour",
        fill.code.name(),
        fill.build
    )))
}

/// Waits for a daemon that can write the build: whoever cannot would stand still from then on.
async fn vouched<D: Domain>(fill: &Fill<'_, D>) -> Result<(), Problem> {
    let deadline = Instant::now() + Duration::from_secs_f64(VOUCHED_WITHIN);
    loop {
        let (_, builds) = fill.store.builds().await?;
        let is_it = |build: &&Build| build.name == fill.code.name() && build.build == fill.build;
        let vouched = builds.iter().find(is_it).and_then(|build| build.vouched_seconds);
        if vouched.is_some_and(|seconds| seconds < VOUCHED_WITHIN) {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(Problem::refused(format!(
                "{}@{} is filled, and no running daemon has said that it can write it: start the program that has version {} of {}, \
                 whose account may INSERT into and UPDATE its tables, and run this again; with --unattended if no daemon runs at all",
                fill.code.name(),
                fill.build,
                fill.code.version(),
                fill.code.name()
            )));
        }
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
}

/// Tries it once; `None` when too much is left.
async fn take_over<D: Domain>(fill: &mut Fill<'_, D>) -> Result<Option<f64>, Problem> {
    let Code::States(projection) = fill.code else { return Ok(None) };
    let began = Instant::now();
    let moment = match fill.store.take_over(fill.position, REST as u32).await {
        Ok(moment) => moment,
        Err(error) if Fill::<D>::is_to_be_repeated(&error) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    if moment.events.len() as u64 > REST {
        moment.give_up().await;
        return Ok(None);
    }
    let to = moment.events.last().map_or(fill.position, |event| event.position);
    if to - fill.position != moment.events.len() as u64 {
        moment.give_up().await;
        return Err(page::Failure::Gap(fill.position + 1).into());
    }
    let mut rows = Sql::new();
    rows.of(Tables::Build(fill.build));
    let concerned: Vec<_> = moment
        .events
        .iter()
        .filter(|event| projection.aggregates().contains(&&*event.aggregate_type))
        .cloned()
        .collect();
    let folded = async {
        let folded = fill.fold.page(fill.store, &concerned).await?;
        folded.write(projection, &mut rows)?;
        page::fits(&rows, fill.max_packet)
    };
    if let Err(failure) = folded.await {
        moment.give_up().await;
        return Err(failure.into());
    }
    crate::fail::point("take_over", fill.code.name());
    match moment.commit((fill.code.name(), fill.build), (fill.position, to), fill.token, &rows).await {
        Ok(()) => Ok(Some(began.elapsed().as_secs_f64() * 1e3)),
        Err(error) if Fill::<D>::is_to_be_repeated(&error) => Ok(None),
        // The server may have ended a session that took too long, or have done it all and its answer was lost: the build tells.
        Err(StoreError::Fenced(_) | StoreError::Unknown(_) | StoreError::Unavailable(..))
            if is_written(fill).await? =>
        {
            Ok(Some(began.elapsed().as_secs_f64() * 1e3))
        }
        Err(StoreError::Fenced(_) | StoreError::Unknown(_) | StoreError::Unavailable(..)) if is_ours(fill).await? => {
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

async fn is_written<D: Domain>(fill: &Fill<'_, D>) -> Result<bool, StoreError> {
    let (_, builds) = fill.store.builds().await?;
    let is_it = |build: &&Build| build.name == fill.code.name() && build.build == fill.build;
    Ok(builds.iter().find(is_it).is_some_and(|build| build.state.is_written()))
}

async fn is_ours<D: Domain>(fill: &Fill<'_, D>) -> Result<bool, StoreError> {
    let name = subscription_of(fill.code.name(), fill.build);
    let checkpoints = fill.store.checkpoints().await?;
    Ok(checkpoints.iter().any(|one| one.name == name && one.token == Some(fill.token)))
}
