//! JSON Web Signatures in the compact form (RFC 7515 §7.1) and the keys that verify them (RFC 7517, RFC 7518 §6, RFC 8037 §2).
//! It knows no claims.

use data_encoding::BASE64URL_NOPAD;
use serde::de::IgnoredAny;
use stile_sdk::{
    crypto::{self, Algorithm, Hash, PublicKey},
    prelude::*,
};

/// Longest token that is looked at.
const MAX_TOKEN: usize = 16 << 10;

/// What a header may ask for. `none` is not among them (RFC 8725 §3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub(crate) enum Alg {
    HS256,
    HS384,
    HS512,
    RS256,
    RS384,
    RS512,
    PS256,
    PS384,
    PS512,
    ES256,
    ES384,
    ES512,
    #[serde(rename = "EdDSA")]
    EdDsa,
}

/// A token, taken apart and not verified.
pub(crate) struct Token<'a> {
    pub(crate) alg: Alg,
    pub(crate) kid: Option<String>,
    signed: &'a [u8],
    signature: Vec<u8>,
    payload: Vec<u8>,
}

/// RFC 7515 §4.1. What else a header says, such as where to find a key, is not listened to.
#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    crit: Option<IgnoredAny>,
}

/// A key and what it is for.
#[derive(Clone, Debug)]
pub(crate) struct Key {
    kid: Option<String>,
    /// It is for this alone.
    alg: Option<Alg>,
    kind: Kind,
}

#[derive(Clone, Debug)]
enum Kind {
    Secret(Vec<u8>),
    Rsa(PublicKey),
    /// With the algorithm of its curve.
    Curve(Alg, PublicKey),
}

/// One of a set, as it is written.
#[derive(Deserialize)]
pub(crate) struct Jwk {
    kty: String,
    kid: Option<String>,
    alg: Option<String>,
    #[serde(rename = "use")]
    usage: Option<String>,
    key_ops: Option<Vec<String>>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
    k: Option<String>,
}

impl Alg {
    pub(crate) fn named(name: &str) -> Option<Self> {
        use serde::de::{IntoDeserializer, value::Error};
        Self::deserialize(IntoDeserializer::<Error>::into_deserializer(name)).ok()
    }

    pub(crate) fn is_secret(self) -> bool {
        self.hash().is_some()
    }

    /// Of those that take a secret, with what it is shorter than (RFC 7518 §3.2).
    fn hash(self) -> Option<(Hash, usize)> {
        match self {
            Self::HS256 => Some((Hash::Sha256, 32)),
            Self::HS384 => Some((Hash::Sha384, 48)),
            Self::HS512 => Some((Hash::Sha512, 64)),
            _ => None,
        }
    }

    fn signature(self) -> Option<Algorithm> {
        Some(match self {
            Self::HS256 | Self::HS384 | Self::HS512 => return None,
            Self::RS256 => Algorithm::Rs256,
            Self::RS384 => Algorithm::Rs384,
            Self::RS512 => Algorithm::Rs512,
            Self::PS256 => Algorithm::Ps256,
            Self::PS384 => Algorithm::Ps384,
            Self::PS512 => Algorithm::Ps512,
            Self::ES256 => Algorithm::Es256,
            Self::ES384 => Algorithm::Es384,
            Self::ES512 => Algorithm::Es512,
            Self::EdDsa => Algorithm::EdDsa,
        })
    }
}

