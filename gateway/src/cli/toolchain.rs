//! How guests are built, for whoever builds them: which Rust here can target `wasm32-unknown-unknown`, and one
//! cargo call for all of them. It makes modules and never reads what is in them.

use std::{
    io,
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Stdio},
};

use serde::Deserialize;
use thiserror::Error;

const TARGET: &str = "wasm32-unknown-unknown";

/// Set by whoever develops Rust code around us, an outer cargo included, and meant for that build and not for this one.
const FOREIGN: [&str; 6] =
    ["RUSTUP_TOOLCHAIN", "CARGO", "RUSTC", "RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "CARGO_BUILD_RUSTFLAGS"];

/// Speed comes before size: 3 makes a small filter some 15 % larger than "s". Given here because cargo ignores
/// the profiles of workspace members. Names of functions stay in the module: the gateway logs those that a trap was in.
const PROFILE: [&str; 5] = ["opt-level=3", "lto=\"fat\"", "codegen-units=1", "panic=\"abort\"", "strip=\"debuginfo\""];

const DEBIAN_PACKAGES: [&str; 4] = ["rustc-web", "cargo-web", "rust-web-src", "lld-19"];
const DEBIAN_CARGO: &str = "/usr/bin/cargo";
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";
const DEBIAN_LINKER: &str = "/usr/bin/wasm-ld-19";

/// A Rust that can build guests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Toolchain {
    /// The one in use, with the target's standard library: what rustup installs.
    Prebuilt,
    /// Debian's, which has that library as source only: it is built along.
    Debian,
}

/// What one cargo call builds.
#[derive(Debug, Clone, Copy)]
pub struct Build<'a> {
    /// The folder of a package or workspace.
    pub dir: &'a Path,
    /// Names of the packages; none for what cargo takes by itself in that folder.
    pub packages: &'a [&'a str],
    /// Where to build, seen from `dir`; cargo's own choice if not given.
    pub target_dir: Option<&'a Path>,
}

#[derive(Debug, Error)]
pub enum ToolchainError {
    #[error(
        "no Rust here can build for {TARGET}: {rustup}, and {debian}\n\
         run `rustup target add {TARGET}`, or as root on Debian `apt-get update && apt-get install -y {}`",
        DEBIAN_PACKAGES.join(" ")
    )]
    Missing { rustup: String, debian: String },
    #[error("cannot run {program}: {error}")]
    Run { program: String, error: io::Error },
    #[error("cargo could not build the plugin in {dir} ({status})")]
    Cargo { dir: PathBuf, status: ExitStatus },
    #[error("{0} makes no .wasm file: its [lib] needs crate-type = [\"cdylib\"]")]
    NoModule(String),
}

/// Finds what can build guests in this folder, whose `rust-toolchain.toml` counts, or installs it, which it says.
///
/// # Errors
///
/// [`ToolchainError::Missing`], with what was tried and what would help.
pub fn find_or_install(dir: &Path, say: &dyn Fn(&str)) -> Result<Toolchain, ToolchainError> {
    prebuilt(dir, say).or_else(|rustup| debian(say).map_err(|debian| ToolchainError::Missing { rustup, debian }))
}

/// The toolchain in use, if it has the target or rustup can add it; else the reason why not.
pub fn prebuilt(dir: &Path, say: &dyn Fn(&str)) -> Result<Toolchain, String> {
    let has_target = || sysroot("rustc", dir).is_some_and(|root| root.join("lib/rustlib").join(TARGET).is_dir());
    if has_target() {
        return Ok(Toolchain::Prebuilt);
    }
    run(command("rustup", dir).args(["target", "add", TARGET]), say)?;
    if has_target() { Ok(Toolchain::Prebuilt) } else { Err("the rustc in use is not the one of rustup".to_owned()) }
}

