//! Ed25519 signatures of modules (RFC 8032), over the 32 bytes of their SHA-256 digest; keys and signatures are standard
//! base64. Whose are trusted is decided elsewhere.

use std::{fmt, str::FromStr};

use aws_lc_rs::signature::{ED25519, ED25519_PUBLIC_KEY_LEN, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use data_encoding::BASE64;
use rustls::pki_types::{PrivatePkcs8KeyDer, pem::PemObject};
use serde::{Deserialize, Serialize};

use super::Digest256;

/// The header field that a signature is sent in, beside its module.
pub const FIELD: &str = "stile-signature";

/// Bytes of a signature.
const LENGTH: usize = 64;

/// What a module came with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Signature([u8; LENGTH]);

/// What a module is signed with.
#[derive(Debug)]
pub struct SigningKey(Ed25519KeyPair);

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    #[error("its signature is not 64 bytes in base64")]
    Malformed,
    #[error("it is not signed, and only what a key in signed_by has signed may run")]
    Missing,
    #[error("its signature is by none of the keys in signed_by")]
    Foreign,
}

#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    #[error("it holds no private key in PEM form (PKCS #8): {0}")]
    Pem(#[from] rustls::pki_types::pem::Error),
    #[error("its key is not for Ed25519: {0}")]
    Kind(aws_lc_rs::error::KeyRejected),
    #[error("no key can be made")]
    Random,
}

/// Whether a module of this digest may run where these keys are trusted; where there are none, any may.
pub fn check(keys: &[String], module: Digest256, signature: Option<&Signature>) -> Result<(), SignatureError> {
    match signature {
        _ if keys.is_empty() => Ok(()),
        Some(signature) if signature.is_by(keys, module) => Ok(()),
        Some(_) => Err(SignatureError::Foreign),
        None => Err(SignatureError::Missing),
    }
}

impl Signature {
    /// Whether one of these keys has made it for a module of this digest.
    pub fn is_by(&self, keys: &[String], module: Digest256) -> bool {
        keys.iter().any(|key| {
            let key = BASE64.decode(key.as_bytes()).ok().filter(|key| key.len() == ED25519_PUBLIC_KEY_LEN);
            key.is_some_and(|key| UnparsedPublicKey::new(&ED25519, key).verify(module.as_bytes(), &self.0).is_ok())
        })
    }
}

impl FromStr for Signature {
    type Err = SignatureError;

    fn from_str(text: &str) -> Result<Self, SignatureError> {
        let bytes = BASE64.decode(text.trim_ascii().as_bytes()).ok();
        bytes.and_then(|bytes| bytes.try_into().ok()).map(Self).ok_or(SignatureError::Malformed)
    }
}

impl TryFrom<String> for Signature {
    type Error = SignatureError;

    fn try_from(text: String) -> Result<Self, SignatureError> {
        text.parse()
    }
}

impl From<Signature> for String {
    fn from(signature: Signature) -> Self {
        signature.to_string()
    }
}

impl fmt::Display for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&BASE64.encode(&self.0))
    }
}

impl SigningKey {
    /// A new one, and its PEM form.
    pub fn generate() -> Result<(Self, String), KeyError> {
        let key = Ed25519KeyPair::generate().map_err(|_| KeyError::Random)?;
        let der = key.to_pkcs8v1().map_err(|_| KeyError::Random)?;
        let text = BASE64.encode(der.as_ref());
        let pem = format!("-----BEGIN PRIVATE KEY-----\n{text}\n-----END PRIVATE KEY-----\n");
        Ok((Self(key), pem))
    }

    /// From PKCS #8 in PEM form, as `openssl genpkey -algorithm ed25519` writes it.
    pub fn from_pem(pem: &[u8]) -> Result<Self, KeyError> {
        let der = PrivatePkcs8KeyDer::from_pem_slice(pem)?;
        Ed25519KeyPair::from_pkcs8_maybe_unchecked(der.secret_pkcs8_der()).map(Self).map_err(KeyError::Kind)
    }

    /// As `signed_by` names it.
    pub fn public(&self) -> String {
        BASE64.encode(self.0.public_key().as_ref())
    }

    pub fn sign(&self, module: Digest256) -> Signature {
        let made = self.0.sign(module.as_bytes());
        Signature(made.as_ref().try_into().expect("Ed25519 signatures have one length"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 8032 §7.1, test 2: the private key in the form that openssl writes, and the public one.
    const PEM: &str = "-----BEGIN PRIVATE KEY-----
MC4CAQAwBQYDK2VwBCIEIEzNCJso/5banbbDRuwRTg9bijGfNaumJNqM9u1PuKb7
-----END PRIVATE KEY-----
";
    const PUBLIC: &str = "PUAXw+hDiVqStwqnTRt+vJyYLM8uxJaMwM1V8Sr0Zgw=";
    /// What openssl makes with it for a module that is the letter r: `openssl dgst -sha256 -binary`, then
    /// `openssl pkeyutl -sign -rawin`.
    const MADE: &str = "srkuxBXjjwpPtYH7NK0qevh/CoveB98vI9fct0pnvrvs07J8aVD7oZn8rTDpFcmu2vjn5OUYF1xL6H/F/LHxAg==";

    #[test]
    fn a_signature_is_by_one_of_the_keys_or_refused() {
        let (module, made) = (Digest256::of(b"r"), MADE.parse::<Signature>().expect("a signature"));
        let other = SigningKey::generate().expect("chance").0.public();
        let keys = [other.clone(), PUBLIC.to_owned()];
        assert_eq!(check(&keys, module, Some(&made)), Ok(()));
        assert_eq!(check(&[other], module, Some(&made)), Err(SignatureError::Foreign));
        assert_eq!(check(&keys, Digest256::of(b"s"), Some(&made)), Err(SignatureError::Foreign));
        assert_eq!(check(&keys, module, None), Err(SignatureError::Missing));
        assert_eq!((check(&[], module, None), check(&[], module, Some(&made))), (Ok(()), Ok(())));
        assert_eq!(format!("{MADE}\n").parse(), Ok(made), "a file ends with a line");
        for bad in ["", "?", &MADE[4..], &MADE[..87]] {
            assert_eq!(bad.parse::<Signature>(), Err(SignatureError::Malformed), "{bad:?}");
        }
    }

    #[test]
    fn keys_are_those_of_openssl() {
        let key = SigningKey::from_pem(PEM.as_bytes()).expect("a key of the RFC");
        assert_eq!((key.public().as_str(), key.sign(Digest256::of(b"r")).to_string().as_str()), (PUBLIC, MADE));
        let (key, pem) = SigningKey::generate().expect("chance");
        let again = SigningKey::from_pem(pem.as_bytes()).expect("its own form");
        assert_eq!(key.public(), again.public());
        assert!(matches!(SigningKey::from_pem(b"no key"), Err(KeyError::Pem(_))));
        let other = "-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgGyC8PF6giyNnk+xd
jnlaREjfesI+5NBVghv3wpijZJmhRANCAARvgm2hw379GJv87oCeReq7RsL5qQWb
QQ75VPYn5qX4+vBSURu1DrZ9yTE2KEBuO5dMAAbx6KTjAEwU6iZiZnNa
-----END PRIVATE KEY-----
";
        assert!(matches!(SigningKey::from_pem(other.as_bytes()), Err(KeyError::Kind(_))));
    }
}
