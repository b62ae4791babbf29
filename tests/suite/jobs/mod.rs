//! What becomes of a job, whoever sent it.

mod bounds;
mod delivery;
mod fleet;
mod held;
mod input;
mod lineage;
mod neighbours;
mod order;
mod producers;
mod shop;
mod starts;
mod times;
