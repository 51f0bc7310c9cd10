//! How long others on its worker wait for a plugin that does harm: two ticks at most, whatever the harm. A
//! neighbour that is always ready waits for CPU time, and one that waits for its socket for turns of the guests, which are counted.

use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    io::Write as _,
    os::unix::net::UnixStream as Sender,
    rc::Rc,
    sync::{Arc, Mutex},
    task::Poll,
    time::Duration,
};

use bytes::Bytes;
use http::StatusCode;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use stile_gateway::{
    cpu,
    exchange::Body,
    filter::Instead,
    plugin::{CallAnswer, CallOut, Called as Answered, Instances, Isolation, Limits, Outbound, States},
};
use stile_tests::{
    by_hand::{DROP, request_filter},
    called::{Called, exchange, pieces},
    gateway::Gateway,
    guest::{plugin_with, plugin_with_default_deadline},
};
use tokio::{
    io::AsyncReadExt,
    net::UnixStream,
    runtime::{Builder, LocalOptions, LocalRuntime, Runtime},
    sync::oneshot,
    task::{LocalSet, spawn_local, yield_now},
};

/// Host code that is not optimised takes several times as long; `tests/extended` looks in release.
const MOST: Duration = Duration::from_millis(if cfg!(debug_assertions) { 8 } else { 2 });
/// One in time is enough, since the machine may have other things to do.
const TRIES: usize = 20;

fn runtimes() -> (Runtime, Runtime) {
    let gateways = Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    let worker = Builder::new_current_thread().enable_all().build().expect("a runtime");
    (gateways, worker)
}

/// The longest time that a neighbour, who is always ready, waits for its turn while this harm is done.
async fn longest_wait<T>(harm: impl Future<Output = T>) -> (Duration, T) {
    let (over, longest) = (Rc::new(Cell::new(false)), Rc::new(Cell::new(Duration::ZERO)));
    let neighbour = spawn_local({
        let (over, longest) = (Rc::clone(&over), Rc::clone(&longest));
        async move {
            let mut before = cpu::nanos();
            while !over.get() {
                turn().await;
                let now = cpu::nanos();
                longest.set(longest.get().max(Duration::from_nanos(now - before)));
                before = now;
            }
        }
    });
    yield_now().await;
    let result = harm.await;
    over.set(true);
    neighbour.await.expect("the neighbour ends");
    (longest.get(), result)
}

