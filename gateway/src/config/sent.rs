//! What is sent to the Admin API, a body or a query, held to the form of its type in the words that files are told of. It knows no
//! HTTP.

use std::{
    any::TypeId,
    sync::{Arc, LazyLock},
};

use dashmap::DashMap;
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::{
    check::{Form, deserialise},
    tree::Tree,
};

/// What is wrong, by the path of each value.
pub type Mistakes = Vec<(String, String)>;

/// Mistakes that are told of one body.
const MOST: usize = 100;

/// Made once: a schema takes longer to prepare than a body to check.
static FORMS: LazyLock<DashMap<TypeId, Arc<Form>>> = LazyLock::new(DashMap::new);

/// What a body says.
pub fn body<T: JsonSchema + DeserializeOwned + 'static>(value: Value) -> Result<T, Mistakes> {
    read(&form::<T>(), value)
}

/// What a query says, by the names and values of its parameters. A number and a boolean are as JSON writes them.
pub fn query<T: JsonSchema + DeserializeOwned + 'static>(parameters: Vec<(String, String)>) -> Result<T, Mistakes> {
    let form = form::<T>();
    let (mut all, mut mistakes) = (Map::new(), Vec::new());
    for (name, text) in parameters {
        let value = match form.type_of(&name) {
            "integer" => text.parse::<u64>().map(Value::from).or_else(|_| text.parse::<i64>().map(Value::from)).ok(),
            "boolean" => text.parse::<bool>().map(Value::Bool).ok(),
            _ => None,
        };
        let shown = name.escape_debug().to_string();
        if all.insert(name, value.unwrap_or_else(|| text.into())).is_some() {
            mistakes.push((shown, "it is there more than once".to_owned()));
        }
    }
    if mistakes.is_empty() { read(&form, all.into()) } else { Err(mistakes) }
}

fn form<T: JsonSchema + 'static>() -> Arc<Form> {
    Arc::clone(&FORMS.entry(TypeId::of::<T>()).or_insert_with(|| Arc::new(Form::of::<T>())))
}

fn read<T: DeserializeOwned>(form: &Form, value: Value) -> Result<T, Mistakes> {
    let mut tree = Tree::of(value);
    let findings = form.findings(&tree, MOST);
    if findings.is_empty() {
        // JSON may write a whole number as 1.0, which serde takes for another.
        let read = deserialise(&tree).or_else(|_| {
            make_whole(&mut tree.value);
            deserialise(&tree)
        });
        return read.map_err(|finding| vec![(finding.path, without_value(&finding.message))]);
    }
    let mut mistakes: Mistakes = findings.into_iter().map(|finding| (finding.path, finding.message)).collect();
    mistakes.dedup();
    Err(mistakes)
}

fn make_whole(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(make_whole),
        Value::Object(members) => members.values_mut().for_each(make_whole),
        Value::Number(number) => {
            if let Some(float) =
                number.as_f64().filter(|float| number.is_f64() && float.fract() == 0.0 && float.abs() < 1e15)
                && let Ok(whole) = format!("{float:.0}").parse::<i64>()
            {
                *number = whole.into();
            }
        }
        _ => {}
    }
}