/// Debian's toolchain, if it is there or we are root and can install it; else the reason why not.
pub fn debian(say: &dyn Fn(&str)) -> Result<Toolchain, String> {
    let root = Path::new("/");
    let is_there = || {
        let source = sysroot(DEBIAN_RUSTC, root).map(|root| root.join("lib/rustlib/src/rust/library/std"));
        [DEBIAN_CARGO, DEBIAN_LINKER].iter().all(|file| Path::new(file).exists())
            && source.is_some_and(|dir| dir.is_dir())
    };
    if is_there() {
        return Ok(Toolchain::Debian);
    }
    if !rustix::process::geteuid().is_root() {
        return Err("installing Debian's Rust takes root".to_owned());
    }
    run(command("apt-get", root).arg("update"), say)?;
    run(command("apt-get", root).args(["install", "-y"]).args(DEBIAN_PACKAGES), say)?;
    if is_there() { Ok(Toolchain::Debian) } else { Err("Debian's packages of Rust lack what a guest needs".to_owned()) }
}

/// Builds the packages in one call, whose progress goes to standard error; gives their `.wasm` files in the same order.
///
/// # Errors
///
/// Cargo cannot be run, or fails, or a package is no plugin.
pub fn build(toolchain: Toolchain, build: Build<'_>) -> Result<Vec<PathBuf>, ToolchainError> {
    let mut cargo = cargo(toolchain, build);
    let output = cargo
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| ToolchainError::Run { program: program(&cargo), error })?;
    if !output.status.success() {
        return Err(ToolchainError::Cargo { dir: build.dir.to_owned(), status: output.status });
    }
    modules(&String::from_utf8_lossy(&output.stdout), build)
}

fn cargo(toolchain: Toolchain, build: Build<'_>) -> Command {
    let mut cargo = match toolchain {
        Toolchain::Prebuilt => command("cargo", build.dir),
        Toolchain::Debian => command(DEBIAN_CARGO, build.dir),
    };
    cargo.args(["build", "--release", "--target", TARGET, "--message-format=json-render-diagnostics"]);
    cargo.args(PROFILE.iter().flat_map(|setting| ["--config".to_owned(), format!("profile.release.{setting}")]));
    cargo.args(build.packages.iter().flat_map(|package| ["--package", package]));
    if let Some(dir) = build.target_dir {
        cargo.arg("--target-dir").arg(dir);
    }
    if toolchain == Toolchain::Debian {
        // Building the standard library is unstable in cargo, hence the bootstrap.
        cargo.arg("-Zbuild-std=std,panic_abort").env("RUSTC_BOOTSTRAP", "1").env("RUSTC", DEBIAN_RUSTC);
        cargo.env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", DEBIAN_LINKER);
    }
    cargo
}

/// A line in which cargo says what it made; the lines about other things have no files.
#[derive(Deserialize)]
struct Artifact {
    package_id: String,
    target: Target,
    filenames: Vec<PathBuf>,
}

#[derive(Deserialize)]
struct Target {
    crate_types: Vec<String>,
}

impl Artifact {
    /// Of a library only: a program becomes a `.wasm` file too, but no plugin.
    fn module(self) -> Option<(String, PathBuf)> {
        let is_module = |file: &PathBuf| file.extension().is_some_and(|extension| extension == "wasm");
        let is_library = self.target.crate_types.iter().any(|kind| kind == "cdylib");
        let file = self.filenames.into_iter().find(is_module).filter(|_| is_library)?;
        Some((self.package_id, file))
    }
}

fn modules(messages: &str, build: Build<'_>) -> Result<Vec<PathBuf>, ToolchainError> {
    let artifact = |line| serde_json::from_str::<Artifact>(line).ok();
    let made: Vec<_> = messages.lines().filter_map(artifact).filter_map(Artifact::module).collect();
    if build.packages.is_empty() {
        let none = || ToolchainError::NoModule(build.dir.display().to_string());
        return if made.is_empty() { Err(none()) } else { Ok(made.into_iter().map(|(_, file)| file).collect()) };
    }
    let module = |package: &&str| {
        let found = made.iter().find(|(id, _)| package_name(id) == *package);
        found.map(|(_, file)| file.clone()).ok_or_else(|| ToolchainError::NoModule(format!("package {package}")))
    };
    build.packages.iter().map(module).collect()
}

