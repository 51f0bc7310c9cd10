//! What the gateway tells about itself.

pub mod metrics;
pub mod record;
