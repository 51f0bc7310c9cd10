//! Consumers and their credentials as they are written, into what they are looked up by and how they are proved.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

use argon2::{Params, PasswordHash};

use crate::{
    access::{Consumer, Credential, Holdings, Lookup, Presented, Proof},
    config::{
        Problem,
        scalar::{NAME, is_name},
        schema::{self, CredentialType},
    },
};

/// Most that a password's hash may cost to check: KiB of memory, passes over it, lanes.
const MAX_MEMORY: u32 = 64 << 10;
const MAX_PASSES: u32 = 10;
const MAX_LANES: u32 = 4;

/// Keys that a credential may have, each with whether it is there.
type Keys<'a> = [(&'static str, Option<&'a str>); 8];

/// The credentials of a file's consumers, and all that is wrong with them and beside those that are stored.
pub(super) fn of_file(consumers: &[schema::Consumer], stored: &Holdings) -> (Holdings, Vec<Problem>) {
    let (mut credentials, mut problems) = (Holdings::default(), Vec::new());
    let mut seen: BTreeMap<Lookup, String> = BTreeMap::new();
    for (index, consumer) in consumers.iter().enumerate() {
        let known = Arc::new(compiled(&consumer.name, &consumer.groups));
        for (n, group) in consumer.groups.iter().enumerate().filter(|(_, group)| !is_name(group)) {
            problems.push(Problem::new(format!("consumers[{index}].groups[{n}]"), no_name(group)));
        }
        let mut ids = HashSet::new();
        for (n, credential) in consumer.credentials.iter().enumerate() {
            let path = format!("consumers[{index}].credentials[{n}]");
            if !is_name(&credential.id) {
                problems.push(Problem::new(format!("{path}.id"), no_name(&credential.id)));
            } else if !ids.insert(&credential.id) {
                let message = format!("\"{}\" is there twice", credential.id);
                problems.push(Problem::new(format!("{path}.id"), message));
            }
            match compiled_credential(credential) {
                Ok((lookup, proof)) => {
                    if let Some(other) = stored.get(&lookup) {
                        let other = format!("/v1/consumers/{}/credentials/{}", other.consumer.name, other.id);
                        let message = format!("another credential is presented the same way, at {other}");
                        problems.push(Problem::new(path, message));
                        continue;
                    }
                    if let Some(other) = seen.insert(lookup, path.clone()) {
                        let problem = Problem::new(path, "another credential is presented the same way");
                        problems.push(problem.with_other(other));
                        continue;
                    }
                    let expires = credential.expires.map_or(u64::MAX, |end| end.0);
                    let (consumer, id) = (Arc::clone(&known), credential.id.as_str().into());
                    credentials.insert(lookup, Credential { consumer, id, expires, proof });
                }
                Err(mistakes) => problems
                    .extend(mistakes.into_iter().map(|(key, message)| Problem::new(format!("{path}{key}"), message))),
            }
        }
    }
    (credentials, problems)
}

pub fn compiled(name: &str, groups: &[String]) -> Consumer {
    Consumer { name: name.into(), groups: groups.iter().map(|group| group.as_str().into()).collect() }
}

