//! Endpoints that others know of: a file, DNS, a Consul-compatible catalogue.

use std::{
    collections::{BTreeSet, HashMap},
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex},
};

use hickory_proto::{
    op::{Message, ResponseCode},
    rr::{Name, RData, Record, RecordType, rdata},
};
use serde_json::{Value, json};
use stile_tests::{
    gateway::Gateway,
    upstream::{Answer, Gate, Upstream},
    wait::until,
};
use tokio::{net::UdpSocket, task::JoinSet};

async fn gateway(source: Value) -> Gateway {
    Gateway::start(config(source)).await
}

fn config(source: Value) -> Value {
    json!({
        "workers": 1,
        "services": [{ "name": "echo", "sources": [source] }],
        "routes": [{ "name": "all", "service": "echo" }],
    })
}

/// What the service's endpoints are, as `ID ADDRESS WEIGHT SOURCE`.
async fn listed(gateway: &Gateway) -> BTreeSet<String> {
    let told = gateway.admin().get("/v1/services/echo/endpoints").await.json();
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let line = |it: &Value| ["id", "address", "weight", "source"].map(|key| text(&it[key])).join(" ");
    told["items"].as_array().expect("items").iter().map(line).collect()
}

async fn until_listed(gateway: &Gateway, expected: &[String]) {
    let expected: BTreeSet<_> = expected.iter().cloned().collect();
    until(&format!("it knows {expected:?}"), async || (listed(gateway).await == expected).then_some(())).await;
}

#[tokio::test]
async fn a_file_is_followed_and_a_mistake_in_it_changes_nothing() {
    let (a, b) = (Upstream::named("a").await, Upstream::named("b").await);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("echo.yaml");
    let write = |text: String| std::fs::write(&file, text).expect("the folder is ours");
    write(format!("- {{ address: {}, id: one, weight: 2, metadata: {{ zone: x }} }}", a.address()));
    let gateway = gateway(json!({ "file": file })).await;
    until_listed(&gateway, &[format!("one {} 2 file", a.address())]).await;
    assert_eq!(gateway.get("/").await.json()["name"], "a");
    assert_eq!(gateway.admin().get("/v1/services/echo/discover?metadata.zone=x").await.json()["id"], "one");
    write(format!("- {{ adress: {} }}", b.address()));
    write(format!("[{{ \"address\": \"{0}\" }}, {{ \"address\": \"{1}\" }}]", a.address(), b.address()));
    let both = [&a, &b].map(|it| format!("{0} {0} 1 file", it.address()));
    until_listed(&gateway, &both).await;
    // A service may be drained wherever it is known from.
    let path = format!("/v1/services/echo/endpoints/{}/drain", a.address());
    assert_eq!(gateway.admin().send("PUT", &path, Value::Null).await.status, 204);
    assert_eq!(gateway.get("/").await.json()["name"], "b");
    // Beside what registers itself.
    let more = json!({ "address": "127.0.0.1:1" });
    assert_eq!(gateway.admin().send("PUT", "/v1/services/echo/endpoints/more", more).await.status, 201);
    assert_eq!(listed(&gateway).await.len(), 3);
    // One that is no longer named is no longer followed.
    let mut without = config(json!({}));
    without["services"][0]["sources"] = json!([]);
    gateway.rewrite(without).await;
    until_listed(&gateway, &["more 127.0.0.1:1 1 registration".to_owned()]).await;
}

#[tokio::test]
async fn a_catalogue_is_asked_and_waits_for_changes() {
    let (a, b) = (Upstream::named("a").await, Upstream::named("b").await);
    let instance = |id: &str, upstream: &Upstream, address: &str| {
        json!({
            "Node": { "Node": format!("on-{}", upstream.address().port()), "Address": "127.0.0.1" },
            "Service": {
                "ID": id, "Service": "echo", "Address": address, "Port": upstream.address().port(),
                "Meta": { "zone": "x" }, "Weights": { "Passing": 3, "Warning": 1 },
            },
        })
    };
    let (first, both) = (
        json!([instance("a-1", &a, "")]).to_string(),
        json!([instance("a-1", &a, ""), instance("a-1", &b, "127.0.0.1"), instance("c-1", &b, "a.name")]).to_string(),
    );
    let gate = Gate::new();
    let reply =
        |index: &str, body: &str| Answer::Reply(200, vec![("x-consul-index", index.to_owned())], body.to_owned());
    let consul = Upstream::start({
        let gate = gate.clone();
        move |received| match received.target() {
            "/v1/health/service/echo?passing=true&tag=prod" => reply("7", &first),
            target if target.ends_with("&index=7&wait=50s") => {
                Answer::Behind(gate.clone(), Box::new(reply("8", &both)))
            }
            target if target.ends_with("&index=8&wait=50s") => Answer::Silence,
            _ => Answer::Reply(404, Vec::new(), String::new()),
        }
    })
    .await;
    let url = format!("http://{}", consul.address());
    let gateway = gateway(json!({ "consul": { "url": url, "service": "echo", "tag": "prod", "token": "t" } })).await;
    // An id is of its node alone.
    let line = |upstream: &Upstream| format!("on-{}:a-1 {} 3 consul", upstream.address().port(), upstream.address());
    until_listed(&gateway, &[line(&a)]).await;
    gate.cancel();
    until_listed(&gateway, &[line(&a), line(&b)]).await;
    consul.received(3).await;
    assert!(consul.requests().iter().all(|received| received.head.get("x-consul-token") == Some("t")));
}

