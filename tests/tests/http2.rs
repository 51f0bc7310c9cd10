//! HTTP/2 by prior knowledge on the port of HTTP/1.1; services are spoken to in HTTP/1.1.

use http::{Request, Version};
use http_body_util::Full;
use serde_json::json;
use stile_tests::{
    client::{Client, HOST, get, request},
    gateway::{Gateway, plain},
    upstream::{Answer, Gate, Upstream},
    wire::Framing,
};
use tokio::task::JoinSet;

#[tokio::test]
async fn both_protocols_are_served_on_one_port() {
    let upstream = Upstream::echo().await;
    let gateway = Gateway::start(plain(upstream.address())).await;
    let (mut one, mut two) = (Client::connect(gateway.address()).await, Client::http2(gateway.address()).await);
    for client in [&mut one, &mut two] {
        let answer = client.get("/x?y=1").await;
        assert_eq!(answer.status, 200);
        let seen = answer.json();
        assert_eq!((&seen["target"], &seen["version"]), (&json!("/x?y=1"), &json!("HTTP/1.1")));
        assert_eq!(seen["headers"]["host"], HOST);
        assert_eq!(client.send(request("POST", "/", &[], "12345")).await.json()["body_length"], 5);
    }
    assert!(upstream.last().head.get("via").is_some_and(|via| via.starts_with("2.0 stile-")));
    assert_eq!(upstream.last().framing, Framing::Length(5));
}

#[tokio::test]
async fn crumbs_of_a_cookie_are_one_field_again() {
    let upstream = Upstream::echo().await;
    let gateway = Gateway::start(plain(upstream.address())).await;
    let crumbs = Request::builder().version(Version::HTTP_2).uri("/").header("cookie", "a=1").header("cookie", "b=2");
    let request = crumbs.body(Full::default()).expect("a request");
    let answer = Client::http2(gateway.address()).await.send(request).await;
    assert_eq!(answer.json()["headers"]["cookie"], "a=1; b=2");
}

#[tokio::test]
async fn streams_of_one_connection_do_not_wait_for_each_other() {
    let gate = Gate::new();
    let held = gate.clone();
    let upstream = Upstream::start(move |received| match received.target() {
        "/held" => Answer::Behind(held.clone(), Box::new(Answer::text("held"))),
        _ => Answer::text("quick"),
    })
    .await;
    let gateway = Gateway::start(plain(upstream.address())).await;
    let client = Client::http2(gateway.address()).await;
    let (mut slow, mut quick) = (client.another(), client);
    let mut tasks = JoinSet::new();
    tasks.spawn(async move { slow.send(get("/held")).await.text() });
    upstream.received(1).await;
    for _ in 0..20 {
        assert_eq!(quick.get("/quick").await.text(), "quick");
    }
    assert!(tasks.try_join_next().is_none());
    gate.cancel();
    assert_eq!(tasks.join_next().await.expect("a task").expect("an answer"), "held");
}
