//! The client and the service: as little as can ask and answer, since their instructions are counted too.

use std::net::{Ipv4Addr, SocketAddr};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::spawn_local,
};

const REQUEST: &[u8] = b"GET /users/4711/orders?page=2 HTTP/1.1\r\nhost: api.example.com\r\nuser-agent: decay/1.0\r\n\
    accept: application/json\r\naccept-encoding: gzip\r\nauthorization: Bearer 0123456789abcdef\r\n\r\n";
/// With a date, so that nobody adds one: what that costs depends on the time.
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nserver: decay\r\ndate: Thu, 01 Jan 2026 00:00:00 GMT\r\n\
    content-type: application/json\r\ncontent-length: 28\r\ncache-control: no-cache\r\n\r\n{\"order\":1,\"state\":\"open\"}\r\n";
const END_OF_REQUEST: &[u8] = b"\r\n\r\n";
const END_OF_ANSWER: &[u8] = b"open\"}\r\n";

/// One end of a connection. Its buffer is made once: making one for each message would count.
#[derive(Debug)]
pub(crate) struct End {
    stream: TcpStream,
    buffer: Box<[u8]>,
}

/// Starts the service on a port of its own.
pub(crate) async fn serve() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    spawn_local(async move {
        while let Ok((stream, _)) = listener.accept().await {
            spawn_local(End::new(stream).answer());
        }
    });
    address
}

impl End {
    fn new(stream: TcpStream) -> Self {
        stream.set_nodelay(true).expect("a TCP stream");
        Self { stream, buffer: vec![0; 4096].into() }
    }

    pub(crate) async fn connect(address: SocketAddr) -> Self {
        Self::new(TcpStream::connect(address).await.expect("the address accepts"))
    }

    /// One request and its answer.
    pub(crate) async fn ask(&mut self) {
        self.stream.write_all(REQUEST).await.expect("the gateway reads");
        assert!(self.read_until(END_OF_ANSWER).await, "the gateway closed the connection");
    }

    async fn answer(mut self) {
        while self.read_until(END_OF_REQUEST).await {
            self.stream.write_all(ANSWER).await.expect("the gateway reads");
        }
    }

    /// False at the end of the stream.
    async fn read_until(&mut self, end: &[u8]) -> bool {
        let mut filled = 0;
        while !self.buffer[..filled].ends_with(end) {
            match self.stream.read(&mut self.buffer[filled..]).await.expect("an open connection") {
                0 => return false,
                more => filled += more,
            }
        }
        true
    }
}
