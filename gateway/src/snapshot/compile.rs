//! From a configuration and the plugins' active revisions to a snapshot, or all the errors in one answer.
//! What is unchanged is carried over from the previous snapshot by key; nothing becomes live here.

mod bounds;
pub mod consumers;
mod fields;
mod filters;
mod parts;
mod portals;
pub mod products;
mod routing;
mod written;

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use tokio::time::Instant;

pub use filters::InstancesKey;
pub use parts::listener_limits;
pub use routing::{Explained, explain};
use written::{Of, Written, written};

use super::{CALL, Listener, Named, Route, Snapshot, Validation};
use crate::{
    access::{Access, Holder, Holdings},
    config::{
        Config, Premise, Problem,
        scalar::{NAME, is_name},
        schema,
    },
    filter::{Chain, Filter},
    monitor::{access_log::AccessLog, records::Records},
    plugin::{Instances, Phase, Running, States},
    router::{Router, Rule, RuleCause, RuleError},
    upstream::{HostHeader, Service},
};

/// What a snapshot is made from.
#[derive(Debug)]
pub struct Input<'a> {
    pub config: &'a Config,
    /// What runs of each plugin that has a revision.
    pub revisions: &'a HashMap<Arc<str>, Running>,
    pub previous: Option<&'a Snapshot>,
    pub workers: usize,
    /// The number of what is made.
    pub generation: u64,
    /// What consumers of the store present.
    pub stored: Holdings,
}

/// The listeners of a configuration, which need nothing else of it. What is wrong about them is found by `compile`.
pub fn listeners(config: &Config) -> Vec<Arc<Listener>> {
    let listener = |listener: &schema::Listener| Listener {
        name: listener.name.as_str().into(),
        address: listener.address,
        fields: Arc::new(fields::rules(listener)),
        limits: listener_limits(&listener.limits),
    };
    config.listeners.iter().map(|written| Arc::new(listener(written))).collect()
}

/// Compiles, probing one instance of each plugin with each configuration that is new to it.
///
/// # Errors
///
/// Everything that is wrong, each with the key path of its cause.
pub async fn compile(input: Input<'_>) -> Result<Snapshot, Vec<Problem>> {
    let mut compiler = Compiler::new(input);
    compiler.names();
    compiler.tokens();
    compiler.versions();
    let trusted = compiler.sources();
    compiler.capabilities();
    let written = Arc::clone(&compiler.written);
    let uses = filters::uses(compiler.input.config, &written);
    compiler.plugins(&uses);
    let listeners = compiler.listeners();
    let access_log = compiler.access_log();
    let credentials = compiler.consumers();
    let services = compiler.services();
    if !trusted {
        return Err(compiler.problems);
    }
    let instances = compiler.instances(&uses).await;
    let (entries, ticks) = (compiler.entries(&instances), compiler.ticks(&uses, &instances));
    let parts = Parts {
        balancers: compiler.balancers(&instances),
        filters: compiler.of_services(&instances),
        services: &services,
        instances: &instances,
        validations: compiler.validations(),
    };
    let routes = compiler.routes(&parts);
    // The matches are checked also where what follows from them is wrong.
    let router = compiler.matches(Router::compile(rules(&written)));
    let live = written.iter().take_while(|it| it.is_live()).count();
    let routes: Arc<[_]> = routes.into_iter().take(live).flatten().collect();
    let portals = compiler.portals();
    let named = compiler.named(&routes, &parts, &uses);
    let names_read = fields::names_read(compiler.input.config, &written, &routes);
    let Compiler { problems, input, records, states, .. } = compiler;
    match router {
        Some(router) if problems.is_empty() => Ok(Snapshot {
            generation: input.generation,
            since: Instant::now(),
            routes,
            router: Arc::new(router),
            listeners,
            admin: input.config.admin.as_ref().map(|admin| admin.address),
            limits: parts::gateway_limits(&input.config.limits),
            access: input
                .previous
                .map_or_else(Access::default, |previous| previous.access.clone())
                .with_file(credentials)
                .with_stored(input.stored),
            unrouted: records.routes.of([&"".into(), &"".into()]),
            access_log,
            records,
            named: Arc::new(named),
            names_read: Arc::new(names_read),
            portals: Arc::new(portals),
            entries: Arc::new(entries),
            ticks: ticks.into(),
            services: Arc::new(services),
            states,
            instances: Arc::new(instances),
        }),
        _ => Err(problems),
    }
}

