//! Services that register themselves, find and call one another through the gateway, and an API over them.

use std::collections::BTreeMap;

use data_sharing::{Gateway, Kind, Service};
use serde_json::{Value, json};
use stile_tests::{
    admin::{Admin, SECRET},
    client::{Answer, Client, with},
    guest,
    process::Stile,
    wait::until,
};
use tempfile::TempDir;

const KEY: &str = "the-key-of-ann-is-this";
const USERS: &str = "token-of-users";
const ORDERS: &str = "token-of-orders";

async fn gateway() -> (Stile, TempDir) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    super::configure("data-sharing", folder.path(), &["127.0.0.1:8080", "127.0.0.1:8081", "127.0.0.1:9090"], None);
    fs_copy(&folder);
    let tokens = [("STILE_TOKEN", SECRET), ("USERS_TOKEN", USERS), ("ORDERS_TOKEN", ORDERS)];
    (Stile::start(folder.path(), &tokens).await, folder)
}

fn fs_copy(folder: &TempDir) {
    std::fs::copy(guest::file("api-key-auth"), folder.path().join("api_key_auth.wasm")).expect("the folder is ours");
}

async fn started(gateway: &Stile, kind: Kind, id: &str, weight: u16) -> Service {
    let token = if kind == Kind::Users { USERS } else { ORDERS };
    let at = |listener: &str| format!("http://{}", gateway.address_of(listener));
    let seen = Gateway::new(&at("admin"), &at("internal"), token);
    Service::start(kind, id, weight, seen).await.expect("it registers")
}

async fn called(gateway: &Stile, path: &str) -> Value {
    let answer = Client::connect(gateway.address_of("internal")).await.get(path).await;
    assert_eq!(answer.status, 200, "{path}: {}", answer.text());
    answer.json()
}

/// Who answers so many calls, with how often.
async fn shares(gateway: &Stile, path: &str, calls: usize) -> BTreeMap<String, usize> {
    let mut shares = BTreeMap::new();
    for _ in 0..calls {
        let by = called(gateway, path).await["served_by"].as_str().expect("a name").to_owned();
        *shares.entry(by).or_insert(0) += 1;
    }
    shares
}