/// The name in a package id: `…/folder#name@1.0.0`, or `…/name#1.0.0` where the folder has the same name.
fn package_name(id: &str) -> &str {
    let (url, fragment) = id.rsplit_once('#').unwrap_or((id, ""));
    match fragment.split_once('@') {
        Some((name, _)) => name,
        None => url.rsplit('/').next().unwrap_or(url),
    }
}

fn sysroot(rustc: &str, dir: &Path) -> Option<PathBuf> {
    let output =
        command(rustc, dir).args(["--print", "sysroot"]).output().ok().filter(|output| output.status.success())?;
    Some(PathBuf::from(String::from_utf8(output.stdout).ok()?.trim_end()))
}

/// Runs what installs something, its output to standard error, and gives the reason if it fails.
fn run(command: &mut Command, say: &dyn Fn(&str)) -> Result<(), String> {
    let shown = command.get_args().fold(program(command), |shown, arg| format!("{shown} {}", arg.to_string_lossy()));
    say(&format!("running `{shown}`"));
    match command.stdin(Stdio::null()).stdout(io::stderr()).status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("`{shown}` failed ({status})")),
        Err(error) => Err(format!("`{shown}` cannot be run ({error})")),
    }
}

fn program(command: &Command) -> String {
    command.get_program().to_string_lossy().into_owned()
}

fn command(program: &str, dir: &Path) -> Command {
    let mut command = Command::new(program);
    command.current_dir(dir);
    for name in FOREIGN {
        command.env_remove(name);
    }
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    const MESSAGES: &str = r#"{"reason":"compiler-artifact","package_id":"registry+https://example.org/index#serde@1.0.0","target":{"crate_types":["lib"]},"filenames":["/t/libserde.rlib"]}
{"reason":"compiler-artifact","package_id":"path+file:///p/two#0.1.0","target":{"crate_types":["bin"]},"filenames":["/t/tool.wasm"]}
{"reason":"compiler-artifact","package_id":"path+file:///p/two#0.1.0","target":{"crate_types":["cdylib","rlib"]},"filenames":["/t/two.wasm","/t/libtwo.rlib"]}
{"reason":"compiler-artifact","package_id":"path+file:///p/folder#one@0.1.0","target":{"crate_types":["cdylib"]},"filenames":["/t/libname.rlib","/t/name.wasm"]}
{"reason":"build-finished","success":true}
"#;

    fn found(packages: &[&str]) -> Result<Vec<PathBuf>, String> {
        let build = Build { dir: Path::new("/p"), packages, target_dir: None };
        modules(MESSAGES, build).map_err(|error| error.to_string())
    }

    #[test]
    fn gives_the_modules_in_the_order_of_the_packages() {
        assert_eq!(found(&["one", "two"]), Ok(vec!["/t/name.wasm".into(), "/t/two.wasm".into()]));
        assert_eq!(found(&[]), Ok(vec!["/t/two.wasm".into(), "/t/name.wasm".into()]));
    }

    #[test]
    fn names_the_package_that_makes_none() {
        let refusal = "package serde makes no .wasm file: its [lib] needs crate-type = [\"cdylib\"]";
        assert_eq!(found(&["one", "serde"]), Err(refusal.to_owned()));
    }

    #[test]
    fn what_is_missing_is_said_with_what_would_mend_it() {
        let error = ToolchainError::Missing { rustup: "no rustup".to_owned(), debian: "no root".to_owned() };
        assert_eq!(
            error.to_string(),
            "no Rust here can build for wasm32-unknown-unknown: no rustup, and no root\n\
             run `rustup target add wasm32-unknown-unknown`, or as root on Debian \
             `apt-get update && apt-get install -y rustc-web cargo-web rust-web-src lld-19`"
        );
    }

    #[test]
    fn an_outer_cargo_leaves_nothing_behind() {
        let build = Build { dir: Path::new("/p"), packages: &["one"], target_dir: Some(Path::new("/t")) };
        let cargo = cargo(Toolchain::Prebuilt, build);
        let removed: Vec<_> = cargo.get_envs().filter(|(_, value)| value.is_none()).map(|(name, _)| name).collect();
        assert!(FOREIGN.iter().all(|name| removed.contains(&name.as_ref())));
    }
}
