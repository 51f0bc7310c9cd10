//! What guests may import beside the exchange: thin impls over the neutral host.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use http::Version;
use tokio::task::spawn_blocking;
use wasmtime::component::Resource;

use super::{
    CallHandle,
    bindings::stile::plugin::{clock, connection, consumers, exchange, http_client, key_value, log, metrics, random},
};
use crate::{
    exchange::Consumer,
    plugin::{
        Cause,
        host::{
            self, Asked, CallAnswer, CallError, Host, Level, MetricError, NoExchange, Presented, Step, ValueError,
            Values,
        },
    },
};

/// Random bytes that one call may ask for.
const MAX_RANDOM: u32 = 64 << 10;

impl log::Host for Host {
    fn enabled(&mut self, level: log::Level) -> wasmtime::Result<bool> {
        Ok(self.log_enabled(level.into()))
    }

    fn write(&mut self, level: log::Level, message: String) -> wasmtime::Result<()> {
        self.log(level.into(), &message);
        Ok(())
    }

    fn panicked(&mut self, message: String, place: String) -> wasmtime::Result<()> {
        self.panicked(&message, &place);
        Ok(())
    }
}

impl consumers::Host for Host {
    async fn verify(&mut self, presented: consumers::Presented) -> wasmtime::Result<Option<exchange::Consumer>> {
        Ok(Self::verify(self, presented.into()).await?.map(Into::into))
    }
}

impl From<consumers::Presented> for Presented {
    fn from(presented: consumers::Presented) -> Self {
        match presented {
            consumers::Presented::ApiKey(key) => Self::ApiKey(key),
            consumers::Presented::Basic(consumers::Password { username, password }) => {
                Self::Basic { username, password }
            }
            consumers::Presented::Hmac(consumers::Signature { key_id, message, signature }) => {
                Self::Hmac { key_id, message, signature }
            }
            consumers::Presented::Jwt(consumers::Subject { issuer, subject }) => Self::Jwt { issuer, subject },
            consumers::Presented::Certificate(subject) => Self::Certificate(subject),
        }
    }
}

impl From<Consumer> for exchange::Consumer {
    fn from(Consumer { name, groups, credential }: Consumer) -> Self {
        Self { name, groups, credential }
    }
}

impl From<log::Level> for Level {
    fn from(level: log::Level) -> Self {
        match level {
            log::Level::Trace => Self::Trace,
            log::Level::Debug => Self::Debug,
            log::Level::Info => Self::Info,
            log::Level::Warn => Self::Warn,
            log::Level::Error => Self::Error,
        }
    }
}

impl connection::Host for Host {
    fn current(&mut self) -> wasmtime::Result<connection::Facts> {
        let lent = self.lent()?;
        let (peer, client) = lent.client.as_ref().ok_or(NoExchange)?;
        let protocol = match lent.request.version {
            Version::HTTP_10 => "HTTP/1.0",
            Version::HTTP_2 => "HTTP/2",
            _ => "HTTP/1.1",
        };
        Ok(connection::Facts {
            address: client.to_string(),
            peer: peer.address.ip().to_string(),
            peer_port: peer.address.port(),
            listener: peer.listener.to_string(),
            scheme: peer.scheme.to_string(),
            protocol: protocol.to_owned(),
            trusted: peer.trusted,
        })
    }
}

impl clock::Host for Host {
    fn now(&mut self) -> wasmtime::Result<u64> {
        Ok(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, nanos))
    }

    fn monotonic(&mut self) -> wasmtime::Result<u64> {
        Ok(host::monotonic())
    }
}

impl random::Host for Host {
    fn bytes(&mut self, count: u32) -> wasmtime::Result<Vec<u8>> {
        if count > MAX_RANDOM {
            return Err(wasmtime::format_err!("it asks for {count} random bytes at once, more than {MAX_RANDOM}"));
        }
        Ok(host::random(count as usize)?)
    }
}

impl key_value::Host for Host {
    fn get(&mut self, key: String) -> wasmtime::Result<Option<Vec<u8>>> {
        Ok(self.state.values.get(&key).map(Vec::from))
    }

    async fn set(
        &mut self,
        key: String,
        value: Vec<u8>,
        ttl: Option<u64>,
    ) -> wasmtime::Result<Result<(), key_value::Error>> {
        let bound = self.make_room(&key, value.len()).await?;
        Ok(self.remembered(|values| values.set(bound, key, value, ttl.map(Duration::from_millis))))
    }

    async fn compare_and_swap(
        &mut self,
        key: String,
        before: Option<Vec<u8>>,
        value: Vec<u8>,
        ttl: Option<u64>,
    ) -> wasmtime::Result<Result<bool, key_value::Error>> {
        let bound = self.make_room(&key, value.len()).await?;
        let ttl = ttl.map(Duration::from_millis);
        Ok(self.remembered(|values| values.compare_and_swap(bound, key, before.as_deref(), value, ttl)))
    }

