//! Readers of the log: each event once, in order, whoever reads and however often somebody is killed.

mod pages;
mod shop;
