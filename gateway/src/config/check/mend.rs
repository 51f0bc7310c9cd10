//! Makes a value with mistakes deserialise, so that what it means can be checked as well: what is optional goes, for what
//! is not stands something of its type, and the spots tell which is which. The result is never what a gateway runs.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::{
    super::tree::{Source, Spot},
    rules::Rules,
};

/// What is wrong within a value, by JSON Pointer, and the schema that says so.
pub(super) struct Mend<'a> {
    pub(super) schema: &'a Value,
    pub(super) wrong: BTreeSet<String>,
}

impl Mend<'_> {
    pub(super) fn root(&self, value: &mut Value, spot: &mut Spot) {
        if !self.value(self.schema, value, spot, "") {
            *value = self.stand_in(self.schema);
            spot.source = Source::Unreadable;
        }
    }

    /// Whether the value can stay, mended within.
    fn value(&self, rules: &Value, value: &mut Value, spot: &mut Spot, pointer: &str) -> bool {
        if spot.source == Source::Unreadable || self.wrong.contains(pointer) {
            return false;
        }
        let rules = self.resolve(rules);
        match value {
            Value::Object(members) if rules.has_members() => {
                self.mapping(rules, members, spot, pointer);
                true
            }
            Value::Array(items) if !rules.items().is_null() => {
                self.list(rules.items(), items, spot, pointer);
                true
            }
            _ => {
                let below = format!("{pointer}/");
                !self.wrong.range(below.clone()..).next().is_some_and(|wrong| wrong.starts_with(&below))
            }
        }
    }

    fn mapping(&self, rules: Rules<'_>, members: &mut Map<String, Value>, spot: &mut Spot, pointer: &str) {
        let mut kept = Map::new();
        for (key, mut value) in std::mem::take(members) {
            let Some(inner) = rules.member(&key) else {
                match rules.meant_by(&key) {
                    Some(meant) => spot.lose_if_absent(meant),
                    None => spot.partial = true,
                }
                spot.lose(&key);
                continue;
            };
            let pointer = format!("{pointer}/{}", key.replace('~', "~0").replace('/', "~1"));
            let stays = spot.step_mut(&key).is_some_and(|spot| self.value(inner, &mut value, spot, &pointer));
            if stays {
                kept.insert(key, value);
            } else {
                spot.lose(&key);
            }
        }
        for key in rules.required().filter(|key| !kept.contains_key(*key)).collect::<Vec<_>>() {
            kept.insert(key.to_owned(), rules.member(key).map_or(Value::Null, |inner| self.stand_in(inner)));
            spot.lose(key);
        }
        *members = kept;
    }

    fn list(&self, rules: &Value, items: &mut [Value], spot: &mut Spot, pointer: &str) {
        for (index, item) in items.iter_mut().enumerate() {
            let step = index.to_string();
            let stays =
                spot.step_mut(&step).is_some_and(|spot| self.value(rules, item, spot, &format!("{pointer}/{step}")));
            if !stays {
                *item = self.stand_in(rules);
                spot.lose(&step);
            }
        }
    }

    /// Some value of the right form.
    fn stand_in(&self, rules: &Value) -> Value {
        let rules = self.resolve(rules);
        if let Some(form) = rules.first_form() {
            return self.stand_in(form);
        }
        if let Some(value) = rules.sample() {
            return value;
        }
        let required = rules.required().map(|key| {
            let value = rules.member(key).map_or(Value::Null, |inner| self.stand_in(inner));
            (key.to_owned(), value)
        });
        Value::Object(required.collect())
    }

    /// The rules that a reference leads to, and those of the value where it may be absent too.
    fn resolve<'s>(&'s self, rules: &'s Value) -> Rules<'s> {
        let mut rules = Rules(rules);
        loop {
            let referred = rules.reference().and_then(|pointer| self.schema.pointer(pointer));
            let Some(next) = referred.map(Rules).or_else(|| rules.sole_form()) else { return rules };
            rules = next;
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{
        super::{
            super::{Config, tree},
            Form, deserialise,
        },
        *,
    };

    /// The pointers to all parts of a value.
    fn pointers(value: &Value, pointer: &str, all: &mut Vec<String>) {
        all.push(pointer.to_owned());
        for (key, value) in value.as_object().into_iter().flatten() {
            let key = key.replace('~', "~0").replace('/', "~1");
            pointers(value, &format!("{pointer}/{key}"), all);
        }
        for (index, value) in value.as_array().into_iter().flatten().enumerate() {
            pointers(value, &format!("{pointer}/{index}"), all);
        }
    }

    #[test]
    fn whatever_is_wrong_the_rest_is_understood() {
        let text = include_str!("../golden/good.yaml").replace("${WORKERS}", "2").replace("${ADDRESS}", "127.0.0.1:1");
        let good = tree::read(&text, 0, &|name| Some(name.repeat(2))).value;
        let mut all = Vec::new();
        pointers(&good, "", &mut all);
        assert!(all.len() > 100, "{all:?}");
        let form = Form::of_main();
        for pointer in all {
            for wrong in [json!(null), json!(-1.5), json!("x"), json!([[]]), json!({ "x": 1 }), json!([{}]), json!({})]
            {
                let mut value = good.clone();
                *value.pointer_mut(&pointer).expect("a part") = wrong.clone();
                let mut tree = tree::read(&value.to_string(), 0, &|_| None);
                form.check(&mut tree);
                let config = deserialise::<Config>(&tree);
                let config = config.unwrap_or_else(|finding| panic!("{pointer} as {wrong}: {}", finding.message));
                let name = config.services.first().map(|service| service.name.as_str());
                assert!(pointer.is_empty() || pointer.starts_with("/services") || name == Some("users"), "{pointer}");
            }
        }
    }
}