    async fn increment(
        &mut self,
        key: String,
        by: i64,
        ttl: Option<u64>,
    ) -> wasmtime::Result<Result<i64, key_value::Error>> {
        let bound = self.make_room(&key, 0).await?;
        Ok(self.remembered(|values| values.increment(bound, key, by, ttl.map(Duration::from_millis))))
    }

    fn delete(&mut self, key: String) -> wasmtime::Result<()> {
        self.state.values.delete(&key);
        Ok(())
    }
}

impl http_client::Host for Host {
    async fn send(&mut self, request: http_client::Request) -> CallResult {
        match self.start_call(request.into())? {
            Ok(number) => Ok(self.finish_call(number).await.map(Into::into).map_err(Into::into)),
            Err(error) => Ok(Err(error.into())),
        }
    }

    fn start(
        &mut self,
        request: http_client::Request,
    ) -> wasmtime::Result<Result<Resource<CallHandle>, http_client::Error>> {
        Ok(self.start_call(request.into())?.map(Resource::new_own).map_err(Into::into))
    }
}

type CallResult = wasmtime::Result<Result<http_client::Response, http_client::Error>>;

impl http_client::HostPending for Host {
    async fn wait(&mut self, call: Resource<CallHandle>) -> CallResult {
        Ok(self.finish_call(call.rep()).await.map(Into::into).map_err(Into::into))
    }

    fn drop(&mut self, call: Resource<CallHandle>) -> wasmtime::Result<()> {
        self.give_up_call(call.rep());
        Ok(())
    }
}

impl From<http_client::Request> for Asked {
    fn from(request: http_client::Request) -> Self {
        let http_client::Request { method, url, headers, body, timeout } = request;
        Self { method, url, headers, body, timeout }
    }
}

impl From<CallAnswer> for http_client::Response {
    fn from(answer: CallAnswer) -> Self {
        Self { status: answer.status.as_u16(), headers: super::list(&answer.headers), body: answer.body.into() }
    }
}

impl From<CallError> for http_client::Error {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Invalid(text) => Self::Invalid(text),
            CallError::NotAllowed(text) => Self::NotAllowed(text),
            CallError::Limit(text) => Self::Limit(text),
            CallError::Timeout => Self::Timeout,
            CallError::Failed(text) => Self::Failed(text),
        }
    }
}

impl Host {
    /// Returns the bytes that the plugin's values may have in all, after what has lapsed made room for an entry if there was none.
    fn make_room(&self, key: &str, value: usize) -> impl Future<Output = wasmtime::Result<usize>> + use<> {
        let bound = self.meter.limits.key_value;
        let state = self.state.values.needs_sweep(bound, key, value).then(|| Arc::clone(&self.state));
        async move {
            if let Some(state) = state {
                spawn_blocking(move || state.values.sweep()).await?;
            }
            Ok(bound)
        }
    }

    fn remembered<T>(&mut self, change: impl FnOnce(&Values) -> Result<T, ValueError>) -> Result<T, key_value::Error> {
        let changed = change(&self.state.values);
        if matches!(changed, Err(ValueError::Full)) {
            self.over(Cause::KeyValue);
        }
        changed.map_err(Into::into)
    }
}

type Recorded = wasmtime::Result<Result<(), metrics::Error>>;

impl metrics::Host for Host {
    fn add(&mut self, name: String, labels: Vec<metrics::Label>, by: u64) -> Recorded {
        Ok(record(self, &name, labels, Step::Add(by)))
    }

    fn set(&mut self, name: String, labels: Vec<metrics::Label>, value: f64) -> Recorded {
        Ok(record(self, &name, labels, Step::Set(value)))
    }

    fn observe(&mut self, name: String, labels: Vec<metrics::Label>, seconds: f64) -> Recorded {
        Ok(record(self, &name, labels, Step::Observe(seconds)))
    }
}

fn record(host: &mut Host, name: &str, labels: Vec<metrics::Label>, step: Step) -> Result<(), metrics::Error> {
    host.state.series.record(host.meter.limits.metrics, name, labels, step).map_err(|error| match error {
        MetricError::Invalid(text) => metrics::Error::Invalid(text),
        MetricError::Full => {
            host.over(Cause::Metrics);
            metrics::Error::Full
        }
    })
}

impl From<ValueError> for key_value::Error {
    fn from(error: ValueError) -> Self {
        match error {
            ValueError::InvalidKey => Self::InvalidKey,
            ValueError::Full => Self::Full,
            ValueError::NotACounter => Self::NotACounter,
        }
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
