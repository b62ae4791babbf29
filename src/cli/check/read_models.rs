//! What `check` finds of read models: whether this program can write each build that is written, shown by writing to its tables.

use super::findings::{Findings, Verdict};
use crate::config::Config;
use crate::domain::Domain;
use crate::exit::Exit;
use crate::rebuild::{self, Models, label};
use crate::store::sql::Tables;
use crate::store::{Build, Mode, Store, StoreError};

pub(super) async fn read_models<D: Domain>(
    store: &Store,
    config: &Config,
    models: Models<'_, D>,
    findings: &mut Findings,
) {
    if let Err(problem) = models.check() {
        findings.add("read models", Verdict::Failed(Exit::CONFIG), problem.to_string());
    }
    let found = async {
        let (_, builds) = store.builds().await?;
        for build in builds.iter().filter(|build| build.state.is_written()) {
            written(store, models, build, findings).await?;
        }
        let pending = rebuild::pending(store, models).await?;
        for code in rebuild::missing(store, models).await? {
            let name = code.name();
            let (verdict, detail) = match (pending.contains(&name), config.database.migrate) {
                (true, true) => (Verdict::Warning, "it has no build yet; `run` gives it the first".to_owned()),
                (true, false) => {
                    (Verdict::Failed(Exit::CONFIG), "it has no build yet: run `lockkeeper migrate`".to_owned())
                }
                (false, _) => {
                    (Verdict::Warning, format!("it was never filled: `lockkeeper projections rebuild {name}`"))
                }
            };
            findings.add(format!("read model {name}"), verdict, detail);
        }
        Ok::<_, StoreError>(())
    };
    if let Err(error) = found.await {
        findings.error("read models", error);
    }
}

async fn written<D: Domain>(
    store: &Store,
    models: Models<'_, D>,
    build: &Build,
    findings: &mut Findings,
) -> Result<(), StoreError> {
    let subject = format!("read model {}", label(build));
    let Some(code) = models.of(build) else {
        let verdict = if build.mode == Mode::Inline { Verdict::Failed(Exit::CONFIG) } else { Verdict::Warning };
        findings.add(subject, verdict, format!("it is of version {}, which this program does not know", build.version));
        return Ok(());
    };
    if code.shape() != build.shape {
        let detail = "its tables are described otherwise: a change of them needs a new version";
        findings.add(subject, Verdict::Failed(Exit::CONFIG), detail);
        return Ok(());
    }
    for table in code.tables() {
        let Some(column) = table.all().next() else { continue };
        store.may_fill(&Tables::Build(build.build).name(table.name), column.name).await?;
    }
    findings.add(subject, Verdict::Ok, format!("{}, and the account may write it", build.state.as_str()));
    Ok(())
}