struct Compiler<'a> {
    input: Input<'a>,
    /// Those of the generation before, unless they are to be others.
    records: Arc<Records>,
    /// What plugins keep.
    states: Arc<States>,
    /// Every route, those of APIs too.
    written: Arc<[Written<'a>]>,
    problems: Vec<Problem>,
}

/// What routes are made of.
struct Parts<'a> {
    services: &'a HashMap<Arc<str>, Arc<Service>>,
    instances: &'a HashMap<InstancesKey, Arc<Instances>>,
    balancers: HashMap<Arc<str>, Arc<Filter>>,
    /// Those of services, by service.
    filters: HashMap<Arc<str>, Vec<Arc<Filter>>>,
    /// What requests of versions of APIs are held to.
    validations: HashMap<(&'a str, &'a str), Arc<Validation>>,
}

impl<'a> Compiler<'a> {
    fn new(input: Input<'a>) -> Self {
        let metrics = &input.config.metrics;
        let (workers, bound) = (if metrics.enabled { input.workers } else { 0 }, metrics.label_sets as usize);
        let before = input.previous.map(|previous| &previous.records);
        let records = match before.filter(|records| records.are_for(workers, bound)) {
            Some(records) => Arc::clone(records),
            None => Arc::new(Records::new(workers, bound)),
        };
        let states = input.previous.map_or_else(Arc::default, |previous| Arc::clone(&previous.states));
        let (written, problems) = written(input.config);
        Self { records, states, input, written: written.into(), problems }
    }

    fn problem(&mut self, path: impl Into<String>, message: impl Into<String>) {
        self.problems.push(Problem::new(path, message));
    }

    fn unknown<'n>(
        &mut self,
        path: String,
        (kind, list): (&str, &'static str),
        name: &str,
        known: impl Iterator<Item = &'n String>,
    ) {
        let problem = Problem::new(path, parts::unknown(kind, name, known.map(String::as_str)));
        self.problems.push(problem.given([Premise::Names(list)]));
    }

    /// Names are unique within their kind.
    fn names(&mut self) {
        let config = self.input.config;
        self.unique("listeners", config.listeners.iter().map(|it| it.name.as_str()));
        self.addresses();
        self.unique("plugins", config.plugins.iter().map(|it| it.name.as_str()));
        self.unique("services", config.services.iter().map(|it| it.name.as_str()));
        self.unique("routes", config.routes.iter().map(|it| it.name.as_str()));
        self.unique("apis", config.apis.iter().map(|it| it.name.as_str()));
        for (a, api) in config.apis.iter().enumerate() {
            let at = format!("apis[{a}].versions");
            self.unique(&at, api.versions.iter().map(|it| it.name.as_str()));
            for (v, version) in api.versions.iter().enumerate() {
                self.unique(&format!("{at}[{v}].routes"), version.routes.iter().map(|it| it.name.as_str()));
            }
        }
        self.unique("consumers", config.consumers.iter().map(|it| it.name.as_str()));
        self.unique("groups", config.groups.iter().map(|it| it.name.as_str()));
    }

    /// What a token is for goes with its role, and what it is says whose it is.
    fn tokens(&mut self) {
        let config = self.input.config;
        let mut seen = HashMap::new();
        for (index, token) in config.admin.iter().flat_map(|admin| &admin.tokens).enumerate() {
            let path = |key: &str| format!("admin.tokens[{index}].{key}");
            if let Some(other) = seen.get(&token.secret) {
                let message = "another token has the same secret: none could tell whose it is";
                self.problems.push(Problem::new(path("secret"), message).with_other(other));
            } else {
                seen.insert(&token.secret, path("secret"));
            }
            if token.role == schema::Role::Service {
                if token.services.is_empty() && token.discover.is_empty() {
                    self.problem(
                        path("services"),
                        "a token of the role service names services: `services`, `discover`",
                    );
                }
                continue;
            }
            for (key, names) in [("services", &token.services), ("discover", &token.discover)] {
                if !names.is_empty() {
                    self.problem(path(key), "only a token of the role service is bound to services");
                }
            }
        }
    }

