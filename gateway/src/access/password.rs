//! Passwords: hashed with argon2id, and checked on a few threads of their own, since a check takes long and much memory on
//! purpose.

use std::sync::{Arc, OnceLock};

use argon2::{
    Argon2, PasswordHash, PasswordHasher, PasswordVerifier,
    password_hash::{Error, SaltString},
};
use tokio::{sync::Semaphore, task::spawn_blocking};

/// Checks at the same time, each of which takes 19 MiB.
const AT_ONCE: usize = 2;
/// Bytes of a password; a longer one is wrong.
pub const MAX_PASSWORD: usize = 1024;

#[derive(Debug)]
pub struct Passwords {
    permits: Arc<Semaphore>,
    /// Checked where there is nothing to check.
    decoy: Arc<OnceLock<String>>,
}

impl Default for Passwords {
    fn default() -> Self {
        Self { permits: Arc::new(Semaphore::new(AT_ONCE)), decoy: Arc::default() }
    }
}

impl Passwords {
    /// Takes as long where there is no hash, and says no.
    pub(super) async fn verify(&self, password: &str, known: Option<&str>) -> bool {
        if password.len() > MAX_PASSWORD {
            return false;
        }
        // Closed never, so that a permit is what comes.
        let Ok(permit) = Arc::clone(&self.permits).acquire_owned().await else { return false };
        let is_known = known.is_some();
        let (known, decoy, password) = (known.map(str::to_owned), Arc::clone(&self.decoy), password.to_owned());
        let checked = spawn_blocking(move || {
            let _permit = permit;
            let decoy = || decoy.get_or_init(|| hash("a decoy").unwrap_or_default()).clone();
            let known = known.unwrap_or_else(decoy);
            let hash = PasswordHash::new(&known);
            hash.is_ok_and(|hash| Argon2::default().verify_password(password.as_bytes(), &hash).is_ok())
        });
        checked.await.unwrap_or(false) && is_known
    }
}

/// The PHC form of a password's hash, with a salt of its own.
///
/// # Errors
///
/// There is no randomness to be had.
pub fn hash(password: &str) -> Result<String, Error> {
    let mut salt = [0; 16];
    aws_lc_rs::rand::fill(&mut salt).map_err(|_| Error::Crypto)?;
    let salt = SaltString::encode_b64(&salt)?;
    Ok(Argon2::default().hash_password(password.as_bytes(), &salt)?.to_string())
}
