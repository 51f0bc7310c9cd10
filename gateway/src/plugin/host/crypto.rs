//! Digests and signatures for guests. It keeps no key.

#[cfg(test)]
mod vectors;

use aws_lc_rs::{constant_time, digest, hmac, signature};

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

pub(in crate::plugin) fn digest(hash: Hash, message: &[u8]) -> Vec<u8> {
    let algorithm = match hash {
        Hash::Sha256 => &digest::SHA256,
        Hash::Sha384 => &digest::SHA384,
        Hash::Sha512 => &digest::SHA512,
    };
    digest::digest(algorithm, message).as_ref().to_vec()
}

pub(in crate::plugin) fn hmac(hash: Hash, key: &[u8], message: &[u8]) -> Vec<u8> {
    let algorithm = match hash {
        Hash::Sha256 => hmac::HMAC_SHA256,
        Hash::Sha384 => hmac::HMAC_SHA384,
        Hash::Sha512 => hmac::HMAC_SHA512,
    };
    hmac::sign(&hmac::Key::new(algorithm, key), message).as_ref().to_vec()
}

/// In a time that depends on lengths alone.
pub(in crate::plugin) fn equal(a: &[u8], b: &[u8]) -> bool {
    constant_time::verify_slices_are_equal(a, b).is_ok()
}

/// Whether a signature is right; an error says why the key is none for the algorithm.
pub(in crate::plugin) fn verify(
    algorithm: Algorithm,
    key: &PublicKey,
    message: &[u8],
    signature: &[u8],
) -> Result<bool, String> {
    use signature::UnparsedPublicKey;
    match (key, rsa(algorithm), curve(algorithm)) {
        (PublicKey::Rsa { n, e }, Some(parameters), _) => {
            let n = &n[n.iter().position(|byte| *byte != 0).unwrap_or(n.len())..];
            let bits = n.len() * 8 - n.first().map_or(0, |first| first.leading_zeros() as usize);
            if !RSA_BITS.contains(&bits) {
                return Err(format!("an RSA key of {bits} bits, not of 2048 to 8192"));
            }
            let key = signature::RsaPublicKeyComponents { n, e: e.as_slice() };
            Ok(key.verify(parameters, message, signature).is_ok())
        }
        (PublicKey::Ec(point), _, Some((parameters, length))) => {
            if point.len() != length || point.first() != Some(&4) {
                return Err(format!("no uncompressed point of {length} bytes"));
            }
            Ok(UnparsedPublicKey::new(parameters, point).verify(message, signature).is_ok())
        }
        (PublicKey::Ed25519(key), None, None) => {
            if key.len() != 32 {
                return Err(format!("an Ed25519 key has 32 bytes, not {}", key.len()));
            }
            Ok(UnparsedPublicKey::new(&signature::ED25519, key).verify(message, signature).is_ok())
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
