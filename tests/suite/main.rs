//! The daemon against real servers. Each test has a database, a stream and ids of its own.

mod bench;
mod bounds;
mod broker;
mod dashboard;
mod decide;
mod delivery;
mod drain;
mod engine;
mod galera;
mod hold;
mod hostile;
mod input;
mod interop;
mod layers;
mod letters;
mod lineage;
mod load;
mod lock;
mod locks;
mod logs;
mod losses;
mod memory;
mod migrate;
mod neighbours;
mod orphans;
mod outages;
mod output;
// The observability tests use what this suite does not.
#[allow(dead_code)]
mod panels;
mod producers;
mod prune;
mod ready;
mod recovery;
mod rights;
mod scheduled;
mod sequence;
mod shop;
mod signals;
mod snapshots;
mod starts;
mod startup;
mod switched;
mod times;
mod top;
mod world;
