//! HTTP/2 clients that take their answers slowly, or not at all.

use super::*;

/// Opens the window of a stream, or of the connection.
fn window(stream: u32, bytes: u32) -> Vec<u8> {
    frames::frame(frames::WINDOW_UPDATE, 0, stream, &bytes.to_be_bytes())
}

/// Reads the rest of a stream, and returns the number of its bytes; `None` if the connection or the stream ends before.
async fn rest(client: &mut Frames, stream: u32) -> Option<usize> {
    let mut bytes = 0;
    loop {
        let frame = client.next().await?;
        if frame.stream != stream {
            continue;
        }
        match frame.kind {
            frames::DATA => bytes += frame.payload.len(),
            frames::RST_STREAM => return None,
            _ => {}
        }
        if frame.flags & frames::END_STREAM != 0 {
            return Some(bytes);
        }
    }
}

/// Makes requests on a connection until a frame of this kind comes for this stream, and returns whether one did before the
/// connection ended.
async fn goes_on_until(client: &mut Frames, kind: u8, stream: u32) -> bool {
    let mut other = stream + 2;
    let going_on = async {
        loop {
            let get = [frames::head(other, "GET", "/small", true), window(other, 100)].concat();
            if client.write(&get).await.is_err() {
                return false;
            }
            loop {
                let Some(frame) = client.next().await else { return false };
                if (frame.kind, frame.stream) == (kind, if kind == frames::GOAWAY { 0 } else { stream }) {
                    return true;
                }
                if frame.stream == other && frame.flags & frames::END_STREAM != 0 {
                    break;
                }
            }
            other += 2;
        }
    };
    soon("the stalled stream is ended", going_on).await
}

/// Waits until the gateway has closed a silent connection of its own, and for as long as that one takes.
async fn silence_is_over(gateway: &Gateway) {
    let mut other = Frames::connect(gateway.address(), WIDE).await;
    other.write(&frames::head(1, "GET", "/small", true)).await.expect("the gateway reads");
    // It answers no PING, so that it is dropped a second after its time-out.
    while other.next().await.is_some() {}
}

/// Adds a route for one path to an upstream of its own.
fn add_route(config: &mut Value, path: &str, upstream: &Upstream) {
    config["services"].as_array_mut().expect("a list").push(service("other", &[upstream.address()]));
    let route = json!({ "name": "other", "match": { "path": path }, "service": "other" });
    config["routes"].as_array_mut().expect("a list").push(route);
}

async fn large_and_small() -> Upstream {
    Upstream::start(|received| match received.target() {
        "/large" => Answer::Pattern(100_000),
        "/short" => Answer::Pattern(100),
        _ => Answer::text("small"),
    })
    .await
}

#[tokio::test]
async fn a_connection_with_an_open_stream_is_not_silent() {
    let gate = Gate::new();
    let held = gate.clone();
    let upstream = Upstream::start(move |received| match received.target() {
        "/held" => Answer::Behind(held.clone(), Box::new(Answer::Pattern(100))),
        _ => Answer::text("small"),
    })
    .await;
    let gateway = Gateway::start(limited(&upstream, json!({ "header_timeout": "100ms" }))).await;
    let mut client = Frames::connect(gateway.address(), 50).await;
    client.write(&frames::head(1, "GET", "/held", true)).await.expect("the gateway reads");
    upstream.received(1).await;
    silence_is_over(&gateway).await;
    gate.cancel();
    // The rest of the answer waits for the window.
    assert_eq!(client.until(frames::DATA, 1).await.expect("the connection lasts").payload.len(), 50);
    silence_is_over(&gateway).await;
    client.write(&window(1, 50)).await.expect("the gateway reads");
    assert_eq!(rest(&mut client, 1).await, Some(50));
}

#[tokio::test]
async fn an_answer_on_its_way_outlasts_its_listener() {
    let upstream = large_and_small().await;
    let mut config = plain(upstream.address());
    let listener = |name: &str| json!({ "name": name, "address": "127.0.0.1:0", "limits": { "header_timeout": "1s" } });
    config["listeners"] = json!([listener("public"), listener("second")]);
    let gateway = Gateway::start(config.clone()).await;
    let second = gateway.address_of("second");
    // The last piece of the one waits in HTTP/2, of the other also in the gateway.
    let mut clients = Vec::new();
    for (path, length) in [("/short", 100), ("/large", 100_000)] {
        let mut client = Frames::connect(second, 10).await;
        client.write(&frames::head(1, "GET", path, true)).await.expect("the gateway reads");
        assert_eq!(client.until(frames::DATA, 1).await.expect("the connection lasts").payload.len(), 10);
        clients.push((client, length - 10));
    }
    config["listeners"] = json!([listener("public")]);
    gateway.rewrite(config).await;
    until("the listener refuses", async || TcpStream::connect(second).await.err()).await;
    silence_is_over(&gateway).await;
    for (mut client, length) in clients {
        client.write(&window(1, 100_000)).await.expect("the gateway reads");
        assert_eq!(rest(&mut client, 1).await, Some(length));
    }
}

