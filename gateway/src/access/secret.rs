//! Secrets that must be known to be used: sealed with a key from the environment wherever they are stored (AES-256-GCM),
//! and the signatures made with them (HMAC-SHA-256).

use std::fmt;

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey},
    constant_time::verify_slices_are_equal,
    digest::{SHA256, digest},
    hmac,
};

use crate::worker::{SLICE, give_way};

/// What seals secrets.
pub struct SealKey(RandomizedNonceKey);

/// A secret that only who has the key can read: the nonce, then the sealed bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sealed(pub Vec<u8>);

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    #[error("it cannot be sealed")]
    Seal,
    #[error("it is sealed with another key, or damaged")]
    Open,
}

impl SealKey {
    /// From a text of any length; the more there is to guess in it, the better.
    pub fn new(text: &str) -> Result<Self, SealError> {
        let key = RandomizedNonceKey::new(&AES_256_GCM, digest(&SHA256, text.as_bytes()).as_ref());
        key.map(Self).map_err(|_| SealError::Seal)
    }

    /// `place` is where it will be kept: moved elsewhere, it cannot be opened.
    pub fn seal(&self, secret: &[u8], place: &str) -> Result<Sealed, SealError> {
        let mut sealed = secret.to_vec();
        let nonce = self.0.seal_in_place_append_tag(Aad::from(place), &mut sealed).map_err(|_| SealError::Seal)?;
        Ok(Sealed([&nonce.as_ref()[..], &sealed].concat()))
    }

    pub fn open(&self, Sealed(bytes): &Sealed, place: &str) -> Result<Box<[u8]>, SealError> {
        let (nonce, sealed) = bytes.split_first_chunk::<NONCE_LEN>().ok_or(SealError::Open)?;
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let mut opened = sealed.to_vec();
        let secret = self.0.open_in_place(nonce, Aad::from(place), &mut opened).map_err(|_| SealError::Open)?;
        Ok(Box::from(&*secret))
    }
}

impl fmt::Debug for SealKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SealKey")
    }
}

/// Whether this is the signature of a message; the time does not depend on how wrong it is. Gives way to other tasks of the worker
/// while it digests a long message.
pub(super) async fn signed(key: &[u8], message: &[u8], signature: &[u8]) -> bool {
    let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, key));
    for (number, slice) in message.chunks(SLICE).enumerate() {
        if number > 0 {
            give_way().await;
        }
        context.update(slice);
    }
    verify_slices_are_equal(context.sign().as_ref(), signature).is_ok()
}

#[cfg(test)]
pub(super) fn sign(key: &[u8], message: &[u8]) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), message).as_ref().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sealed_secret_opens_with_its_key_in_its_place_alone() {
        let (key, other) = (SealKey::new("one").expect("a key"), SealKey::new("other").expect("a key"));
        let sealed = key.seal(b"secret", "a/1").expect("sealed");
        assert!(!sealed.0.windows(6).any(|bytes| bytes == b"secret"));
        assert_ne!(key.seal(b"secret", "a/1").expect("sealed"), sealed, "no two are sealed alike");
        assert_eq!(key.open(&sealed, "a/1").as_deref(), Ok(&b"secret"[..]));
        assert_eq!(other.open(&sealed, "a/1"), Err(SealError::Open));
        assert_eq!(key.open(&sealed, "a/2"), Err(SealError::Open));
        let mut damaged = sealed;
        damaged.0[15] ^= 1;
        assert_eq!(key.open(&damaged, "a/1"), Err(SealError::Open));
        assert_eq!(key.open(&Sealed(Vec::new()), "a/1"), Err(SealError::Open));
    }
}
