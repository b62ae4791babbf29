//! What an operator types.

mod audit;
mod letters;
mod log;
mod output;
mod prune;
mod scheduled;
mod schema;
mod schemas;
mod streams;
mod top;
