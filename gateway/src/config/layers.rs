//! The whole configuration: what the file says, and what came through the Admin API. One `Config` is made of both, and what
//! is wrong with that is told by where it came from.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::Value;

use super::{
    Config, Document, Error, Errors, Problem,
    resource::{Kind, Resource, Stored},
};

#[derive(Debug, Clone)]
pub struct Layers {
    document: Arc<Document>,
    stored: BTreeMap<Kind, BTreeMap<String, Kept>>,
    /// The file's resources come first in each list, then those stored, by name.
    config: Config,
}

/// A stored resource, and the commit that wrote it.
#[derive(Debug, Clone)]
pub struct Kept {
    pub stored: Arc<Stored>,
    /// 0 until it is written.
    pub revision: u64,
}

/// Where a resource is from.
#[derive(Debug, Clone)]
pub enum Origin<'a> {
    File,
    Store(&'a Kept),
}

impl Layers {
    pub fn new(document: Document) -> Self {
        let config = document.config.clone();
        Self { document: Arc::new(document), stored: BTreeMap::new(), config }
    }

    /// The same over another reading of the file.
    #[must_use]
    pub fn over(&self, document: Document) -> Self {
        let mut layers = Self { document: Arc::new(document), stored: self.stored.clone(), config: Config::default() };
        layers.merge();
        layers
    }

    /// The same with these resources, or without those.
    #[must_use]
    pub fn with(&self, changes: impl IntoIterator<Item = ((Kind, String), Option<Kept>)>) -> Self {
        let mut layers = self.clone();
        for ((kind, name), kept) in changes {
            let list = layers.stored.entry(kind).or_default();
            match kept {
                Some(kept) => drop(list.insert(name, kept)),
                None => drop(list.remove(&name)),
            }
        }
        layers.merge();
        layers
    }

    /// The same once what had no revision yet is written by this commit.
    #[must_use]
    pub fn at(mut self, revision: u64) -> Self {
        for kept in self.stored.values_mut().flat_map(BTreeMap::values_mut).filter(|kept| kept.revision == 0) {
            kept.revision = revision;
        }
        self
    }

    /// The same with these stored resources in the place of those there were.
    #[must_use]
    pub fn stored(&self, stored: impl IntoIterator<Item = ((Kind, String), Option<Kept>)>) -> Self {
        Self { stored: BTreeMap::new(), ..self.clone() }.with(stored)
    }

    pub fn document(&self) -> &Document {
        &self.document
    }

    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Where a resource is from; none if there is no such resource.
    pub fn origin(&self, kind: Kind, name: &str) -> Option<Origin<'_>> {
        if let Some(kept) = self.stored.get(&kind).and_then(|list| list.get(name)) {
            return Some(Origin::Store(kept));
        }
        kind.names(&self.document.config).any(|it| it == name).then_some(Origin::File)
    }

    /// All resources of a kind, by name.
    pub fn list(&self, kind: Kind) -> BTreeMap<&str, Resource> {
        let Config { plugins, services, routes, apis, .. } = &self.config;
        match kind {
            Kind::Plugin => plugins.iter().map(|it| (it.name.as_str(), Resource::Plugin(it.clone()))).collect(),
            Kind::Service => services.iter().map(|it| (it.name.as_str(), Resource::Service(it.clone()))).collect(),
            Kind::Route => routes.iter().map(|it| (it.name.as_str(), Resource::Route(it.clone()))).collect(),
            Kind::Api => apis.iter().map(|it| (it.name.as_str(), Resource::Api(it.clone()))).collect(),
        }
    }

    /// The stored resources of a kind as they were sent, by name.
    pub fn stored_values(&self, kind: Kind) -> impl Iterator<Item = &Value> {
        self.stored.get(&kind).into_iter().flat_map(BTreeMap::values).map(|kept| &kept.stored.value)
    }

    /// Puts the variables of the file's text in the place of what they hold, in a resource of the file.
    pub fn with_variables(&self, kind: Kind, name: &str, value: &mut Value) {
        if let Some(place) = kind.names(&self.document.config).position(|it| it == name) {
            self.document.with_variables(&format!("{}[{place}]", kind.list()), value);
        }
    }

    /// What is wrong with the file, and these problems but for those that only follow from that; none if the
    /// configuration may be used.
    pub fn errors(&self, problems: Vec<Problem>) -> Errors {
        let (mut of_file, mut errors) = (Vec::new(), Vec::new());
        for mut problem in problems {
            // Another place may be in the other layer.
            if let Some((stored, path)) = problem.other.as_deref().and_then(|other| self.stored_at(other)) {
                problem.message += &format!(", at {}", error(stored, path, String::new()).place());
                problem.other = None;
            }
            match self.stored_at(&problem.path) {
                None => of_file.push(problem),
                Some((stored, path)) if self.document.implies(&problem) => {
                    let other = problem.other.as_deref().map(|other| format!(", at {}", self.document.shown(other)));
                    errors.push(error(stored, path, problem.message + &other.unwrap_or_default()));
                }
                Some(_) => {}
            }
        }
        let mut all = self.document.errors(of_file);
        all.0.extend(errors);
        all
    }

    /// The stored resource that a path of the whole configuration leads into, and the path inside of it.
    fn stored_at<'p>(&self, path: &'p str) -> Option<(&Stored, &'p str)> {
        let (list, rest) = path.split_once('[')?;
        let (index, rest) = rest.split_once(']')?;
        let (kind, index) = (Kind::of_list(list)?, index.parse::<usize>().ok()?);
        let of_file = kind.names(&self.document.config).count();
        let kept = self.stored.get(&kind)?.values().nth(index.checked_sub(of_file)?)?;
        Some((&kept.stored, rest.trim_start_matches('.')))
    }

    fn merge(&mut self) {
        self.config = self.document.config.clone();
        for kept in self.stored.values().flat_map(BTreeMap::values) {
            match &kept.stored.resource {
                Resource::Plugin(plugin) => self.config.plugins.push(plugin.clone()),
                Resource::Service(service) => self.config.services.push(service.clone()),
                Resource::Route(route) => self.config.routes.push(route.clone()),
                Resource::Api(api) => self.config.apis.push(api.clone()),
            }
        }
    }
}

