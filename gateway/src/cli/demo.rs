//! `stile demo`: sample services, sample plugins and a gateway before them, in one process.

mod services;
mod trial;

use std::{
    fs,
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, Result};
use serde_json::json;
use tempfile::TempDir;

use self::services::Sample;
use super::toolchain::{self, Build};
use crate::app::{Gateway, engine};

/// The checkout that this binary was built from; the demo builds its plugins there.
const CHECKOUT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
const PACKAGES: [&str; 3] = ["require-token", "greeting-v1", "greeting-v2"];
/// The demo's own: it guards nothing and listens on loopback.
const ADMIN_TOKEN: &str = "demo-admin-token";
const CLIENT_TOKEN: &str = "let-me-in";

/// A demo that runs.
#[derive(Debug)]
struct Demo {
    gateway: Gateway,
    services: Vec<Sample>,
    public: SocketAddr,
    admin: SocketAddr,
    /// The second version of the greeting, to be pushed.
    second: PathBuf,
    _folder: TempDir,
}

/// Stays until Ctrl-C, or with `check` tries everything itself.
pub(super) fn demo(check: bool) -> Result<ExitCode> {
    let modules = build()?;
    super::runtime()?.block_on(async {
        let demo = Demo::start(&modules, check).await?;
        demo.describe();
        let passed = if check {
            trial::run(&demo).await
        } else {
            demo.suggest();
            tokio::signal::ctrl_c().await?;
            true
        };
        demo.gateway.stop().await;
        Ok(if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    })
}

fn build() -> Result<Vec<PathBuf>> {
    let dir = Path::new(CHECKOUT);
    let dir = dir.canonicalize().with_context(|| {
        format!("the demo builds its plugins in the checkout that stile was built from, and {CHECKOUT} is gone")
    })?;
    println!("building the sample plugins");
    let toolchain = toolchain::find_or_install(&dir, &|line| eprintln!("{line}"))?;
    Ok(toolchain::build(toolchain, Build { dir: &dir, packages: &PACKAGES, target_dir: None })?)
}

impl Demo {
    /// On the well-known ports where they are free; with `any_port` on others, so as to disturb nobody.
    async fn start(modules: &[PathBuf], any_port: bool) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        for (name, module) in ["require-token.wasm", "greeting.wasm", "second.wasm"].iter().zip(modules) {
            fs::copy(module, folder.path().join(name))?;
        }
        let mut services = Vec::new();
        for (service, endpoints) in [("users", 3), ("orders", 2)] {
            for number in 1..=endpoints {
                services.push(Sample::start(service, number).await?);
            }
        }
        let (public, admin) = if any_port { (0, 0) } else { (free_or_any(8080), free_or_any(9090)) };
        let file = folder.path().join("stile.yaml");
        // JSON is YAML.
        fs::write(&file, configuration(&services, public, admin).to_string())?;
        let gateway = Gateway::start(engine, &file).await?;
        let address = |name| gateway.address(name).with_context(|| format!("{name} does not listen"));
        let (public, admin) = (address("public")?, address("admin")?);
        Ok(Self { public, admin, second: folder.path().join("second.wasm"), gateway, services, _folder: folder })
    }

    fn describe(&self) {
        println!("gateway   http://{}", self.public);
        println!("admin     http://{}  (token {ADMIN_TOKEN})", self.admin);
        for service in &self.services {
            println!("service   {} {} at {}", service.service, service.number, service.address);
        }
        println!("routes    /users/*  filters require-token, greeting  to users, in turn");
        println!("          /orders/* no filters                       to orders, in turn");
    }

    fn suggest(&self) {
        let Self { public, admin, second, .. } = self;
        println!("\ntry, and stop with Ctrl-C:\n");
        println!("# refused: no token\ncurl -i http://{public}/users/1\n");
        println!(
            "# allowed, with a greeting from a plugin\ncurl -i -H 'authorization: Bearer {CLIENT_TOKEN}' http://{public}/users/1\n"
        );
        println!("# balanced: call it twice, another endpoint answers\ncurl http://{public}/orders/7\n");
        println!("# swapped under traffic: push the greeting's second version, then call as above");
        println!(
            "curl -X PUT -H 'authorization: Bearer {ADMIN_TOKEN}' --data-binary @{} http://{admin}/v1/plugins/greeting/revisions\n",
            second.display()
        );
    }
}

fn configuration(services: &[Sample], public: u16, admin: u16) -> serde_json::Value {
    let endpoints = |name: &str| -> Vec<_> {
        let of_service = services.iter().filter(|sample| sample.service == name);
        of_service.map(|sample| json!({ "address": sample.address.to_string() })).collect()
    };
    // Enough for a build without optimisation on a busy machine, where the defaults may be too short.
    let limits = json!({ "deadline": "1s", "timeout": "30s" });
    json!({
        // One worker, so that "in turn" is seen from outside.
        "workers": 1,
        "listeners": [{ "name": "public", "address": format!("127.0.0.1:{public}") }],
        "admin": {
            "address": format!("127.0.0.1:{admin}"),
            "tokens": [{ "name": "demo", "role": "admin", "secret": ADMIN_TOKEN }],
        },
        "plugins": [
            { "name": "require-token", "file": "require-token.wasm", "limits": limits },
            { "name": "greeting", "file": "greeting.wasm", "limits": limits },
        ],
        "services": [
            { "name": "users", "endpoints": endpoints("users") },
            { "name": "orders", "endpoints": endpoints("orders") },
        ],
        "routes": [
            {
                "name": "users",
                "match": { "path": "/users/*" },
                "filters": [
                    { "plugin": "require-token", "config": { "tokens": [CLIENT_TOKEN] } },
                    { "plugin": "greeting", "config": { "name": "users" } },
                ],
                "service": "users",
            },
            { "name": "orders", "match": { "path": "/orders/*" }, "service": "orders" },
        ],
    })
}

/// This port if nothing listens there, else any.
fn free_or_any(port: u16) -> u16 {
    TcpListener::bind(("127.0.0.1", port)).map_or(0, |_| port)
}
