//! A span for each job that has ended, exported by OTLP when this program was built with the feature `otlp` and the standard
//! environment names a collector. Otherwise nothing here costs anything.

mod job;
#[cfg(feature = "otlp")]
mod otlp;

use std::time::Duration;

pub use job::{JobSpan, SpansError};

/// Where spans go. Clones go to the same place.
#[derive(Clone, Debug, Default)]
pub struct Spans {
    #[cfg(feature = "otlp")]
    exporter: Option<otlp::Exporter>,
}

#[cfg(feature = "otlp")]
impl Spans {
    /// The place that the `OTEL_…` variables name: nowhere when they name none.
    pub fn from_environment() -> Result<Self, SpansError> {
        Ok(Self { exporter: otlp::Exporter::from_environment()? })
    }

    /// True when spans go anywhere.
    pub fn are_on(&self) -> bool {
        self.exporter.is_some()
    }

    /// Takes a span, and never waits: when too many have not been exported yet, it is dropped.
    pub fn record(&self, span: &JobSpan<'_>) {
        if let Some(exporter) = &self.exporter {
            exporter.record(span);
        }
    }

    /// Exports what is left, and gives up after `limit`.
    pub async fn finish(&self, limit: Duration) {
        if let Some(exporter) = &self.exporter {
            exporter.finish(limit).await;
        }
    }
}

#[cfg(not(feature = "otlp"))]
impl Spans {
    /// Nowhere.
    pub fn from_environment() -> Result<Self, SpansError> {
        Ok(Self::default())
    }

    /// True when spans go anywhere.
    pub fn are_on(&self) -> bool {
        false
    }

    /// Drops it.
    pub fn record(&self, _: &JobSpan<'_>) {}

    /// Does nothing.
    pub async fn finish(&self, _: Duration) {}
}
