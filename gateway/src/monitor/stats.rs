//! `/v1/stats`: what the records have counted since the gateway started, for people and pages; `/metrics` has the same for
//! Prometheus, with whole histograms.

use std::{collections::BTreeMap, time::Duration};

use serde_json::{Value, json};

use super::{
    count::{OTHER, Statuses, TimesSum},
    record::{Fault, Outcome, RouteRecord, ServiceRecord},
    records,
};
use crate::{
    plugin::{Cause, Phase},
    snapshot::Snapshot,
};

pub fn stats(snapshot: &Snapshot) -> Value {
    let all = &snapshot.records;
    let routes: Vec<Value> =
        all.routes.all().iter().map(|([route, service], record)| of_route(route, service, record)).collect();
    let services: Vec<Value> =
        all.services.all().iter().map(|([service], record)| of_service(service, record)).collect();
    let mut failures: BTreeMap<_, BTreeMap<&str, u64>> = BTreeMap::new();
    for ([plugin, ..], record) in all.filters.all() {
        for cause in Cause::ALL {
            *failures.entry(plugin.clone()).or_default().entry(cause.as_str()).or_default() += record.failures(cause);
        }
    }
    let plugins: Vec<Value> = all
        .plugins
        .all()
        .iter()
        .map(|([plugin], record)| {
            let phases = Phase::ALL.map(|phase| (phase.as_str(), TimesSum::of(record.times(phase))));
            let phases = phases.into_iter().filter(|(_, times)| times.count() > 0);
            let calls: BTreeMap<_, _> = phases.map(|(phase, times)| (phase, told(&times))).collect();
            let mut failures = failures.remove(plugin).unwrap_or_default();
            failures.retain(|_, n| *n > 0);
            json!({ "plugin": &**plugin, "calls": calls, "failures": failures })
        })
        .collect();
    json!({ "routes": routes, "services": services, "plugins": plugins })
}

fn of_route(route: &str, service: &str, record: &RouteRecord) -> Value {
    let statuses = Statuses::sum(record.counts.all().map(|counts| &counts.statuses));
    let name = |status: u16| if status == OTHER { records::OTHER.to_owned() } else { status.to_string() };
    let statuses: BTreeMap<_, _> = statuses.into_iter().map(|(status, n)| (name(status), n)).collect();
    let fault = |(Fault { blame, cause }, n)| json!({ "blame": blame, "cause": cause, "count": n });
    json!({
        "route": route,
        "service": service,
        "statuses": statuses,
        "requests": told(&TimesSum::of(record.counts.all().map(|counts| &counts.times))),
        "received_bytes": record.counts.sum(|counts| counts.received.get()),
        "sent_bytes": record.counts.sum(|counts| counts.sent.get()),
        "errors": record.faults().into_iter().map(fault).collect::<Vec<_>>(),
    })
}

fn of_service(service: &str, record: &ServiceRecord) -> Value {
    let outcomes = Outcome::ALL.map(|outcome| (outcome.as_str(), record.sum(outcome)));
    let outcomes: BTreeMap<_, _> = outcomes.into_iter().filter(|(_, n)| *n > 0).collect();
    json!({
        "service": service,
        "attempts": told(&TimesSum::of(record.counts.all().map(|counts| &counts.times))),
        "outcomes": outcomes,
        "connections": record.counts.sum(|counts| counts.connections.get()),
    })
}

/// How many, and how long they took in seconds: quantiles are the upper bounds of the buckets that they fall into.
fn told(times: &TimesSum) -> Value {
    let seconds = |time: Option<Duration>| time.map(|time| time.as_secs_f64());
    let mean = (times.count() > 0).then(|| times.total.div_f64(times.count() as f64));
    json!({
        "count": times.count(),
        "mean_seconds": seconds(mean),
        "p50_seconds": seconds(times.quantile(0.5)),
        "p99_seconds": seconds(times.quantile(0.99)),
    })
}
