//! One resource by itself, as the Admin API takes it: a JSON text in the form that the file has for it, checked as the
//! file is, with every mistake named and positioned.

use std::{borrow::Cow, path::PathBuf, sync::LazyLock};

use serde_json::Value;

use super::{
    Config, Errors,
    check::{Form, deserialise},
    error::Finding,
    schema,
    tree::{self, Spot, Tree},
};

/// The resources that may come through the Admin API as well as from the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    Plugin,
    Service,
    Route,
    Api,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Resource {
    Plugin(schema::Plugin),
    Service(schema::Service),
    Route(schema::Route),
    Api(schema::Api),
}

/// A resource that came through the Admin API.
#[derive(Debug)]
pub struct Stored {
    pub kind: Kind,
    pub name: String,
    pub resource: Resource,
    /// As it was sent.
    pub value: Value,
    pub(super) spot: Spot,
}

/// What answers tell of a resource beside what was sent; sent back with it, it is passed over.
const TOLD: [&str; 5] = ["origin", "revision", "sha256", "phases", "imports"];

/// Made once: a schema takes longer to prepare than a resource to check.
static FORMS: LazyLock<[Form; Kind::ALL.len()]> = LazyLock::new(|| {
    [
        Form::of::<schema::Plugin>(),
        Form::of::<schema::Service>(),
        Form::of::<schema::Route>(),
        Form::of::<schema::Api>(),
    ]
});

impl Kind {
    pub const ALL: [Self; 4] = [Self::Plugin, Self::Service, Self::Route, Self::Api];

    /// The key of the list that holds them in a file, and their part of a path of the Admin API.
    pub fn list(self) -> &'static str {
        match self {
            Self::Plugin => "plugins",
            Self::Service => "services",
            Self::Route => "routes",
            Self::Api => "apis",
        }
    }

    /// The names of a configuration's resources of this kind, in its order.
    pub fn names(self, config: &Config) -> Box<dyn Iterator<Item = &str> + '_> {
        match self {
            Self::Plugin => Box::new(config.plugins.iter().map(|it| it.name.as_str())),
            Self::Service => Box::new(config.services.iter().map(|it| it.name.as_str())),
            Self::Route => Box::new(config.routes.iter().map(|it| it.name.as_str())),
            Self::Api => Box::new(config.apis.iter().map(|it| it.name.as_str())),
        }
    }

    pub fn singular(self) -> &'static str {
        self.list().trim_end_matches('s')
    }

    /// The kind whose list has this key.
    pub fn of_list(list: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.list() == list)
    }
}

impl Stored {
    /// Reads a resource of this name; the text need not say the name again.
    ///
    /// # Errors
    ///
    /// Every mistake, positioned in the text, which is called after the path of the resource.
    pub fn parse(kind: Kind, name: &str, text: &str) -> Result<Self, Errors> {
        let mut tree = tree::read_plain(&plain(text), 0);
        let Tree { value, spot, findings } = &mut tree;
        if let Value::Object(members) = value {
            TOLD.iter().for_each(|told| drop(members.shift_remove(*told)));
            if let Some(said) = members.get("name").and_then(Value::as_str).filter(|said| *said != name) {
                let message = format!("this is \"{}\", the path is that of \"{name}\"", said.escape_debug());
                findings.push(finding(spot, "name", message));
            }
            members.entry("name").or_insert_with(|| name.into());
            for source in ["file", "url"].into_iter().filter(|_| kind == Kind::Plugin) {
                if members.get(source).is_some_and(|value| !value.is_null()) {
                    let message = format!(
                        "a plugin that comes through the Admin API is pushed; only the configuration file names a {source}"
                    );
                    findings.push(finding(spot, source, message));
                }
            }
        }
        let value = tree.value.clone();
        FORMS[kind as usize].check(&mut tree);
        let resource = match kind {
            Kind::Plugin => deserialise(&tree).map(Resource::Plugin),
            Kind::Service => deserialise(&tree).map(Resource::Service),
            Kind::Route => deserialise(&tree).map(Resource::Route),
            Kind::Api => deserialise(&tree).map(Resource::Api),
        };
        let mut findings = std::mem::take(&mut tree.findings);
        match resource {
            Ok(resource) if findings.is_empty() => {
                Ok(Self { kind, name: name.to_owned(), resource, value, spot: tree.spot })
            }
            Ok(_) => Err(Errors::new(&[place(kind, name)], findings)),
            Err(finding) => {
                // A text that could not be read has no form, which its finding says already.
                if findings.is_empty() {
                    findings.push(finding);
                }
                Err(Errors::new(&[place(kind, name)], findings))
            }
        }
    }

