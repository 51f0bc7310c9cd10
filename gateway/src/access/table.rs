//! What is held by digest: three steps to any of them, and a change that copies one way through the tree.
//!
//! Digests are spread evenly, so that a tree by their first two bytes needs no balancing: of a million entries some fifteen
//! share a leaf, a sorted list of exactly its length. Memory is what a look-up waits for: each entry is whole in its leaf,
//! and found near where its third byte says.

use std::{fmt, sync::Arc};

use aws_lc_rs::digest::{Context, Digest, SHA256, digest};
use data_encoding::HEXLOWER_PERMISSIVE;

const WIDTH: usize = 256;

/// What something is looked up by: a digest, so that nothing here tells what it is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Lookup([u8; 32]);

#[derive(Clone)]
pub(super) struct Table<V> {
    /// By the first byte, then by the second; absent where there is nothing.
    branches: Arc<Vec<Option<Arc<Branch<V>>>>>,
    len: usize,
}

type Branch<V> = Vec<Option<Leaf<V>>>;
type Leaf<V> = Arc<Items<V>>;
type Items<V> = [(Lookup, V)];

impl Lookup {
    /// Of a key: its SHA-256, as anybody can make it.
    pub fn of_key(key: &str) -> Self {
        Self::finished(digest(&SHA256, key.as_bytes()))
    }

    /// Of a kind of credential and what tells one of that kind from others.
    pub fn of(kind: &str, parts: &[&str]) -> Self {
        let mut context = Context::new(&SHA256);
        context.update(kind.as_bytes());
        for part in parts {
            // With their lengths: "a", "bc" is not "ab", "c".
            context.update(&(part.len() as u64).to_le_bytes());
            context.update(part.as_bytes());
        }
        Self::finished(context.finish())
    }

    fn finished(digest: Digest) -> Self {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest.as_ref());
        Self(bytes)
    }

    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// As `{:?}` writes it; capital digits are as good.
    pub fn from_hex(text: &str) -> Option<Self> {
        HEXLOWER_PERMISSIVE.decode(text.as_bytes()).ok()?.try_into().ok().map(Self)
    }

    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    fn place(&self) -> (usize, usize) {
        (usize::from(self.0[0]), usize::from(self.0[1]))
    }
}

impl<V: Clone> Table<V> {
    pub(super) fn get(&self, lookup: &Lookup) -> Option<&V> {
        let (branch, leaf) = lookup.place();
        let leaf = self.branches.get(branch)?.as_ref()?.get(leaf)?.as_ref()?;
        let found = place_in(leaf, lookup).ok()?;
        Some(&leaf[found].1)
    }

    pub(super) fn insert(&mut self, lookup: Lookup, value: V) {
        let leaf = self.leaf(&lookup);
        let (before, after, replaced) = split(leaf, &lookup);
        let new = before.iter().cloned().chain([(lookup, value)]).chain(after.iter().cloned()).collect();
        *leaf = Some(new);
        self.len += usize::from(!replaced);
    }

    pub(super) fn remove(&mut self, lookup: &Lookup) {
        if self.get(lookup).is_none() {
            return;
        }
        let leaf = self.leaf(lookup);
        let (before, after, _) = split(leaf, lookup);
        let new: Leaf<V> = before.iter().chain(after).cloned().collect();
        *leaf = (!new.is_empty()).then_some(new);
        self.len -= 1;
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// The leaf of a digest, on a way that nobody else has.
    fn leaf(&mut self, lookup: &Lookup) -> &mut Option<Leaf<V>> {
        let (branch, leaf) = lookup.place();
        let branches = Arc::make_mut(&mut self.branches);
        branches.resize(WIDTH, None);
        let branch = branches[branch].get_or_insert_with(|| Arc::new(vec![None; WIDTH]));
        &mut Arc::make_mut(branch)[leaf]
    }
}

/// Where a digest is in a leaf, or would be.
fn place_in<V>(items: &Items<V>, lookup: &Lookup) -> Result<usize, usize> {
    let mut place = usize::from(lookup.0[2]) * items.len() / WIDTH;
    while place > 0 && items[place - 1].0 >= *lookup {
        place -= 1;
    }
    while place < items.len() && items[place].0 < *lookup {
        place += 1;
    }
    if items.get(place).is_some_and(|(known, _)| known == lookup) { Ok(place) } else { Err(place) }
}

/// What is before a digest in a leaf, what is after it, and whether it is there.
fn split<'l, V>(leaf: &'l Option<Leaf<V>>, lookup: &Lookup) -> (&'l Items<V>, &'l Items<V>, bool) {
    let items: &Items<V> = leaf.as_deref().unwrap_or_default();
    match place_in(items, lookup) {
        Ok(place) => (&items[..place], &items[place + 1..], true),
        Err(place) => (&items[..place], &items[place..], false),
    }
}

impl fmt::Debug for Lookup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl<V> Default for Table<V> {
    fn default() -> Self {
        Self { branches: Arc::default(), len: 0 }
    }
}

impl<V> fmt::Debug for Table<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Table of {}", self.len)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::{
        super::{Consumer, Credential, Proof},
        *,
    };

    fn credential(n: usize) -> Credential {
        let consumer = Arc::new(Consumer { name: n.to_string().into(), groups: Box::default() });
        Credential { consumer, id: "1".into(), expires: u64::MAX, proof: Proof::Key }
    }

    /// Digests of which many share a leaf.
    fn lookup(rng: &mut fastrand::Rng) -> Lookup {
        let mut bytes = [0; 32];
        bytes[0] = rng.u8(..2);
        bytes[1] = rng.u8(..2);
        bytes[2] = rng.u8(..);
        bytes[31] = rng.u8(..2);
        Lookup::from_bytes(bytes)
    }

    #[test]
    fn holds_what_a_map_holds_and_an_old_one_stays_as_it_was() {
        let mut rng = fastrand::Rng::with_seed(7);
        let (mut table, mut map) = (Table::default(), BTreeMap::new());
        let mut before = Vec::new();
        for n in 0..2000 {
            let key = lookup(&mut rng);
            if rng.u8(..3) == 0 {
                table.remove(&key);
                map.remove(&key);
            } else {
                table.insert(key, credential(n));
                map.insert(key, n.to_string());
            }
            assert_eq!(table.len(), map.len());
            if n % 500 == 0 {
                before.push((table.clone(), map.clone()));
            }
        }
        before.push((table, map));
        for (table, map) in before {
            for _ in 0..200 {
                let key = lookup(&mut rng);
                let found = table.get(&key).map(|found| found.consumer.name.to_string());
                assert_eq!(found.as_ref(), map.get(&key));
            }
        }
    }
}