    /// No two sockets of one gateway have one address, and `admin` is what its admin socket is called.
    fn addresses(&mut self) {
        let config = self.input.config;
        let mut seen = HashMap::new();
        seen.extend(config.admin.as_ref().map(|admin| (admin.address, ("admin", "admin.address".to_owned()))));
        for (index, listener) in config.listeners.iter().enumerate() {
            if listener.name == "admin" {
                self.problem(format!("listeners[{index}].name"), "\"admin\" is the name of the admin address");
            }
            if listener.address.port() == 0 {
                continue;
            }
            let path = format!("listeners[{index}].address");
            if let Some((other, place)) = seen.get(&listener.address) {
                let message = format!("{} is the address of \"{other}\" already", listener.address);
                self.problems.push(Problem::new(path, message).with_other(place));
            } else {
                seen.insert(listener.address, (&listener.name, path));
            }
        }
    }

    fn unique<'n>(&mut self, kind: &str, names: impl Iterator<Item = &'n str>) {
        let mut seen = HashMap::new();
        for (index, name) in names.enumerate() {
            let path = format!("{kind}[{index}].name");
            if !is_name(name) {
                let message = "a name has 1 to 64 letters, digits, \".\", \"_\" or \"-\"";
                self.problem(path, format!("\"{}\" is no name: {message}", name.escape_debug()));
            } else if let Some(first) = seen.get(name) {
                let problem = Problem::new(path, format!("there is another \"{name}\" in {kind}"));
                self.problems.push(problem.with_other(first));
            } else {
                seen.insert(name, path);
            }
        }
    }

    fn listeners(&mut self) -> Vec<Arc<Listener>> {
        let config = self.input.config;
        self.problems.extend(fields::pseudonym(&config.via));
        if let Some(admin) = &config.admin {
            self.problems.extend(bounds::of_listener("admin", &admin.limits));
        }
        for (index, listener) in config.listeners.iter().enumerate() {
            for (n, text) in listener.trusted.iter().enumerate().filter(|(_, text)| parts::network(text).is_none()) {
                let message = format!("\"{text}\" is not a network such as 10.0.0.0/8 or an address");
                self.problem(format!("listeners[{index}].trusted[{n}]"), message);
            }
            self.problems.extend(bounds::of_listener(&format!("listeners[{index}]"), &listener.limits));
        }
        listeners(config)
    }

    /// The one that is open goes on unless something about it changes.
    fn access_log(&mut self) -> Option<Arc<AccessLog>> {
        let spec = parts::access_log(self.input.config.access_log.as_ref()?);
        let before = self.input.previous.and_then(|previous| previous.access_log.as_ref());
        if let Some(same) = before.filter(|before| *before.spec() == spec) {
            return Some(Arc::clone(same));
        }
        match AccessLog::new(spec, self.input.workers) {
            Ok(log) => Some(Arc::new(log)),
            Err(errors) => {
                self.problems.extend(errors.iter().map(parts::line_problem));
                None
            }
        }
    }

    /// What consumers of the file present.
    fn consumers(&mut self) -> Holdings {
        let config = self.input.config;
        let (mut held, problems) = consumers::of_file(&config.consumers, &self.input.stored);
        self.problems.extend(problems);
        for (n, consumer) in config.consumers.iter().enumerate() {
            let grants = self.grants(&format!("consumers[{n}].grants"), &consumer.grants);
            held.set_grants(Holder::Consumer(&consumer.name), grants);
        }
        for (n, group) in config.groups.iter().enumerate() {
            let grants = self.grants(&format!("groups[{n}].grants"), &group.grants);
            held.set_grants(Holder::Group(&group.name), grants);
        }
        held
    }

    fn services(&mut self) -> HashMap<Arc<str>, Arc<Service>> {
        let config = self.input.config;
        let mut services = HashMap::with_capacity(config.services.len());
        for (index, service) in config.services.iter().enumerate() {
            let mut seen = HashSet::new();
            for (n, endpoint) in service.endpoints.iter().enumerate() {
                if !seen.insert(endpoint.address) {
                    let message = format!("{} is there twice", endpoint.address);
                    self.problem(format!("services[{index}].endpoints[{n}].address"), message);
                }
            }
            self.problems.extend(bounds::of_service(index, service));
            self.sources_of(index, service);
            let service = self.service(service);
            services.insert(Arc::clone(&service.name), Arc::new(service));
        }
        services
    }

    /// Each source says one thing, and what that takes.
    fn sources_of(&mut self, index: usize, service: &schema::Service) {
        for (n, schema::Source { file, dns, consul }) in service.sources.iter().enumerate() {
            let path = format!("services[{index}].sources[{n}]");
            let given = [file.is_some(), dns.is_some(), consul.is_some()];
            if given.into_iter().filter(|given| *given).count() != 1 {
                self.problem(path, "a source is one of file, dns and consul");
                continue;
            }
            if let Some(schema::Dns { records, port, .. }) = dns {
                match (records, port) {
                    (schema::Records::Addresses, None) => {
                        self.problem(format!("{path}.dns.port"), "addresses need a port");
                    }
                    (schema::Records::Srv, Some(_)) => {
                        self.problem(format!("{path}.dns.port"), "SRV records have ports of their own");
                    }
                    _ => {}
                }
            }
            let names =
                consul.iter().flat_map(|consul| [("service", Some(&consul.service)), ("tag", consul.tag.as_ref())]);
            for (key, name) in names.filter_map(|(key, name)| Some((key, name?))).filter(|(_, name)| !is_name(name)) {
                self.problem(format!("{path}.consul.{key}"), format!("\"{}\" is no name: {NAME}", name.escape_debug()));
            }
        }
    }

    fn service(&self, service: &schema::Service) -> Service {
        let name: Arc<str> = service.name.as_str().into();
        let listed = parts::listed(service, self.input.workers, self.input.config.limits.reserved_descriptors);
        let record = self.records.services.of([&name]);
        let before = self.input.previous.and_then(|previous| previous.services.get(&name));
        Service::new(name, listed, parts::transport(service), record, before.map(|before| &**before))
    }

    /// In the order in which they are written; none in the place of what cannot be, or is not to be found.
    fn routes(&mut self, parts: &Parts<'_>) -> Vec<Option<Arc<Route>>> {
        let (config, written) = (self.input.config, Arc::clone(&self.written));
        let mut routes = Vec::with_capacity(written.len());
        for Written { at, route, of } in &*written {
            if let Some(prefix) = route.rewrite.strip_prefix.as_deref().filter(|prefix| !prefix.starts_with('/')) {
                self.problem(format!("{at}.rewrite.strip_prefix"), format!("\"{prefix}\" does not start with \"/\""));
            }
            let Some(service) = parts.services.get(route.service.as_str()) else {
                let known = config.services.iter().map(|it| &it.name);
                self.unknown(format!("{at}.service"), ("service", "services"), &route.service, known);
                routes.push(None);
                continue;
            };
            routes.push(Some(Arc::new(self.route(route, *of, Arc::clone(service), parts))));
        }
        routes
    }

    fn route(&self, route: &schema::Route, of: Option<Of<'_>>, service: Arc<Service>, parts: &Parts<'_>) -> Route {
        let records = &self.records;
        let name: Arc<str> = route.name.as_str().into();
        let mut filters = self.filters(&route.filters, &name, parts.instances);
        filters.extend(parts.filters.get(&service.name).into_iter().flatten().cloned());
        Route {
            chain: Chain::new(filters),
            balancer: parts.balancers.get(&service.name).cloned(),
            record: records.routes.of([&name, &service.name]),
            product: of.map(|of| Arc::new(products::product(of))),
            validation: of.and_then(|of| parts.validations.get(&of.key()).cloned()),
            notices: of.map_or_else(Box::default, |of| products::notices(of.version)),
            service,
            strip_prefix: route.rewrite.strip_prefix.as_deref().map(Into::into),
            host: parts::host(route.host),
            timeout: route.timeout.0,
            allow_encoded_slash: route.matches.allow_encoded_slash,
            name,
        }
    }

    /// What plugins that choose where requests go may name, if there are some.
    fn named(&self, routes: &[Arc<Route>], parts: &Parts<'_>, uses: &[filters::Use<'_>]) -> Named {
        let chooses = |it: &filters::Use<'_>| {
            let running = self.input.revisions.get(it.plugin).into_iter().flat_map(Running::all);
            it.place == filters::Place::Listener && running.into_iter().any(|it| it.module.has(Phase::Route))
        };
        let may_choose = uses.iter().any(chooses);
        let listeners = self.input.config.listeners.iter().filter(|listener| listener.call);
        let listeners: HashSet<Arc<str>> = listeners.map(|listener| listener.name.as_str().into()).collect();
        if !may_choose && listeners.is_empty() {
            return Named::default();
        }
        let by_name = |called: bool| {
            let direct =
                |service: &Arc<Service>| (Arc::clone(&service.name), Arc::new(self.direct(service, called, parts)));
            parts.services.values().map(direct).collect()
        };
        Named {
            routes: routes.iter().map(|route| (Arc::clone(&route.name), Arc::clone(route))).collect(),
            services: if may_choose { by_name(false) } else { HashMap::new() },
            calls: if listeners.is_empty() { HashMap::new() } else { by_name(true) },
            listeners,
        }
    }

    /// The way to a service by its name alone; if it is called by a path, that names it.
    fn direct(&self, service: &Arc<Service>, called: bool, parts: &Parts<'_>) -> Route {
        let none: Arc<str> = "".into();
        Route {
            name: Arc::clone(&none),
            chain: Chain::new(parts.filters.get(&service.name).cloned().unwrap_or_default()),
            balancer: parts.balancers.get(&service.name).cloned(),
            service: Arc::clone(service),
            strip_prefix: called.then(|| format!("{CALL}{}", service.name).into()),
            host: HostHeader::Client,
            timeout: schema::default_timeout().0,
            allow_encoded_slash: false,
            record: self.records.routes.of([&none, &service.name]),
            product: None,
            validation: None,
            notices: Box::default(),
        }
    }

    fn matches<R>(&mut self, compiled: Result<R, Vec<RuleError>>) -> Option<R> {
        let report = |errors: Vec<RuleError>| {
            for error in errors {
                let dot = if error.key.is_empty() { "" } else { "." };
                let path = format!("{}.match{dot}{}", self.written[error.rule].at, error.key);
                let premises = self.compared(&error);
                self.problems.push(Problem::new(path, error.to_string()).given(premises));
            }
        };
        compiled.map_err(report).ok()
    }

    /// What an error of the router compares.
    fn compared(&self, error: &RuleError) -> Vec<Premise> {
        let RuleCause::Duplicate { first, .. } = &error.cause else { return Vec::new() };
        let written = self.written.iter().enumerate();
        let both = written.filter(|(index, it)| *index == error.rule || it.route.name == *first);
        let parts = both.flat_map(|(_, it)| ["name", "match"].map(|key| format!("{}.{key}", it.at)));
        parts.map(Premise::All).collect()
    }
}

