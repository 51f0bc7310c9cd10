//! `/metrics`: what the records have counted and how things stand, in the Prometheus text format.

mod process;
mod text;

use std::{collections::BTreeMap, sync::Arc};

use self::text::{Kind, Text};
use super::{
    count::{BOUNDS, Statuses, TimesSum},
    record::{Outcome, Standing},
    records::Records,
};
use crate::{
    plugin::{Cause, OwnMetric, OwnValue, Phase},
    snapshot::Snapshot,
};

/// Whole exchanges take this long at least: their histograms leave the finer buckets out.
const EXCHANGE: usize = 5;

pub fn render(snapshot: &Snapshot, standing: &Standing) -> String {
    let mut text = Text::default();
    text.family("stile_build_info", Kind::Gauge, "The version that runs.");
    text.line(&[("version", env!("CARGO_PKG_VERSION"))], 1);
    text.family("stile_generation", Kind::Gauge, "Number of the live configuration.");
    text.line(&[], snapshot.generation);
    text.family("stile_generation_age_seconds", Kind::Gauge, "How long it has been live.");
    text.line(&[], snapshot.since.elapsed().as_secs());
    text.family("stile_config_changes_total", Kind::Counter, "Changes of the configuration, by what came of them.");
    text.line(&[("outcome", "applied")], standing.applied);
    text.line(&[("outcome", "refused")], standing.refused);
    listeners(&mut text, standing);
    buffered(&mut text, standing);
    text.family("stile_registrations", Kind::Gauge, "Endpoints that announced themselves.");
    text.line(&[], standing.registrations as u64);
    text.family("stile_registrations_held", Kind::Gauge, "Those whose ttl is over and that stay: too many are silent.");
    text.line(&[], standing.held as u64);
    requests(&mut text, &snapshot.records);
    upstream(&mut text, &snapshot.records);
    endpoints(&mut text, snapshot);
    plugins(&mut text, snapshot);
    slots(&mut text, snapshot);
    plugin_lines(&mut text, snapshot);
    own(&mut text, snapshot);
    text.family(
        "stile_log_dropped_total",
        Kind::Counter,
        "Lines of the gateway's own log that found no room or could not be written.",
    );
    text.line(&[], standing.log_dropped);
    if let Some(log) = &snapshot.access_log {
        text.family(
            "stile_access_log_dropped_total",
            Kind::Counter,
            "Lines that found no room or could not be written.",
        );
        text.line(&[], log.dropped());
    }
    process::render(&mut text);
    text.into_string()
}

fn listeners(text: &mut Text, standing: &Standing) {
    text.family("stile_connections", Kind::Gauge, "Open connections of clients.");
    for listener in &standing.listeners {
        text.line(&[("listener", &listener.name)], listener.open);
    }
    text.family("stile_connections_accepted_total", Kind::Counter, "Connections of clients that were let in.");
    for listener in &standing.listeners {
        text.line(&[("listener", &listener.name)], listener.accepted);
    }
    text.family("stile_connections_refused_total", Kind::Counter, "Connections over a limit, closed at once.");
    for listener in &standing.listeners {
        text.line(&[("listener", &listener.name)], listener.turned_away);
    }
    text.family(
        "stile_request_fields_dropped_total",
        Kind::Counter,
        "Header fields of requests that were dropped: claims of clients that are not trusted, and names with underscores.",
    );
    for listener in &standing.listeners {
        text.line(&[("listener", &listener.name), ("reason", "untrusted")], listener.dropped_claims);
        text.line(&[("listener", &listener.name), ("reason", "underscore")], listener.dropped_underscores);
    }
}

fn buffered(text: &mut Text, standing: &Standing) {
    text.family(
        "stile_response_buffered_bytes",
        Kind::Gauge,
        "Bytes of response bodies that HTTP/2 connections hold until their clients have taken them.",
    );
    for listener in &standing.listeners {
        text.line(&[("listener", &listener.name)], listener.buffered);
    }
    text.family(
        "stile_http2_window_bytes",
        Kind::Gauge,
        "Bytes of request bodies that clients of HTTP/2 may send ahead, over all connections with large windows.",
    );
    text.line(&[], standing.windows);
}

