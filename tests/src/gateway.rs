//! A gateway in this process, on ports of its own, with its files in a temporary folder.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::OnceLock,
    time::SystemTime,
};

use futures_util::FutureExt;
use serde_json::{Value, json};
use stile_gateway::{
    app::{self, StartError},
    config::{Config, schema::Wasm},
    plugin::{Bounds, Engine, engine::EngineError},
};
use tempfile::TempDir;

use crate::{
    admin::{Admin, PUBLISHER, SECRET, SERVICE, VIEWER},
    client::{self, Answer},
    guest,
    wait::until,
};

static ENGINE: OnceLock<Engine> = OnceLock::new();

/// A running gateway; it stops when dropped.
#[derive(Debug)]
pub struct Gateway {
    running: Option<app::Gateway>,
    folder: TempDir,
}

impl Gateway {
    /// Starts one; what the configuration lacks of workers, a listener `public` and an admin address is added.
    pub async fn start(config: Value) -> Self {
        Self::try_start(config).await.unwrap_or_else(|error| panic!("the gateway does not start:\n{error}"))
    }

    pub async fn try_start(config: Value) -> Result<Self, StartError> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = write(folder.path(), config);
        let running = app::Gateway::start(engine_for, &file).await?;
        Ok(Self { running: Some(running), folder })
    }

    /// Where the listener `public` accepts.
    pub fn address(&self) -> SocketAddr {
        self.address_of("public")
    }

    pub fn address_of(&self, listener: &str) -> SocketAddr {
        self.app().address(listener).unwrap_or_else(|| panic!("there is no listener \"{listener}\""))
    }

    pub fn admin(&self) -> Admin {
        Admin(self.address_of("admin"))
    }

    /// Its configuration is `stile.yaml` in here.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub fn generation(&self) -> u64 {
        self.app().control().live().load().generation
    }

    /// One GET on a connection of its own.
    pub async fn get(&self, path: &str) -> Answer {
        client::fetch(self.address(), path).await
    }

    /// Writes another configuration and waits until it is live.
    pub async fn rewrite(&self, config: Value) {
        let (generation, refused) = (self.generation(), self.refused_at());
        write(self.folder(), config);
        until("the configuration is live", async || {
            let is_live = self.generation() > generation;
            if !is_live && self.refused_at().is_some_and(|at| Some(at) != refused) {
                panic!("the configuration is refused: {:?}", self.app().control().last_refused());
            }
            is_live.then_some(())
        })
        .await;
    }

    /// Writes a configuration that must be refused, and gives the reason.
    pub async fn rewrite_refused(&self, config: Value) -> String {
        let before = self.refused_at();
        write(self.folder(), config);
        let refused = async || self.app().control().last_refused().filter(|refused| Some(refused.at) != before);
        until("the configuration is refused", refused).await.message
    }

    /// Writes a configuration that goes live but for a plugin's module, and gives what is wrong with that.
    pub async fn rewrite_with_faults(&self, config: Value) -> String {
        let generation = self.generation();
        let message = self.rewrite_refused(config).await;
        assert!(self.generation() > generation, "nothing of it is live: {message}");
        message
    }

    fn refused_at(&self) -> Option<SystemTime> {
        self.app().control().last_refused().map(|refused| refused.at)
    }

    /// Drains; the number is that of connections that were cut off.
    pub async fn stop(mut self) -> usize {
        self.running.take().expect("it runs until stopped").stop().await
    }

    pub fn app(&self) -> &app::Gateway {
        self.running.as_ref().expect("it runs until stopped")
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        // The first step of stopping tells every worker; nobody waits for them here.
        let _ = self.running.take().and_then(|running| Box::pin(running.stop()).now_or_never());
    }
}

/// The one engine of this process: smaller than the gateway's own, since every slot takes address space.
pub fn engine() -> Engine {
    let bounds = Bounds { instances: 1000, memory: 64 << 20, table_elements: 20_000, ..Bounds::default() };
    ENGINE.get_or_init(|| Engine::new(bounds).expect("an engine")).clone()
}

/// An engine of its own for a configuration that sets its bounds, else the shared one.
pub fn engine_for(config: &Config) -> Result<Engine, EngineError> {
    if config.wasm == Wasm::default() { Ok(engine()) } else { app::engine(config) }
}

/// Writes `stile.yaml` (JSON is YAML) at one stroke, as an editor does, with what every test needs added.
pub fn write(folder: &Path, mut config: Value) -> PathBuf {
    let defaults = json!({
        "workers": 2,
        "listeners": [{ "name": "public", "address": "127.0.0.1:0" }],
        "admin": { "address": "127.0.0.1:0", "tokens": [
            { "name": "ops", "role": "admin", "secret": SECRET },
            { "name": "viewer", "role": "viewer", "secret": VIEWER },
            { "name": "publisher", "role": "publisher", "secret": PUBLISHER },
            { "name": "service", "role": "service", "services": ["echo"], "discover": ["other"], "secret": SERVICE },
        ] },
    });
    for (key, value) in defaults.as_object().into_iter().flatten() {
        if config.get(key).is_none() {
            config[key] = value.clone();
        }
    }
    for plugin in config.get_mut("plugins").and_then(Value::as_array_mut).into_iter().flatten() {
        guest::give_time(plugin);
    }
    let (file, draft) = (folder.join("stile.yaml"), folder.join("stile.yaml.draft"));
    fs::write(&draft, config.to_string()).expect("the folder is ours");
    fs::rename(&draft, &file).expect("the folder is ours");
    file
}

/// A service with these endpoints.
pub fn service(name: &str, endpoints: &[SocketAddr]) -> Value {
    let endpoints: Vec<Value> = endpoints.iter().map(|address| json!({ "address": address })).collect();
    json!({ "name": name, "endpoints": endpoints })
}

/// One route for everything to one service, without filters.
pub fn plain(endpoint: SocketAddr) -> Value {
    filtered(endpoint, json!([]), json!([]))
}

/// The same with plugins and with filters on the route.
pub fn filtered(endpoint: SocketAddr, plugins: Value, filters: Value) -> Value {
    json!({
        "plugins": plugins,
        "services": [service("echo", &[endpoint])],
        "routes": [{ "name": "all", "service": "echo", "filters": filters }],
    })
}