/// The matches of all routes that requests may find, each with the index of its route.
fn rules<'a>(written: &'a [Written<'_>]) -> impl Iterator<Item = (Rule<'a>, usize)> {
    written.iter().enumerate().take_while(|(_, it)| it.is_live()).map(|(index, Written { route, .. })| {
        let schema::Match { hosts, path, methods, headers, query, cookies, priority, .. } = &route.matches;
        let (name, path, priority) = (&*route.name, path.as_deref(), *priority);
        (Rule { name, hosts, path, methods, headers, query, cookies, priority }, index)
    })
}

#[cfg(test)]
mod tests {
    use std::{collections::HashMap, fs, path::Path};

    use super::{Input, compile};
    use crate::{access::Holdings, config::Document, golden};

    fn outcome(file: &Path) -> String {
        let text = fs::read_to_string(file).expect("a golden file");
        let name = Path::new(file.file_name().expect("a name"));
        let document = Document::parse(name, &text, &|_| None);
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let (config, revisions) = (&document.config, &HashMap::new());
        match runtime.block_on(compile(Input {
            config,
            revisions,
            previous: None,
            workers: 1,
            generation: 1,
            stored: Holdings::default(),
        })) {
            Ok(_) => "it is right\n".to_owned(),
            Err(problems) => format!("{}\n", document.errors(problems)),
        }
    }

    #[test]
    fn every_mistake_has_its_golden_text() {
        golden::check("src/snapshot/compile/golden", outcome);
    }
}
