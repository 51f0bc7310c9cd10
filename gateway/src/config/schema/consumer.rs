//! Clients that are known by name, and how they prove who they are. It has no behaviour.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Grant;
use crate::config::scalar::Timestamp;

#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Consumer {
    /// Unique among consumers.
    pub name: String,
    /// Groups that it belongs to.
    #[serde(default)]
    pub groups: Vec<String>,
    /// How it proves who it is.
    #[serde(default)]
    pub credentials: Vec<Credential>,
    /// What it may use, beside what its groups may.
    #[serde(default)]
    pub grants: Vec<Grant>,
}

/// One way in which a consumer proves who it is. Which keys it takes depends on its type.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Credential {
    /// Unique among the consumer's credentials.
    pub id: String,
    /// What is presented.
    #[serde(rename = "type")]
    pub kind: CredentialType,
    /// When it ends, such as `2030-01-01T00:00:00Z`; without it, never.
    #[serde(default)]
    pub expires: Option<Timestamp>,
    /// Of `api-key`: the key itself, at least 16 characters.
    #[serde(default)]
    #[schemars(length(min = 16))]
    pub key: Option<String>,
    /// Of `api-key`, in place of `key`: its SHA-256 in hexadecimal digits.
    #[serde(default)]
    pub key_sha256: Option<String>,
    /// Of `basic`: the name.
    #[serde(default)]
    pub username: Option<String>,
    /// Of `basic`: the hash of the password, argon2id in PHC form (`$argon2id$v=19$…`).
    #[serde(default)]
    pub hash: Option<String>,
    /// Of `hmac`: what names the secret.
    #[serde(default)]
    pub key_id: Option<String>,
    /// Of `hmac`: the secret itself, at least 16 characters.
    #[serde(default)]
    #[schemars(length(min = 16))]
    pub secret: Option<String>,
    /// Of `jwt`: who issues its tokens.
    #[serde(default)]
    pub issuer: Option<String>,
    /// Of `jwt` and `certificate`: whom they name.
    #[serde(default)]
    pub subject: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum CredentialType {
    /// A secret text.
    ApiKey,
    /// A name and a password.
    Basic,
    /// A signature with a shared secret.
    Hmac,
    /// A token of an issuer.
    Jwt,
    /// A client certificate.
    Certificate,
}
