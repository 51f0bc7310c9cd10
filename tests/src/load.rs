//! Load: a number of connections that ask one request after the other until told to stop, each answer judged.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{
    client::{Answer, Client},
    wait::SOON,
};

/// Examples of what went wrong that are kept.
const EXAMPLES: usize = 5;

#[derive(Debug, Clone, Copy)]
pub struct Load {
    pub address: SocketAddr,
    pub connections: usize,
    /// Requests of each connection at most.
    pub requests: usize,
    /// From the answer to the next request of a connection.
    pub pause: Duration,
}

/// What the answers were.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    pub right: usize,
    pub wrong: usize,
    pub failed: usize,
    pub examples: Vec<String>,
}

/// One request and how its answer is judged.
pub struct Probe<J> {
    pub request: Request<Full<Bytes>>,
    pub judge: J,
}

/// A load under way.
#[derive(Debug)]
pub struct Running {
    stop: CancellationToken,
    tasks: JoinSet<Tally>,
}

impl Load {
    /// Starts it; `probe` is called before each request.
    pub fn start<J>(self, probe: impl Fn() -> Probe<J> + Send + Sync + 'static) -> Running
    where
        J: FnOnce(&Answer) -> Result<(), String> + Send + 'static,
    {
        let (stop, probe, mut tasks) = (CancellationToken::new(), Arc::new(probe), JoinSet::new());
        for _ in 0..self.connections {
            let (stop, probe) = (stop.clone(), Arc::clone(&probe));
            tasks.spawn(async move { self.ask(&*probe, &stop).await });
        }
        Running { stop, tasks }
    }

    async fn ask<J>(self, probe: &(impl Fn() -> Probe<J> + Send + Sync), stop: &CancellationToken) -> Tally
    where
        J: FnOnce(&Answer) -> Result<(), String> + Send,
    {
        let (mut tally, mut client) = (Tally::default(), None);
        for _ in 0..self.requests {
            if stop.is_cancelled() {
                break;
            }
            let Probe { request, judge } = probe();
            match timeout(SOON, one(&mut client, self.address, request)).await {
                Ok(Ok(answer)) => match judge(&answer) {
                    Ok(()) => tally.right += 1,
                    Err(why) => tally.note_wrong(why),
                },
                Ok(Err(error)) => {
                    tally.note_failed(error);
                    client = None;
                }
                Err(_) => {
                    tally.note_failed("no answer in time".to_owned());
                    client = None;
                }
            }
            if !self.pause.is_zero() {
                sleep(self.pause).await;
            }
        }
        tally
    }
}

impl Running {
    /// Waits until every connection has asked all its requests.
    pub async fn finished(mut self) -> Tally {
        let mut sum = Tally::default();
        while let Some(tally) = self.tasks.join_next().await {
            sum.add(tally.expect("a judge that panics is a mistake of the test"));
        }
        sum
    }

    /// Lets the requests under way finish, and no other begin.
    pub async fn stop(self) -> Tally {
        self.stop.cancel();
        self.finished().await
    }
}

impl Tally {
    fn note_wrong(&mut self, why: String) {
        self.wrong += 1;
        self.example(why);
    }

    fn note_failed(&mut self, why: String) {
        self.failed += 1;
        self.example(why);
    }

    fn example(&mut self, why: String) {
        if self.examples.len() < EXAMPLES {
            self.examples.push(why);
        }
    }

    fn add(&mut self, other: Self) {
        self.right += other.right;
        self.wrong += other.wrong;
        self.failed += other.failed;
        other.examples.into_iter().for_each(|example| self.example(example));
    }
}

impl<J> std::fmt::Debug for Probe<J> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Probe").field("request", &self.request).finish_non_exhaustive()
    }
}

/// A failure is the gateway's: nothing is tried twice.
async fn one(
    client: &mut Option<Client>,
    address: SocketAddr,
    request: Request<Full<Bytes>>,
) -> Result<Answer, String> {
    if client.is_none() {
        *client = Some(Client::try_connect(address).await.map_err(|error| format!("cannot connect: {error}"))?);
    }
    let client = client.as_mut().ok_or("not connected")?;
    client.try_send(request).await.map_err(|error| format!("{error:?}"))
}

/// How long each request of one connection took, one after the other for so long; the shortest first.
pub async fn latencies(address: SocketAddr, path: &'static str, time: Duration) -> Vec<Duration> {
    let (mut client, begin, mut latencies) = (Client::connect(address).await, Instant::now(), Vec::new());
    while begin.elapsed() < time {
        let start = Instant::now();
        let status = client.get(path).await.status;
        assert_eq!(status, 200, "{path}");
        latencies.push(start.elapsed());
    }
    latencies.sort();
    latencies
}
