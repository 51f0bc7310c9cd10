//! The command line: arguments to calls, results to text or JSON, errors to exit codes. One file per subcommand.

pub mod check;
pub mod client;
pub mod consumer;
pub mod demo;
pub mod endpoint;
pub mod explain;
pub mod generation;
pub mod grant;
pub mod plugin;
pub mod resource;
pub mod run;
pub mod schema;
mod table;
mod target;
pub mod toolchain;
pub mod transfer;
pub mod usage;

use std::{
    io::{self, ErrorKind, IsTerminal, Write, stdout},
    path::PathBuf,
    process::ExitCode,
};

use anyhow::Result;
use clap::{Args, Parser, Subcommand};

use resource::Noun;
pub use target::Target;

/// A programmable HTTP gateway whose filters are WebAssembly plugins.
#[derive(Debug, Parser)]
#[command(name = "stile", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a gateway until Ctrl-C or SIGTERM.
    Run(ConfigFile),
    /// Say everything that is wrong with a configuration.
    Check {
        #[command(flatten)]
        file: ConfigFile,
        /// Print `{"errors":[…]}`.
        #[arg(long)]
        json: bool,
    },
    /// Say which route of a configuration file a request takes, what follows from it, and why no other route has it.
    Explain(explain::Arguments),
    /// Print the JSON Schema of a configuration file, for editors.
    Schema,
    /// Run sample services and a gateway before them, to try things out.
    Demo {
        /// Try everything, print each result, and exit.
        #[arg(long)]
        check: bool,
    },
    /// List, get, put and delete the services of a running gateway.
    #[command(subcommand)]
    Service(resource::Command),
    /// List, drain, restore and delete the endpoints of a service of a running gateway.
    #[command(subcommand)]
    Endpoint(endpoint::Command),
    /// List, get, put and delete the routes of a running gateway.
    #[command(subcommand)]
    Route(resource::Command),
    /// List, get, put and delete the APIs of a running gateway, each with its versions.
    #[command(subcommand)]
    Api(resource::Command),
    /// Make, build, check and push plugins; list, get, put and delete those of a running gateway.
    #[command(subcommand)]
    Plugin(plugin::Command),
    /// List, get, put and delete the consumers of a running gateway, and give them credentials and grants.
    #[command(subcommand)]
    Consumer(consumer::Command),
    /// List the groups of consumers of a running gateway, and what they may use.
    #[command(subcommand)]
    Group(grant::Group),
    /// Say how much consumers have used the APIs of a running gateway, by day.
    Usage(usage::Arguments),
    /// List the generations of a running gateway, compare with one, bring one back.
    #[command(subcommand)]
    Generation(generation::Command),
    /// Print what the store of a running gateway adds to its file, in the form of the file.
    Export(transfer::Export),
    /// Make the store of a running gateway hold what a file has: all of it or nothing.
    Import(transfer::Import),
}

#[derive(Debug, Args)]
pub struct ConfigFile {
    /// The configuration file.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

/// Runs the command line. 0 is done, 1 is refused or failed, 2 is wrong usage. `release` gives memory that the calling thread
/// has freed back to the system.
pub fn main(release: fn()) -> ExitCode {
    let cli = Cli::parse();
    log_to_stderr();
    let done = match cli.command {
        Command::Run(file) => run::run(&file.config, release),
        Command::Check { file, json } => check::check(&file.config, json),
        Command::Explain(arguments) => explain::explain(arguments),
        Command::Schema => schema::schema(),
        Command::Demo { check } => demo::demo(check),
        Command::Service(command) => resource::run(Noun::Service, command),
        Command::Endpoint(command) => endpoint::endpoint(command),
        Command::Route(command) => resource::run(Noun::Route, command),
        Command::Api(command) => resource::run(Noun::Api, command),
        Command::Plugin(command) => plugin::plugin(command),
        Command::Consumer(command) => consumer::consumer(command),
        Command::Group(command) => grant::group(command),
        Command::Usage(arguments) => usage::usage(&arguments),
        Command::Generation(command) => generation::generation(command),
        Command::Export(arguments) => transfer::export(arguments),
        Command::Import(arguments) => transfer::import(arguments),
    };
    match done {
        Ok(code) => code,
        Err(error) => {
            eprintln!("stile: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Prints; whoever has seen enough of it may leave.
fn print(text: &str) -> Result<()> {
    match stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        written => Ok(written?),
    }
}

/// `RUST_LOG` says what is logged; without it, what an operator should see.
fn log_to_stderr() {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    let colours = io::stderr().is_terminal();
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).with_ansi(colours).init();
}

/// The runtime of the control plane, or of a command that waits for something.
fn runtime() -> io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).thread_name("stile-control").enable_all().build()
}
