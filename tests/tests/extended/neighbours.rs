//! How long a neighbour that waits for its socket waits beside a computing guest: twice as long, at most, as beside a task of the host
//! that gives way each millisecond.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    thread,
    time::Duration,
};

use serde_json::json;
use stile_gateway::exchange::Body;
use stile_tests::{
    called::{Called, exchange},
    guest::plugin_with,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    runtime::{Builder, LocalOptions, LocalRuntime},
    sync::oneshot,
    task::{spawn_local, yield_now},
    time::Instant,
};

const ROUND_TRIPS: usize = 3000;
const TICK: Duration = Duration::from_millis(1);
const MOST: f64 = 2.0;

/// The 99th percentile of a neighbour's round trips while this is done on its thread without end.
fn slowest_percent(runtime: &LocalRuntime, harm: impl Future<Output = ()> + 'static) -> Duration {
    runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let neighbour = spawn_local(async move {
            let (mut stream, _) = listener.accept().await.expect("a client");
            stream.set_nodelay(true).expect("a socket");
            let mut byte = [0];
            while stream.read_exact(&mut byte).await.is_ok() && stream.write_all(&byte).await.is_ok() {}
        });
        let (sender, measured) = oneshot::channel();
        let client = thread::spawn(move || sender.send(round_trips(address)));
        let harm = spawn_local(harm);
        let mut times = measured.await.expect("the client ends");
        harm.abort();
        client.join().expect("the client ends").expect("somebody waits");
        neighbour.await.expect("the neighbour ends");
        times.sort();
        times[times.len() * 99 / 100]
    })
}

fn round_trips(address: SocketAddr) -> Vec<Duration> {
    let mut stream = TcpStream::connect(address).expect("the neighbour accepts");
    stream.set_nodelay(true).expect("a socket");
    let mut byte = [0];
    let mut round_trip = || {
        let began = Instant::now();
        stream.write_all(&byte).expect("the neighbour is there");
        stream.read_exact(&mut byte).expect("the neighbour answers");
        began.elapsed()
    };
    (0..ROUND_TRIPS).map(|_| round_trip()).collect()
}

#[test]
#[ignore = "measures times"]
fn a_computing_guest_holds_up_its_neighbours_no_longer_than_a_task_that_gives_way() {
    let gateways = Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    let worker = Builder::new_current_thread().enable_all().build_local(LocalOptions::default()).expect("a runtime");
    let _entered = gateways.enter();
    let beside_host = slowest_percent(&worker, async {
        loop {
            let began = Instant::now();
            while began.elapsed() < TICK {}
            yield_now().await;
        }
    });
    let hostile = plugin_with("hostile", json!({ "limits": { "deadline": "1h", "timeout": "1h" } }));
    let called = gateways.block_on(Called::start(hostile, json!({ "plugin": "hostile" }), None));
    let beside_guest = slowest_percent(&worker, async move {
        called.request(&mut exchange(&[("x-do", "loop")]), &mut Body::Empty).await;
    });
    let ratio = beside_guest.as_secs_f64() / beside_host.as_secs_f64();
    println!("beside a guest {beside_guest:?}, beside the host's task {beside_host:?}: {ratio:.2} times as long");
    assert!(ratio <= MOST, "{ratio}");
}
