//! Tells when a file may have changed: written, replaced by an editor, or reached through another symlink.
//! It reads none of them; whether something did change is for the caller to find out.

use std::{
    collections::BTreeSet,
    io,
    path::{self, Component, Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::{sync::Notify, time::timeout};

use super::{include::Pattern, load::Sources};

/// A change is told after this long without another one, since a file is seldom written in one go …
const QUIET: Duration = Duration::from_millis(100);
/// … but no later than this.
const PATIENCE: Duration = Duration::from_secs(1);
/// Symlinks that are followed from one path, as many as Linux does.
const MAX_LINKS: usize = 40;

#[derive(Debug)]
pub struct Watch {
    sources: Sources,
    watcher: RecommendedWatcher,
    wake: Arc<Notify>,
    /// Something may have happened that `changed` has not told yet; kept here so that its future may be dropped.
    pending: bool,
}

#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    #[error("cannot make {} absolute: {source}", path.display())]
    Path { path: PathBuf, source: io::Error },
    #[error("cannot watch for changes of files: {0}")]
    Start(#[source] notify::Error),
    /// Mostly the system's limit of watches. Polling instead would cost for ever what one setting repairs.
    #[error("cannot watch folder {}: {source}", folder.display())]
    Folder { folder: PathBuf, source: notify::Error },
}

impl Watch {
    /// Watches files, which need not exist. What happened before is not known, so `changed` tells of a change at first.
    pub fn new(sources: &Sources) -> Result<Self, WatchError> {
        let wake = Arc::new(Notify::new());
        let watcher = watcher(sources, wake.clone())?;
        Ok(Self { sources: sources.clone(), watcher, wake, pending: true })
    }

    /// Watches other files from now on, as if anew; after an error it is still the old ones.
    pub fn set(&mut self, sources: &Sources) -> Result<(), WatchError> {
        self.watcher = watcher(sources, self.wake.clone())?;
        self.sources = sources.clone();
        self.pending = true;
        Ok(())
    }

    /// Waits until something about one of the files may have changed. Nothing is lost when the future is dropped.
    pub async fn changed(&mut self) -> Result<(), WatchError> {
        if !self.pending {
            self.wake.notified().await;
            self.pending = true;
        }
        let settled = async { while timeout(QUIET, self.wake.notified()).await.is_ok() {} };
        _ = timeout(PATIENCE, settled).await;
        self.pending = false;
        // Symlinks may lead elsewhere now. The new watch stands before the caller reads: no change falls between.
        self.watcher = watcher(&self.sources, self.wake.clone())?;
        Ok(())
    }
}

/// What events are looked through for, without a symlink on the way.
#[derive(Debug, Default)]
struct Entries {
    exact: BTreeSet<PathBuf>,
    /// Folders, and the names that matter in them.
    patterns: Vec<Pattern>,
}

fn watcher(sources: &Sources, wake: Arc<Notify>) -> Result<RecommendedWatcher, WatchError> {
    let absolute =
        |path: &Path| path::absolute(path).map_err(|source| WatchError::Path { path: path.to_owned(), source });
    let mut entries = Entries::default();
    for file in &sources.files {
        follow(&absolute(file)?, MAX_LINKS, &mut entries.exact);
    }
    for pattern in &sources.patterns {
        let folder = follow(&absolute(pattern.folder())?, MAX_LINKS, &mut entries.exact);
        entries.patterns.push(pattern.of_folder(folder));
    }
    let folders = entries.exact.iter().filter_map(|entry| existing_folder(entry));
    let of_patterns = entries.patterns.iter().map(Pattern::folder).filter(|folder| folder.is_dir());
    let folders: BTreeSet<PathBuf> = folders.chain(of_patterns).map(Path::to_owned).collect();
    let tell = move |event: notify::Result<Event>| {
        if event.map_or(true, |event| entries.concern(&event)) {
            wake.notify_one();
        }
    };
    let mut watcher = notify::recommended_watcher(tell).map_err(WatchError::Start)?;
    for folder in folders {
        watcher.watch(&folder, RecursiveMode::NonRecursive).map_err(|source| WatchError::Folder { folder, source })?;
    }
    Ok(watcher)
}

/// Collects the folder entries that decide what a path leads to: each symlink on the way, and the end. A Kubernetes
/// ConfigMap is such a way: its `stile.yaml` leads to `..data/stile.yaml`, and `..data` to a folder that is replaced.
/// The end comes back.
fn follow(path: &Path, links: usize, entries: &mut BTreeSet<PathBuf>) -> PathBuf {
    let mut walked = PathBuf::new();
    let mut components = path.components();
    while let Some(component) = components.next() {
        match component {
            Component::ParentDir => _ = walked.pop(),
            component => walked.push(component),
        }
        if let Some(left) = links.checked_sub(1)
            && let Ok(target) = walked.read_link()
        {
            entries.insert(walked.clone());
            walked.pop();
            return follow(&walked.join(target).join(components.as_path()), left, entries);
        }
    }
    entries.insert(walked.clone());
    walked
}

/// Where the news of an entry arrive: in the nearest folder above it that exists.
fn existing_folder(entry: &Path) -> Option<&Path> {
    entry.ancestors().skip(1).find(|folder| folder.is_dir())
}

impl Entries {
    /// Whether an event may be about one of the entries or a folder above it; mere reading is not.
    fn concern(&self, event: &Event) -> bool {
        let touched = |path: &PathBuf| {
            self.exact.iter().any(|entry| entry.starts_with(path)) || self.patterns.iter().any(|one| one.is_of(path))
        };
        !matches!(event.kind, EventKind::Access(_)) && (event.need_rescan() || event.paths.iter().any(touched))
    }
}

#[cfg(test)]
mod tests {
    use std::{env, fs, os::unix::fs::symlink, process, sync::mpsc};

    use tokio::time::Instant;

    use super::{super::include::Include, *};

    const SOON: Duration = Duration::from_secs(10);

    struct Folder(PathBuf);

    impl Folder {
        fn new(test: &str) -> Self {
            let folder = env::temp_dir().join(format!("stile-watch-{test}-{}", process::id()));
            fs::create_dir(&folder).expect("a folder of one's own");
            Self(folder.canonicalize().expect("the folder"))
        }

        fn write(&self, name: &str, content: &str) -> PathBuf {
            let file = self.0.join(name);
            fs::write(&file, content).expect("a file is written");
            file
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            _ = fs::remove_dir_all(&self.0);
        }
    }

    fn files(files: &[&Path]) -> Sources {
        Sources { files: files.iter().map(|file| (*file).to_owned()).collect(), patterns: Vec::new() }
    }

    async fn watch(file: &Path) -> Watch {
        watch_all(&files(&[file])).await
    }

    /// A watch that has told what it tells at first.
    async fn watch_all(sources: &Sources) -> Watch {
        let mut watch = Watch::new(sources).expect("a watch");
        told(&mut watch).await;
        watch
    }

    async fn told(watch: &mut Watch) {
        timeout(SOON, watch.changed()).await.expect("the change is told").expect("the watch goes on");
    }

    #[tokio::test]
    async fn tells_of_writing_replacing_removing_and_creating() {
        let folder = Folder::new("file");
        let file = folder.write("stile.yaml", "1");
        let mut watch = watch(&file).await;
        folder.write("stile.yaml", "2");
        told(&mut watch).await;
        fs::rename(folder.write("new", "3"), &file).expect("a rename");
        told(&mut watch).await;
        fs::remove_file(&file).expect("a removal");
        told(&mut watch).await;
        folder.write("stile.yaml", "4");
        told(&mut watch).await;
    }

    #[tokio::test]
    async fn tells_of_a_config_map_that_is_replaced() {
        let folder = Folder::new("config-map");
        for version in ["..1", "..2", "..3"] {
            fs::create_dir(folder.0.join(version)).expect("a folder");
            folder.write(&format!("{version}/stile.yaml"), version);
        }
        let file = folder.0.join("stile.yaml");
        symlink("..1", folder.0.join("..data")).expect("a link");
        symlink("..data/stile.yaml", &file).expect("a link");
        let mut watch = watch(&file).await;
        for version in ["..2", "..3"] {
            symlink(version, folder.0.join("..next")).expect("a link");
            fs::rename(folder.0.join("..next"), folder.0.join("..data")).expect("a rename");
            told(&mut watch).await;
        }
        folder.write("..3/stile.yaml", "in place");
        told(&mut watch).await;
    }

    #[tokio::test]
    async fn tells_of_a_file_whose_folder_comes_later() {
        let folder = Folder::new("later");
        let file = folder.0.join("a/b/stile.yaml");
        let mut watch = watch(&file).await;
        fs::create_dir(folder.0.join("a")).expect("a folder");
        told(&mut watch).await;
        fs::create_dir(folder.0.join("a/b")).expect("a folder");
        told(&mut watch).await;
        fs::write(&file, "1").expect("a file is written");
        told(&mut watch).await;
        fs::remove_dir_all(folder.0.join("a")).expect("a removal");
        told(&mut watch).await;
    }

    /// Events come in order: once there is one about `last`, those about the others have come.
    #[test]
    fn reading_and_other_files_do_not_concern() {
        let folder = Folder::new("silent");
        let (watched, last) = (folder.write("watched", "1"), folder.0.join("last"));
        let (sender, events) = mpsc::channel();
        let entries = |file: &Path| Entries { exact: BTreeSet::from([file.to_owned()]), patterns: Vec::new() };
        let mut watcher = notify::recommended_watcher(sender).expect("a watcher");
        watcher.watch(&folder.0, RecursiveMode::NonRecursive).expect("a watch");
        fs::read(&watched).expect("the file is read");
        folder.write("watched.log", "1");
        folder.write("last", "1");
        loop {
            let event = events.recv_timeout(SOON).expect("an event").expect("no error");
            assert!(!entries(&watched).concern(&event), "{event:?}");
            if entries(&last).concern(&event) {
                break;
            }
        }
    }

    #[tokio::test]
    async fn tells_of_files_that_a_pattern_names() {
        let folder = Folder::new("pattern");
        let Ok(Include::Pattern(pattern)) = Include::parse("conf.d/*.yaml", &folder.0) else { panic!("a pattern") };
        let mut watch = watch_all(&Sources { files: Vec::new(), patterns: vec![pattern] }).await;
        fs::create_dir(folder.0.join("one")).expect("a folder");
        symlink("one", folder.0.join("conf.d")).expect("a link");
        told(&mut watch).await;
        let file = folder.write("one/a.yaml", "1");
        told(&mut watch).await;
        folder.write("one/a.yaml", "2");
        told(&mut watch).await;
        fs::remove_file(file).expect("a removal");
        told(&mut watch).await;
        fs::create_dir(folder.0.join("two")).expect("a folder");
        symlink("two", folder.0.join("next")).expect("a link");
        fs::rename(folder.0.join("next"), folder.0.join("conf.d")).expect("a rename");
        told(&mut watch).await;
        folder.write("two/b.yaml", "1");
        told(&mut watch).await;
    }

    #[tokio::test]
    async fn other_files_can_be_set() {
        let folder = Folder::new("set");
        let (old, new) = (folder.write("old", "1"), folder.0.join("new"));
        let mut watch = watch(&old).await;
        watch.set(&files(&[&new])).expect("the watch goes on");
        told(&mut watch).await;
        folder.write("new", "1");
        told(&mut watch).await;
    }

    #[tokio::test(start_paused = true)]
    async fn waits_for_quiet_but_not_for_ever() {
        let folder = Folder::new("quiet");
        let mut watch = watch(&folder.write("file", "1")).await;
        let wake = watch.wake.clone();
        let start = Instant::now();
        wake.notify_one();
        watch.changed().await.expect("the watch goes on");
        assert_eq!(start.elapsed(), QUIET);

        let start = Instant::now();
        let busy = async {
            loop {
                wake.notify_one();
                tokio::time::sleep(QUIET / 2).await;
            }
        };
        tokio::select! {
            changed = watch.changed() => changed.expect("the watch goes on"),
            () = busy => {}
        }
        assert_eq!(start.elapsed(), PATIENCE);
    }

    #[tokio::test(start_paused = true)]
    async fn loses_nothing_when_its_future_is_dropped() {
        let folder = Folder::new("dropped");
        let mut watch = watch(&folder.write("file", "1")).await;
        watch.wake.notify_one();
        assert!(timeout(QUIET / 2, watch.changed()).await.is_err());
        told(&mut watch).await;
    }

    #[test]
    fn links_in_a_circle_end() {
        let folder = Folder::new("circle");
        symlink("b", folder.0.join("a")).expect("a link");
        symlink("a", folder.0.join("b")).expect("a link");
        let mut entries = BTreeSet::new();
        follow(&folder.0.join("a"), MAX_LINKS, &mut entries);
        assert_eq!(entries, BTreeSet::from([folder.0.join("a"), folder.0.join("b")]));
    }
}