fn requests(text: &mut Text, records: &Records) {
    let routes = records.routes.all();
    text.family(
        "stile_requests_total",
        Kind::Counter,
        "Requests that ended, by status; without a route: none matched.",
    );
    for ([route, service], record) in &routes {
        for (status, n) in Statuses::sum(record.counts.all().map(|counts| &counts.statuses)) {
            let code =
                if status == super::count::OTHER { super::records::OTHER.to_owned() } else { status.to_string() };
            text.line(&[("route", route), ("service", service), ("code", &code)], n);
        }
    }
    text.family(
        "stile_request_duration_seconds",
        Kind::Histogram,
        "From the head of a request to the last byte of its response.",
    );
    for ([route, service], record) in &routes {
        let times = TimesSum::of(record.counts.all().map(|counts| &counts.times));
        histogram(text, &[("route", route), ("service", service)], &times, EXCHANGE);
    }
    text.family("stile_request_bytes_total", Kind::Counter, "Bytes of bodies that clients sent.");
    for ([route, service], record) in &routes {
        let received = record.counts.sum(|counts| counts.received.get());
        text.line_if_any(&[("route", route), ("service", service)], received);
    }
    text.family("stile_response_bytes_total", Kind::Counter, "Bytes of bodies that clients were sent.");
    for ([route, service], record) in &routes {
        text.line_if_any(&[("route", route), ("service", service)], record.counts.sum(|counts| counts.sent.get()));
    }
    text.family("stile_errors_total", Kind::Counter, "Exchanges that did not end well, by whose doing and by cause.");
    for ([route, service], record) in &routes {
        for (fault, n) in record.faults() {
            let labels = [("route", &**route), ("service", service), ("blame", fault.blame), ("cause", fault.cause)];
            text.line(&labels, n);
        }
    }
}

fn upstream(text: &mut Text, records: &Records) {
    let services = records.services.all();
    text.family("stile_upstream_attempts_total", Kind::Counter, "Requests sent to endpoints, by what came of them.");
    for ([service], record) in &services {
        for outcome in Outcome::ALL {
            text.line_if_any(&[("service", service), ("outcome", outcome.as_str())], record.sum(outcome));
        }
    }
    text.family("stile_upstream_connections_total", Kind::Counter, "Connections opened to endpoints.");
    for ([service], record) in &services {
        text.line_if_any(&[("service", service)], record.counts.sum(|counts| counts.connections.get()));
    }
    text.family(
        "stile_upstream_duration_seconds",
        Kind::Histogram,
        "From sending a request to the head of its response, or to the failure.",
    );
    for ([service], record) in &services {
        let times = TimesSum::of(record.counts.all().map(|counts| &counts.times));
        histogram(text, &[("service", service)], &times, EXCHANGE);
    }
}

/// What the live generation has, as far as there is room for it.
fn endpoints(text: &mut Text, snapshot: &Snapshot) {
    let mut services: Vec<_> = snapshot.services.values().collect();
    services.sort_by(|a, b| a.name.cmp(&b.name));
    let tables = services.iter().map(|service| (&service.name, service.table.load_full()));
    let endpoints = tables.flat_map(|(name, table)| {
        let told = table.all().map(|(_, it)| (it.address.to_string(), it.is_up().into(), it.in_flight() as u64));
        told.map(|(address, up, in_flight)| (name, address, up, in_flight)).collect::<Vec<_>>()
    });
    let endpoints: Vec<(_, _, u64, _)> = endpoints.take(snapshot.records.bound()).collect();
    text.family("stile_endpoint_up", Kind::Gauge, "0 while it is passed over, since it took no connection.");
    for (service, address, up, _) in &endpoints {
        text.line(&[("service", service), ("endpoint", address)], *up);
    }
    text.family("stile_endpoint_requests_in_flight", Kind::Gauge, "Exchanges whose response is not passed on whole.");
    for (service, address, _, in_flight) in &endpoints {
        text.line(&[("service", service), ("endpoint", address)], *in_flight);
    }
}

