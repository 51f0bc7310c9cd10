//! Plugins and where they are used: each use named, allowed, of a phase that it has there, and probed.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use serde_json::Value;

use super::{super::Ticking, Compiler, bounds, parts, written::Written};
use crate::{
    config::{Config, Premise, Problem, schema},
    filter::{Chain, Filter, OnTrial, Version},
    plugin::{Failure, Instances, Isolation, Limits, Phase, Reach, Revision, Running, Trial, capability, signature},
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
    /// Filters of a service.
    Service,
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

/// Every use of a configuration and its routes.
pub(super) fn uses<'a>(config: &'a Config, written: &'a [Written<'_>]) -> Vec<Use<'a>> {
    let numbered = |list: &'static str| move |n: usize| format!("{list}[{n}]");
    let (listeners, services) = (config.listeners.iter().enumerate(), config.services.iter().enumerate());
    let listeners = listeners.map(|(n, it)| (Place::Listener, numbered("listeners")(n), &it.filters));
    let routes = written.iter().map(|it| (Place::Route, it.at.clone(), &it.route.filters));
    let of_services = services.clone().map(|(n, it)| (Place::Service, numbered("services")(n), &it.filters));
    let filters = listeners.chain(routes).chain(of_services).flat_map(|(place, at, filters)| {
        filters.iter().enumerate().map(move |(f, filter)| (place, format!("{at}.filters[{f}]"), filter))
    });
    let balancers = services.filter_map(|(n, service)| match &service.balance {
        schema::Balance::Plugin(filter) => Some((Place::Balance, format!("services[{n}].balance"), filter)),
        schema::Balance::Policy(_) => None,
    });
    let all = filters.chain(balancers);
    all.map(|(place, path, filter)| Use { plugin: &filter.plugin, config: &filter.config, place, path }).collect()
}

