//! The harness: gateways in process and as processes, scripted upstreams, clients down to the bytes, guests built
//! from source. Everything is on port 0 of the loopback address and in temporary folders, and ends when dropped.

pub mod gateway;
pub mod called;
pub mod phases;
pub mod process;
pub mod admin;
pub mod by_hand;

pub mod upstream;
pub mod client;
pub mod raw;
pub mod frames;
pub mod load;
pub mod wire;
pub mod pattern;

pub mod population;
pub mod guest;
pub mod wait;
