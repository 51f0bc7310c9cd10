//! Plugins and where they are used: each use named, allowed, of a phase that it has there, and probed.

use std::{collections::HashMap, sync::Arc};

use serde_json::Value;

use super::{super::Ticking, Compiler, parts};
use crate::{
    config::{Config, Premise, Problem, schema},
    filter::{Chain, Filter},
    plugin::{Instances, Isolation, Limits, Phase, Reach, Revision, capability},
};

/// Pools that begin with an instance; with one for each of many, a start would need more than an engine has.
const WARM: usize = 256;

/// Filters with equal keys share their instances.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct InstancesKey {
    plugin: Arc<str>,
    revision: u32,
    config: Arc<str>,
    limits: Limits,
    isolation: Isolation,
    reach: Arc<Reach>,
}

/// One plugin with one configuration, and where that stands.
pub(super) struct Use<'a> {
    pub(super) plugin: &'a str,
    pub(super) config: &'a Value,
    pub(super) place: Place,
    path: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// Filters of a listener, before there is a route.
    Listener,
    /// Filters of a route.
    Route,
    /// What chooses among a service's endpoints.
    Balance,
}

impl Place {
    /// Whether a plugin with this phase does something there.
    fn takes(self, phase: Phase) -> bool {
        match phase {
            Phase::Route => self == Self::Listener,
            Phase::Balance => self == Self::Balance,
            _ => self != Self::Balance,
        }
    }
}

/// Every use, in the order of the configuration.
pub(super) fn uses(config: &Config) -> Vec<Use<'_>> {
    let listeners = config.listeners.iter().map(|listener| (Place::Listener, "listeners", &listener.filters));
    let routes = config.routes.iter().map(|route| (Place::Route, "routes", &route.filters));
    let numbered = listeners.enumerate().chain(routes.enumerate());
    let balancers = config.services.iter().enumerate().filter_map(|(index, service)| {
        let schema::Balance::Plugin(filter) = &service.balance else { return None };
        let path = format!("services[{index}].balance");
        Some(Use { plugin: &filter.plugin, config: &filter.config, place: Place::Balance, path })
    });
    numbered
        .flat_map(|(index, (place, list, filters))| {
            filters.iter().enumerate().map(move |(f, filter)| Use {
                plugin: &filter.plugin,
                config: &filter.config,
                place,
                path: format!("{list}[{index}].filters[{f}]"),
            })
        })
        .chain(balancers)
        .collect()
}