/// What a credential is looked up by and how it is proved, or all that is wrong with it, by key.
pub fn compiled_credential(credential: &schema::Credential) -> Result<(Lookup, Proof), Vec<(String, String)>> {
    let needed: &[&str] = match credential.kind {
        CredentialType::ApiKey if credential.key.is_none() && credential.key_sha256.is_some() => &["key_sha256"],
        CredentialType::ApiKey => &["key"],
        CredentialType::Basic => &["username", "hash"],
        CredentialType::Hmac => &["key_id", "secret"],
        CredentialType::Jwt => &["issuer", "subject"],
        CredentialType::Certificate => &["subject"],
    };
    let keys: Keys<'_> = [
        ("key", credential.key.as_deref()),
        ("key_sha256", credential.key_sha256.as_deref()),
        ("username", credential.username.as_deref()),
        ("hash", credential.hash.as_deref()),
        ("key_id", credential.key_id.as_deref()),
        ("secret", credential.secret.as_deref()),
        ("issuer", credential.issuer.as_deref()),
        ("subject", credential.subject.as_deref()),
    ];
    let mut mistakes = Vec::new();
    let kind = type_name(credential.kind);
    for (key, value) in keys {
        match (needed.contains(&key), value) {
            (true, None) => mistakes.push((String::new(), format!("a credential of type {kind} needs \"{key}\""))),
            (true, Some("")) => mistakes.push((format!(".{key}"), "it is empty".to_owned())),
            (false, Some(_)) if key == "key_sha256" && credential.kind == CredentialType::ApiKey => {
                mistakes.push((format!(".{key}"), "it has a \"key\" already".to_owned()));
            }
            (false, Some(_)) => {
                mistakes.push((format!(".{key}"), format!("a credential of type {kind} has no \"{key}\"")));
            }
            _ => {}
        }
    }
    if let Some(hash) = credential.hash.as_deref().filter(|_| credential.kind == CredentialType::Basic)
        && let Err(mistake) = checked(hash)
    {
        mistakes.push((".hash".to_owned(), mistake));
    }
    let digest = credential.key_sha256.as_deref().filter(|_| needed == ["key_sha256"]).map(Lookup::from_hex);
    if digest == Some(None) {
        mistakes.push((".key_sha256".to_owned(), "it is no SHA-256 in 64 hexadecimal digits".to_owned()));
    }
    if digest.flatten().is_some_and(|digest| digest == Presented::ApiKey("").lookup()) {
        mistakes.push((".key_sha256".to_owned(), "it is that of an empty key".to_owned()));
    }
    if !mistakes.is_empty() {
        return Err(mistakes);
    }
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    let (subject, issuer) = (text(&credential.subject), text(&credential.issuer));
    Ok(match credential.kind {
        CredentialType::ApiKey => {
            let key = || Presented::ApiKey(&text(&credential.key)).lookup();
            (digest.flatten().unwrap_or_else(key), Proof::Key)
        }
        CredentialType::Basic => {
            let presented = Presented::Basic { username: &text(&credential.username), password: "" };
            (presented.lookup(), Proof::Password(Arc::new(text(&credential.hash).into())))
        }
        CredentialType::Hmac => {
            let presented = Presented::Hmac { key_id: &text(&credential.key_id), message: b"", signature: b"" };
            (presented.lookup(), Proof::Secret(Arc::new(text(&credential.secret).into_bytes().into())))
        }
        CredentialType::Jwt => (Presented::Jwt { issuer: &issuer, subject: &subject }.lookup(), Proof::Verified),
        CredentialType::Certificate => (Presented::Certificate { subject: &subject }.lookup(), Proof::Verified),
    })
}

/// A hash that a password can be held against, at a cost that a gateway can pay.
fn checked(hash: &str) -> Result<(), String> {
    let hash = PasswordHash::new(hash)
        .ok()
        .filter(|hash| hash.algorithm.as_str() == "argon2id" && hash.hash.is_some() && hash.salt.is_some())
        .ok_or("it is no argon2id hash in PHC form ($argon2id$v=19$…)")?;
    let cost = Params::try_from(&hash).map_err(|error| format!("its parameters are not right: {error}"))?;
    if cost.m_cost() > MAX_MEMORY || cost.t_cost() > MAX_PASSES || cost.p_cost() > MAX_LANES {
        return Err(format!("it costs too much to check: more than m={MAX_MEMORY}, t={MAX_PASSES}, p={MAX_LANES}"));
    }
    Ok(())
}

/// As files and the Admin API write it.
pub fn type_name(kind: CredentialType) -> &'static str {
    match kind {
        CredentialType::ApiKey => "api-key",
        CredentialType::Basic => "basic",
        CredentialType::Hmac => "hmac",
        CredentialType::Jwt => "jwt",
        CredentialType::Certificate => "certificate",
    }
}

fn no_name(text: &str) -> String {
    format!("\"{}\" is no name: {NAME}", text.escape_debug())
}