fn plugins(text: &mut Text, snapshot: &Snapshot) {
    let filters = snapshot.records.filters.all();
    text.family("stile_plugin_calls_total", Kind::Counter, "Phases run by filters, by what they came to.");
    for ([plugin, revision, route], record) in &filters {
        for phase in Phase::ALL {
            let outcomes = [
                ("proceed", record.sum(phase, |counts| counts.proceeded.get())),
                ("respond", record.sum(phase, |counts| counts.responded.get())),
                ("failure", record.sum(phase, |counts| counts.all_failed())),
            ];
            for (outcome, n) in outcomes {
                let labels =
                    [("plugin", &**plugin), ("revision", revision), ("route", route), ("phase", phase.as_str())];
                text.line_if_any(&[&labels[..], &[("outcome", outcome)]].concat(), n);
            }
        }
    }
    text.family(
        "stile_plugin_first_call_failures_total",
        Kind::Counter,
        "Of the failed calls, the first calls of instances: work that is needed once belongs in configure.",
    );
    for ([plugin, revision, route], record) in &filters {
        for phase in Phase::ALL {
            let labels = [("plugin", &**plugin), ("revision", revision), ("route", route), ("phase", phase.as_str())];
            text.line_if_any(&labels, record.sum(phase, |counts| counts.failed_first.get()));
        }
    }
    text.family("stile_plugin_overruns_total", Kind::Counter, "Calls of filters that failed, by cause.");
    // Whatever the revision: a new one does not undo what was counted.
    let mut overruns: BTreeMap<_, u64> = BTreeMap::new();
    for ([plugin, _, route], record) in &filters {
        for cause in Cause::ALL {
            *overruns.entry((plugin, route, cause.as_str())).or_default() += record.failures(cause);
        }
    }
    for ((plugin, route, cause), n) in overruns {
        text.line_if_any(&[("plugin", plugin), ("route", route), ("cause", cause)], n);
    }
    text.family("stile_plugin_call_seconds", Kind::Histogram, "How long calls took, waits for an instance included.");
    for ([plugin], record) in snapshot.records.plugins.all() {
        for phase in Phase::ALL {
            histogram(text, &[("plugin", &plugin), ("phase", phase.as_str())], &TimesSum::of(record.times(phase)), 0);
        }
    }
    let mut instances: BTreeMap<_, u64> = BTreeMap::new();
    let mut exchanges: BTreeMap<_, u64> = BTreeMap::new();
    let mut memory: BTreeMap<_, u64> = BTreeMap::new();
    for pool in snapshot.instances() {
        let revision = pool.revision();
        let on = snapshot.states.of(&revision.plugin).exchanges(revision.number) as u64;
        exchanges.insert((Arc::clone(&revision.plugin), revision.number), on);
        *memory.entry((Arc::clone(&revision.plugin), revision.number)).or_default() += pool.memory() as u64;
        *instances.entry((Arc::clone(&revision.plugin), revision.number)).or_default() += pool.alive() as u64;
    }
    text.family("stile_plugin_instances", Kind::Gauge, "Instances that there are, busy or idle.");
    for ((plugin, revision), n) in instances {
        text.line(&[("plugin", &plugin), ("revision", &revision.to_string())], n);
    }
    text.family("stile_plugin_memory_bytes", Kind::Gauge, "Linear memory of the instances that there are.");
    for ((plugin, revision), n) in memory {
        text.line(&[("plugin", &plugin), ("revision", &revision.to_string())], n);
    }
    text.family("stile_plugin_exchanges", Kind::Gauge, "Exchanges that are on a revision, to their ends.");
    for ((plugin, revision), n) in exchanges {
        text.line(&[("plugin", &plugin), ("revision", &revision.to_string())], n);
    }
}

/// The room for instances, which all plugins share.
fn slots(text: &mut Text, snapshot: &Snapshot) {
    let Some(slots) = snapshot.instances().next().map(|pool| pool.slots()) else { return };
    text.family("stile_plugin_instance_slots", Kind::Gauge, "Instances that there may be of all plugins together.");
    text.line(&[], slots.total as u64);
    text.family("stile_plugin_instance_slots_used", Kind::Gauge, "Slots that instances take, one for each memory.");
    text.line(&[], slots.used as u64);
    text.family(
        "stile_plugin_evictions_total",
        Kind::Counter,
        "Idle instances that ended since another configuration needed their slot.",
    );
    text.line(&[], slots.evicted);
}

fn plugin_lines(text: &mut Text, snapshot: &Snapshot) {
    let help = "Log lines of plugins that were over their limits.log_lines.";
    text.family("stile_plugin_log_lines_dropped_total", Kind::Counter, help);
    for (plugin, n) in snapshot.states.dropped_lines() {
        text.line_if_any(&[("plugin", &*plugin)], n);
    }
}

/// What plugins count themselves.
fn own(text: &mut Text, snapshot: &Snapshot) {
    let mut last: Box<str> = "".into();
    for (plugin, OwnMetric { name, labels, value }) in snapshot.states.metrics() {
        if name != last {
            let kind = match value {
                OwnValue::Counter(_) => Kind::Counter,
                OwnValue::Gauge(_) => Kind::Gauge,
                OwnValue::Times(_) => Kind::Histogram,
            };
            text.family(&name, kind, "Kept by plugins.");
            last.clone_from(&name);
        }
        let pairs = labels.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let labels: Vec<_> = std::iter::once(("plugin", &*plugin)).chain(pairs).collect();
        match value {
            OwnValue::Counter(n) => text.line(&labels, n),
            OwnValue::Gauge(value) => text.line(&labels, value),
            OwnValue::Times(times) => histogram(text, &labels, &times, 0),
        }
    }
}

/// Nothing if nothing was timed; the buckets below `first` are part of it.
fn histogram(text: &mut Text, labels: &[(&str, &str)], times: &TimesSum, first: usize) {
    if times.count() == 0 {
        return;
    }
    let mut below = 0;
    for (n, (bucket, bound)) in times.buckets.iter().zip(BOUNDS).enumerate() {
        below += bucket;
        if n >= first {
            let bound = bound.as_secs_f64().to_string();
            text.suffixed("_bucket", &[labels, &[("le", &bound)]].concat(), below);
        }
    }
    text.suffixed("_bucket", &[labels, &[("le", "+Inf")]].concat(), times.count());
    text.suffixed("_sum", labels, times.total.as_secs_f64());
    text.suffixed("_count", labels, times.count());
}