#[tokio::test]
async fn a_stream_whose_client_takes_nothing_is_given_up_and_the_others_go_on() {
    // More than the gateway takes of it while nobody reads.
    const LENGTH: u32 = 1 << 20;
    let upstream = large_and_small().await;
    let large = Upstream::start(|_| Answer::Pattern(LENGTH.into())).await;
    let mut config = limited(&upstream, json!({ "progress": { "idle_timeout": "300ms" } }));
    add_route(&mut config, "/large", &large);
    let gateway = Gateway::start(config).await;
    // The first one has most of the answer waiting in the gateway, the second only the end of it, in HTTP/2.
    for taken in [1 << 10, LENGTH - 10] {
        let mut client = Frames::connect(gateway.address(), taken).await;
        client.write(&frames::head(1, "GET", "/large", true)).await.expect("the gateway reads");
        assert!(goes_on_until(&mut client, frames::RST_STREAM, 1).await, "after {taken} bytes");
        client.write(&frames::head(9999, "GET", "/small", true)).await.expect("the gateway reads");
        assert_eq!(rest(&mut client, 9999).await, Some(5));
        until("its bytes are given back", async || (buffered(&gateway).await == 0).then_some(())).await;
        if taken < LENGTH / 2 {
            until("the service's connection is closed", async || (large.open() == 0).then_some(())).await;
        }
    }
}

#[tokio::test]
async fn a_stream_whose_client_takes_single_bytes_is_ended_by_the_minimum_rate() {
    let upstream = Upstream::start(|received| match received.target() {
        "/large" => Answer::Pattern(64 << 20),
        _ => Answer::text("small"),
    })
    .await;
    // No client takes a byte in a nanosecond, and no time-out ends the stream instead.
    let progress = json!({ "idle_timeout": "1h", "min_rate": "1GiB", "min_rate_grace": "40ms" });
    let gateway = Gateway::start(limited(&upstream, json!({ "progress": progress }))).await;
    let mut client = Frames::connect(gateway.address(), 1).await;
    client.write(&frames::head(1, "GET", "/large", true)).await.expect("the gateway reads");
    let trickle = async {
        loop {
            let frame = client.next().await.expect("the connection lasts");
            match frame.kind {
                frames::DATA => client.write(&window(1, 1)).await.expect("the gateway reads"),
                frames::RST_STREAM => return frame.stream,
                _ => {}
            }
        }
    };
    assert_eq!(soon("the stream is ended", trickle).await, 1);
    let get = [frames::head(3, "GET", "/small", true), window(3, 100)].concat();
    client.write(&get).await.expect("the gateway reads");
    assert_eq!(rest(&mut client, 3).await, Some(5));
    let errors = r#"stile_errors_total{route="all",service="echo",blame="client",cause="slow-client"}"#;
    until("the client is blamed", async || (gateway.admin().metric(errors).await == 1).then_some(())).await;
}

#[tokio::test]
async fn the_end_of_a_short_answer_that_is_not_taken_ends_its_connection() {
    let upstream = large_and_small().await;
    let gateway = Gateway::start(limited(&upstream, json!({ "progress": { "idle_timeout": "300ms" } }))).await;
    let mut client = Frames::connect(gateway.address(), 10).await;
    client.write(&frames::head(1, "GET", "/short", true)).await.expect("the gateway reads");
    assert!(goes_on_until(&mut client, frames::GOAWAY, 1).await);
    client.closed().await;
    until("its bytes are given back", async || (buffered(&gateway).await == 0).then_some(())).await;
}

#[tokio::test]
async fn an_event_stream_that_finds_no_room_may_rest() {
    const LENGTH: usize = 4 << 20;
    let head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n";
    let upstream = Upstream::start(|received| match received.target() {
        "/events" => Answer::BytesThenClose([&head[..], &vec![b'\n'; LENGTH]].concat()),
        _ => Answer::text("small"),
    })
    .await;
    let limits = json!({ "header_timeout": "2s", "progress": { "idle_timeout": "300ms" } });
    let gateway = Gateway::start(limited(&upstream, limits)).await;
    let mut client = Frames::connect(gateway.address(), WIDE).await;
    client.write(&frames::head(1, "GET", "/events", true)).await.expect("the gateway reads");
    until("the stream holds the budget", async || (buffered(&gateway).await > 700 << 10).then_some(())).await;
    silence_is_over(&gateway).await;
    assert_eq!(rest(&mut client, 1).await, Some(LENGTH));
}

#[tokio::test]
async fn streams_that_are_cancelled_together_leave_the_connection_to_the_others() {
    const OTHERS: u32 = 100;
    const CANCELLED: u32 = 30;
    let (upstream, silent) = (large_and_small().await, Upstream::start(|_| Answer::Silence).await);
    let mut config = limited(&upstream, json!({ "stream_resets": 20 }));
    add_route(&mut config, "/silent", &silent);
    let gateway = Gateway::start(config).await;
    let mut client = Frames::connect(gateway.address(), WIDE).await;
    for n in 0..OTHERS {
        client.write(&frames::head(2 * n + 1, "GET", "/small", true)).await.expect("the gateway reads");
        assert_eq!(rest(&mut client, 2 * n + 1).await, Some(5));
    }
    let ids = || (OTHERS..OTHERS + CANCELLED).map(|n| 2 * n + 1);
    let requests: Vec<u8> = ids().flat_map(|id| frames::head(id, "GET", "/silent", true)).collect();
    client.write(&requests).await.expect("the gateway reads");
    silent.received(CANCELLED as usize).await;
    let cancel = |id| frames::frame(frames::RST_STREAM, 0, id, &8_u32.to_be_bytes());
    let cancelled: Vec<u8> = ids().flat_map(cancel).collect();
    client.write(&cancelled).await.expect("the gateway reads");
    until("they have left their service", async || (silent.open() == 0).then_some(())).await;
    client.write(&frames::head(9999, "GET", "/small", true)).await.expect("the gateway reads");
    assert_eq!(rest(&mut client, 9999).await, Some(5));
}
