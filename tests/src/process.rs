//! The built `stile` binary as a process, driven from outside only.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Output, Stdio},
    time::Duration,
};

use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{Child, ChildStdout, Command},
};

use crate::{admin::Admin, gateway, wait::soon};

/// `stile run` with its sockets open; killed when dropped.
#[derive(Debug)]
pub struct Stile {
    child: Child,
    addresses: Vec<(String, SocketAddr)>,
    /// Standard output, which is open, and which nobody reads any more.
    _unread: Option<Lines<BufReader<ChildStdout>>>,
}

impl Stile {
    /// Runs one with a configuration written to this folder as `gateway::write` does.
    pub async fn run(folder: &Path, config: Value) -> Self {
        gateway::write(folder, config);
        Self::start(folder, &[]).await
    }

    /// Runs one with the `stile.yaml` that is in this folder, and with these environment variables.
    pub async fn start(folder: &Path, environment: &[(&str, &str)]) -> Self {
        let mut command = command();
        command.args(["run", "--config"]).arg(folder.join("stile.yaml")).env("RUST_LOG", "off");
        command.envs(environment.iter().copied());
        Self::announced(command).await
    }

    /// Runs one whose folder `store` is a file system of its own with so many bytes; takes the right to mount one.
    pub async fn run_with_disk(folder: &Path, config: Value, bytes: u64) -> Self {
        let file = gateway::write(folder, config);
        let store = folder.join("store");
        fs::create_dir_all(&store).expect("the folder is ours");
        let mut command = Command::new("unshare");
        command.kill_on_drop(true).stdin(Stdio::null()).env("RUST_LOG", "off").args(["--mount", "sh", "-c"]);
        command.arg(format!("mount -t tmpfs -o size={bytes} none \"$0\" && exec \"$1\" run --config \"$2\""));
        Self::announced({
            command.arg(store).arg(binary()).arg(file);
            command
        })
        .await
    }

    /// Runs one with these soft and hard limits of open files, and its warnings written to `log`.
    pub async fn run_with_files(folder: &Path, config: Value, limits: (u32, u32), log: Stdio) -> Self {
        let mut command = limited(limits);
        command.arg("run").arg("--config").arg(gateway::write(folder, config)).stderr(log).env("RUST_LOG", "warn");
        Self::announced(command).await
    }

    /// A path as this process sees it.
    pub fn sees(&self, path: &Path) -> PathBuf {
        let id = self.child.id().expect("it is running");
        Path::new(&format!("/proc/{id}/root")).join(path.strip_prefix("/").expect("a whole path"))
    }

    /// Runs one with a configuration, and its log in this file.
    pub async fn run_logging(folder: &Path, config: Value, log: &Path) -> Self {
        let file = gateway::write(folder, config);
        let mut command = command();
        // Compilers write gigabytes.
        let levels = "trace,cranelift=off,regalloc2=off,wasmtime=off";
        command.args(["run", "--config"]).arg(file).env("RUST_LOG", levels);
        command.stderr(fs::File::create(log).expect("the folder is ours"));
        Self::announced(command).await
    }

    /// Runs one whose standard output and error are pipes that nobody reads once it serves.
    pub async fn run_unread(folder: &Path, config: Value) -> Self {
        let file = gateway::write(folder, config);
        let mut command = command();
        command.args(["run", "--config"]).arg(file).env("RUST_LOG", "info").stderr(Stdio::piped());
        let (mut stile, lines) = Self::started(command).await;
        stile._unread = Some(lines);
        stile
    }

    /// Waits until it has told the addresses of its sockets, the admin one last.
    async fn announced(command: Command) -> Self {
        Self::started(command).await.0
    }

    async fn started(mut command: Command) -> (Self, Lines<BufReader<ChildStdout>>) {
        let mut child = command.stdout(Stdio::piped()).spawn().expect("the binary runs");
        let mut lines = BufReader::new(child.stdout.take().expect("a piped output")).lines();
        let mut addresses = Vec::new();
        while !addresses.iter().any(|(name, _)| name == "admin") {
            let line = soon("the gateway tells its addresses", lines.next_line()).await;
            let line = line.expect("text").expect("the gateway tells its admin address before it ends");
            let (name, address) = parse(&line).unwrap_or_else(|| panic!("{line:?} names no socket"));
            addresses.push((name, address));
        }
        (Self { child, addresses, _unread: None }, lines)
    }

    pub fn address(&self) -> SocketAddr {
        self.address_of("public")
    }

    pub fn address_of(&self, name: &str) -> SocketAddr {
        let found = self.addresses.iter().find(|(known, _)| known == name);
        found.unwrap_or_else(|| panic!("no socket \"{name}\" was told")).1
    }

    pub fn admin(&self) -> Admin {
        Admin(self.address_of("admin"))
    }

    /// SIGKILL, and waits until it is gone.
    pub async fn kill(mut self) {
        soon("the killed process ends", self.child.kill()).await.expect("it was running");
    }

