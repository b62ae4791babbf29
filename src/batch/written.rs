//! Which builds of read models there are, and which of them are written, as far as this process knows. The database refuses a batch that
//! goes by an old list.

use std::sync::{Arc, PoisonError, RwLock};

use crate::projection::Written;
use crate::store::Build;

/// What every batch writes.
#[derive(Debug)]
pub struct WrittenBuilds(RwLock<(Arc<Written>, Arc<Vec<Build>>)>);

impl WrittenBuilds {
    /// These, of no builds.
    pub fn new(written: Written) -> Self {
        Self(RwLock::new((Arc::new(written), Arc::default())))
    }

    /// As of now.
    pub fn get(&self) -> Arc<Written> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).0.clone()
    }

    /// All builds, when they were asked for last.
    pub fn builds(&self) -> Arc<Vec<Build>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).1.clone()
    }

    /// Others from now on. An answer that comes late is an old list, and asked for again when a batch is refused by it.
    pub fn set(&self, written: Written, builds: Vec<Build>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = (Arc::new(written), Arc::new(builds));
    }
}
