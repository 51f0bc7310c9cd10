//! `stile plugin new`: a folder with a plugin that builds, is tested and does something.

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
};

use serde_json::json;
use thiserror::Error;

/// Where the SDK is while it is in no registry.
const REPOSITORY: &str = env!("CARGO_PKG_REPOSITORY");
/// The folder of the SDK in a checkout of that repository.
const IN_CHECKOUT: &str = "plugin-sdk";

/// Those of every plugin, and what is in them.
const MANIFEST: &str = include_str!("../templates/manifest.toml");
const GITIGNORE: &str = include_str!("../templates/gitignore");

/// What a plugin is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Kind {
    /// Decides on requests, responses or both.
    #[default]
    Filter,
    /// Tells who calls, or refuses.
    Auth,
    /// Chooses the route or the service of a request.
    Router,
    /// Chooses among the endpoints of a service.
    Balancer,
}

#[derive(Debug, Error)]
pub enum NewError {
    #[error("{0:?} is no name for a plugin: it takes lower-case letters, digits and \"-\", a letter first, 64 at most")]
    Name(String),
    #[error("{0} exists already")]
    Exists(PathBuf),
    #[error("{0} is not the folder of stile-sdk: it has no Cargo.toml of a package of that name")]
    NoSdk(PathBuf),
    #[error("cannot write {path}: {error}")]
    Write { path: PathBuf, error: io::Error },
}

/// A new plugin.
#[derive(Debug)]
pub struct New {
    pub folder: PathBuf,
    /// Where it takes the SDK from.
    pub sdk: Sdk,
}

/// Where a plugin takes the SDK from.
#[derive(Debug, PartialEq, Eq)]
pub enum Sdk {
    /// A folder, as seen from the plugin's own.
    Folder(PathBuf),
    /// The URL of a git repository.
    Git(String),
}

/// Writes the folder `name` into `parent`. `sdk` names the SDK's folder or a git repository; without it the SDK is that of the
/// checkout that `parent` is in, or else of the project's repository.
///
/// # Errors
///
/// The name is refused, the folder exists or cannot be written, or `sdk` is a folder without the SDK.
pub fn new(parent: &Path, name: &str, kind: Kind, sdk: Option<&str>) -> Result<New, NewError> {
    if !is_name(name) {
        return Err(NewError::Name(name.to_owned()));
    }
    let sdk = match sdk {
        Some(url) if url.contains("://") => Sdk::Git(url.to_owned()),
        Some(text) => match as_ssh_url(text) {
            Some(url) => Sdk::Git(url),
            None => Sdk::in_folder(parent, Path::new(text))?,
        },
        None => Sdk::around(parent).unwrap_or_else(|| Sdk::Git(REPOSITORY.to_owned())),
    };
    let folder = parent.join(name);
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |error: io::Error| match error.kind() {
            io::ErrorKind::AlreadyExists => NewError::Exists(path),
            _ => NewError::Write { path, error },
        }
    };
    fs::create_dir(&folder).map_err(failed(&folder))?;
    fs::create_dir(folder.join("src")).map_err(failed(&folder))?;
    for (file, template) in kind.files() {
        let path = folder.join(file);
        let text = template.replace("{{name}}", name).replace("{{module}}", &name.replace('-', "_"));
        fs::write(&path, text.replace("{{sdk}}", &sdk.dependency())).map_err(failed(&path))?;
    }
    Ok(New { folder, sdk })
}

impl Sdk {
    /// A folder that `parent` sees, as the plugin's folder in it sees that.
    fn in_folder(parent: &Path, folder: &Path) -> Result<Self, NewError> {
        if !is_sdk(&parent.join(folder)) {
            return Err(NewError::NoSdk(folder.to_owned()));
        }
        // An absolute one stays as it is.
        Ok(Self::Folder(Path::new("..").join(folder)))
    }

    /// The SDK of the checkout that `parent` is in.
    fn around(parent: &Path) -> Option<Self> {
        let parent = parent.canonicalize().ok()?;
        let up = parent.ancestors().position(|folder| is_sdk(&folder.join(IN_CHECKOUT)))?;
        let root: PathBuf = (0..=up).map(|_| "..").collect();
        Some(Self::Folder(root.join(IN_CHECKOUT)))
    }

    /// The manifest's dependency on it; a JSON string is a TOML string too.
    fn dependency(&self) -> String {
        match self {
            Self::Folder(path) => format!("{{ path = {} }}", json!(path.to_string_lossy())),
            Self::Git(url) => format!("{{ git = {} }}", json!(url)),
        }
    }
}

impl fmt::Display for Sdk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(path) => path.display().fmt(f),
            Self::Git(url) => f.write_str(url),
        }
    }
}

