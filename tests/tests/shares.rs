//! The share of a filter's room for passing bodies that one client may take, whatever it speaks and wherever it comes from.

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http::Request;
use http_body_util::StreamBody;
use hyper::body::Frame;
use serde_json::{Value, json};
use stile_tests::{
    client::{HOST, http2},
    gateway::{Gateway, filtered},
    guest::plugin_with,
    raw::{Raw, RawAnswer},
    upstream::{Answer, Upstream},
    wait::{soon, until},
    wire::Wire,
};
use tokio::{net::TcpSocket, task::JoinSet};

/// A connection from another address of this machine.
async fn from(address: [u8; 4], gateway: &Gateway) -> Raw {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind((address, 0).into()).expect("an address of this machine");
    Raw(Wire::new(socket.connect(gateway.address()).await.expect("the address accepts")))
}

/// A gateway whose filter may pass four bodies, of which one client may have two, and which trusts 127.0.0.9 as a proxy.
async fn shared(upstream: &Upstream, side: &str) -> Gateway {
    Gateway::start(shared_config(upstream, side)).await
}

fn shared_config(upstream: &Upstream, side: &str) -> Value {
    let plugin = plugin_with("streams", json!({ "limits": { "instances": 8, "streams_per_client": 50 } }));
    let filter = json!([{ "plugin": "streams", "config": { side: "copy" } }]);
    let mut config = filtered(upstream.address(), json!([plugin]), filter);
    config["listeners"] = json!([{ "name": "public", "address": "127.0.0.1:0", "trusted": ["127.0.0.9/32"] }]);
    config
}

const ENDLESS: &str = "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\na";
const WHOLE: &str = "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\nab";

fn assert_overloaded(answer: &RawAnswer) {
    assert_eq!((answer.status(), &answer.json()["detail"]), (503, &json!("a filter is overloaded")));
}

#[tokio::test]
async fn one_client_takes_its_share_of_a_filter_and_no_more() {
    let upstream = Upstream::echo().await;
    let gateway = shared(&upstream, "request").await;
    let mut greedy = Vec::new();
    for n in 1..=2 {
        let mut client = from([127, 0, 0, 2], &gateway).await;
        client.write(ENDLESS).await;
        greedy.push(client);
        until("the service is contacted", async || (upstream.open() == n).then_some(())).await;
    }
    for _ in 0..8 {
        assert_overloaded(&from([127, 0, 0, 2], &gateway).await.ask(ENDLESS).await);
    }
    assert_eq!(from([127, 0, 0, 3], &gateway).await.ask(WHOLE).await.json()["body"], "ab", "others have room");
    drop(greedy.pop());
    until("there is room again", async || {
        (from([127, 0, 0, 2], &gateway).await.ask(WHOLE).await.status() == 200).then_some(())
    })
    .await;
}

#[tokio::test]
async fn an_exchange_in_which_nothing_arrives_gives_its_instance_back_at_its_time_out() {
    let upstream = Upstream::echo().await;
    let mut config = shared_config(&upstream, "request");
    config["listeners"][0]["limits"] = json!({ "progress": { "idle_timeout": "200ms" } });
    let gateway = Gateway::start(config).await;
    // Twice as many as one client may have at a time.
    for n in 0..4 {
        until("the client has room", async || {
            let answer = from([127, 0, 0, 2], &gateway).await.ask(ENDLESS).await.status();
            assert!([408, 503].contains(&answer), "{n}: {answer}");
            (answer == 408).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn a_client_of_http2_has_one_share_for_all_its_streams() {
    let upstream = Upstream::echo().await;
    let gateway = shared(&upstream, "request").await;
    let (mut sender, _driver) = http2(gateway.address()).await;
    let mut endless = || {
        let first = stream::iter([Ok::<_, std::io::Error>(Frame::data(Bytes::from_static(b"a")))]);
        let body = StreamBody::new(first.chain(stream::pending()));
        let request = Request::post(format!("http://{HOST}/")).body(body).expect("a request");
        sender.send_request(request)
    };
    let mut greedy = JoinSet::new();
    for n in 1..=2 {
        greedy.spawn(endless());
        until("the service is contacted", async || (upstream.open() == n).then_some(())).await;
    }
    assert_eq!(soon("an answer", endless()).await.expect("an answer").status(), 503);
    assert_eq!(from([127, 0, 0, 3], &gateway).await.ask(WHOLE).await.status(), 200, "others have room");
}

#[tokio::test]
async fn clients_behind_a_proxy_have_shares_of_their_own() {
    let upstream = Upstream::echo().await;
    let gateway = shared(&upstream, "request").await;
    let of = |text: &str, client: &str| text.replacen("host: a", &format!("host: a\r\nx-forwarded-for: {client}"), 1);
    let mut greedy = Vec::new();
    for n in 1..=2 {
        let mut proxy = from([127, 0, 0, 9], &gateway).await;
        proxy.write(of(ENDLESS, "192.0.2.1")).await;
        greedy.push(proxy);
        until("the service is contacted", async || (upstream.open() == n).then_some(())).await;
    }
    assert_overloaded(&from([127, 0, 0, 9], &gateway).await.ask(of(ENDLESS, "192.0.2.1")).await);
    let other = from([127, 0, 0, 9], &gateway).await.ask(of(WHOLE, "192.0.2.2")).await;
    assert_eq!(other.status(), 200, "another client of the proxy has room");
}

#[tokio::test]
async fn one_client_takes_its_share_of_a_filter_of_responses() {
    let upstream = Upstream::start(|received| match received.target() {
        "/endless" => Answer::BytesThenMirror(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf".to_vec()),
        _ => Answer::text("whole"),
    })
    .await;
    let gateway = shared(&upstream, "response").await;
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n");
    let mut greedy = Vec::new();
    for _ in 1..=2 {
        let mut client = from([127, 0, 0, 2], &gateway).await;
        client.write(get("/endless")).await;
        assert_eq!(client.head().await.status(), 200);
        greedy.push(client);
    }
    assert_overloaded(&from([127, 0, 0, 2], &gateway).await.ask(get("/endless")).await);
    assert_eq!(from([127, 0, 0, 3], &gateway).await.ask(get("/")).await.body, b"whole", "others have room");
}
