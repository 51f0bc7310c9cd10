//! The gateway: the parts that a worker is made of, put together without its control plane, which has other threads.

use std::{
    collections::HashMap,
    env, fs,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::Path,
    rc::Rc,
    sync::Arc,
};

use arc_swap::ArcSwap;
use http::{HeaderMap, HeaderValue, uri::Scheme};
use stile_gateway::{
    access::Holdings,
    config::Document,
    descriptors::Room,
    exchange::{Body, Client, Exchange, Passes, RequestHead, ResponseHead, Via, id::RequestIds},
    filter::Span,
    listener::{self, Open, Share},
    plugin::{Bounds, Caller, Engine, Handles, Module, Revision, Running},
    proxy::{Logs, Proxy},
    snapshot::{
        Reader, Snapshot,
        compile::{Input, compile},
    },
    worker::WorkerId,
};
use tokio::{runtime::LocalRuntime, task::spawn_local};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// The environment variable that names the file of the plugin `add-headers`.
const PLUGIN: &str = "STILE_DECAY_PLUGIN";
const WORKER: WorkerId = WorkerId(0);
/// Each takes over 4 GiB of address space, of which valgrind has less than others.
fn bounds() -> Bounds {
    Bounds { instances: 4, memory: 16 << 20, table_elements: 10_000, core_instances: 4, ..Bounds::default() }
}

/// What stands between the client and the service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Workload {
    /// Nothing: what the client and the service cost themselves.
    Alone,
    /// A gateway that forwards.
    Plain,
    /// The same without metrics.
    Uncounted,
    /// The same with an access log, up to the thread that writes its file.
    AccessLog,
    /// The same as plain with a filter that sets one header of the request.
    HeaderFilter,
}

/// Serves this workload on a port of its own, on this thread.
pub(crate) async fn open(workload: Workload, service: SocketAddr) -> SocketAddr {
    let snapshot = snapshot(workload, service).await;
    let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    socket.set_nonblocking(true).expect("a socket");
    let address = socket.local_addr().expect("it is bound");
    let share = Share {
        listener: Arc::clone(&snapshot.listeners[0]),
        socket,
        connections: Open::new(1),
        windows: Arc::default(),
        room: Arc::new(Room::measure()),
        stop: CancellationToken::new(),
    };
    let reader = Reader::new(Arc::new(ArcSwap::from_pointee(snapshot)), None);
    let proxy = Proxy::new(WORKER, reader, Logs::new().0, via());
    spawn_local(listener::accept(share, Rc::new(proxy), TaskTracker::new()));
    address
}

async fn snapshot(workload: Workload, service: SocketAddr) -> Snapshot {
    let (filters, more) = match workload {
        Workload::HeaderFilter => {
            (r#"[{ plugin: add-headers, config: { request: { set: { x-filtered: "1" } } } }]"#, "")
        }
        Workload::Uncounted => ("[]", "metrics: { enabled: false }"),
        Workload::AccessLog => ("[]", "access_log: { file: never-opened }"),
        Workload::Alone | Workload::Plain => ("[]", ""),
    };
    let text = format!(
        "listeners: [{{ name: public, address: \"127.0.0.1:0\" }}]\n\
         plugins: [{{ name: add-headers }}]\n\
         services: [{{ name: orders, endpoints: [{{ address: \"{service}\" }}] }}]\n\
         routes:\n  \
           - name: orders\n    \
             match: {{ hosts: [api.example.com], path: \"/users/{{id}}/orders\" }}\n    \
             filters: {filters}\n    \
             service: orders\n\
         {more}\n"
    );
    let document = Document::parse(Path::new("decay.yaml"), &text, &|_| None);
    assert!(document.is_sound(), "{}", document.errors(Vec::new()));
    let revisions = match workload {
        Workload::HeaderFilter => HashMap::from([(Arc::from("add-headers"), Running::alone(revision()))]),
        _ => HashMap::new(),
    };
    let input = Input {
        config: &document.config,
        revisions: &revisions,
        previous: None,
        workers: 1,
        generation: 1,
        stored: Holdings::default(),
    };
    compile(input).await.expect("a configuration without mistakes")
}

fn revision() -> Revision {
    let file = env::var_os(PLUGIN).unwrap_or_else(|| panic!("{PLUGIN} is not set"));
    let engine = Engine::new(bounds()).expect("an engine");
    let module = Module::compile(&engine, &fs::read(file).expect("the plugin is built")).expect("a plugin");
    Revision { plugin: Arc::from("add-headers"), number: 1, module, signature: None }
}

/// A route with one filter, and an exchange to call it with.
#[derive(Debug)]
pub struct Filtered {
    runtime: LocalRuntime,
    snapshot: Snapshot,
    exchange: Exchange,
}

impl Filtered {
    pub fn ready() -> Self {
        let runtime = crate::runtime();
        let nowhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 9));
        let snapshot = runtime.block_on(snapshot(Workload::HeaderFilter, nowhere));
        let mut filtered = Self { runtime, snapshot, exchange: exchange() };
        filtered.calls(crate::WARM_UP);
        filtered
    }

    /// Calls its request phase so many times: an instance is taken, called and put back.
    pub fn calls(&mut self, count: usize) {
        let Self { runtime, snapshot, exchange } = self;
        let handles = Arc::new(Handles { consumers: Arc::new(snapshot.access.clone()), outbound: None });
        let caller = Caller { worker: WORKER, handles: &handles };
        runtime.block_on(async {
            for _ in 0..count {
                let chain = &snapshot.routes[0].chain;
                let first = chain.enter(exchange);
                let instead = chain.request(caller, exchange, &mut Body::Empty, first, Span::All).await;
                exchange.filters.clear();
                assert!(instead.is_none(), "the filter proceeds");
            }
        });
    }
}

/// An exchange as filters meet it.
fn exchange() -> Exchange {
    let mut headers = HeaderMap::new();
    for (name, value) in [("host", "api.example.com"), ("user-agent", "decay/1.0"), ("accept", "application/json")] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    Exchange {
        id: RequestIds::new().draw(),
        client: Arc::new(client()),
        forwarded_for: None,
        via: None,
        trace: None,
        request: RequestHead { headers, ..RequestHead::default() },
        head_only: false,
        encoded_slash: false,
        response: ResponseHead::default(),
        consumer: None,
        destination: None,
        filters: Vec::new(),
        notices: Vec::new(),
    }
}

/// A gateway as others see it.
pub fn via() -> Via {
    Via::new(Passes { pseudonym: "stile-0123456789abcdef".to_owned(), max: 8 })
}

/// A client whose claims are not believed.
pub fn client() -> Client {
    Client::new(
        SocketAddr::from((Ipv4Addr::LOCALHOST, 50_000)),
        Arc::from("public"),
        Scheme::HTTP,
        Arc::default(),
        Arc::default(),
    )
}
