//! Digests and signatures, made by the gateway at native speed. The plugin's entry in the configuration must allow `crypto`.
//!
//! ```
//! use stile_sdk::crypto::{self, Hash};
//!
//! let tag = crypto::hmac(Hash::Sha256, b"secret", b"message");
//! assert!(crypto::equal(&tag, &crypto::hmac(Hash::Sha256, b"secret", b"message")));
//! assert_eq!(crypto::digest(Hash::Sha512, b"").len(), 64);
//! ```

use crate::{Error, Result, backend};

/// A function of the SHA-2 family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hash {
    /// 32 bytes.
    Sha256,
    /// 48 bytes.
    Sha384,
    /// 64 bytes.
    Sha512,
}

/// A signature algorithm, named as in JSON Web Algorithms (RFC 7518 §3.1, RFC 8037 §3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    Rs256,
    /// With SHA-384.
    Rs384,
    /// With SHA-512.
    Rs512,
    /// RSASSA-PSS with SHA-256.
    Ps256,
    /// With SHA-384.
    Ps384,
    /// With SHA-512.
    Ps512,
    /// ECDSA on P-256 with SHA-256; signatures are of fixed length (RFC 7518 §3.4).
    Es256,
    /// On P-384 with SHA-384.
    Es384,
    /// On P-521 with SHA-512.
    Es512,
    /// Ed25519.
    EdDsa,
}

/// What a signature is verified with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PublicKey {
    /// Modulus and exponent, big-endian; 2048 to 8192 bits.
    Rsa {
        /// The modulus.
        n: Vec<u8>,
        /// The exponent.
        e: Vec<u8>,
    },
    /// A point of the algorithm's curve, uncompressed (SEC 1 §2.3.3).
    Ec(Vec<u8>),
    /// The 32 bytes of an Ed25519 key.
    Ed25519(Vec<u8>),
}

/// The digest of a message.
#[must_use]
pub fn digest(hash: Hash, message: &[u8]) -> Vec<u8> {
    backend::digest(hash, message)
}

/// HMAC (RFC 2104) of a message.
#[must_use]
pub fn hmac(hash: Hash, key: &[u8], message: &[u8]) -> Vec<u8> {
    backend::hmac(hash, key, message)
}

/// Compares in a time that depends on lengths alone.
#[must_use]
pub fn equal(a: &[u8], b: &[u8]) -> bool {
    backend::equal(a, b)
}

/// Whether a signature is right. An error says why the key is none for the algorithm.
pub fn verify(algorithm: Algorithm, key: &PublicKey, message: &[u8], signature: &[u8]) -> Result<bool> {
    backend::verify_signature(algorithm, key, message, signature).map_err(Error::new)
}
