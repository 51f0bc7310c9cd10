//! One credential: what is wanted of it, what is kept of it, and how what is kept is looked up. Nothing that is kept could be
//! presented, but for what is sealed.

use std::{collections::BTreeMap, sync::Arc, time::SystemTime};

use aws_lc_rs::rand;
use data_encoding::{BASE64URL_NOPAD, HEXLOWER};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::task::spawn_blocking;

use super::consumers::ConsumerError;
use crate::{
    access::{Consumer, Credential, Lookup, MAX_PASSWORD, Proof, SealKey, Sealed, hash_password},
    config::{
        scalar::{NAME, Timestamp, is_name},
        schema::{self, CredentialType},
    },
    snapshot::compile::consumers::{compiled_credential, type_name},
    store::StoreError,
};

/// Keys of the store.
pub(super) const CREDENTIALS: &str = "credential/";
/// Bytes of the keys and secrets that are made here.
const SECRET_BYTES: usize = 32;
/// The fewest characters of those that are not.
const SHORTEST: usize = 16;
const SHORTEST_PASSWORD: usize = 8;
const NO_KEY: &str = "a secret can only be stored with a key to seal it: set store.key";

/// A credential as it is stored and told of: nothing that could be presented.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    #[serde(rename = "type")]
    pub kind: CredentialType,
    pub created: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<Timestamp>,
    /// What is no secret of it: a name, an issuer, a subject.
    pub shown: BTreeMap<String, String>,
    lookup: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    hash: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sealed: Option<String>,
}

/// What is wanted of a new credential.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Wanted {
    pub id: Option<String>,
    #[serde(rename = "type")]
    pub kind: CredentialType,
    pub expires: Option<Timestamp>,
    /// Without it one is made.
    pub key: Option<String>,
    pub key_sha256: Option<String>,
    pub username: Option<String>,
    pub password: Option<String>,
    pub hash: Option<String>,
    pub key_id: Option<String>,
    /// Without it one is made.
    pub secret: Option<String>,
    pub issuer: Option<String>,
    pub subject: Option<String>,
}

impl Wanted {
    pub(super) fn empty(kind: CredentialType) -> Self {
        let (id, expires, key, key_sha256, username, password) = Default::default();
        let (hash, key_id, secret, issuer, subject) = Default::default();
        Self { id, kind, expires, key, key_sha256, username, password, hash, key_id, secret, issuer, subject }
    }

    /// What is kept of it, and the secret that was made here.
    pub(super) async fn made(
        mut self,
        id: &str,
        consumer: &str,
        seal_key: Option<&SealKey>,
    ) -> Result<(Kept, Option<String>), ConsumerError> {
        let mistakes = self.mistakes();
        let secret = self.fill(id, consumer).await?;
        match keep(self.written(id), consumer, seal_key) {
            Ok(kept) if mistakes.is_empty() => Ok((kept, secret)),
            Ok(_) => Err(ConsumerError::Invalid(mistakes)),
            Err(ConsumerError::Invalid(more)) => Err(ConsumerError::Invalid([mistakes, more].concat())),
            Err(error) => Err(error),
        }
    }

    /// Makes what is left to us: keys, secrets, names of secrets, hashes of passwords. Gives what is secret of it.
    async fn fill(&mut self, id: &str, consumer: &str) -> Result<Option<String>, ConsumerError> {
        let mut secret = None;
        match self.kind {
            CredentialType::ApiKey if self.key.is_none() && self.key_sha256.is_none() => {
                secret = Some(format!("stile_{}", random(SECRET_BYTES)?));
                self.key.clone_from(&secret);
            }
            CredentialType::Hmac => {
                if self.secret.is_none() {
                    secret = Some(random(SECRET_BYTES)?);
                    self.secret.clone_from(&secret);
                }
                self.key_id.get_or_insert_with(|| format!("{consumer}.{id}"));
            }
            CredentialType::Basic => {
                if let Some(password) = self.password.take() {
                    let hashed = spawn_blocking(move || hash_password(&password)).await;
                    self.hash = Some(hashed.ok().and_then(Result::ok).ok_or_else(no_randomness)?);
                }
            }
            _ => {}
        }
        Ok(secret)
    }