    /// SIGTERM.
    pub async fn terminate(&self) {
        self.signal("-TERM").await;
    }

    /// Sends a signal, such as `-HUP`.
    pub async fn signal(&self, signal: &str) {
        let id = self.child.id().expect("it is running");
        let done = Command::new("kill").args([signal, &id.to_string()]).status().await;
        assert!(done.expect("kill is there").success());
    }

    /// Waits for its end and gives the exit code.
    pub async fn ended(mut self) -> Option<i32> {
        soon("the process ends", self.child.wait()).await.expect("it can be waited for").code()
    }

    /// How long its workers have been ready to run in all, but were given no CPU: none where the kernel does not tell.
    pub fn waited_for_cpu(&self) -> Duration {
        let waited = |thread: &Path| {
            let name = fs::read_to_string(thread.join("comm")).ok()?;
            let times = fs::read_to_string(thread.join("schedstat")).ok()?;
            let waited = times.split_whitespace().nth(1)?.parse().ok()?;
            name.starts_with("stile-worker").then(|| Duration::from_nanos(waited))
        };
        self.threads().iter().filter_map(|thread| waited(thread)).sum()
    }

    /// The CPU time that its threads have had: none where the kernel does not tell.
    pub fn cpu(&self) -> Duration {
        let spent = |thread: &Path| {
            let times = fs::read_to_string(thread.join("schedstat")).ok()?;
            times.split_whitespace().next()?.parse().ok().map(Duration::from_nanos)
        };
        self.threads().iter().filter_map(|thread| spent(thread)).sum()
    }

    /// The folders of its threads in `/proc`.
    pub fn threads(&self) -> Vec<PathBuf> {
        let folder = format!("/proc/{}/task", self.child.id().expect("it is running"));
        fs::read_dir(folder).expect("Linux tells").filter_map(|thread| Some(thread.ok()?.path())).collect()
    }

    /// Files and sockets that it has open.
    pub fn descriptors(&self) -> usize {
        let folder = format!("/proc/{}/fd", self.child.id().expect("it is running"));
        fs::read_dir(folder).expect("Linux tells").count()
    }

    /// The niceness of each of its threads that has this name.
    pub fn niceness(&self, name: &str) -> Vec<i32> {
        // A thread may end meanwhile.
        let stats = self.threads().into_iter().filter_map(|thread| fs::read_to_string(thread.join("stat")).ok());
        let niceness = |stat: String| {
            // proc(5): the name in parentheses, and the niceness 17 fields behind it.
            let (before, fields) = stat.rsplit_once(") ")?;
            let is_named = before.split_once('(')?.1 == name;
            is_named.then(|| fields.split(' ').nth(16)?.parse().ok())?
        };
        stats.filter_map(niceness).collect()
    }

    /// A line of `/proc/PID/status`, in bytes: `VmRSS` is the memory in use, `VmHWM` the most there ever was.
    pub fn memory(&self, line: &str) -> u64 {
        let id = self.child.id().expect("it is running");
        let status = fs::read_to_string(format!("/proc/{id}/status")).expect("Linux tells");
        let value = status.lines().find_map(|each| each.strip_prefix(line)?.strip_prefix(':'));
        let kib = value.and_then(|value| value.trim().strip_suffix(" kB")?.parse::<u64>().ok());
        kib.unwrap_or_else(|| panic!("no {line} in {status}")) << 10
    }
}

/// The binary that `cargo build` made beside this test.
pub fn binary() -> PathBuf {
    let test = std::env::current_exe().expect("this program has a path");
    let folder = test.ancestors().nth(2).expect("tests are built in target/PROFILE/deps");
    let binary = folder.join("stile");
    assert!(binary.is_file(), "{} is missing: run `cargo build -p stile-gateway` first", binary.display());
    binary
}

/// The binary, to be given arguments; killed when dropped.
pub fn command() -> Command {
    let mut command = Command::new(binary());
    command.kill_on_drop(true).env_remove("STILE_TOKEN").env_remove("RUST_LOG").stdin(Stdio::null());
    command
}

/// The binary with these soft and hard limits of open files, to be given arguments.
pub fn limited(limits: (u32, u32)) -> Command {
    let mut command = Command::new("sh");
    command.kill_on_drop(true).stdin(Stdio::null()).arg("-c");
    command.arg(format!("ulimit -Sn {} && ulimit -Hn {} && exec \"$0\" \"$@\"", limits.0, limits.1)).arg(binary());
    command
}

/// Runs the binary to its end.
pub async fn stile(args: &[&str]) -> Output {
    soon("the command ends", command().args(args).output()).await.expect("the binary runs")
}

fn parse(line: &str) -> Option<(String, SocketAddr)> {
    let (name, address) = line.strip_prefix("listening ")?.split_once(' ')?;
    Some((name.to_owned(), address.parse().ok()?))
}
