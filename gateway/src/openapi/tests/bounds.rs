//! What a request, or a document, may take.

use http::header::CONTENT_TYPE;
use serde_json::{Value, json};

use super::{
    super::{Description, MOST_FINDINGS, in_turn},
    compiled, document, get, of_parameters, post,
};

/// A text that a pattern would go back over forever is refused.
#[test]
fn a_pattern_takes_so_many_steps_and_no_more() {
    let description = of_parameters(&json!([
        { "name": "q", "in": "query", "schema": { "type": "string", "pattern": "^(?:\\w+(?!!)\\s?)+$" } },
    ]));
    assert_eq!(get(&description, "/a/1?q=aaa", &[]), [""; 0]);
    let long = format!("/a/1?q={}!", "a".repeat(64));
    assert_eq!(get(&description, &long, &[]).len(), 1);
}

#[test]
fn so_many_findings_are_told_and_no_more() {
    let items = json!({ "type": "array", "items": { "type": "integer" } });
    let content = json!({ "application/json": { "schema": items } });
    let description = compiled(&json!({ "/users": { "post": { "requestBody": { "content": content } } } }));
    let body = json!(vec!["x"; 100]).to_string();
    assert_eq!(post(&description, &[(CONTENT_TYPE, "application/json")], &body).len(), MOST_FINDINGS);
}

