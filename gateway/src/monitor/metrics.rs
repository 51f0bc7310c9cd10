//! `/metrics`: what the records of a snapshot have counted, in the Prometheus text format.

use std::{collections::BTreeMap, fmt::Write};

use crate::{
    filter::Filter,
    plugin::{Cause, Phase},
    snapshot::{Route, Snapshot},
};

/// Label values are names of resources, which hold no character that would need an escape.
pub fn render(snapshot: &Snapshot) -> String {
    let mut out = String::new();
    family(&mut out, "stile_generation", "gauge", "Number of the live configuration.");
    line(&mut out, "stile_generation", "", snapshot.generation);
    family(&mut out, "stile_requests_total", "counter", "Requests answered, by status; without a route: none matched.");
    for (status, n) in snapshot.unrouted.sum() {
        let labels = format!("route=\"\",service=\"\",code=\"{}\"", status.as_u16());
        line(&mut out, "stile_requests_total", &labels, n);
    }
    for route in &snapshot.routes {
        for (status, n) in route.statuses.sum() {
            let labels =
                format!("route=\"{}\",service=\"{}\",code=\"{}\"", route.name, route.service.name, status.as_u16());
            line(&mut out, "stile_requests_total", &labels, n);
        }
    }
    family(&mut out, "stile_plugin_calls_total", "counter", "Phases run by filters, by what they came to.");
    sums(snapshot, calls).iter().for_each(|(labels, n)| line(&mut out, "stile_plugin_calls_total", labels, *n));
    family(&mut out, "stile_plugin_overruns_total", "counter", "Calls of filters that were cut short, by cause.");
    sums(snapshot, overruns).iter().for_each(|(labels, n)| line(&mut out, "stile_plugin_overruns_total", labels, *n));
    out
}

/// Adds up by labels: a plugin may stand on a route more than once.
fn sums(snapshot: &Snapshot, counts: fn(&Route, &Filter, &mut dyn FnMut(String, u64))) -> BTreeMap<String, u64> {
    let mut sums = BTreeMap::new();
    for route in &snapshot.routes {
        for filter in route.chain.filters() {
            counts(route, filter, &mut |labels, n| *sums.entry(labels).or_insert(0) += n);
        }
    }
    sums.retain(|_, n| *n > 0);
    sums
}

fn calls(route: &Route, filter: &Filter, add: &mut dyn FnMut(String, u64)) {
    let revision = filter.instances.as_ref().map_or(0, |instances| instances.revision().number);
    for phase in Phase::ALL {
        let stats = filter.stats.of(phase);
        let failed = Cause::ALL.into_iter().map(|cause| stats.failures(cause)).sum();
        for (outcome, n) in
            [("proceed", stats.proceeded.sum()), ("respond", stats.responded.sum()), ("failure", failed)]
        {
            let (plugin, route, phase) = (&filter.plugin, &route.name, phase.as_str());
            let labels = format!(
                "plugin=\"{plugin}\",revision=\"{revision}\",route=\"{route}\",phase=\"{phase}\",outcome=\"{outcome}\""
            );
            add(labels, n);
        }
    }
}

fn overruns(route: &Route, filter: &Filter, add: &mut dyn FnMut(String, u64)) {
    for cause in Cause::ALL {
        let n = Phase::ALL.into_iter().map(|phase| filter.stats.of(phase).failures(cause)).sum();
        let (plugin, route) = (&filter.plugin, &route.name);
        add(format!("plugin=\"{plugin}\",route=\"{route}\",cause=\"{}\"", cause.as_str()), n);
    }
}

fn family(out: &mut String, name: &str, kind: &str, help: &str) {
    let _ = write!(out, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
}

fn line(out: &mut String, name: &str, labels: &str, value: u64) {
    let braced = if labels.is_empty() { String::new() } else { format!("{{{labels}}}") };
    let _ = writeln!(out, "{name}{braced} {value}");
}