fn error(stored: &Stored, path: &str, message: String) -> Error {
    let found = stored.spot.find(path);
    let at = found.spot.at;
    let file = stored.place().display().to_string();
    Error { file, line: at.line, column: at.column, path: path.to_owned(), message }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn layers() -> Layers {
        let text = "services: [{ name: a }, { name: b }]\nroutes:\n  - { name: a, service: a }";
        let document = Document::parse(Path::new("stile.yaml"), text, &|_| None);
        let stored = |kind: Kind, name: &str, text: &str| {
            let stored = Arc::new(Stored::parse(kind, name, text).expect("a resource"));
            ((kind, name.to_owned()), Some(Kept { stored, revision: 7 }))
        };
        Layers::new(document).with([
            stored(Kind::Service, "c", "{}"),
            stored(Kind::Route, "b", "{ \"match\": { \"path\": \"/b\" },\n  \"service\": \"c\" }"),
            stored(Kind::Service, "b", "{ \"balance\": \"random\" }"),
        ])
    }

    #[test]
    fn one_configuration_is_made_of_both() {
        let layers = layers();
        let names: Vec<_> = layers.config().services.iter().map(|service| service.name.as_str()).collect();
        assert_eq!(names, ["a", "b", "b", "c"]);
        assert!(matches!(layers.origin(Kind::Service, "c"), Some(Origin::Store(Kept { revision: 7, .. }))));
        assert!(matches!(layers.origin(Kind::Service, "a"), Some(Origin::File)));
        assert!(layers.origin(Kind::Route, "c").is_none());
        let without = layers.with([((Kind::Service, "b".to_owned()), None)]);
        assert_eq!(without.list(Kind::Service).into_keys().collect::<Vec<_>>(), ["a", "b", "c"]);
    }

    #[test]
    fn what_a_variable_holds_is_shown_as_the_variable() {
        let text = "routes: [{ name: a, service: s, filters: [{ plugin: p, config: { keys: [\"x${KEY}\", b] } }] }]";
        let document = Document::parse(Path::new("stile.yaml"), text, &|_| Some("secret".to_owned()));
        let layers = Layers::new(document);
        let mut value = layers.list(Kind::Route)["a"].to_value();
        assert_eq!(value["filters"][0]["config"]["keys"][0], "xsecret");
        layers.with_variables(Kind::Route, "a", &mut value);
        assert_eq!(value["filters"][0]["config"], serde_json::json!({ "keys": ["x${KEY}", "b"] }));
        assert!(!value.to_string().contains("secret"), "{value}");
    }

    #[test]
    fn problems_are_told_by_where_their_place_came_from() {
        let layers = layers();
        let problems = vec![
            Problem::new("services[2].name", "there is another").with_other("services[1].name"),
            Problem::new("routes[1].service", "unknown"),
            Problem::new("routes[0].service", "this too").with_other("routes[1].match.path"),
            Problem::new("services[3].endpoints[0].address", "not there"),
        ];
        let expected = [
            "stile.yaml:3:25: routes[0].service: this too, at /v1/routes/b:1:22",
            "/v1/services/b:1:1: name: there is another, at stile.yaml:1:33",
            "/v1/routes/b:2:14: service: unknown",
            "/v1/services/c:1:1: endpoints[0].address: not there",
        ];
        assert_eq!(layers.errors(problems).to_string(), expected.join("\n"));
    }
}
