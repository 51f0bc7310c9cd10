//! `stile plugin new`: a folder with a plugin that builds, is tested and does something.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use thiserror::Error;

/// The SDK that this binary was built beside; it is not in a registry yet.
const SDK: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../plugin-sdk");

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
    #[error("cannot write {path}: {error}")]
    Write { path: PathBuf, error: io::Error },
}

/// Writes the folder `name` into `parent` and gives its path.
///
/// # Errors
///
/// The name is refused, the folder exists, or it cannot be written.
pub fn new(parent: &Path, name: &str, kind: Kind) -> Result<PathBuf, NewError> {
    if !is_name(name) {
        return Err(NewError::Name(name.to_owned()));
    }
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
        fs::write(&path, text.replace("{{sdk}}", &sdk(Path::new(SDK)))).map_err(failed(&path))?;
    }
    Ok(folder)
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

/// The manifest's dependency on the SDK; a JSON string is a TOML string too.
fn sdk(folder: &Path) -> String {
    match folder.canonicalize() {
        Ok(path) => format!("{{ path = {} }}", serde_json::json!(path.to_string_lossy())),
        Err(_) => format!("\"{}\"", env!("CARGO_PKG_VERSION")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_every_file_with_its_names_filled_in() {
        let parent = tempfile::tempdir().unwrap();
        let folder = new(parent.path(), "my-filter", Kind::Filter).unwrap();
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
        let error = new(parent.path(), "one", Kind::Filter).unwrap_err();
        assert_eq!(error.to_string(), format!("{} exists already", folder.display()));
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 0);
    }

    #[test]
    fn refuses_other_names() {
        let parent = tempfile::tempdir().unwrap();
        for name in ["", "1st", "-x", "A", "a_b", "a/b", "..", "a b", "é", &"a".repeat(65)] {
            assert!(matches!(new(parent.path(), name, Kind::Filter), Err(NewError::Name(_))), "{name}");
        }
        assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 0);
    }

    #[test]
    fn the_sdk_is_a_path_where_it_is_there_and_a_version_elsewhere() {
        assert!(sdk(Path::new(SDK)).starts_with("{ path = \"/"));
        assert_eq!(sdk(Path::new("/nowhere/at/all")), format!("\"{}\"", env!("CARGO_PKG_VERSION")));
    }
}