    /// Where it is, as errors name it.
    pub fn place(&self) -> PathBuf {
        place(self.kind, &self.name)
    }
}

impl Resource {
    /// In the form of the file, with every default filled in.
    pub fn to_value(&self) -> Value {
        let value = match self {
            Self::Plugin(plugin) => serde_json::to_value(plugin),
            Self::Service(service) => serde_json::to_value(service),
            Self::Route(route) => serde_json::to_value(route),
            Self::Api(api) => serde_json::to_value(api),
        };
        value.unwrap_or_default()
    }
}

/// YAML knows no surrogates, which JSON writes what is beyond 16 bits with (RFC 8259 §7).
fn plain(text: &str) -> Cow<'_, str> {
    let has_surrogates = text.contains("\\uD") || text.contains("\\ud");
    match has_surrogates.then(|| serde_json::from_str::<Value>(text)) {
        Some(Ok(value)) => Cow::Owned(value.to_string()),
        _ => Cow::Borrowed(text),
    }
}

fn place(kind: Kind, name: &str) -> PathBuf {
    format!("/v1/{}/{name}", kind.list()).into()
}

fn finding(spot: &Spot, path: &str, message: String) -> Finding {
    let found = spot.find(path);
    Finding { position: found.spot.at, path: found.path, message }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parse(kind: Kind, value: &Value) -> Result<Stored, String> {
        Stored::parse(kind, "users", &value.to_string()).map_err(|errors| errors.to_string())
    }

    #[test]
    fn a_resource_may_leave_out_its_name_and_bring_back_what_was_told_of_it() {
        let sent = json!({ "origin": "store", "balance": "random", "endpoints": [{ "address": "127.0.0.1:1" }] });
        let stored = parse(Kind::Service, &sent).expect("a service");
        let Resource::Service(service) = &stored.resource else { panic!("{stored:?}") };
        assert_eq!((service.name.as_str(), service.endpoints.len()), ("users", 1));
        let again = parse(Kind::Service, &stored.resource.to_value()).expect("what is told can be sent");
        assert_eq!(again.resource, stored.resource);
    }

    #[test]
    fn every_mistake_of_a_resource_is_told_in_one_answer() {
        let text =
            "{\n  \"name\": \"other\",\n  \"balanc\": \"random\",\n  \"endpoints\": [{ \"address\": \"nowhere\" }]\n}";
        let errors = Stored::parse(Kind::Service, "users", text).expect_err("mistakes").to_string();
        let expected = [
            "/v1/services/users:2:11: name: this is \"other\", the path is that of \"users\"",
            "/v1/services/users:3:3: balanc: unknown key \"balanc\"; did you mean \"balance\"?",
            "/v1/services/users:4:30: endpoints[0].address: expected an address and port such as 127.0.0.1:8080 or \
             [::1]:8080, found \"nowhere\"",
        ];
        assert_eq!(errors, expected.join("\n"));
        assert_eq!(
            parse(Kind::Plugin, &json!({ "file": "/etc/passwd" })).expect_err("a file"),
            "/v1/plugins/users:1:9: file: a plugin that comes through the Admin API is pushed; only the configuration \
             file names a file"
        );
        assert_eq!(
            parse(Kind::Route, &json!([])).expect_err("no route"),
            "/v1/routes/users:1:1: expected a mapping, found a list"
        );
        assert!(Stored::parse(Kind::Route, "users", "{").is_err());
    }

    #[test]
    fn json_may_escape_what_it_likes() {
        let text = r#"{ "service": "s", "filters": [{ "plugin": "p", "config": "\uD83D\uDE00\u00e9" }] }"#;
        let stored = Stored::parse(Kind::Route, "users", text).expect("a route");
        assert_eq!(stored.value["filters"][0]["config"], "😀é");
    }

    #[test]
    fn variables_are_for_the_file_alone() {
        let stored = parse(Kind::Route, &json!({ "service": "${PATH}" })).expect("a text like any other");
        assert_eq!(stored.value["service"], "${PATH}");
    }
}
