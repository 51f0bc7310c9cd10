//! The interface `crypto`, without the macro's types: messages are read where they lie in the guest's memory, a slice at a time, and
//! between two slices the guest gives way as it does at a tick.

use aws_lc_rs::digest::Digest;
use tokio::task::spawn_blocking;
use wasmtime::{
    StoreContextMut,
    component::{Linker, WasmList},
};

use super::bindings::stile::plugin::crypto;
use crate::{
    cpu,
    plugin::host::{Algorithm, Hash, Host, PublicKey, Signed, equal, verify_signature},
    worker::SLICE,
};

const INTERFACE: &str = "stile:plugin/crypto@0.1.0";
/// Bytes of the largest block of a hash, which an HMAC's key may fill.
const BLOCK: usize = 128;

type Bytes = WasmList<u8>;
type Verified = Result<bool, String>;

pub(super) fn add_to_linker(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    let mut linked = linker.instance(INTERFACE)?;
    linked.func_wrap_async("digest", |mut store, (hash, message): (crypto::Hash, Bytes)| {
        Box::new(async move { Ok((digest(&mut store, hash.into(), &message).await?.as_ref().to_vec(),)) })
    })?;
    linked.func_wrap_async("hmac", |mut store, (hash, key, message): (crypto::Hash, Bytes, Bytes)| {
        Box::new(async move { Ok((hmac(&mut store, hash.into(), &key, &message).await?,)) })
    })?;
    linked.func_wrap_async("equal", |mut store, (a, b): (Bytes, Bytes)| {
        Box::new(async move { Ok((compare(&mut store, &a, &b).await?,)) })
    })?;
    linked.func_wrap_async(
        "verify",
        |mut store, (algorithm, key, message, signature): (crypto::Algorithm, crypto::PublicKey, Bytes, Vec<u8>)| {
            Box::new(async move { Ok((verify(&mut store, algorithm.into(), key.into(), &message, signature).await?,)) })
        },
    )
}

async fn digest(store: &mut StoreContextMut<'_, Host>, hash: Hash, message: &Bytes) -> wasmtime::Result<Digest> {
    let mut context = hash.begin();
    in_slices(store, message, |slice| context.update(slice)).await?;
    Ok(context.finish())
}

async fn hmac(
    store: &mut StoreContextMut<'_, Host>,
    hash: Hash,
    key: &Bytes,
    message: &Bytes,
) -> wasmtime::Result<Vec<u8>> {
    let mut context = if key.len() > BLOCK {
        hash.begin_hmac(digest(store, hash, key).await?.as_ref())
    } else {
        hash.begin_hmac(key.as_le_slice(&*store))
    };
    in_slices(store, message, |slice| context.update(slice)).await?;
    Ok(context.sign().as_ref().to_vec())
}

async fn compare(store: &mut StoreContextMut<'_, Host>, a: &Bytes, b: &Bytes) -> wasmtime::Result<bool> {
    if a.len() != b.len() {
        return Ok(false);
    }
    let mut are_equal = true;
    for start in (0..a.len()).step_by(SLICE) {
        if start > 0 {
            store.data_mut().meter.pause().await?;
        }
        let slice = start..a.len().min(start + SLICE);
        are_equal &= equal(&a.as_le_slice(&*store)[slice.clone()], &b.as_le_slice(&*store)[slice]);
    }
    Ok(are_equal)
}

async fn verify(
    store: &mut StoreContextMut<'_, Host>,
    algorithm: Algorithm,
    key: PublicKey,
    message: &Bytes,
    signature: Vec<u8>,
) -> wasmtime::Result<Verified> {
    if let Some(hash) = algorithm.hash() {
        let digest = digest(store, hash, message).await?;
        return Ok(verify_signature(algorithm, &key, &Signed::Digest(&digest), &signature));
    }
    if message.len() <= SLICE {
        let message = message.as_le_slice(&*store);
        return Ok(verify_signature(algorithm, &key, &Signed::Message(message), &signature));
    }
    // Ed25519 cannot take a message in pieces: a long one is verified off the worker, and counts for the guest all the same.
    let mut whole = Vec::with_capacity(message.len());
    in_slices(store, message, |slice| whole.extend_from_slice(slice)).await?;
    let verified = spawn_blocking(move || {
        let began = cpu::nanos();
        let verified = verify_signature(algorithm, &key, &Signed::Message(&whole), &signature);
        (verified, cpu::nanos() - began)
    });
    let (verified, took) = verified.await?;
    store.data_mut().meter.clock.add(took);
    Ok(verified)
}

/// Hands a list to `work`, a slice at a time.
async fn in_slices(
    store: &mut StoreContextMut<'_, Host>,
    list: &Bytes,
    mut work: impl FnMut(&[u8]) + Send,
) -> wasmtime::Result<()> {
    for start in (0..list.len()).step_by(SLICE) {
        if start > 0 {
            store.data_mut().meter.pause().await?;
        }
        let bytes = list.as_le_slice(&*store);
        work(&bytes[start..bytes.len().min(start + SLICE)]);
    }
    Ok(())
}

impl From<crypto::Hash> for Hash {
    fn from(hash: crypto::Hash) -> Self {
        match hash {
            crypto::Hash::Sha256 => Self::Sha256,
            crypto::Hash::Sha384 => Self::Sha384,
            crypto::Hash::Sha512 => Self::Sha512,
        }
    }
}

impl From<crypto::Algorithm> for Algorithm {
    fn from(algorithm: crypto::Algorithm) -> Self {
        match algorithm {
            crypto::Algorithm::Rs256 => Self::Rs256,
            crypto::Algorithm::Rs384 => Self::Rs384,
            crypto::Algorithm::Rs512 => Self::Rs512,
            crypto::Algorithm::Ps256 => Self::Ps256,
            crypto::Algorithm::Ps384 => Self::Ps384,
            crypto::Algorithm::Ps512 => Self::Ps512,
            crypto::Algorithm::Es256 => Self::Es256,
            crypto::Algorithm::Es384 => Self::Es384,
            crypto::Algorithm::Es512 => Self::Es512,
            crypto::Algorithm::Eddsa => Self::EdDsa,
        }
    }
}

impl From<crypto::PublicKey> for PublicKey {
    fn from(key: crypto::PublicKey) -> Self {
        match key {
            crypto::PublicKey::Rsa(crypto::RsaKey { n, e }) => Self::Rsa { n, e },
            crypto::PublicKey::Ec(point) => Self::Ec(point),
            crypto::PublicKey::Ed25519(key) => Self::Ed25519(key),
        }
    }
}