/// The URL of a repository that is written as git and ssh take it, such as `git@example.org:owner/name`: cargo takes URLs only.
fn as_ssh_url(text: &str) -> Option<String> {
    let (user_and_host, path) = text.split_once(':')?;
    let (user, host) = user_and_host.split_once('@')?;
    let is_whole = !user.is_empty() && !host.is_empty() && !user_and_host.contains('/') && !path.is_empty();
    is_whole.then(|| format!("ssh://{user_and_host}/{}", path.trim_start_matches('/')))
}

fn is_sdk(folder: &Path) -> bool {
    fs::read_to_string(folder.join("Cargo.toml")).is_ok_and(|text| text.contains("name = \"stile-sdk\""))
}

impl Kind {
    /// The files of such a plugin, and what is in them.
    fn files(self) -> [(&'static str, &'static str); 4] {
        macro_rules! of {
            ($folder:literal) => {
                (
                    include_str!(concat!("../templates/", $folder, "/readme.md")),
                    include_str!(concat!("../templates/", $folder, "/lib.rs")),
                )
            };
        }
        let (readme, code) = match self {
            Self::Filter => of!("filter"),
            Self::Auth => of!("auth"),
            Self::Router => of!("router"),
            Self::Balancer => of!("balancer"),
        };
        [("Cargo.toml", MANIFEST), ("README.md", readme), (".gitignore", GITIGNORE), ("src/lib.rs", code)]
    }
}

fn is_name(name: &str) -> bool {
    name.len() <= 64
        && name.starts_with(|first: char| first.is_ascii_lowercase())
        && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_every_file_with_its_names_filled_in() {
        let parent = tempfile::tempdir().unwrap();
        let folder = new(parent.path(), "my-filter", Kind::Filter, None).unwrap().folder;
        for (file, _) in Kind::Filter.files() {
            let text = fs::read_to_string(folder.join(file)).unwrap();
            assert!(!text.contains("{{"), "{file}");
        }
        assert!(fs::read_to_string(folder.join("Cargo.toml")).unwrap().contains("name = \"my-filter\""));
        assert!(fs::read_to_string(folder.join("README.md")).unwrap().contains("my_filter.wasm"));
    }

    #[test]
    fn leaves_an_existing_folder_alone() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("one");
        fs::create_dir(&folder).unwrap();
        let error = new(parent.path(), "one", Kind::Filter, None).unwrap_err();
        assert_eq!(error.to_string(), format!("{} exists already", folder.display()));
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 0);
    }

    #[test]
    fn refuses_other_names() {
        let parent = tempfile::tempdir().unwrap();
        for name in ["", "1st", "-x", "A", "a_b", "a/b", "..", "a b", "é", &"a".repeat(65)] {
            assert!(matches!(new(parent.path(), name, Kind::Filter, None), Err(NewError::Name(_))), "{name}");
        }
        assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 0);
    }

    /// The line of the manifest that names the SDK.
    fn dependency(parent: &Path, name: &str, sdk: Option<&str>) -> String {
        let folder = new(parent, name, Kind::Filter, sdk).unwrap().folder;
        let manifest = fs::read_to_string(folder.join("Cargo.toml")).unwrap();
        manifest.lines().find(|line| line.starts_with("stile-sdk")).unwrap().to_owned()
    }

    #[test]
    fn the_sdk_is_what_works_where_the_author_stands() {
        let home = tempfile::tempdir().unwrap();
        let elsewhere = dependency(home.path(), "one", None);
        assert_eq!(elsewhere, "stile-sdk = { git = \"https://github.com/stile-gateway/stile\" }");
        let forked = dependency(home.path(), "two", Some("ssh://git@example.org/stile"));
        assert_eq!(forked, "stile-sdk = { git = \"ssh://git@example.org/stile\" }");
        let short = dependency(home.path(), "short", Some("git@example.org:owner/stile.git"));
        assert_eq!(short, "stile-sdk = { git = \"ssh://git@example.org/owner/stile.git\" }");

        let (sdk, plugins) = (home.path().join("stile/plugin-sdk"), home.path().join("stile/a/b"));
        fs::create_dir_all(&sdk).unwrap();
        fs::create_dir_all(&plugins).unwrap();
        fs::write(sdk.join("Cargo.toml"), "[package]\nname = \"stile-sdk\"\n").unwrap();
        assert_eq!(dependency(&plugins, "three", None), "stile-sdk = { path = \"../../../plugin-sdk\" }");
        let named = dependency(home.path(), "four", Some("stile/plugin-sdk"));
        assert_eq!(named, "stile-sdk = { path = \"../stile/plugin-sdk\" }");
        assert!(home.path().join("four/../stile/plugin-sdk").is_dir(), "seen from the plugin");
        let absolute = dependency(home.path(), "five", sdk.to_str());
        assert_eq!(absolute, format!("stile-sdk = {{ path = {:?} }}", sdk.display().to_string()));
        let error = new(home.path(), "six", Kind::Filter, Some("stile")).unwrap_err();
        assert_eq!(
            error.to_string(),
            "stile is not the folder of stile-sdk: it has no Cargo.toml of a package of that name"
        );
    }
}
