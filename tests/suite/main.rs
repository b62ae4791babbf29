//! The daemon against real servers. Each test has a database, a stream and ids of its own.

mod bench;
mod decide;
mod delivery;
mod engine;
mod input;
mod interop;
mod layers;
mod letters;
mod load;
mod lock;
mod locks;
mod logs;
mod outages;
mod producers;
mod prune;
mod recovery;
mod scheduled;
mod shop;
mod startup;
mod top;
mod world;
