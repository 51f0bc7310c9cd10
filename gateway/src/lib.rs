//! Stile, a programmable HTTP gateway: the modules in the order a request meets them, then what is behind them.

// Data plane.
pub mod app;
pub mod listener;
pub mod connection;
pub mod socket;
pub mod proxy;
pub mod snapshot;
pub mod access;
pub mod openapi;
pub mod portal;
pub mod router;
pub mod filter;
pub mod upstream;
pub mod balance;
pub mod exchange;
pub mod client;
pub mod cpu;
pub mod progress;
pub mod json;
pub mod worker;

// Plugin host.
pub mod plugin;

// Control plane.
pub mod config;
pub mod control;
pub mod store;
pub mod registry;
pub mod admin;
pub mod monitor;

#[expect(clippy::print_stdout, clippy::print_stderr, reason = "what a command prints is its result")]
pub mod cli;

#[cfg(test)]
mod golden;