/// Each level of it may be tried in two ways, by each of those above.
#[test]
fn a_check_takes_so_many_steps_and_no_more() {
    let branch = |op: &Value| {
        json!({ "type": "object", "required": ["args"], "properties": {
        "args": { "type": "array", "items": { "$ref": "#/components/schemas/Expr" } },
        "op": op,
    } })
    };
    let of_two = |one: &Value, two: &Value| {
        let content = json!({ "application/json": { "schema": { "$ref": "#/components/schemas/Expr" } } });
        let mut whole = document("3.1.0", &json!({ "/users": { "post": { "requestBody": { "content": content } } } }));
        let branches = [json!({ "type": "integer" }), branch(one), branch(two)];
        whole["components"]["schemas"]["Expr"] = json!({ "anyOf": branches });
        Description::compile(&whole).expect("a good document")
    };
    let nested =
        |depth: usize, leaf: &str| format!("{}{leaf}{}", r#"{"op":"and","args":["#.repeat(depth), "]}".repeat(depth));
    let json = [(CONTENT_TYPE, "application/json")];
    let apart = of_two(&json!({ "enum": ["and"] }), &json!({ "enum": ["or"] }));
    assert_eq!(post(&apart, &json, &nested(40, "1")), [""; 0]);
    assert_eq!(post(&apart, &json, &nested(40, "true")), ["body #: is not what its schema says"]);
    let alike = of_two(&json!({}), &json!({ "type": "string" }));
    assert_eq!(post(&alike, &json, &nested(40, "1")), [""; 0]);
    assert_eq!(post(&alike, &json, &nested(40, "true")), ["body #: is not what its schema says"]);
    let long = |part: &str| format!(r#"{{"op":"and","args":[{}]}}"#, vec![part; 10_000].join(","));
    assert_eq!(post(&apart, &json, &long("1")), [""; 0], "a long one may take longer");
    let told = ["body #: is not what its schema says, and too large to tell where"];
    assert_eq!(post(&apart, &json, &long("{}")), told);

    // What does not lead back to itself the validator tries anew each time.
    let content = json!({ "application/json": { "schema": { "$ref": "#/components/schemas/S0" } } });
    let mut whole = document("3.1.0", &json!({ "/users": { "post": { "requestBody": { "content": content } } } }));
    whole["components"]["schemas"]["S24"] = json!({ "type": "integer" });
    for n in 0..24 {
        let below = json!({ "properties": { "x": { "$ref": format!("#/components/schemas/S{}", n + 1) } } });
        whole["components"]["schemas"][format!("S{n}")] = json!({ "anyOf": [below, below, below] });
    }
    let deep = Description::compile(&whole).expect("a good document");
    let nested = |leaf: &str| format!("{}{leaf}{}", r#"{"x":"#.repeat(24), "}".repeat(24));
    assert_eq!(post(&deep, &json, &nested("1")), [""; 0]);
    assert_eq!(post(&deep, &json, &nested("true")), ["body #: takes too long to check"]);
}

/// As many schemas as there are names at each level, were they all looked at.
#[test]
fn what_refers_to_itself_many_times_has_an_end() {
    let all: serde_json::Map<_, _> =
        (0..100).map(|n| (format!("p{n}"), json!({ "$ref": "#/components/schemas/Wide" }))).collect();
    let form = json!({ "schema": { "$ref": "#/components/schemas/Wide" } });
    let content = json!({ "application/json": form, "application/x-www-form-urlencoded": form });
    let mut whole = document("3.1.0", &json!({ "/users": { "post": { "requestBody": { "content": content } } } }));
    whole["components"]["schemas"]["Wide"] =
        json!({ "type": "object", "properties": all, "additionalProperties": false });
    let description = Description::compile(&whole).expect("a good document");
    let of = |kind: &'static str, body: &str| post(&description, &[(CONTENT_TYPE, kind)], body);
    assert_eq!(of("application/json", r#"{"p1":{"p2":{}}}"#), [""; 0]);
    assert_eq!(of("application/x-www-form-urlencoded", "p1={}"), [""; 0]);
    assert_eq!(of("application/json", r#"{"p1":{"x":{}}}"#).len(), 1);
}

/// Work that is slow by its nature takes more steps: the verdict is the same on a machine that is busy.
#[test]
fn what_is_slow_has_a_bound_as_well() {
    let schema = json!({ "type": "object", "properties": {
        "prices": { "type": "array", "items": { "multipleOf": 0.01 } },
        "ids": { "type": "array", "uniqueItems": true },
        "password": { "pattern": "(?=.*[0-9])(?=.*[A-Z]).{8,}" },
        "words": { "items": { "anyOf": [{ "pattern": "^(?:\\w+(?!!)\\s?)+$" }, { "type": "string" }] } },
        "names": { "patternProperties": { "^(?:\\w+(?!!)\\s?)+$": {} } },
    } });
    let content = json!({ "application/json": { "schema": schema } });
    let description = compiled(&json!({ "/users": { "post": { "requestBody": { "content": content } } } }));
    let of = |body: &Value| post(&description, &[(CONTENT_TYPE, "application/json")], &body.to_string());
    let slow = ["body #: takes too long to check"];
    assert_eq!(of(&json!({ "prices": vec![1e300; 20_000] })), slow);
    assert_eq!(of(&json!({ "password": "a".repeat(1 << 20) })), slow);
    assert_eq!(of(&json!({ "words": vec!["word ".repeat(40); 10_000] })), slow);
    let names = (0..1000).map(|n| (format!("{n} {}", "x".repeat(1000)), json!(1))).collect::<serde_json::Map<_, _>>();
    assert_eq!(of(&json!({ "names": names })), slow);

    let alike: Vec<_> =
        (0..20_000_u64).map(|n| json!({ "a": (1_u64 << 63) + n % 150, "b": (1_u64 << 63) + n / 150 })).collect();
    assert_eq!(of(&json!({ "ids": alike })), [""; 0]);
    assert_eq!(of(&json!({ "prices": vec![12.34; 1000] })), [""; 0]);
    assert_eq!(of(&json!({ "words": vec!["antidisestablishment"; 1000] })), [""; 0]);
    assert_eq!(of(&json!({ "password": "correct Horse 7 battery" })), [""; 0]);
    assert_eq!(of(&json!({ "password": "correct horse battery" })).len(), 1);
    let items = json!({ "type": "object", "properties": { "ids": { "type": "array", "uniqueItems": true } } });
    let content = json!({ "application/json": { "schema": items } });
    let description = compiled(&json!({ "/users": { "post": { "requestBody": { "content": content } } } }));
    let long = json!({ "ids": vec![""; 500], "k".repeat(10_000): 1 });
    assert_eq!(
        post(&description, &[(CONTENT_TYPE, "application/json")], &long.to_string()),
        ["body #: is not what its schema says, and too large to tell where"]
    );
}

/// A worker's turn is counted, too: a check that is longer runs elsewhere, to the same end.
#[test]
fn a_check_in_a_workers_turn_has_an_end_and_says_so() {
    let items = json!({ "type": "array", "uniqueItems": true });
    let content = json!({ "application/json": { "schema": items } });
    let description = compiled(&json!({ "/users": { "post": { "requestBody": { "content": content } } } }));
    let many: Vec<_> = (0..10_000).map(|n| json!({ "id": n })).collect();
    let check = |body: &Value| post(&description, &[(CONTENT_TYPE, "application/json")], &body.to_string());
    assert_eq!(in_turn(|| check(&json!(many))), None);
    assert_eq!(check(&json!(many)), [""; 0]);
    assert_eq!(in_turn(|| check(&json!([1, 2]))), Some(Vec::new()));
    assert_eq!(in_turn(|| check(&json!([1, 1]))).map(|told| told.len()), Some(1));
}
