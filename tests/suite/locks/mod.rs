//! The lock: by itself, beside other clients, and in a daemon.

mod daemon;
mod interop;
mod lock;