/// What a name server knows, with how long each is good for.
type Zone = Arc<Mutex<HashMap<(String, RecordType), Vec<(u32, RData)>>>>;

async fn name_server(zone: Zone) -> (SocketAddr, JoinSet<()>) {
    let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a free port");
    let address = socket.local_addr().expect("it is bound");
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut buffer = [0; 4096];
        while let Ok((length, client)) = socket.recv_from(&mut buffer).await {
            let Ok(asked) = Message::from_vec(&buffer[..length]) else { continue };
            let query = asked.queries[0].clone();
            let mut answer = asked.into_response();
            let key = (query.name().to_lowercase().to_string(), query.query_type());
            let known = zone.lock().expect("nobody panics").get(&key).cloned();
            match known {
                None => answer.metadata.response_code = ResponseCode::NXDomain,
                Some(records) => {
                    for (ttl, data) in records {
                        answer.add_answer(Record::from_rdata(query.name().clone(), ttl, data));
                    }
                }
            }
            let _ = socket.send_to(&answer.to_vec().expect("a message"), client).await;
        }
    });
    (address, tasks)
}

fn a(ip: [u8; 4]) -> RData {
    RData::A(rdata::A(ip.into()))
}

#[tokio::test]
async fn addresses_of_a_name_are_asked_for_again_when_their_ttl_is_over() {
    let upstream = Upstream::named("a").await;
    let port = upstream.address().port();
    let zone = Zone::default();
    let set = |records: Vec<(u32, RData)>| {
        zone.lock().expect("nobody panics").insert(("echo.test.".to_owned(), RecordType::A), records);
    };
    set(vec![(1, a([127, 0, 0, 1]))]);
    let (server, _tasks) = name_server(Arc::clone(&zone)).await;
    let gateway = gateway(json!({ "dns": { "name": "echo.test", "port": port, "servers": [server] } })).await;
    let line = |ip: &str| format!("{ip}:{port} {ip}:{port} 1 dns");
    until_listed(&gateway, &[line("127.0.0.1")]).await;
    assert_eq!(gateway.get("/").await.json()["name"], "a");
    set(vec![(1, a([127, 0, 0, 1])), (1, a([127, 0, 0, 2]))]);
    until_listed(&gateway, &[line("127.0.0.1"), line("127.0.0.2")]).await;
    zone.lock().expect("nobody panics").clear();
    until_listed(&gateway, &[]).await;
}

#[tokio::test]
async fn service_records_lead_to_addresses_ports_and_weights() {
    let zone = Zone::default();
    let name = |text: &str| Name::from_ascii(text).expect("a name");
    let srv =
        |priority, weight, port, target: &str| (60, RData::SRV(rdata::SRV::new(priority, weight, port, name(target))));
    let records = [
        (
            ("_echo._tcp.test.", RecordType::SRV),
            vec![srv(2, 1, 9, "c.test."), srv(1, 5, 7, "a.test."), srv(1, 0, 8, "b.test.")],
        ),
        (("a.test.", RecordType::A), vec![(60, a([127, 0, 0, 1]))]),
        (("b.test.", RecordType::AAAA), vec![(60, RData::AAAA(rdata::AAAA("::1".parse().expect("an address"))))]),
        (("c.test.", RecordType::A), vec![(60, a([127, 0, 0, 3]))]),
    ];
    for ((name, kind), records) in records {
        zone.lock().expect("nobody panics").insert((name.to_owned(), kind), records);
    }
    let (server, _tasks) = name_server(Arc::clone(&zone)).await;
    let gateway = gateway(json!({ "dns": { "name": "_echo._tcp.test", "records": "srv", "servers": [server] } })).await;
    let line = |ip: IpAddr, port: u16, weight: u16| {
        let address = SocketAddr::new(ip, port);
        format!("{address} {address} {weight} dns")
    };
    let expected = [line([127, 0, 0, 1].into(), 7, 5), line("::1".parse().expect("an address"), 8, 0)];
    until_listed(&gateway, &expected).await;
}