/// What serde says of a value that is not as it must be, without that value: it may be a secret.
fn without_value(message: &str) -> String {
    match message.rsplit_once(", expected ") {
        Some((said, expected)) if said.starts_with("invalid ") => format!("expected {expected}"),
        _ => message.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::Deserialize;
    use serde_json::json;

    use super::*;
    use crate::config::{
        scalar::{Address, Duration},
        schema::Quotas,
    };

    #[derive(Debug, PartialEq, Deserialize, JsonSchema)]
    #[serde(deny_unknown_fields)]
    struct Sample {
        #[schemars(with = "Address")]
        address: String,
        #[serde(default)]
        weight: u16,
        #[serde(default)]
        dry_run: bool,
        #[serde(default)]
        tags: Vec<String>,
        #[serde(default)]
        quotas: Quotas,
        #[serde(default)]
        ttl: Option<Duration>,
        #[serde(default)]
        labels: BTreeMap<String, String>,
    }

    fn told<T: std::fmt::Debug>(read: Result<T, Mistakes>) -> Vec<String> {
        let mistakes = read.expect_err("there are mistakes");
        mistakes.into_iter().map(|(path, message)| format!("{path}: {message}")).collect()
    }

    #[test]
    fn a_body_is_told_of_in_the_words_of_files() {
        let right = json!({ "address": "127.0.0.1:1", "weight": 2, "quotas": { "minute": 3 } });
        assert_eq!(body::<Sample>(right).expect("it is right").quotas.minute, Some(3));
        let wrong = json!({ "address": "here", "wieght": 2, "tags": ["a", 1, { "1": 2 }], "ttl": "1y", "quotas": { "minute": -1 } });
        let mut found = told(body::<Sample>(wrong));
        found.sort();
        assert_eq!(
            found,
            [
                "address: expected an address and port such as 127.0.0.1:8080 or [::1]:8080, found \"here\"",
                "quotas.minute: -1 is out of range 0 to 4294967295",
                "tags[1]: expected a string, found a number; put it in quotes",
                "tags[2]: expected a string, found a mapping",
                "ttl: expected a time such as 250ms, 5s, 2m or 1h, found \"1y\"",
                "wieght: unknown key \"wieght\"; did you mean \"weight\"?",
            ]
        );
        assert_eq!(told(body::<Sample>(json!({ "weight": 70_000 }))).len(), 2, "a key is missing, too");
        let whole = body::<Sample>(json!({ "address": "127.0.0.1:1", "weight": 1.0, "quotas": { "day": 1e2 } }));
        assert_eq!(whole.map(|it| (it.weight, it.quotas.day)), Ok((1, Some(100))));
        let named = body::<Sample>(json!({ "address": "127.0.0.1:1", "labels": { "1": 5 } }));
        assert_eq!(told(named), ["labels.1: expected a string, found a number; put it in quotes"]);
    }

    #[test]
    fn of_many_mistakes_the_first_are_told_and_of_secrets_nothing() {
        let many = json!({ "address": "127.0.0.1:1", "tags": vec![1; 10_000] });
        assert_eq!(told(body::<Sample>(many)).len(), MOST);
        let keys: Map<_, _> = (0..10_000).map(|n| (format!("key{n}"), Value::Null)).collect();
        assert_eq!(told(body::<Sample>(keys.into())).len(), MOST);
        for secret in [json!(1_234_567_890), json!("planted")] {
            let found = told(body::<Sample>(json!({ "address": "127.0.0.1:1", "tags": secret, "quotas": secret })));
            assert!(found.len() == 2 && !found.concat().contains("1234567890"), "{found:?}");
            assert!(!found.concat().contains("planted"), "{found:?}");
        }
    }

    #[test]
    fn a_query_has_numbers_and_booleans_where_those_are_wanted() {
        let asked = |text: &str| {
            let pairs = text.split('&').filter_map(|pair| pair.split_once('='));
            query::<Sample>(pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
        };
        let read = asked("address=127.0.0.1:1&weight=7&dry_run=true").expect("it is right");
        assert_eq!((read.weight, read.dry_run), (7, true));
        let large = "address=127.0.0.1:1&weight=99999999999999999999999";
        assert_eq!(told(asked(large)), ["weight: expected a whole number, found \"99999999999999999999999\""]);
        let wrong = "address=127.0.0.1:1&weight=x&dry_run=yes";
        let expected =
            ["weight: expected a whole number, found \"x\"", "dry_run: expected true or false, found \"yes\""];
        let mut found = told(asked(wrong));
        found.sort_by_key(|message| std::cmp::Reverse(message.clone()));
        assert_eq!(found, expected);
        assert_eq!(told(asked("address=127.0.0.1:1&weight=1&weight=2")), ["weight: it is there more than once"]);
        assert_eq!(
            told(asked("address=127.0.0.1:1&limit=2"))[0].split(';').next(),
            Some("limit: unknown key \"limit\"")
        );
    }
}
