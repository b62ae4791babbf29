//! The repository agrees with itself: folders, documents, dashboard.

mod dashboard;
mod docs;
mod layers;
mod surface;
