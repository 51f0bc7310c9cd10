//! The configuration: its types, and the way from a YAML file to them with every mistake named and positioned.
//! It knows what a file may say, never what it means: names that must exist elsewhere are `snapshot::compile`'s affair.

pub mod scalar;
pub mod schema;

mod check;
mod error;
mod load;
mod tree;
mod variable;
pub mod watch;
mod words;

#[cfg(test)]
mod golden;

pub use check::json_schema;
pub use error::{Error, Errors, Problem};
pub use load::Document;
pub use schema::Config;
