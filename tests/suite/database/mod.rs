//! A database that changes under way, and what is kept in it for later.

mod galera;
mod hostile;
mod migrate;
mod sequence;
mod snapshots;
mod switched;
