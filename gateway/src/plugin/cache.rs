//! Compiled modules on disk, by the digest of what they were compiled from. It is machine code that is run as it is, so each file
//! says with a MAC that this gateway wrote it: what anybody else wrote or changed is compiled anew. It never fails a load.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::SystemTime,
};

use aws_lc_rs::hmac;
use wasmtime::component::Component;

use super::loader::Digest256;

/// Files that are kept; the one that was used longest ago gives way to a new one.
const KEPT: usize = 64;
/// Bytes of the MAC before the module.
const TAG: usize = 32;
/// What the MAC is about, so that no other use of the key makes one; another number when modules are compiled otherwise.
const ABOUT: &[u8] = b"stile compiled module 2\0";

#[derive(Debug)]
pub struct Cache {
    folder: PathBuf,
    key: hmac::Key,
}

impl Cache {
    /// Bytes of a key, which only the gateway may know.
    pub const KEY: usize = 32;

    /// In this folder, which is made if it is missing.
    pub fn open(folder: PathBuf, key: &[u8; Self::KEY]) -> io::Result<Self> {
        fs::create_dir_all(&folder)?;
        Ok(Self { folder, key: hmac::Key::new(hmac::HMAC_SHA256, key) })
    }

    /// What was compiled of it before, by this very engine.
    pub(super) fn get(&self, engine: &wasmtime::Engine, sha256: Digest256) -> Option<Component> {
        let file = self.file(sha256);
        let bytes = fs::read(&file).ok()?;
        let (tag, module) = bytes.split_at_checked(TAG)?;
        if hmac::verify(&self.key, &about(sha256, module), tag).is_err() {
            tracing::warn!("{} was not written by this gateway: the module is compiled again", file.display());
            return None;
        }
        let component = deserialize(engine, module)?;
        // How long ago it was used decides what gives way.
        let _ = fs::File::options().append(true).open(&file).and_then(|file| file.set_modified(SystemTime::now()));
        Some(component)
    }

    /// Keeps what was compiled.
    pub(super) fn put(&self, sha256: Digest256, component: &Component) {
        let written = component.serialize().map_err(io::Error::other).and_then(|module| {
            let tag = hmac::sign(&self.key, &about(sha256, &module));
            let (file, draft) = (self.file(sha256), self.folder.join(format!("{sha256}.draft")));
            fs::write(&draft, [tag.as_ref(), &module].concat())?;
            fs::rename(&draft, &file)?;
            self.prune()
        });
        if let Err(error) = written {
            tracing::warn!("{} cannot be written: {error}", self.folder.display());
        }
    }

    fn prune(&self) -> io::Result<()> {
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            if entry.path().extension().is_some_and(|extension| extension == "module") {
                files.push((entry.metadata()?.modified()?, entry.path()));
            }
        }
        files.sort();
        let surplus = files.len().saturating_sub(KEPT);
        files[..surplus].iter().try_for_each(|(_, file)| fs::remove_file(file))
    }

    fn file(&self, sha256: Digest256) -> PathBuf {
        self.folder.join(Path::new(&sha256.to_string())).with_extension("module")
    }
}

fn about(sha256: Digest256, module: &[u8]) -> Vec<u8> {
    [ABOUT, sha256.as_bytes(), module].concat()
}

/// None if another version of the engine, or one with other settings, has compiled it.
#[expect(unsafe_code, reason = "machine code is run as it is: its MAC says that this gateway has compiled it")]
fn deserialize(engine: &wasmtime::Engine, module: &[u8]) -> Option<Component> {
    // SAFETY: these are the bytes whose MAC was just verified, and only what `Component::serialize` gave gets one.
    unsafe { Component::deserialize(engine, module) }.ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugin::{Bounds, Engine, Module};

    /// A component that exports one phase and does nothing in it.
    const PLUGIN: &str = include_str!("tick.wat");

    struct Bench {
        engine: Engine,
        folder: tempfile::TempDir,
        plugin: Vec<u8>,
    }

    impl Bench {
        fn new() -> Self {
            let bounds =
                Bounds { instances: 1, memory: 1 << 20, table_elements: 100, core_instances: 16, ..Bounds::default() };
            let engine = Engine::new(bounds).expect("an engine");
            let plugin = wat::parse_str(PLUGIN).expect("a component");
            Self { engine, folder: tempfile::tempdir().expect("a folder"), plugin }
        }

        fn cache(&self, key: u8) -> Cache {
            Cache::open(self.folder.path().to_owned(), &[key; Cache::KEY]).expect("the folder is ours")
        }

        fn load(&self, cache: &Cache) -> Module {
            let sha256 = Digest256::of(&self.plugin);
            Module::load(&self.engine, &self.plugin, sha256, Some(cache)).expect("a plugin")
        }

        fn is_cached(&self, cache: &Cache) -> bool {
            cache.get(&self.engine.wasm, Digest256::of(&self.plugin)).is_some()
        }

        fn file(&self) -> PathBuf {
            self.cache(1).file(Digest256::of(&self.plugin))
        }
    }

    #[test]
    fn what_was_compiled_is_found_again_and_is_the_same() {
        let bench = Bench::new();
        let cache = bench.cache(1);
        assert!(!bench.is_cached(&cache));
        let first = bench.load(&cache);
        assert!(bench.is_cached(&cache));
        let again = bench.load(&bench.cache(1));
        assert_eq!((first.phases(), first.sha256()), (vec!["tick"], again.sha256()));
        assert_eq!((first.phases(), first.imports()), (again.phases(), again.imports()));
    }

    #[test]
    fn what_others_wrote_or_changed_is_compiled_anew() {
        let bench = Bench::new();
        let cache = bench.cache(1);
        bench.load(&cache);
        let good = fs::read(bench.file()).expect("it was written");
        assert!(!bench.is_cached(&bench.cache(2)), "by another gateway");
        for at in [0, TAG - 1, TAG, good.len() / 2, good.len() - 1] {
            let mut bad = good.clone();
            bad[at] ^= 1;
            fs::write(bench.file(), bad).expect("the folder is ours");
            assert!(!bench.is_cached(&cache), "byte {at}");
        }
        for bad in [&b""[..], &good[..TAG], &good[..good.len() - 1], &good[1..]] {
            fs::write(bench.file(), bad).expect("the folder is ours");
            assert!(!bench.is_cached(&cache));
        }
        // Of another module.
        fs::write(bench.file(), &good).expect("the folder is ours");
        let other = cache.file(Digest256::of(b"other"));
        fs::rename(bench.file(), other).expect("the folder is ours");
        assert!(cache.get(&bench.engine.wasm, Digest256::of(b"other")).is_none());
        bench.load(&cache);
        assert!(bench.is_cached(&cache), "it is written again");
    }

    #[test]
    fn only_so_many_are_kept_the_last_used() {
        let bench = Bench::new();
        let cache = bench.cache(1);
        bench.load(&cache);
        let long_ago = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1);
        for n in 0..KEPT {
            let file = cache.file(Digest256::of(&[u8::try_from(n).expect("a small number")]));
            fs::write(&file, "old").expect("the folder is ours");
            let file = fs::File::options().append(true).open(file).expect("it is there");
            file.set_modified(long_ago).expect("it is ours");
        }
        cache.prune().expect("the folder is ours");
        let left = fs::read_dir(bench.folder.path()).expect("the folder is ours").count();
        assert_eq!((left, bench.is_cached(&cache)), (KEPT, true));
    }
}
