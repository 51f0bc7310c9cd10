//! `/metrics`: what the records of a snapshot have counted, in the Prometheus text format.

use std::fmt::Write;

use crate::{
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
    snapshot.routes.iter().for_each(|route| calls(&mut out, route));
    family(&mut out, "stile_plugin_overruns_total", "counter", "Calls of filters that were cut short, by cause.");
    snapshot.routes.iter().for_each(|route| overruns(&mut out, route));
    out
}

fn calls(out: &mut String, route: &Route) {
    for filter in route.chain.filters() {
        let revision = filter.instances.as_ref().map_or(0, |instances| instances.revision().number);
        for phase in Phase::ALL {
            let stats = filter.stats.of(phase);
            let failed = Cause::ALL.into_iter().map(|cause| stats.failures(cause)).sum();
            let outcomes =
                [("proceed", stats.proceeded.sum()), ("respond", stats.responded.sum()), ("failure", failed)];
            for (outcome, n) in outcomes.into_iter().filter(|(_, n)| *n > 0) {
                let labels = format!(
                    "plugin=\"{}\",revision=\"{revision}\",route=\"{}\",phase=\"{}\",outcome=\"{outcome}\"",
                    filter.plugin,
                    route.name,
                    phase.as_str()
                );
                line(out, "stile_plugin_calls_total", &labels, n);
            }
        }
    }
}

fn overruns(out: &mut String, route: &Route) {
    for filter in route.chain.filters() {
        for cause in Cause::ALL {
            let n: u64 = Phase::ALL.into_iter().map(|phase| filter.stats.of(phase).failures(cause)).sum();
            if n > 0 {
                let labels =
                    format!("plugin=\"{}\",route=\"{}\",cause=\"{}\"", filter.plugin, route.name, cause.as_str());
                line(out, "stile_plugin_overruns_total", &labels, n);
            }
        }
    }
}

fn family(out: &mut String, name: &str, kind: &str, help: &str) {
    let _ = write!(out, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
}

fn line(out: &mut String, name: &str, labels: &str, value: u64) {
    let braced = if labels.is_empty() { String::new() } else { format!("{{{labels}}}") };
    let _ = writeln!(out, "{name}{braced} {value}");
}
