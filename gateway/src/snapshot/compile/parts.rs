//! Small values from their written form to the one that runs: pure, one function each.

use std::{collections::HashSet, sync::Arc};

use crate::{
    balance::Policy,
    config::{
        Problem, schema,
        words::{did_you_mean, nearest, quoted},
    },
    filter::{OnError, ShareKey},
    linger::LingerLimits,
    monitor::access_log::{LineError, Spec},
    plugin::{self, Isolation, Origin, Reach},
    progress::Limits,
    snapshot::{GatewayLimits, ListenerLimits},
    upstream::{HostHeader, Listed, Member, PoolLimits, Transport},
};

pub(super) fn network(text: &str) -> Option<ipnet::IpNet> {
    text.parse().or_else(|_| text.parse::<std::net::IpAddr>().map(Into::into)).ok()
}

pub fn listener_limits(limits: &schema::ListenerLimits) -> ListenerLimits {
    ListenerLimits {
        connections: limits.connections as usize,
        connections_per_client: limits.connections_per_client as usize,
        header_bytes: size(limits.header_bytes),
        header_count: usize::from(limits.header_count),
        header_timeout: limits.header_timeout.0,
        progress: progress(&limits.progress),
        tcp_keepalive: limits.progress.tcp_keepalive.0,
        response_buffer: size(limits.response_buffer),
        stream_resets: limits.stream_resets,
        linger: LingerLimits { bytes: limits.linger_bytes.0, timeout: limits.linger_timeout.0 },
    }
}

fn progress(progress: &schema::Progress) -> Limits {
    Limits {
        body_idle_timeout: progress.idle_timeout.0,
        stream_idle_timeout: progress.stream_idle_timeout.0,
        min_rate: u32::try_from(progress.min_rate.0).unwrap_or(u32::MAX),
        min_rate_grace: progress.min_rate_grace.0,
    }
}

pub(super) fn transport(service: &schema::Service) -> Transport {
    Transport {
        connect_timeout: service.connect_timeout.0,
        tcp_keepalive: service.progress.tcp_keepalive.0,
        progress: progress(&service.progress),
        header_count: usize::from(service.header_count),
        header_bytes: size(service.header_bytes),
    }
}

pub(super) fn gateway_limits(limits: &schema::Limits) -> GatewayLimits {
    GatewayLimits { http2_windows: limits.http2_windows.0, reserved_descriptors: limits.reserved_descriptors.into() }
}

pub(super) fn access_log(log: &schema::AccessLog) -> Spec {
    Spec {
        file: log.file.clone(),
        format: log.format.clone(),
        fields: log.fields.clone(),
        redact: log.redact.clone(),
        buffer: size(log.buffer),
    }
}

pub(super) fn line_problem(error: &LineError) -> Problem {
    match error {
        LineError::Unknown { name, place } => {
            let path = place.map_or("access_log.format".to_owned(), |n| format!("access_log.fields[{n}]"));
            Problem::new(path, unknown("field", name, LineError::known()))
        }
        LineError::Open => Problem::new("access_log.format", error.to_string()),
        LineError::FieldsOfTemplate => Problem::new("access_log.fields", error.to_string()),
    }
}

pub(super) fn limits(limits: &schema::PluginLimits) -> plugin::Limits {
    plugin::Limits {
        deadline: limits.deadline.0,
        timeout: limits.timeout.0,
        memory: size(limits.memory),
        table_elements: limits.table_elements as usize,
        instances: limits.instances,
        streams_per_client: limits.streams_per_client,
        streams: limits.streams.unwrap_or(limits.instances.div_ceil(2)),
        instance_wait: limits.instance_wait.0,
        body: size(limits.body),
        body_timeout: limits.body_timeout.0,
        key_value: size(limits.key_value),
        metrics: limits.metrics as usize,
        log_lines: limits.log_lines,
        calls: limits.calls,
        call_timeout: limits.call_timeout.0,
        call_body: size(limits.call_body),
        copies: size(limits.copies),
        handles: limits.handles,
    }
}

/// Hosts in the one form that calls are compared in; `compile::filters` tells of those that are none.
pub(super) fn reach(reach: &schema::Reach) -> Reach {
    let hosts = reach.hosts.iter().filter_map(|host| origin(host)).map(|origin| origin.to_string());
    Reach { services: reach.services.iter().cloned().collect(), hosts: hosts.collect() }
}

/// Scheme, host and port, and nothing else.
pub(super) fn origin(text: &str) -> Option<Origin> {
    let uri: http::Uri = text.parse().ok()?;
    Origin::of(&uri).filter(|_| uri.path_and_query().is_none_or(|path| path == "/"))
}

/// None if it is neither `client` nor `header:NAME`.
pub(super) fn share_key(key: &str) -> Option<ShareKey> {
    match key.strip_prefix("header:") {
        Some(name) => name.parse().ok().map(ShareKey::Header),
        None => (key == "client").then_some(ShareKey::Client),
    }
}

pub(super) fn listed(service: &schema::Service, workers: usize, reserved: u32) -> Listed {
    let policy = match service.balance {
        // What a plugin leaves to us.
        schema::Balance::Policy(schema::Policy::RoundRobin) | schema::Balance::Plugin(_) => Policy::RoundRobin,
        schema::Balance::Policy(schema::Policy::Random) => Policy::Random,
        schema::Balance::Policy(schema::Policy::Weighted) => Policy::Weighted,
    };
    let limits =
        PoolLimits { idle_connections: usize::from(service.idle_connections), idle_timeout: service.idle_timeout.0 };
    let fixed = service.endpoints.iter().map(|it| Arc::new(Member::of(it.address, it.weight))).collect();
    Listed { fixed, policy, limits, workers, reserved_descriptors: reserved.into() }
}

pub(super) fn on_error(on_error: schema::OnError) -> OnError {
    match on_error {
        schema::OnError::Closed => OnError::Closed,
        schema::OnError::Open => OnError::Open,
    }
}

pub(super) fn isolation(isolation: schema::Isolation) -> Isolation {
    match isolation {
        schema::Isolation::Pooled => Isolation::Pooled,
        schema::Isolation::Request => Isolation::Request,
    }
}

pub(super) fn host(host: schema::HostHeader) -> HostHeader {
    match host {
        schema::HostHeader::Client => HostHeader::Client,
        schema::HostHeader::Upstream => HostHeader::Endpoint,
    }
}

/// Says that a name is not there, and what may have been meant.
pub(super) fn unknown<'a>(kind: &str, name: &str, known: impl Iterator<Item = &'a str>) -> String {
    let mut seen = HashSet::new();
    // One that is missing has been told of.
    let known: Vec<&str> = known.filter(|name| !name.is_empty() && seen.insert(*name)).collect();
    let hint = match (nearest(name, known.iter().copied()), known.len()) {
        (Some(meant), _) => did_you_mean(meant),
        (None, 0) => format!(", nor any other {kind}"),
        (None, 1..=8) => format!(", only {}", known.join(", ")),
        (None, _) => String::new(),
    };
    format!("there is no {kind} {}{hint}", quoted(name))
}

pub(super) fn size(size: crate::config::scalar::Size) -> usize {
    usize::try_from(size.0).unwrap_or(usize::MAX)
}
