//! Consumers: who is it that presents this, and what may they use? A leaf: looked up without a lock, in one step for any
//! number of them; a change copies one way through a tree and shares the rest with the generation before.

mod grant;
mod password;
mod quota;
mod secret;
mod table;
mod usage;

use std::{
    iter,
    sync::Arc,
    time::{Duration, SystemTime},
};

use smol_str::SmolStr;

use self::table::Table;
pub use self::{
    grant::{Denied, Grant, Holder, Meters, Product},
    password::{MAX_PASSWORD, Passwords, hash as hash_password},
    quota::{Exceeded, Left, Quotas, Reading, Window, fields as quota_fields},
    secret::{SealError, SealKey, Sealed},
    table::Lookup,
    usage::{Usage, Usages, Used},
};

/// All that consumers hold: what the file says and what the store says.
#[derive(Debug, Clone, Default)]
pub struct Access {
    pub file: Holdings,
    pub stored: Holdings,
    passwords: Arc<Passwords>,
    pub meters: Arc<Meters>,
    pub usages: Arc<Usages>,
}

/// Credentials by what is looked up, and grants by who has them. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Holdings {
    credentials: Table<Credential>,
    grants: Table<Arc<[Grant]>>,
}

/// A client known by name.
#[derive(Debug, PartialEq, Eq)]
pub struct Consumer {
    pub name: Box<str>,
    pub groups: Box<[Arc<str>]>,
}

/// One way in which a consumer proves who it is.
#[derive(Debug, Clone)]
pub struct Credential {
    pub consumer: Arc<Consumer>,
    pub id: SmolStr,
    /// Seconds since 1970; `u64::MAX` is never.
    pub expires: u64,
    pub proof: Proof,
}

/// What a client must show beside what its credential is looked up by.
#[derive(Debug, Clone)]
pub enum Proof {
    /// To know what is looked up: a key.
    Key,
    /// Others have verified it: a token, a certificate.
    Verified,
    /// A password, of which this is the hash (argon2id in PHC form).
    Password(Arc<Box<str>>),
    /// A signature with this secret.
    Secret(Arc<Box<[u8]>>),
}

/// What a client shows.
#[derive(Debug, Clone, Copy)]
pub enum Presented<'a> {
    ApiKey(&'a str),
    /// Name and password.
    Basic {
        username: &'a str,
        password: &'a str,
    },
    /// HMAC-SHA-256 of a message.
    Hmac {
        key_id: &'a str,
        message: &'a [u8],
        signature: &'a [u8],
    },
    /// Whom a token names that was verified already.
    Jwt {
        issuer: &'a str,
        subject: &'a str,
    },
    /// Whom a client's certificate names that was verified already.
    Certificate {
        subject: &'a str,
    },
}

impl Access {
    /// The same with other credentials of the store.
    #[must_use]
    pub fn with_stored(&self, stored: Holdings) -> Self {
        Self { stored, ..self.clone() }
    }

    /// The same with other credentials of the file.
    #[must_use]
    pub fn with_file(&self, file: Holdings) -> Self {
        Self { file, ..self.clone() }
    }

    /// The same that goes on with these meters.
    #[cfg(test)]
    pub(crate) fn with_meters(&self, meters: &Arc<Meters>) -> Self {
        Self { meters: Arc::clone(meters), ..self.clone() }
    }

    /// Whose credential it is, if it is one, has not expired and is proved. Waits for passwords, whose check takes long on purpose,
    /// and for signatures of long messages.
    pub async fn verify(&self, presented: Presented<'_>, now: SystemTime) -> Option<&Credential> {
        let found = self.find(&presented.lookup(), now);
        match presented {
            // A key is looked up by its bare digest: it must not be taken for what others verify.
            Presented::ApiKey(_) => found.filter(|found| matches!(found.proof, Proof::Key)),
            Presented::Jwt { .. } | Presented::Certificate { .. } => {
                found.filter(|found| matches!(found.proof, Proof::Verified))
            }
            Presented::Basic { password, .. } => {
                let hash = found.and_then(Credential::password);
                // For an unknown name, too: the time must not tell which names there are.
                self.passwords.verify(password, hash).await.then_some(found).flatten()
            }
            Presented::Hmac { message, signature, .. } => match &found?.proof {
                Proof::Secret(key) => secret::signed(key, message, signature).await.then_some(found).flatten(),
                _ => None,
            },
        }
    }

    /// Lets a consumer use a version of an API, once, and tells how it stands with its quotas then; `groups` are those that it is of.
    pub fn admit(
        &self,
        product: &Product,
        who: Option<(&str, &[String])>,
        now: SystemTime,
    ) -> Result<Vec<Left>, Denied> {
        let Some((name, groups)) = who else {
            return if product.anonymous { Ok(Vec::new()) } else { Err(Denied::Unknown) };
        };
        let holders = iter::once(Holder::Consumer(name)).chain(groups.iter().map(|group| Holder::Group(group)));
        let held = holders.flat_map(|holder| {
            let lookup = holder.lookup();
            [&self.file, &self.stored].map(|held| (holder, held.grants(&lookup)))
        });
        match grant::find(product, held) {
            Ok((holder, grant)) => {
                self.meters.take(holder, grant, name, now).map_err(|exceeded| Denied::Exceeded(Box::new(exceeded)))
            }
            Err(_) if product.anonymous => Ok(Vec::new()),
            Err(denied) => Err(denied),
        }
    }

