//! Random bytes, fit for secrets.

use crate::backend;

/// So many of them.
///
/// ```
/// assert_ne!(stile_sdk::random::bytes::<16>(), stile_sdk::random::bytes::<16>());
/// ```
#[must_use]
pub fn bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    for part in bytes.chunks_mut(1 << 16) {
        part.copy_from_slice(&backend::random_bytes(part.len()));
    }
    bytes
}