impl Compiler<'_> {
    /// A plugin imports what its configuration allows.
    pub(super) fn capabilities(&mut self) {
        let config = self.input.config;
        for (index, plugin) in config.plugins.iter().enumerate() {
            for (n, name) in plugin.allow.iter().enumerate() {
                if !capability::exists(name) {
                    let message = parts::unknown("capability", name, capability::NAMES.into_iter());
                    self.problem(format!("plugins[{index}].allow[{n}]"), message);
                }
            }
            for (n, service) in plugin.http.services.iter().enumerate() {
                if !config.services.iter().any(|known| known.name == *service) {
                    let known = config.services.iter().map(|it| &it.name);
                    self.unknown(
                        format!("plugins[{index}].http.services[{n}]"),
                        ("service", "services"),
                        service,
                        known,
                    );
                }
            }
            for (n, host) in plugin.http.hosts.iter().enumerate() {
                if parts::origin(host).is_none() {
                    let message = format!("\"{host}\" is not of the form http://HOST:PORT or https://HOST");
                    self.problem(format!("plugins[{index}].http.hosts[{n}]"), message);
                }
            }
            let revision = self.input.revisions.get(plugin.name.as_str());
            let missing = revision.and_then(|it| capability::missing(it.module.imports(), &plugin.allow));
            if let Some(missing) = missing {
                let message = format!("the plugin imports \"{missing}\", which it is not allowed");
                let path = format!("plugins[{index}].allow");
                self.problems.push(Problem::new(path.as_str(), message).given([Premise::All(path)]));
            }
        }
    }

    /// Filters name plugins that there are, and that do something there.
    pub(super) fn plugins(&mut self, uses: &[Use<'_>]) {
        let config = self.input.config;
        for Use { plugin, place, path, .. } in uses {
            if !config.plugins.iter().any(|known| known.name == *plugin) {
                let known = config.plugins.iter().map(|it| &it.name);
                self.unknown(format!("{path}.plugin"), ("plugin", "plugins"), plugin, known);
            }
            let Some(revision) = self.input.revisions.get(*plugin) else { continue };
            if !Phase::ALL.into_iter().any(|phase| place.takes(phase) && revision.module.has(phase)) {
                let phases = revision.module.phases().join(", ");
                let message = format!("plugin \"{plugin}\" does nothing here: its phases are {phases}");
                let premises = config.plugins.iter().position(|known| known.name == *plugin);
                let premises = premises.map(|p| Premise::All(format!("plugins[{p}]")));
                self.problems.push(Problem::new(format!("{path}.plugin"), message).given(premises));
            }
        }
    }

    /// The filters of listeners that have some, by listener.
    pub(super) fn entries(&self, instances: &HashMap<InstancesKey, Arc<Instances>>) -> HashMap<Arc<str>, Arc<Chain>> {
        let listeners = self.input.config.listeners.iter().filter(|listener| !listener.filters.is_empty());
        listeners
            .map(|listener| {
                // No route has such a name.
                let label = format!("listener:{}", listener.name).into();
                (listener.name.as_str().into(), Arc::new(self.chain(&listener.filters, &label, instances)))
            })
            .collect()
    }

    /// The chain of these filters, counted under this label.
    pub(super) fn chain(
        &self,
        filters: &[schema::Filter],
        label: &Arc<str>,
        instances: &HashMap<InstancesKey, Arc<Instances>>,
    ) -> Chain {
        let made = filters.iter().filter_map(|filter| {
            let plugin = self.input.config.plugins.iter().find(|plugin| plugin.name == filter.plugin)?;
            let instances = self.key(plugin, &filter.config).and_then(|(key, _)| instances.get(&key).cloned());
            Some(self.filter(plugin, label, instances))
        });
        Chain::new(made.collect())
    }

    fn filter(&self, plugin: &schema::Plugin, label: &Arc<str>, instances: Option<Arc<Instances>>) -> Arc<Filter> {
        let name: Arc<str> = plugin.name.as_str().into();
        let revision = instances.as_ref().map_or(0, |instances| instances.revision().number);
        Arc::new(Filter {
            record: self.records.filters.of([&name, &revision.to_string().into(), label]),
            times: self.records.plugins.of([&name]),
            instances,
            plugin: name,
            on_error: parts::on_error(plugin.on_error),
        })
    }

    /// What chooses among the endpoints of services, by service.
    pub(super) fn balancers(
        &self,
        instances: &HashMap<InstancesKey, Arc<Instances>>,
    ) -> HashMap<Arc<str>, Arc<Filter>> {
        let config = self.input.config;
        let balancer = |service: &schema::Service| {
            let schema::Balance::Plugin(chosen) = &service.balance else { return None };
            let plugin = config.plugins.iter().find(|plugin| plugin.name == chosen.plugin)?;
            let instances = self.key(plugin, &chosen.config).and_then(|(key, _)| instances.get(&key).cloned());
            let label = format!("service:{}", service.name).into();
            Some((service.name.as_str().into(), self.filter(plugin, &label, instances)))
        };
        config.services.iter().filter_map(balancer).collect()
    }

    /// What is called from time to time: each configuration of a plugin once, whatever number of filters has it.
    pub(super) fn ticks(&self, instances: &HashMap<InstancesKey, Arc<Instances>>) -> Vec<Ticking> {
        let ticking = |(key, instances): (&InstancesKey, &Arc<Instances>)| {
            let plugin = self.input.config.plugins.iter().find(|plugin| *plugin.name == *key.plugin)?;
            let filter = self.filter(plugin, &"".into(), Some(Arc::clone(instances)));
            Some(Ticking { filter, every: plugin.tick.0 })
        };
        instances.iter().filter(|(_, instances)| instances.has(Phase::Tick)).filter_map(ticking).collect()
    }

    /// One pool per (revision, configuration, limits); a new one is probed, and what it refuses is reported once for
    /// each filter that asks for it.
    pub(super) async fn instances(&mut self, uses: &[Use<'_>]) -> HashMap<InstancesKey, Arc<Instances>> {
        let config = self.input.config;
        let mut all = HashMap::new();
        for Use { plugin, config: given, path, .. } in uses {
            let Some(p) = config.plugins.iter().position(|known| known.name == *plugin) else { continue };
            let Some((key, revision)) = self.key(&config.plugins[p], given) else { continue };
            if all.contains_key(&key) {
                continue;
            }
            let before = self.input.previous.and_then(|previous| previous.instances.get(&key));
            let instances = match before {
                Some(before) => Arc::clone(before),
                None => {
                    let (revision, state) = (revision.clone(), self.states.of(&revision.plugin));
                    let InstancesKey { config, limits, isolation, reach, .. } = &key;
                    let (reach, workers) = (Arc::clone(reach), self.input.workers);
                    let made = Instances::new(revision, state, reach, config, *limits, *isolation, workers);
                    if let Err(failure) = made.probe(all.len() < WARM).await {
                        let message = format!("plugin \"{plugin}\" refuses it: {}", failure.message);
                        let path = format!("{path}.config");
                        let premises = [&path, &format!("plugins[{p}]")].map(|path| Premise::All(path.clone()));
                        self.problems.push(Problem::new(path, message).given(premises));
                        continue;
                    }
                    Arc::new(made)
                }
            };
            all.insert(key, instances);
        }
        all
    }

    /// None as long as the plugin has no revision.
    fn key(&self, plugin: &schema::Plugin, config: &Value) -> Option<(InstancesKey, &Revision)> {
        let revision = self.input.revisions.get(plugin.name.as_str())?;
        let key = InstancesKey {
            plugin: Arc::clone(&revision.plugin),
            revision: revision.number,
            config: config.to_string().into(),
            limits: parts::limits(&plugin.limits),
            isolation: parts::isolation(plugin.isolation),
            reach: Arc::new(parts::reach(&plugin.http)),
        };
        Some((key, revision))
    }
}