    /// Where it is counted what a consumer, or nobody, uses of a version.
    pub fn usage(&self, product: &Product, consumer: Option<&str>) -> Arc<Usage> {
        self.usages.of(product, consumer.unwrap_or_default())
    }

    /// The credential that is looked up so, unless it has expired.
    pub fn find(&self, lookup: &Lookup, now: SystemTime) -> Option<&Credential> {
        let found = self.file.get(lookup).or_else(|| self.stored.get(lookup))?;
        let since = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs();
        (since < found.expires).then_some(found)
    }
}

impl Presented<'_> {
    /// What a credential that could be this is kept under.
    pub fn lookup(&self) -> Lookup {
        match self {
            Self::ApiKey(key) => Lookup::of_key(key),
            Self::Basic { username, .. } => Lookup::of("basic", &[username]),
            Self::Hmac { key_id, .. } => Lookup::of("hmac", &[key_id]),
            Self::Jwt { issuer, subject } => Lookup::of("jwt", &[issuer, subject]),
            Self::Certificate { subject } => Lookup::of("certificate", &[subject]),
        }
    }
}

impl Holdings {
    pub fn get(&self, lookup: &Lookup) -> Option<&Credential> {
        self.credentials.get(lookup)
    }

    /// Adds one, in the place of one that is looked up the same.
    pub fn insert(&mut self, lookup: Lookup, credential: Credential) {
        self.credentials.insert(lookup, credential);
    }

    pub fn remove(&mut self, lookup: &Lookup) {
        self.credentials.remove(lookup);
    }

    /// Of credentials.
    pub fn len(&self) -> usize {
        self.credentials.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn grants(&self, holder: &Lookup) -> &[Grant] {
        self.grants.get(holder).map_or(&[], |grants| grants)
    }

    /// Makes these the grants that somebody has.
    pub fn set_grants(&mut self, holder: Holder<'_>, grants: Vec<Grant>) {
        let lookup = holder.lookup();
        if grants.is_empty() {
            self.grants.remove(&lookup);
        } else {
            self.grants.insert(lookup, grants.into());
        }
    }
}

impl Credential {
    fn password(&self) -> Option<&str> {
        match &self.proof {
            Proof::Password(hash) => Some(hash),
            Proof::Key | Proof::Verified | Proof::Secret(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access(entries: &[(Presented<'_>, Option<u64>, Proof)]) -> Access {
        let mut stored = Holdings::default();
        for (n, (presented, expires, proof)) in entries.iter().enumerate() {
            let consumer = Arc::new(Consumer { name: format!("c{n}").into(), groups: Box::default() });
            let (expires, proof) = (expires.unwrap_or(u64::MAX), proof.clone());
            stored.insert(presented.lookup(), Credential { consumer, id: "1".into(), expires, proof });
        }
        Access::default().with_stored(stored)
    }

    async fn who(access: &Access, presented: Presented<'_>) -> Option<String> {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1000);
        access.verify(presented, now).await.map(|found| found.consumer.name.to_string())
    }

    #[tokio::test]
    async fn each_kind_is_known_by_what_it_shows_and_by_nothing_else() {
        let hash = password::hash("right").expect("a hash");
        let basic = |password| Presented::Basic { username: "ann", password };
        let key: Box<[u8]> = Box::from(&b"key"[..]);
        let signature = secret::sign(&key, b"message");
        let hmac = |message, signature| Presented::Hmac { key_id: "k1", message, signature };
        let jwt = |issuer, subject| Presented::Jwt { issuer, subject };
        let access = access(&[
            (Presented::ApiKey("one"), None, Proof::Key),
            (Presented::ApiKey("old"), Some(1000), Proof::Key),
            (Presented::ApiKey("new"), Some(1001), Proof::Key),
            (basic(""), None, Proof::Password(Arc::new(hash.into()))),
            (hmac(b"", b""), None, Proof::Secret(Arc::new(key))),
            (jwt("a", "bc"), None, Proof::Verified),
            (Presented::Certificate { subject: "CN=x" }, None, Proof::Verified),
        ]);
        let digested = format!("certificate{}CN=x", "\u{4}\0\0\0\0\0\0\0");
        assert_eq!(
            Presented::ApiKey(&digested).lookup(),
            Presented::Certificate { subject: "CN=x" }.lookup(),
            "what a certificate is looked up by can be sent as a key"
        );
        for (presented, name) in [
            (Presented::ApiKey("one"), Some("c0")),
            (Presented::ApiKey("One"), None),
            (Presented::ApiKey(""), None),
            (Presented::ApiKey("old"), None),
            (Presented::ApiKey("new"), Some("c2")),
            (Presented::ApiKey("ann"), None),
            (basic("right"), Some("c3")),
            (basic("wrong"), None),
            (Presented::Basic { username: "bob", password: "right" }, None),
            (hmac(b"message", &signature), Some("c4")),
            (hmac(b"massage", &signature), None),
            (hmac(b"message", &signature[1..]), None),
            (jwt("a", "bc"), Some("c5")),
            (jwt("ab", "c"), None),
            (Presented::Certificate { subject: "CN=x" }, Some("c6")),
            (Presented::ApiKey(&digested), None),
        ] {
            assert_eq!(who(&access, presented).await.as_deref(), name, "{presented:?}");
        }
    }
}