#[tokio::test]
async fn services_register_find_and_call_one_another() {
    let (gateway, _folder) = gateway().await;
    let users = started(&gateway, Kind::Users, "users-1", 1).await;
    let orders = started(&gateway, Kind::Orders, "orders-1", 1).await;

    let found = called(&gateway, "/call/users/neighbour").await["neighbour"].clone();
    assert_eq!((&found["id"], &found["metadata"]), (&json!("orders-1"), &json!({ "language": "rust" })));
    assert_eq!(called(&gateway, "/call/orders/neighbour").await["neighbour"]["id"], "users-1");

    let told = called(&gateway, "/call/users/users/1/orders").await;
    let expected = json!([{ "id": "10", "item": "a chair" }, { "id": "11", "item": "a lamp" }]);
    assert_eq!((&told["name"], &told["orders"]), (&json!("Ann"), &expected));
    assert_eq!(called(&gateway, "/call/orders/orders/12").await["user"], "Bob");

    // A token is for its own service.
    let admin = gateway.admin();
    let other = "/v1/services/users/endpoints/intruder";
    assert_eq!(admin.call("PUT", other, Some(ORDERS), r#"{"address":"127.0.0.1:1"}"#).await.status, 403);

    orders.stop().await.expect("it leaves");
    let gone = Client::connect(gateway.address_of("internal")).await.get("/call/orders/orders/10").await;
    assert_eq!(gone.status, 503, "nobody is left");
    users.stop().await.expect("it leaves");
}

#[tokio::test]
async fn one_stream_of_requests_is_distributed_by_each_policy() {
    let (gateway, folder) = gateway().await;
    let mut services = Vec::new();
    for (id, weight) in [("orders-1", 1), ("orders-2", 3)] {
        services.push(started(&gateway, Kind::Orders, id, weight).await);
    }
    let file = folder.path().join("stile.yaml");
    let text = std::fs::read_to_string(&file).expect("it is ours");
    let mut generation = gateway.admin().generation().await;
    let counts = |all: &[(&str, usize)]| all.iter().map(|(id, n)| ((*id).to_owned(), *n)).collect::<BTreeMap<_, _>>();
    // Two workers each keep a turn of their own: the connections of a client are all on one.
    for (policy, exact) in [("weighted", Some([10, 30])), ("round-robin", Some([20, 20])), ("random", None)] {
        let with_policy = text.replace("name: orders, balance: weighted", &format!("name: orders, balance: {policy}"));
        if with_policy != text {
            std::fs::write(&file, with_policy).expect("it is ours");
            until("it is live", async || (gateway.admin().generation().await > generation).then_some(())).await;
            generation = gateway.admin().generation().await;
        }
        let mut client = Client::connect(gateway.address_of("internal")).await;
        let mut seen = BTreeMap::new();
        for _ in 0..40 {
            let by =
                client.get("/call/orders/orders/of/1").await.json()["served_by"].as_str().expect("a name").to_owned();
            *seen.entry(by).or_insert(0) += 1;
        }
        match exact {
            Some([one, two]) => assert_eq!(seen, counts(&[("orders-1", one), ("orders-2", two)]), "{policy}"),
            None => assert_eq!(seen.len(), 2, "{policy}: {seen:?}"),
        }
    }
}

#[tokio::test]
async fn one_that_dies_is_passed_over_at_once_and_soon_gone() {
    let (gateway, _folder) = gateway().await;
    let _alive = started(&gateway, Kind::Orders, "orders-1", 1).await;
    let dying = started(&gateway, Kind::Orders, "orders-2", 1).await;
    assert_eq!(shares(&gateway, "/call/orders/orders/of/1", 20).await.len(), 2);
    dying.crash().await;
    let died = tokio::time::Instant::now();
    assert_eq!(shares(&gateway, "/call/orders/orders/of/1", 20).await, [("orders-1".to_owned(), 20)].into());
    let admin = gateway.admin();
    until("its registration has lapsed", async || {
        let listed = admin.get("/v1/services/orders/endpoints").await.json();
        (listed["items"].as_array().map(Vec::len) == Some(1)).then_some(())
    })
    .await;
    // Its ttl and a second, and as much as a busy machine may take to tell.
    let most = std::time::Duration::from_secs(4 + 5);
    assert!(died.elapsed() < most, "{:?}", died.elapsed());
}

#[tokio::test]
async fn an_api_has_versions_and_grants_over_them() {
    let (gateway, _folder) = gateway().await;
    let _users = started(&gateway, Kind::Users, "users-1", 1).await;
    let _orders = started(&gateway, Kind::Orders, "orders-1", 1).await;
    let admin = gateway.admin();
    let filters = json!([{ "plugin": "api-key-auth" }]);
    let route = |name: &str| json!({ "name": name, "match": { "path": format!("/{name}/*") }, "service": name, "filters": filters });
    let put = async |admin: &Admin, path: &str, sent: Value, status: u16| {
        let answer = admin.send("PUT", &format!("/v1/{path}"), sent).await;
        assert_eq!(answer.status, status, "{path}: {}", answer.text());
    };
    let first = json!({ "state": "published", "select": { "path": "/v1" }, "routes": [route("users")] });
    put(&admin, "apis/shop/versions/1", first.clone(), 201).await;
    put(&admin, "consumers/ann", json!({}), 201).await;
    let credential = json!({ "type": "api-key", "key": KEY });
    assert_eq!(admin.send("POST", "/v1/consumers/ann/credentials", credential).await.status, 201);
    let ask = async |path: &str| -> Answer {
        Client::connect(gateway.address_of("public")).await.send(with(path, &[("x-api-key", KEY)])).await
    };
    assert_eq!(ask("/v1/users/1").await.status, 403, "without a grant");
    put(&admin, "consumers/ann/grants/shop/1", json!({ "quotas": { "month": 1000 } }), 201).await;
    let answer = ask("/v1/users/1").await;
    assert_eq!((answer.status.as_u16(), &answer.json()["name"]), (200, &json!("Ann")));
    assert!(answer.header("ratelimit").starts_with("\"month\";r=999;t="));

    // The first is deprecated and the second published while both serve, and nobody is refused meanwhile.
    let asking = async {
        let mut client = Client::connect(gateway.address_of("public")).await;
        let mut answers = Vec::new();
        while answers.last().is_none_or(|answer: &Answer| answer.header("deprecation").is_empty()) {
            answers.push(client.send(with("/v1/users/1", &[("x-api-key", KEY)])).await);
            assert!(answers.len() < 900, "it is told in time");
        }
        answers
    };
    let changing = async {
        let second = json!({
            "state": "published", "select": { "path": "/v2" }, "routes": [route("users"), route("orders")],
        });
        put(&admin, "apis/shop/versions/2", second, 201).await;
        let mut ending = first.clone();
        for (key, value) in
            [("state", "deprecated"), ("deprecated", "2026-12-01T00:00:00Z"), ("sunset", "2027-06-01T00:00:00Z")]
        {
            ending[key] = value.into();
        }
        put(&admin, "apis/shop/versions/1", ending, 200).await;
    };
    let (answers, ()) = tokio::join!(asking, changing);
    assert!(answers.iter().all(|answer| answer.status == 200));
    let last = answers.last().expect("one");
    assert_eq!((last.header("deprecation"), last.header("sunset")), ("@1796083200", "Tue, 01 Jun 2027 00:00:00 GMT"));
    assert_eq!(ask("/v2/orders/10").await.status, 403, "the grant is for the first");
    put(&admin, "consumers/ann/grants/shop/2", json!({}), 201).await;
    let order = ask("/v2/orders/10").await;
    assert_eq!((order.status.as_u16(), &order.json()["user"], order.header("deprecation")), (200, &json!("Ann"), ""));
    assert_eq!(ask("/v1/users/1").await.status, 200);
    let page = ask("/developers").await.text();
    assert!(page.contains("/developers/shop/2") && page.contains("deprecated"), "{page}");
}