impl Compiler<'_> {
    /// A plugin imports what its configuration allows.
    pub(super) fn capabilities(&mut self) {
        let config = self.input.config;
        self.problems.extend(bounds::of_wasm(&config.wasm));
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
            self.ceilings(index, plugin);
            if parts::share_key(&plugin.rollout.key).is_none() {
                let message = format!("\"{}\" is neither \"client\" nor \"header:NAME\"", plugin.rollout.key);
                self.problem(format!("plugins[{index}].rollout.key"), message);
            }
            let running = self.input.revisions.get(plugin.name.as_str()).into_iter().flat_map(Running::all);
            let missing = running.flat_map(|it| capability::missing(it.module.imports(), &plugin.allow));
            // In one order, and each once.
            let missing: BTreeSet<_> = missing.map(|name| format!("\"{name}\"")).collect();
            if !missing.is_empty() {
                let missing = missing.into_iter().collect::<Vec<_>>().join(", ");
                let message = format!("the plugin imports {missing}, which it is not allowed");
                let path = format!("plugins[{index}].allow");
                self.problems.push(Problem::new(path.as_str(), message).given([Premise::All(path)]));
            }
        }
    }

    /// No plugin may have more than the engine gives.
    fn ceilings(&mut self, index: usize, plugin: &schema::Plugin) {
        let (limits, wasm) = (&plugin.limits, &self.input.config.wasm);
        let over = [
            ("memory", limits.memory > wasm.memory, limits.memory.to_string(), wasm.memory.to_string()),
            (
                "table_elements",
                limits.table_elements > wasm.table_elements,
                limits.table_elements.to_string(),
                wasm.table_elements.to_string(),
            ),
        ];
        for (key, is_over, limit, ceiling) in over {
            if is_over {
                let message = format!("{limit} is more than wasm.{key} allows, which is {ceiling}");
                self.problem(format!("plugins[{index}].limits.{key}"), message);
            }
        }
    }

    /// A plugin has one source, and what runs of it is signed by whom it must be; if something is not, nothing may be probed.
    pub(super) fn sources(&mut self) -> bool {
        let (config, mut trusted) = (self.input.config, true);
        for (index, plugin) in config.plugins.iter().enumerate() {
            let at = |key: &str| format!("plugins[{index}].{key}");
            match (&plugin.file, &plugin.url, &plugin.sha256) {
                (Some(_), Some(_), _) => self.problem(at("url"), "a plugin has a file or a url, not both"),
                (_, Some(_), None) => self.problem(at("url"), "what is fetched needs its digest: sha256 is missing"),
                (_, None, Some(_)) => {
                    self.problem(at("sha256"), "it is the digest of what a url gives, and there is none")
                }
                _ => {}
            }
            let running = self.input.revisions.get(plugin.name.as_str()).into_iter().flat_map(Running::all);
            let mistrusted = running.into_iter().find_map(|Revision { number, module, signature, .. }| {
                let trusted = signature::check(&plugin.signed_by, module.sha256(), signature.as_ref());
                trusted.err().map(|why| format!("revision {number} runs, or may be gone back to: {why}"))
            });
            if let Some(message) = mistrusted {
                trusted = false;
                self.problems.push(Problem::new(at("signed_by"), message).given([Premise::All(at("signed_by"))]));
            }
        }
        trusted
    }

    /// Filters name plugins that there are, and that do something there.
    pub(super) fn plugins(&mut self, uses: &[Use<'_>]) {
        let config = self.input.config;
        for Use { plugin, place, path, .. } in uses {
            if !config.plugins.iter().any(|known| known.name == *plugin) {
                let known = config.plugins.iter().map(|it| &it.name);
                self.unknown(format!("{path}.plugin"), ("plugin", "plugins"), plugin, known);
            }
            let running = self.input.revisions.get(*plugin).into_iter().flat_map(Running::all);
            let idle = |it: &&Revision| !Phase::ALL.into_iter().any(|phase| place.takes(phase) && it.module.has(phase));
            if let Some(revision) = running.into_iter().find(idle) {
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
                let filters = self.filters(&listener.filters, &label, instances);
                (listener.name.as_str().into(), Arc::new(Chain::new(filters)))
            })
            .collect()
    }

    /// The filters of services that have some, by service.
    pub(super) fn of_services(
        &self,
        instances: &HashMap<InstancesKey, Arc<Instances>>,
    ) -> HashMap<Arc<str>, Vec<Arc<Filter>>> {
        let services = self.input.config.services.iter().filter(|service| !service.filters.is_empty());
        services
            .map(|service| {
                let label = format!("service:{}", service.name).into();
                (service.name.as_str().into(), self.filters(&service.filters, &label, instances))
            })
            .collect()
    }

    /// These filters, counted under this label.
    pub(super) fn filters(
        &self,
        filters: &[schema::Filter],
        label: &Arc<str>,
        instances: &HashMap<InstancesKey, Arc<Instances>>,
    ) -> Vec<Arc<Filter>> {
        filters.iter().filter_map(|filter| self.filter(filter, label, instances)).collect()
    }

    /// None if there is no such plugin.
    fn filter(
        &self,
        filter: &schema::Filter,
        label: &Arc<str>,
        instances: &HashMap<InstancesKey, Arc<Instances>>,
    ) -> Option<Arc<Filter>> {
        let plugin = self.input.config.plugins.iter().find(|plugin| plugin.name == filter.plugin)?;
        let name: Arc<str> = plugin.name.as_str().into();
        let record = |revision: u32| self.records.filters.of([&name, &revision.to_string().into(), label]);
        let version = |revision: &Revision| {
            let instances = Arc::clone(instances.get(&Self::key(plugin, revision, &filter.config))?);
            Some(Version { instances, record: record(revision.number) })
        };
        let running = self.input.revisions.get(plugin.name.as_str());
        let trial = running.and_then(|running| running.trial.as_ref());
        let trial = trial.and_then(|trial| on_trial(plugin, trial, version(&trial.revision)?));
        let version = running.and_then(|running| version(&running.revision));
        let missing = version.as_ref().map_or_else(|| record(0), |version| Arc::clone(&version.record));
        let times = self.records.plugins.of([&name]);
        let on_error = parts::on_error(plugin.on_error);
        Some(Arc::new(Filter {
            plugin: name,
            version,
            trial,
            on_error,
            missing,
            missing_logged: Default::default(),
            times,
        }))
    }

    /// What chooses among the endpoints of services, by service.
    pub(super) fn balancers(
        &self,
        instances: &HashMap<InstancesKey, Arc<Instances>>,
    ) -> HashMap<Arc<str>, Arc<Filter>> {
        let config = self.input.config;
        let balancer = |service: &schema::Service| {
            let schema::Balance::Plugin(chosen) = &service.balance else { return None };
            let label = format!("service:{}", service.name).into();
            Some((service.name.as_str().into(), self.filter(chosen, &label, instances)?))
        };
        config.services.iter().filter_map(balancer).collect()
    }

    /// Collects the calls of `tick`: one for each configuration of a plugin in each revision that new exchanges get, however
    /// many filters use the configuration.
    pub(super) fn ticks(&self, uses: &[Use<'_>], instances: &HashMap<InstancesKey, Arc<Instances>>) -> Vec<Ticking> {
        let mut seen = HashSet::new();
        let mut all = Vec::new();
        for it in uses {
            let plugin = self.input.config.plugins.iter().find(|plugin| plugin.name == it.plugin);
            let Some((plugin, running)) = plugin.zip(self.input.revisions.get(it.plugin)) else { continue };
            for revision in running.serving() {
                let key = Self::key(plugin, revision, it.config);
                let pool = instances.get(&key).filter(|instances| instances.has(Phase::Tick));
                if let Some(pool) = pool
                    && seen.insert(key)
                {
                    all.push(self.ticking(plugin, running, revision, pool));
                }
            }
        }
        all
    }

    fn ticking(
        &self,
        plugin: &schema::Plugin,
        running: &Running,
        revision: &Revision,
        instances: &Arc<Instances>,
    ) -> Ticking {
        let name: Arc<str> = plugin.name.as_str().into();
        let record = self.records.filters.of([&name, &revision.number.to_string().into(), &"".into()]);
        let version = Version { instances: Arc::clone(instances), record: Arc::clone(&record) };
        // Failures of its ticks count as those of all its phases.
        let trial = running.trial.as_ref().filter(|trial| trial.revision.number == revision.number);
        let trial = trial.and_then(|trial| on_trial(plugin, trial, version.clone()));
        let (version, times) = (Some(version), self.records.plugins.of([&name]));
        let on_error = parts::on_error(plugin.on_error);
        let missing_logged = Default::default();
        let filter = Filter { plugin: name, version, trial, on_error, missing: record, missing_logged, times };
        Ticking { filter: Arc::new(filter), every: plugin.tick.0 }
    }

    /// One pool per (revision, configuration, limits); a new one is probed, and what it refuses is reported once for
    /// each filter that asks for it.
    pub(super) async fn instances(&mut self, uses: &[Use<'_>]) -> HashMap<InstancesKey, Arc<Instances>> {
        let config = self.input.config;
        let mut all = HashMap::new();
        for Use { plugin, config: given, path, .. } in uses {
            let Some(p) = config.plugins.iter().position(|known| known.name == *plugin) else { continue };
            let running = self.input.revisions.get(*plugin).into_iter().flat_map(Running::all);
            for revision in running {
                let key = Self::key(&config.plugins[p], revision, given);
                if all.contains_key(&key) {
                    continue;
                }
                let before = self.input.previous.and_then(|previous| previous.instances.get(&key));
                let made = match before {
                    Some(before) => Ok(Arc::clone(before)),
                    None => self.pool(&key, revision.clone(), all.len() < WARM).await,
                };
                match made {
                    Ok(instances) => drop(all.insert(key, instances)),
                    Err(failure) => {
                        let (key, refused) = match failure.at_start {
                            true => ("plugin", format!("no instance of \"{plugin}\" can start")),
                            false => ("config", format!("plugin \"{plugin}\" refuses it")),
                        };
                        let message = format!("{refused}: {}", failure.message);
                        let path = format!("{path}.{key}");
                        let premises = [&path, &format!("plugins[{p}]")].map(|path| Premise::All(path.clone()));
                        self.problems.push(Problem::new(path, message).given(premises));
                    }
                }
            }
        }
        all
    }

    async fn pool(&self, key: &InstancesKey, revision: Revision, warm: bool) -> Result<Arc<Instances>, Failure> {
        let InstancesKey { config, limits, isolation, reach, .. } = key;
        let (state, reach) = (self.states.of(&revision.plugin), Arc::clone(reach));
        let made = Instances::new(revision, state, reach, config, *limits, *isolation, self.input.workers);
        made.probe(warm).await?;
        Ok(Arc::new(made))
    }

    fn key(plugin: &schema::Plugin, revision: &Revision, config: &Value) -> InstancesKey {
        InstancesKey {
            plugin: Arc::clone(&revision.plugin),
            revision: revision.number,
            config: config.to_string().into(),
            limits: parts::limits(&plugin.limits),
            isolation: parts::isolation(plugin.isolation),
            reach: Arc::new(parts::reach(&plugin.http)),
        }
    }
}

/// A revision on trial, with how many failures it may show; none if its share has no key.
fn on_trial(plugin: &schema::Plugin, trial: &Trial, version: Version) -> Option<OnTrial> {
    Some(OnTrial {
        version,
        percent: trial.percent,
        key: parts::share_key(&plugin.rollout.key)?,
        budget: Arc::clone(&trial.budget),
        allowed: plugin.rollout.failures,
        within: plugin.rollout.within.0,
    })
}
