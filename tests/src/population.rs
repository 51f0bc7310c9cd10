//! Very many endpoints that announce themselves, spread over very many services.

use std::net::SocketAddr;

use futures_util::future::join_all;
use serde_json::{Value, json};
use stile_gateway::registry::{Announcement, Registry};

pub const ENDPOINTS: usize = 100_000;
pub const SERVICES: usize = 1000;

/// Of endpoint `n`.
pub fn service(n: usize) -> String {
    format!("service-{:04}", n % SERVICES)
}

/// Of endpoint `n`.
pub fn id(n: usize) -> String {
    format!("{}-{n:06}", service(n))
}

/// The services, and a store.
pub fn config() -> Value {
    // Those of which there are few have no endpoint that leads nowhere.
    let names = (0..SERVICES).map(service).chain((0..50).map(|n| format!("few-{n:02}")));
    let services: Vec<Value> = names.map(|name| json!({ "name": name })).collect();
    json!({
        "listeners": [{ "name": "public", "address": "127.0.0.1:0", "call": true }],
        "services": services,
        "store": { "path": "store" },
    })
}

/// Registers all of them.
pub async fn fill(registry: &Registry) {
    for batch in (0..ENDPOINTS).collect::<Vec<_>>().chunks(2000) {
        let register = async |n: usize| registry.register(&service(n), &id(n), &announcement(n)).await;
        let made = join_all(batch.iter().map(|n| register(*n))).await;
        assert!(made.iter().all(|made| matches!(made, Ok(true))), "{:?}", made[0]);
    }
}

/// What endpoint `n` says of itself.
pub fn announcement(n: usize) -> Announcement {
    let address = SocketAddr::from(([10, 0, (n >> 8 & 255) as u8, (n & 255) as u8], 1000 + (n >> 16) as u16));
    let sent = json!({ "address": address, "ttl": "1h", "metadata": { "zone": "eu-1", "version": "1.2.3" } });
    serde_json::from_value(sent).expect("it is right")
}
