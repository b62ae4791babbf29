//! The daemon against real servers. Each test has a database, a stream and ids of its own.

mod bench;
mod bounds;
mod dashboard;
mod decide;
mod delivery;
mod drain;
mod engine;
mod hold;
mod input;
mod interop;
mod layers;
mod letters;
mod load;
mod lock;
mod locks;
mod logs;
mod losses;
mod migrate;
mod outages;
mod output;
// The observability tests use what this suite does not.
#[allow(dead_code)]
mod panels;
mod producers;
mod prune;
mod recovery;
mod scheduled;
mod shop;
mod signals;
mod snapshots;
mod starts;
mod startup;
mod top;
mod world;
