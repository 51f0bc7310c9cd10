//! Digests and signatures for guests. It keeps no key.

#[cfg(test)]
mod vectors;

use aws_lc_rs::{
    constant_time,
    digest::{self, Digest},
    hmac, signature,
};

#[derive(Debug, Clone, Copy)]
pub(in crate::plugin) enum Hash {
    Sha256,
    Sha384,
    Sha512,
}

/// As in RFC 7518 §3.1 and RFC 8037 §3.1.
#[derive(Debug, Clone, Copy)]
pub(in crate::plugin) enum Algorithm {
    Rs256,
    Rs384,
    Rs512,
    Ps256,
    Ps384,
    Ps512,
    Es256,
    Es384,
    Es512,
    EdDsa,
}

#[derive(Debug, Clone)]
pub(in crate::plugin) enum PublicKey {
    Rsa { n: Vec<u8>, e: Vec<u8> },
    Ec(Vec<u8>),
    Ed25519(Vec<u8>),
}

/// Bits that the modulus of an RSA key may have (RFC 7518 §3.3); a larger one costs more than a plugin should make us pay.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;

/// What a signature is checked against.
#[derive(Debug)]
pub(in crate::plugin) enum Signed<'a> {
    Digest(&'a Digest),
    /// Ed25519 takes the message itself (RFC 8032 §5.1.7).
    Message(&'a [u8]),
}

impl Hash {
    /// A digest that is made of a message piece by piece.
    pub(in crate::plugin) fn begin(self) -> digest::Context {
        digest::Context::new(match self {
            Self::Sha256 => &digest::SHA256,
            Self::Sha384 => &digest::SHA384,
            Self::Sha512 => &digest::SHA512,
        })
    }

    /// A message authentication code that is made of a message piece by piece. A key that is longer than a block is replaced by
    /// its digest (RFC 2104 §2), which is up to the caller where it is long.
    pub(in crate::plugin) fn begin_hmac(self, key: &[u8]) -> hmac::Context {
        let algorithm = match self {
            Self::Sha256 => hmac::HMAC_SHA256,
            Self::Sha384 => hmac::HMAC_SHA384,
            Self::Sha512 => hmac::HMAC_SHA512,
        };
        hmac::Context::with_key(&hmac::Key::new(algorithm, key))
    }
}

impl Algorithm {
    /// The hash of which the algorithm signs a digest; `None` if it signs the message.
    pub(in crate::plugin) fn hash(self) -> Option<Hash> {
        match self {
            Self::Rs256 | Self::Ps256 | Self::Es256 => Some(Hash::Sha256),
            Self::Rs384 | Self::Ps384 | Self::Es384 => Some(Hash::Sha384),
            Self::Rs512 | Self::Ps512 | Self::Es512 => Some(Hash::Sha512),
            Self::EdDsa => None,
        }
    }
}

/// Compares in a time that depends on lengths alone.
pub(in crate::plugin) fn equal(a: &[u8], b: &[u8]) -> bool {
    constant_time::verify_slices_are_equal(a, b).is_ok()
}

/// Whether a signature is right; an error says why the key is none for the algorithm.
pub(in crate::plugin) fn verify(
    algorithm: Algorithm,
    key: &PublicKey,
    signed: &Signed<'_>,
    signature: &[u8],
) -> Result<bool, String> {
    use signature::UnparsedPublicKey;
    let is_right = |key: UnparsedPublicKey<&[u8]>| match signed {
        Signed::Digest(digest) => key.verify_digest(digest, signature).is_ok(),
        Signed::Message(message) => key.verify(message, signature).is_ok(),
    };
    match (key, rsa(algorithm), curve(algorithm)) {
        (PublicKey::Rsa { n, e }, Some(parameters), _) => {
            let n = &n[n.iter().position(|byte| *byte != 0).unwrap_or(n.len())..];
            let bits = n.len() * 8 - n.first().map_or(0, |first| first.leading_zeros() as usize);
            if !RSA_BITS.contains(&bits) {
                return Err(format!("an RSA key of {bits} bits, not of 2048 to 8192"));
            }
            let components = signature::RsaPublicKeyComponents { n, e: e.as_slice() };
            let Ok(key) = components.to_parsed_public_key(parameters) else { return Ok(false) };
            Ok(match signed {
                Signed::Digest(digest) => key.verify_digest_sig(digest, signature).is_ok(),
                Signed::Message(message) => key.verify_sig(message, signature).is_ok(),
            })
        }
        (PublicKey::Ec(point), _, Some((parameters, length))) => {
            if point.len() != length || point.first() != Some(&4) {
                return Err(format!("no uncompressed point of {length} bytes"));
            }
            Ok(is_right(UnparsedPublicKey::new(parameters, point)))
        }
        (PublicKey::Ed25519(key), None, None) => {
            if key.len() != 32 {
                return Err(format!("an Ed25519 key has 32 bytes, not {}", key.len()));
            }
            Ok(is_right(UnparsedPublicKey::new(&signature::ED25519, key)))
        }
        _ => Err("a key of another kind than the algorithm's".to_owned()),
    }
}

fn rsa(algorithm: Algorithm) -> Option<&'static signature::RsaParameters> {
    Some(match algorithm {
        Algorithm::Rs256 => &signature::RSA_PKCS1_2048_8192_SHA256,
        Algorithm::Rs384 => &signature::RSA_PKCS1_2048_8192_SHA384,
        Algorithm::Rs512 => &signature::RSA_PKCS1_2048_8192_SHA512,
        Algorithm::Ps256 => &signature::RSA_PSS_2048_8192_SHA256,
        Algorithm::Ps384 => &signature::RSA_PSS_2048_8192_SHA384,
        Algorithm::Ps512 => &signature::RSA_PSS_2048_8192_SHA512,
        Algorithm::Es256 | Algorithm::Es384 | Algorithm::Es512 | Algorithm::EdDsa => return None,
    })
}

/// With the length of a point.
fn curve(algorithm: Algorithm) -> Option<(&'static signature::EcdsaVerificationAlgorithm, usize)> {
    match algorithm {
        Algorithm::Es256 => Some((&signature::ECDSA_P256_SHA256_FIXED, 65)),
        Algorithm::Es384 => Some((&signature::ECDSA_P384_SHA384_FIXED, 97)),
        Algorithm::Es512 => Some((&signature::ECDSA_P521_SHA512_FIXED, 133)),
        _ => None,
    }
}