impl<'a> Token<'a> {
    pub(crate) fn parse(text: &'a str) -> Result<Self, &'static str> {
        if text.len() > MAX_TOKEN {
            return Err("the token is too long");
        }
        let (signed, signature) = text.rsplit_once('.').ok_or("the token has not three parts")?;
        let (header, payload) = signed.split_once('.').ok_or("the token has not three parts")?;
        if payload.contains('.') {
            return Err("the token has not three parts");
        }
        let decoded = |part: &str| BASE64URL_NOPAD.decode(part.as_bytes()).map_err(|_| "the token is not in base64url");
        let header: Header =
            serde_json::from_slice(&decoded(header)?).map_err(|_| "the token's header cannot be read")?;
        // RFC 7515 §4.1.11: none of what it may list is understood here.
        if header.crit.is_some() {
            return Err("the token's header has critical parts that are not understood");
        }
        let alg = Alg::named(&header.alg).ok_or("the token's algorithm is not known")?;
        let (signature, payload) = (decoded(signature)?, decoded(payload)?);
        Ok(Self { alg, kid: header.kid, signed: signed.as_bytes(), signature, payload })
    }

    /// Whether a key may be the one that it is signed with.
    pub(crate) fn fits(&self, key: &Key) -> bool {
        let named = self.kid.is_none() || key.kid.is_none() || self.kid == key.kid;
        let kind = match &key.kind {
            Kind::Secret(_) => self.alg.is_secret(),
            Kind::Rsa(_) => {
                matches!(self.alg, Alg::RS256 | Alg::RS384 | Alg::RS512 | Alg::PS256 | Alg::PS384 | Alg::PS512)
            }
            Kind::Curve(alg, _) => *alg == self.alg,
        };
        named && kind && key.alg.is_none_or(|alg| alg == self.alg)
    }

    /// What is signed, if it is with that key.
    pub(crate) fn verified(&self, key: &Key) -> Option<&[u8]> {
        let right = match (&key.kind, self.alg.hash(), self.alg.signature()) {
            _ if !self.fits(key) => false,
            (Kind::Secret(secret), Some((hash, _)), _) => {
                crypto::equal(&crypto::hmac(hash, secret, self.signed), &self.signature)
            }
            (Kind::Rsa(key) | Kind::Curve(_, key), _, Some(algorithm)) => {
                crypto::verify(algorithm, key, self.signed, &self.signature).unwrap_or(false)
            }
            _ => false,
        };
        right.then_some(self.payload.as_slice())
    }
}

impl Key {
    /// From one of a set. None if it is of a kind, or for a use, that is of no use here.
    pub(crate) fn of(jwk: Jwk) -> Result<Option<Self>> {
        let Jwk { kty, kid, alg, usage, key_ops, crv, n, e, x, y, k } = jwk;
        let verifies = usage.as_deref().is_none_or(|usage| usage == "sig")
            && key_ops.is_none_or(|ops| ops.iter().any(|op| op == "verify"));
        let named = alg.as_deref().map(Alg::named);
        if !verifies || named == Some(None) {
            return Ok(None);
        }
        let alg = named.flatten();
        let bytes = |name: &str, part: Option<String>| {
            let part = part.ok_or_else(|| Error::new(format!("a key of kind {kty} has no {name}")))?;
            BASE64URL_NOPAD.decode(part.as_bytes()).map_err(|_| Error::new(format!("{name} is not in base64url")))
        };
        let kind = match (kty.as_str(), crv.as_deref()) {
            ("oct", _) => Kind::Secret(bytes("k", k)?),
            ("RSA", _) => Kind::Rsa(PublicKey::Rsa { n: bytes("n", n)?, e: bytes("e", e)? }),
            ("EC", Some(curve)) => {
                let (alg, length) = match curve {
                    "P-256" => (Alg::ES256, 32),
                    "P-384" => (Alg::ES384, 48),
                    "P-521" => (Alg::ES512, 66),
                    _ => return Ok(None),
                };
                let (x, y) = (bytes("x", x)?, bytes("y", y)?);
                if x.len() != length || y.len() != length {
                    return Err(Error::new(format!("a point of {curve} has coordinates of {length} bytes")));
                }
                Kind::Curve(alg, PublicKey::Ec([vec![4], x, y].concat()))
            }
            ("OKP", Some("Ed25519")) => Kind::Curve(Alg::EdDsa, PublicKey::Ed25519(bytes("x", x)?)),
            _ => return Ok(None),
        };
        Ok(Some(Self { kid, alg, kind }))
    }

    pub(crate) fn is_secret(&self) -> bool {
        matches!(self.kind, Kind::Secret(_))
    }

    /// Whether it is long enough for each of these algorithms that it may be used with.
    pub(crate) fn is_strong(&self, algorithms: &[Alg]) -> bool {
        let Kind::Secret(secret) = &self.kind else { return true };
        let used = algorithms.iter().filter(|used| self.alg.is_none_or(|alg| alg == **used));
        used.filter_map(|alg| alg.hash()).all(|(_, length)| secret.len() >= length)
    }
}
