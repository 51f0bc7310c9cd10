//! What time it is. In tests it is the time of [`testing::set_time`](crate::testing::set_time).

use std::time::Duration;

use crate::backend;

/// Time since 1970, UTC.
#[must_use]
pub fn now() -> Duration {
    Duration::from_nanos(backend::now())
}

/// Time since some moment; it never goes back.
#[must_use]
pub fn monotonic() -> Duration {
    Duration::from_nanos(backend::monotonic())
}
