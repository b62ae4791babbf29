//! Which builds of read models are written, as far as this process knows. The database refuses a batch that goes by an old list.

use std::sync::{Arc, PoisonError, RwLock};

use crate::projection::Written;

/// What every batch writes.
#[derive(Debug)]
pub struct WrittenBuilds(RwLock<Arc<Written>>);

impl WrittenBuilds {
    /// These.
    pub fn new(written: Written) -> Self {
        Self(RwLock::new(Arc::new(written)))
    }

    /// As of now.
    pub fn get(&self) -> Arc<Written> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Others from now on, unless what was asked for earlier comes later.
    pub fn set(&self, written: Written) {
        let mut now = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if written.generation >= now.generation {
            *now = Arc::new(written);
        }
    }
}