    /// What is wrong with what no file has.
    fn mistakes(&self) -> Vec<(String, String)> {
        let mut mistakes = Vec::new();
        if let Some(password) = &self.password {
            let kind = type_name(self.kind);
            let message = match self.kind {
                CredentialType::Basic if self.hash.is_some() => Some("it has a \"hash\" already".to_owned()),
                CredentialType::Basic if password.chars().count() < SHORTEST_PASSWORD => {
                    Some(format!("it has fewer than {SHORTEST_PASSWORD} characters"))
                }
                CredentialType::Basic if password.len() <= MAX_PASSWORD => None,
                CredentialType::Basic => Some(format!("it has more than {MAX_PASSWORD} bytes")),
                _ => Some(format!("a credential of type {kind} has no \"password\"")),
            };
            mistakes.extend(message.map(|message| ("password".to_owned(), message)));
        }
        mistakes
    }

    /// In the form of the file.
    fn written(self, id: &str) -> schema::Credential {
        schema::Credential {
            id: id.to_owned(),
            kind: self.kind,
            expires: self.expires,
            key: self.key,
            key_sha256: self.key_sha256,
            username: self.username,
            hash: self.hash,
            key_id: self.key_id,
            secret: self.secret,
            issuer: self.issuer,
            subject: self.subject,
        }
    }
}

impl Kept {
    /// The same, ending then if it does not before.
    pub(super) fn until(self, end: Timestamp) -> Self {
        Self { expires: Some(self.expires.map_or(end, |before| before.min(end))), ..self }
    }

    pub(super) fn has_ended(&self) -> bool {
        self.expires.is_some_and(|end| end <= now())
    }

    /// What answers and the audit log tell of it.
    pub fn told(&self, id: &str) -> Value {
        let mut told = json!({ "id": id, "type": type_name(self.kind), "created": self.created });
        if let Some(expires) = self.expires {
            told["expires"] = json!(expires);
        }
        for (name, value) in &self.shown {
            told[name] = value.as_str().into();
        }
        told
    }

    /// In the form of the file, with its secrets.
    pub(super) fn written(&self, id: &str, consumer: &str, seal_key: Option<&SealKey>) -> Result<Value, StoreError> {
        let mut written = self.told(id);
        if let Value::Object(members) = &mut written {
            members.remove("created");
            if self.kind == CredentialType::ApiKey {
                members.insert("key_sha256".to_owned(), self.lookup.as_str().into());
            }
            if let Some(hash) = &self.hash {
                members.insert("hash".to_owned(), hash.as_str().into());
            }
            if let Some(secret) = self.opened(&credential_key(consumer, id), seal_key)? {
                members.insert("secret".to_owned(), String::from_utf8_lossy(&secret).into());
            }
        }
        Ok(written)
    }

    /// Whether another credential in this place would be no other.
    pub(super) fn is_like(&self, other: &Self, place: &str, seal_key: Option<&SealKey>) -> bool {
        let public = |it: &Self| (it.kind, it.expires, it.shown.clone(), it.lookup.clone(), it.hash.clone());
        let secret = |it: &Self| it.opened(place, seal_key).ok().flatten();
        public(self) == public(other) && secret(self) == secret(other)
    }

    /// The secret that is sealed, if one is.
    fn opened(&self, place: &str, seal_key: Option<&SealKey>) -> Result<Option<Box<[u8]>>, StoreError> {
        let Some(sealed) = &self.sealed else { return Ok(None) };
        let corrupt = |reason: &str| StoreError::Corrupt(place.to_owned(), reason.to_owned());
        let key = seal_key.ok_or_else(|| corrupt("it is sealed, and there is no store.key to open it"))?;
        let bytes = HEXLOWER.decode(sealed.as_bytes()).map_err(|_| corrupt("it is damaged"))?;
        key.open(&Sealed(bytes), place).map(Some).map_err(|error| corrupt(&error.to_string()))
    }

