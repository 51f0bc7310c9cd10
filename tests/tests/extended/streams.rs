//! Many streams of HTTP/2 that nobody reads.

use stile_tests::{
    client::Client,
    frames::{self, Frames},
    gateway::plain,
    process::Stile,
    upstream::{Answer, Upstream},
    wait::until,
};

#[tokio::test]
#[ignore = "takes minutes"]
async fn three_thousand_streams_that_nobody_reads_take_bounded_memory() {
    const CONNECTIONS: usize = 12;
    const STREAMS: u32 = 256;
    let upstream = Upstream::start(|_| Answer::Pattern(500_000)).await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let gateway = Stile::run(folder.path(), plain(upstream.address())).await;
    let mut client = Client::http2(gateway.address()).await;
    assert_eq!(client.get("/").await.body.len(), 500_000);
    drop(client);
    let before = gateway.memory("RssAnon");
    let mut clients = Vec::new();
    for _ in 0..CONNECTIONS {
        let mut client = Frames::connect(gateway.address(), i32::MAX as u32).await;
        let requests: Vec<u8> = (0..STREAMS).flat_map(|n| frames::head(2 * n + 1, "GET", "/", true)).collect();
        client.write(&requests).await.expect("the gateway reads");
        clients.push(client);
        upstream.received(1 + clients.len() * STREAMS as usize).await;
    }
    let streams = clients.len() * STREAMS as usize;
    let (mut seen, mut steady) = (0, 0);
    let buffered = until("the connections hold what they may", async || {
        let now = gateway.admin().metric("stile_response_buffered_bytes{listener=\"public\"}").await;
        assert!(now <= (CONNECTIONS as u64) << 20, "{now} bytes are buffered");
        steady = if now == seen { steady + 1 } else { 0 };
        seen = now;
        (steady > 20).then_some(now)
    })
    .await;
    until("what was needed for a moment only is given back", async || {
        let beside = gateway.memory("RssAnon").saturating_sub(before).saturating_sub(buffered) / streams as u64;
        println!("{beside} bytes for each exchange, beside {buffered} bytes of bodies");
        (beside <= 32 << 10).then_some(())
    })
    .await;
    drop(clients);
}
