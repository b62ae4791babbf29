//! `projections verify`: every row compared with the events.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::json;

use crate::cli::arguments::Json;
use crate::cli::failed::Failed;
use crate::cli::operator::safe;
use crate::cli::output::{notice, told};
use crate::domain::Domain;
use crate::exit::Exit;
use crate::rebuild::{self, Checked, Models, label};
use crate::store::{Difference, Store};

/// Arguments of `projections verify`.
#[derive(Debug, Args)]
pub struct Verify {
    /// The read model, or one build of it: items@2. All that are written when it is missing
    name: Option<String>,
    /// Write the rows anew of every aggregate that has one which is not as it should be
    #[arg(long)]
    repair: bool,
    #[command(flatten)]
    json: Json,
}

impl Verify {
    /// Whether it writes.
    pub fn repairs(&self) -> bool {
        self.repair
    }
}

/// Time between two lines of progress.
const PROGRESS: Duration = Duration::from_secs(2);

/// The most differences that are told one by one.
const TOLD: usize = 20;

/// Compares the builds, one after the other.
pub async fn verify<D: Domain>(store: &Store, models: Models<'_, D>, arguments: Verify) -> Result<u8, Failed> {
    let (_, builds) = store.builds().await?;
    let is_wanted =
        |known: &str, label: &str| arguments.name.as_deref().is_none_or(|name| name == known || name == label);
    let wanted = builds.iter().filter(|build| build.state.is_written() && is_wanted(&build.name, &label(build)));
    let wanted: Vec<_> = wanted.collect();
    if wanted.is_empty() {
        let known: Vec<_> = builds.iter().filter(|build| build.state.is_written()).map(label).collect();
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        let name = arguments.name.as_deref().unwrap_or("any");
        return Err(Failed::new(Exit::NO, format!("there is no build of {name} that is written; there are: {known}")));
    }
    let max_packet = store.server().await?.max_packet;
    let mut is_right = true;
    for build in wanted {
        let Some(code) = models.of(build) else {
            let text = format!("{} is of version {}, which this program does not know", label(build), build.version);
            return Err(Failed::new(Exit::NO, text));
        };
        // One that adds up the log as a whole cannot be mended piece by piece.
        let repairs = arguments.repair && code.mode() == crate::store::Mode::Inline;
        let comparison = rebuild::Verify { store, code, build, max_packet, repairs };
        let (began, mut at, is_watched) = (Instant::now(), Instant::now(), std::io::stderr().is_terminal());
        let unit = if code.mode() == crate::store::Mode::Inline { "aggregates" } else { "events" };
        let checked = comparison.run(|checked| {
            if is_watched && at.elapsed() >= PROGRESS {
                at = Instant::now();
                notice(format_args!(
                    "{}: {} {unit} compared, {} rows wrong",
                    label(build),
                    checked.compared,
                    checked.differences.len()
                ));
            }
        });
        let checked = checked.await?;
        is_right &= checked.differences.is_empty();
        tell(&label(build), &checked, (unit, began.elapsed()), arguments.json)?;
    }
    Ok(if is_right { Exit::OK } else { Exit::NO })
}

fn tell(label: &str, checked: &Checked, (unit, took): (&str, Duration), json: Json) -> Result<(), Failed> {
    let Checked { compared, differences, repaired } = checked;
    let seconds = took.as_secs_f64();
    if json.json {
        let each: Vec<_> = differences
            .iter()
            .take(TOLD)
            .map(|one| json!({ "table": one.table, "is": one.is, "should_be": one.should }))
            .collect();
        told(json!({ "projection": label, "compared": compared, "unit": unit, "seconds": seconds,
            "differences": differences.len(), "repaired": repaired, "first": each }))?;
        return Ok(());
    }
    let verdict = match (differences.len(), *repaired as usize) {
        (0, _) => "as it should be".to_owned(),
        (wrong, repaired) if repaired == wrong => format!("{wrong} rows were not as they should be, and are now"),
        (wrong, repaired) => format!("{wrong} rows are not as they should be, {repaired} of them mended"),
    };
    told(format_args!("{label}: {compared} {unit} in {seconds:.1} s: {verdict}"))?;
    for difference in differences.iter().take(TOLD) {
        told(format_args!("  {}", describe(difference)))?;
    }
    if differences.len() > TOLD {
        told(format_args!("  and {} more", differences.len() - TOLD))?;
    }
    Ok(())
}

fn describe(difference: &Difference) -> String {
    let text = |row: &[Option<String>]| {
        let values =
            row.iter().map(|value| value.as_deref().map_or("NULL".to_owned(), |value| safe(value.as_bytes(), 60)));
        values.collect::<Vec<_>>().join(" | ")
    };
    match (&difference.is, &difference.should) {
        (Some(is), Some(should)) => format!("{}: {} should be {}", difference.table, text(is), text(should)),
        (Some(is), None) => format!("{}: {} should not be there", difference.table, text(is)),
        (None, Some(should)) => format!("{}: {} is missing", difference.table, text(should)),
        (None, None) => String::new(),
    }
}