/// Lets others have theirs. Unlike tokio's `yield_now` it is ready again at once, and not only when the runtime has looked for events:
/// between two of those a guest may have two turns.
async fn turn() {
    let mut had = false;
    poll_fn(|cx| {
        if had {
            return Poll::Ready(());
        }
        had = true;
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// Does it until the neighbours waited no longer than they may, and judges each try.
#[expect(clippy::print_stdout, reason = "how long they waited")]
async fn bounded<T>(what: &str, mut harm: impl AsyncFnMut() -> T, judge: impl Fn(&T) -> bool) {
    let mut waits = Vec::new();
    for _ in 0..TRIES {
        let (waited, result) = longest_wait(harm()).await;
        assert!(judge(&result), "{what} did no harm");
        waits.push(waited);
        if waited <= MOST {
            println!("{what}: {waited:?}");
            return;
        }
    }
    panic!("{what}: the neighbours waited {waits:?}");
}

/// One exchange, and what came of it; the body is taken to its end.
async fn exchanged(called: &Called, fields: &[(&'static str, &'static str)], mut body: Body) -> Result<usize, String> {
    let mut exchange = exchange(fields);
    if let Some(instead) = called.request(&mut exchange, &mut body).await {
        return match instead {
            Instead::Failed(failed) => Err(failed.to_string()),
            Instead::Answer(answer) => Err(String::from_utf8_lossy(&answer.body).into_owned()),
            other => Err(format!("{other:?}")),
        };
    }
    let mut passed = 0;
    while let Some(frame) = body.frame().await {
        passed += frame.map_err(|error| error.to_string())?.data_ref().map_or(0, Bytes::len);
        // A flood has no end: whoever reads it has.
        if passed > 8 << 20 {
            return Err("it floods".to_owned());
        }
    }
    Ok(passed)
}

/// Turns of guests that one guest may have between the moment when a socket becomes readable and the poll of the task that waits for it.
const TURNS: usize = 2;

/// A runtime as workers have it.
fn local_runtime() -> LocalRuntime {
    Builder::new_current_thread().enable_all().build_local(LocalOptions::default()).expect("a runtime")
}

/// Counts the turns of guests beside a neighbour that waits for its socket.
struct Watch {
    sender: RefCell<Sender>,
    /// Turns of each guest.
    turns: Vec<Cell<usize>>,
    /// The same when the socket became readable, until the neighbour has read.
    readable: RefCell<Option<Vec<usize>>>,
    /// The most turns that one guest had while the socket was readable.
    longest: Cell<usize>,
}

impl Watch {
    /// A turn of one guest, before which the neighbour's socket becomes readable.
    fn turn(&self, guest: usize) {
        let mut readable = self.readable.borrow_mut();
        if readable.is_none() {
            *readable = Some(self.turns.iter().map(Cell::get).collect());
            self.sender.borrow_mut().write_all(b".").expect("the neighbour is there");
        }
        self.turns[guest].set(self.turns[guest].get() + 1);
    }

    /// The neighbour has read.
    fn heard(&self) {
        let then = self.readable.take().unwrap_or_default();
        for (before, turns) in then.iter().zip(&self.turns) {
            self.longest.set(self.longest.get().max(turns.get() - before));
        }
    }
}

/// Runs some guests at once beside a neighbour that waits for its socket. Returns the turns of each guest and its result; panics if
/// one had more turns than it may before the neighbour was polled.
async fn beside_a_waiting_neighbour<F>(what: &str, guests: Vec<F>) -> Vec<(usize, F::Output)>
where
    F: Future<Output: 'static> + 'static,
{
    let (sender, socket) = Sender::pair().expect("sockets");
    socket.set_nonblocking(true).expect("a socket");
    let mut socket = UnixStream::from_std(socket).expect("a socket");
    let watch = Rc::new(Watch {
        sender: RefCell::new(sender),
        turns: guests.iter().map(|_| Cell::new(0)).collect(),
        readable: RefCell::default(),
        longest: Cell::new(0),
    });
    let neighbour = Rc::clone(&watch);
    let neighbour = spawn_local(async move {
        let mut byte = [0];
        while socket.read_exact(&mut byte).await.is_ok() {
            neighbour.heard();
        }
    });
    let run = |(number, guest): (usize, F)| {
        let watch = Rc::clone(&watch);
        let mut guest = Box::pin(guest);
        spawn_local(poll_fn(move |cx| {
            watch.turn(number);
            guest.as_mut().poll(cx)
        }))
    };
    let running: Vec<_> = guests.into_iter().enumerate().map(run).collect();
    let mut results = Vec::new();
    for (number, guest) in running.into_iter().enumerate() {
        let result = guest.await.expect("the guest's task ends");
        results.push((watch.turns[number].get(), result));
    }
    neighbour.abort();
    let longest = watch.longest.get();
    assert!(longest <= TURNS, "{what}: a guest had {longest} turns before its neighbour was polled");
    results
}

fn body() -> Body {
    pieces(vec![Bytes::from_static(&[b'x'; 1 << 10]); 10])
}

#[test]
fn of_a_request() {
    let (gateways, worker) = runtimes();
    let _entered = gateways.enter();
    let called =
        gateways.block_on(Called::start(plugin_with_default_deadline("hostile"), json!({ "plugin": "hostile" }), None));
    LocalSet::new().block_on(&worker, async {
        for harm in ["loop", "grow", "recurse", "panic", "trap", "error", "flood"] {
            let fields = [("x-do", harm)];
            bounded(harm, async || exchanged(&called, &fields, Body::Empty).await, Result::is_err).await;
        }
    });
}

#[test]
fn of_a_body() {
    let (gateways, worker) = runtimes();
    let _entered = gateways.enter();
    let filter = |name: &str, harm: &str| json!({ "plugin": name, "config": { "request": harm } });
    for (name, harm) in [
        ("bodies", "loop"),
        ("bodies", "trap"),
        ("streams", "loop"),
        ("streams", "trap"),
        ("streams", "idle"),
        ("streams", "flood"),
    ] {
        let called = gateways.block_on(Called::start(plugin_with_default_deadline(name), filter(name, harm), None));
        LocalSet::new().block_on(&worker, async {
            let harm = format!("{harm} of {name}");
            bounded(&harm, async || exchanged(&called, &[], body()).await, Result::is_err).await;
        });
    }
}

#[test]
fn of_a_tick_and_of_a_configuration() {
    let (gateways, worker) = runtimes();
    let _entered = gateways.enter();
    let filter = json!({ "plugin": "witness", "config": { "tick": "loop" } });
    let mut witness = plugin_with_default_deadline("witness");
    witness["allow"] = json!(["key-value", "metrics"]);
    let called = gateways.block_on(Called::start(witness, filter, None));
    LocalSet::new().block_on(&worker, bounded("a tick", async || called.tick().await, |over| *over));

    let gateway = gateways.block_on(Gateway::start(json!({ "plugins": [plugin_with_default_deadline("hostile")] })));
    let revision = gateway.app().control().view().revisions["hostile"].revision.clone();
    let limits = Limits { timeout: Duration::from_millis(100), ..limits() };
    let configured = async || {
        let (state, config) = (States::default().of(&revision.plugin), r#"{"configure":"loop"}"#);
        let reach = Arc::default();
        Instances::new(revision.clone(), state, reach, config, limits, Isolation::Pooled, 1).probe(false).await
    };
    LocalSet::new().block_on(&worker, bounded("a configuration", configured, Result::is_err));
}

/// Nobody answers, as long as anybody waits.
#[derive(Debug, Default)]
struct Silence(Mutex<Vec<oneshot::Sender<Answered>>>);

impl Outbound for Silence {
    fn send(&self, _: CallOut) -> oneshot::Receiver<Answered> {
        let (answer, receiver) = oneshot::channel();
        self.0.lock().expect("nobody panics").push(answer);
        receiver
    }
}

#[test]
fn of_a_call_that_is_never_answered() {
    let (gateways, worker) = runtimes();
    let _entered = gateways.enter();
    let keys = json!({
        "allow": ["http-client"],
        "http": { "hosts": ["http://127.0.0.1:9"] },
        "limits": { "timeout": "20ms" },
    });
    let caller = plugin_with("caller", keys);
    let filter = json!({ "plugin": "caller", "config": {} });
    let called = gateways.block_on(Called::start(caller, filter, Some(Arc::new(Silence::default()))));
    let fields = [("x-call", "http://127.0.0.1:9/"), ("x-times", "8")];
    let harm = async || exchanged(&called, &fields, Body::Empty).await;
    let late = |result: &Result<usize, String>| result.as_ref().is_err_and(|error| error.contains("took longer"));
    LocalSet::new().block_on(&worker, bounded("a call", harm, late));
}

#[test]
fn of_what_no_compiler_would_write() {
    let (gateways, worker) = runtimes();
    let _entered = gateways.enter();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let parts = format!(
        r#"{DROP}
        (import "stile:plugin/exchange@0.1.0" "[method]request.add-header"
            (func $add (param i32 i32 i32 i32 i32 i32)))
        (import "stile:plugin/log@0.1.0" "write" (func $log (param i32 i32 i32)))
        (table $t 1 funcref)
        (data (i32.const 64) "x-many")"#
    );
    let again = |call: &str| format!("(loop $again {call} (br $again)) unreachable");
    for (what, phase) in [
        (
            "fields without end",
            again(
                "(call $add (local.get $request) (i32.const 64) (i32.const 6) (i32.const 64) (i32.const 6) (i32.const 2048))",
            ),
        ),
        ("long lines without end", again("(call $log (i32.const 2) (i32.const 1024) (i32.const 60000))")),
        ("a line of 2 GiB", "(call $log (i32.const 2) (i32.const 0) (i32.const 0x7fffffff)) unreachable".to_owned()),
        (
            "a fill of 15 MiB",
            "(drop (memory.grow (i32.const 240))) (memory.fill (i32.const 0) (i32.const 1) (i32.const 0xf00000)) unreachable"
                .to_owned(),
        ),
        (
            "a copy of 7 MiB",
            "(drop (memory.grow (i32.const 240))) (memory.copy (i32.const 0x10) (i32.const 0x780000) (i32.const 0x700000))
             unreachable"
                .to_owned(),
        ),
        ("a table without end", again("(drop (table.grow $t (ref.null func) (i32.const 1)))")),
        ("memory without end", again("(drop (memory.grow (i32.const 1)))")),
    ] {
        let file = folder.path().join(what.replace(' ', "-"));
        std::fs::write(&file, request_filter(&["log"], &parts, &phase)).expect("the folder is ours");
        let plugin = json!({ "name": "p", "file": file });
        let called = gateways.block_on(Called::start(plugin, json!({ "plugin": "p", "config": Value::Null }), None));
        LocalSet::new().block_on(&worker, async {
            bounded(what, async || exchanged(&called, &[], Body::Empty).await, Result::is_err).await;
        });
    }
}

/// As long as it takes for some turns, on a machine that has other things to do.
fn patient(guest: &str, allow: &[&str]) -> Value {
    let limits = json!({ "deadline": "300ms", "timeout": "60s", "memory": "64MiB", "body": "8MiB" });
    plugin_with(guest, json!({ "allow": allow, "limits": limits }))
}

#[test]
fn that_waits_for_its_socket_is_polled_between_turns_of_computing_guests() {
    const GUESTS: usize = 3;
    let (gateways, _) = runtimes();
    let worker = local_runtime();
    let _entered = gateways.enter();
    for (name, harms) in [
        ("hostile", &["loop", "grow", "recurse", "panic", "trap", "error", "flood"][..]),
        ("bodies", &["loop", "trap"]),
        ("streams", &["loop", "trap", "idle", "flood", "late"]),
    ] {
        for harm in harms {
            let what = format!("{harm} of {name}");
            let filter = json!({ "plugin": name, "config": { "request": harm } });
            let called = Rc::new(gateways.block_on(Called::start(patient(name, &[]), filter, None)));
            let guest = || {
                let called = Rc::clone(&called);
                async move { exchanged(&called, &[], body()).await }
            };
            let guests = (0..GUESTS).map(|_| guest()).collect();
            let results = worker.block_on(beside_a_waiting_neighbour(&what, guests));
            for (turns, result) in results {
                assert!(result.is_err(), "{what} did no harm");
                assert!(turns > 2 || *harm != "loop", "{what}: {turns} turns");
            }
        }
    }
}

#[test]
fn that_waits_for_its_socket_is_polled_between_slices_of_long_host_calls() {
    /// Bytes of each message, and slices that they are.
    const BYTES: &str = "4194304";
    const SLICES: usize = 64;
    let (gateways, _) = runtimes();
    let worker = local_runtime();
    let _entered = gateways.enter();
    let start = |guest, allow: &[&str]| {
        let filter = json!({ "plugin": guest, "config": {} });
        Rc::new(gateways.block_on(Called::start(patient(guest, allow), filter, None)))
    };
    let toolbox = start("toolbox", &["connection", "crypto", "key-value", "metrics"]);
    for (tool, told) in [("digest", "64"), ("hmac", "48"), ("equal", "true"), ("rs256", "false"), ("eddsa", "false")] {
        let called = Rc::clone(&toolbox);
        let guest = async move { exchanged(&called, &[("x-tool", tool), ("x-value", BYTES)], Body::Empty).await };
        let results = worker.block_on(beside_a_waiting_neighbour(tool, vec![guest]));
        let (turns, result) = &results[0];
        assert_eq!(*result, Err(told.to_owned()), "{tool}");
        assert!(*turns >= SLICES, "{tool}: {turns} turns");
    }
}

/// Answers at once.
#[derive(Debug)]
struct Echo;

impl Outbound for Echo {
    fn send(&self, call: CallOut) -> oneshot::Receiver<Answered> {
        let (answer, receiver) = oneshot::channel();
        let _ = answer.send(Ok(CallAnswer { status: StatusCode::OK, headers: call.headers, body: call.body }));
        receiver
    }
}

#[test]
fn that_waits_for_its_socket_is_polled_between_turns_of_guests_that_call_the_gateway_without_end() {
    const GUESTS: usize = 2;
    /// More than a guest makes until its deadline.
    const CALLS: u32 = 1_000_000;
    const KEY: &str = "a key of the file";
    let (gateways, _) = runtimes();
    let worker = local_runtime();
    let _entered = gateways.enter();
    let consumers = json!([{ "name": "ann", "credentials": [
        { "id": "one", "type": "api-key", "key": KEY },
        { "id": "two", "type": "hmac", "key_id": KEY, "secret": KEY.repeat(2) },
    ] }]);
    let tools = [
        "get",
        "set",
        "swap",
        "increment",
        "delete",
        "add",
        "gauge",
        "observe",
        "now",
        "monotonic",
        "random",
        "connection",
        "hash",
        "hmac",
        "equal",
        "rs256",
        "eddsa",
        "head",
    ];
    let kinds = ["api-key", "basic", "hmac", "jwt", "certificate"];
    let all = [
        ("toolbox", &["connection", "crypto", "key-value", "metrics"][..], "x-tool", &tools[..]),
        ("doorkeeper", &["consumers"], "x-kind", &kinds),
        ("caller", &["http-client"], "x-call", &["http://127.0.0.1:9/"]),
    ];
    for (name, allow, field, calls) in all {
        let mut guest = patient(name, allow);
        guest["limits"]["deadline"] = json!("100ms");
        guest["limits"]["calls"] = json!(CALLS);
        guest["http"] = json!({ "hosts": ["http://127.0.0.1:9"] });
        let filter = json!({ "plugin": name, "config": {} });
        let start = Called::with_consumers(guest, filter, consumers.clone(), Some(Arc::new(Echo)));
        let called = Rc::new(gateways.block_on(start));
        for call in calls {
            let what = format!("{call} of {name}");
            let guest = || {
                let called = Rc::clone(&called);
                let fields = [(field, *call), ("x-value", "1"), ("x-shown", KEY), ("x-forever", "1")];
                async move { exchanged(&called, &fields, Body::Empty).await }
            };
            let results = worker.block_on(beside_a_waiting_neighbour(&what, (0..GUESTS).map(|_| guest()).collect()));
            for (turns, result) in results {
                let error = result.expect_err(&what);
                assert!(error.contains("deadline") && turns > 2, "{what}: {error}, {turns} turns");
            }
        }
    }
}

fn limits() -> Limits {
    Limits {
        deadline: Duration::from_millis(5),
        timeout: Duration::from_secs(1),
        memory: 16 << 20,
        table_elements: 10_000,
        instances: 1,
        streams: 1,
        streams_per_client: 25,
        instance_wait: Duration::from_millis(100),
        body: 1 << 20,
        body_timeout: Duration::from_secs(1),
        key_value: 1 << 20,
        metrics: 1,
        log_lines: 100,
        calls: 1,
        call_timeout: Duration::from_secs(1),
        call_body: 1 << 20,
        copies: 2 << 20,
        handles: 1000,
    }
}