    pub(super) fn lookup(&self) -> Result<Lookup, StoreError> {
        let corrupt = || StoreError::Corrupt("credential".to_owned(), "its lookup is no digest".to_owned());
        Lookup::from_hex(&self.lookup).ok_or_else(corrupt)
    }
}

/// What is kept of a credential that is written in the form of the file.
///
/// # Errors
///
/// All that is wrong with it, by key; or that there is no key to seal its secret with.
pub(super) fn keep(
    written: schema::Credential,
    consumer: &str,
    seal_key: Option<&SealKey>,
) -> Result<Kept, ConsumerError> {
    let mut mistakes = Vec::new();
    for (key, value) in [("key", &written.key), ("secret", &written.secret)] {
        if value.as_ref().is_some_and(|value| value.chars().count() < SHORTEST) {
            mistakes.push((key.to_owned(), format!("it has fewer than {SHORTEST} characters")));
        }
    }
    if !is_name(&written.id) {
        mistakes.push(("id".to_owned(), format!("\"{}\" is no name: {NAME}", written.id.escape_debug())));
    }
    let (lookup, proof) = match compiled_credential(&written) {
        Ok(compiled) if mistakes.is_empty() => compiled,
        compiled => {
            let more = compiled.err().unwrap_or_default().into_iter();
            let more = more.map(|(path, message)| (path.trim_start_matches('.').to_owned(), message));
            return Err(ConsumerError::Invalid(mistakes.into_iter().chain(more).collect()));
        }
    };
    let (mut hash, mut sealed) = (None, None);
    match proof {
        Proof::Key | Proof::Verified => {}
        Proof::Password(text) => hash = Some(text.to_string()),
        Proof::Secret(bytes) => {
            let key = seal_key.ok_or_else(|| ConsumerError::Conflict(NO_KEY.to_owned()))?;
            let sealed_bytes = key.seal(&bytes, &credential_key(consumer, &written.id));
            sealed = Some(HEXLOWER.encode(&sealed_bytes.map_err(|_| no_randomness())?.0));
        }
    }
    let shown = [
        ("username", written.username),
        ("key_id", written.key_id),
        ("issuer", written.issuer),
        ("subject", written.subject),
    ];
    let shown = shown.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect();
    let (kind, expires, lookup) = (written.kind, written.expires, HEXLOWER.encode(lookup.as_bytes()));
    Ok(Kept { kind, created: now(), expires, shown, lookup, hash, sealed })
}

/// What is looked up of a credential, and by what.
pub(super) fn entry(
    consumer: &Arc<Consumer>,
    id: &str,
    kept: &Kept,
    seal_key: Option<&SealKey>,
) -> Result<(Lookup, Credential), StoreError> {
    let proof = match (&kept.hash, kept.opened(&credential_key(&consumer.name, id), seal_key)?) {
        (Some(hash), _) => Proof::Password(Arc::new(hash.as_str().into())),
        (None, Some(secret)) => Proof::Secret(Arc::new(secret)),
        (None, None) if kept.kind == CredentialType::ApiKey => Proof::Key,
        (None, None) => Proof::Verified,
    };
    let expires = kept.expires.map_or(u64::MAX, |end| end.0);
    Ok((kept.lookup()?, Credential { consumer: Arc::clone(consumer), id: id.into(), expires, proof }))
}

pub(super) fn credential_key(consumer: &str, id: &str) -> String {
    format!("{CREDENTIALS}{consumer}/{id}")
}

fn random(bytes: usize) -> Result<String, ConsumerError> {
    let mut random = vec![0; bytes];
    rand::fill(&mut random).map_err(|_| no_randomness())?;
    Ok(BASE64URL_NOPAD.encode(&random))
}

pub(super) fn random_id() -> Result<String, ConsumerError> {
    random(9)
}

fn no_randomness() -> ConsumerError {
    ConsumerError::Conflict("there is no randomness to be had".to_owned())
}

pub(super) fn now() -> Timestamp {
    Timestamp(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs())
}
