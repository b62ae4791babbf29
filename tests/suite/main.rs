//! The daemon against real servers. Each test has a database, a stream and ids of its own.

mod broker;
mod commands;
mod database;
mod engine;
mod house;
mod jobs;
mod locks;
mod process;
mod projections;
mod subscriptions;
