//! The configuration: its types, and the way from YAML files to them with every mistake named and positioned.
//! It knows what a file may say, never what it means: names that must exist elsewhere are `snapshot::compile`'s affair.

pub mod scalar;
pub mod schema;

mod check;
mod error;
mod include;
pub mod layers;
mod load;
pub mod resource;
pub mod sent;
mod tree;
mod variable;
pub mod watch;
pub mod words;

#[cfg(test)]
mod golden;
#[cfg(test)]
mod reference;

pub use check::json_schema;
pub use error::{Error, Errors, Premise, Problem};
pub use layers::Layers;
pub use load::{Document, Sources, bundle, plain, signature_file};
pub use schema::Config;
