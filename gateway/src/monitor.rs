//! What the gateway tells about itself. `count` and `record` are written on the request path, the rest reads them.

pub mod count;
pub mod record;
pub mod records;
pub mod access_log;
pub mod log;
pub mod health;
pub mod metrics;
pub mod stats;
