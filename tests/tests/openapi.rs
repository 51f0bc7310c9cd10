//! The OpenAPI document of the Admin API, and what it promises: every operation is refused to whoever may not call it.

use serde_json::{Value, json};
use stile_tests::{
    admin::{Admin, PUBLISHER, SECRET, SERVICE, VIEWER},
    gateway::{Gateway, plain},
    upstream::Upstream,
};

/// Method, path with its parameters filled in, and the role that the document says it takes.
fn operations(document: &Value) -> Vec<(String, String, Option<String>)> {
    let fill = |path: &str| {
        path.replace("{name}", "unbound")
            .replace("{generation}", "1")
            .replace("{endpoint}", "one")
            .replace("{id}", "one")
    };
    let mut operations = Vec::new();
    for (path, item) in document["paths"].as_object().expect("paths") {
        for (method, operation) in item.as_object().expect("operations") {
            let role = operation["x-role"].as_str().map(str::to_owned);
            assert_eq!(role.is_some(), operation.get("security").is_some(), "{method} {path}");
            operations.push((method.to_uppercase(), fill(path), role));
        }
    }
    operations
}

async fn document(admin: &Admin) -> Value {
    let answer = admin.call("GET", "/openapi.json", None, "").await;
    assert_eq!((answer.status.as_u16(), answer.header("content-type")), (200, "application/json"));
    answer.json()
}

#[tokio::test]
async fn whoever_may_not_call_an_operation_is_refused() {
    let upstream = Upstream::echo().await;
    let gateway = Gateway::start(plain(upstream.address())).await;
    let admin = gateway.admin();
    let operations = operations(&document(&admin).await);
    assert!(operations.iter().filter(|(.., role)| role.is_some()).count() >= 18, "{operations:?}");
    let refused = async |admin: &Admin, method: &str, path: &str, secret: Option<&str>, expected: &[u16]| {
        let answer = admin.call(method, path, secret, "").await;
        assert!(expected.contains(&answer.status.as_u16()), "{method} {path} {secret:?}: {}", answer.text());
        assert_eq!(answer.json()["status"], answer.status.as_u16());
    };
    for (method, path, role) in &operations {
        let Some(role) = role else { continue };
        refused(&admin, method, path, None, &[401]).await;
        // What services may call, they may for their own; events are of those that they may find.
        if path != "/v1/events" {
            refused(&admin, method, path, Some(SERVICE), &[403]).await;
        }
        let smaller: &[&str] = match role.as_str() {
            "viewer" => &[],
            "publisher" => &[VIEWER],
            "admin" => &[VIEWER, PUBLISHER],
            other => panic!("role {other}"),
        };
        for secret in smaller {
            refused(&admin, method, path, Some(secret), &[403]).await;
        }
    }
    assert_eq!(admin.get("/v1/status").await.status, 200);
    // Guessing is bounded, so this comes last: the first are told that they are wrong, later ones to wait.
    for (number, (method, path, role)) in operations.iter().enumerate() {
        if role.is_some() {
            for secret in [format!("wrong-{number}"), SECRET[1..].to_owned()] {
                refused(&admin, method, path, Some(&secret), &[401, 429]).await;
            }
        }
    }
    let waiting = admin.call("GET", "/v1/status", Some("wrong"), "").await;
    assert_eq!(waiting.status, 429, "too many were wrong");
    assert_eq!(admin.get("/v1/status").await.status, 200, "a token in use does not wait for who guesses beside it");
    assert!(waiting.header("retry-after").parse::<u64>().is_ok_and(|wait| (1..=60).contains(&wait)));
    assert_eq!(gateway.generation(), 1, "nothing was changed");
    assert_eq!(admin.call("GET", "/readyz", None, "").await.status, 200);
}

#[tokio::test]
async fn the_document_has_what_the_api_has() {
    let upstream = Upstream::echo().await;
    let gateway = Gateway::start(plain(upstream.address())).await;
    let document = document(&gateway.admin()).await;
    assert_eq!(document["openapi"], "3.1.0");
    let mut references = Vec::new();
    fn walk(value: &Value, references: &mut Vec<String>) {
        match value {
            Value::Object(members) => {
                references.extend(members.get("$ref").and_then(Value::as_str).map(str::to_owned));
                members.values().for_each(|value| walk(value, references));
            }
            Value::Array(items) => items.iter().for_each(|value| walk(value, references)),
            _ => {}
        }
    }
    walk(&document, &mut references);
    assert!(!references.is_empty());
    for reference in references {
        let pointer = reference.strip_prefix('#').unwrap_or_else(|| panic!("{reference} leads elsewhere"));
        assert!(document.pointer(pointer).is_some(), "{reference} leads nowhere");
    }
    let put = &document["paths"]["/v1/routes/{name}"]["put"];
    assert_eq!(put["x-role"], "publisher");
    let answers: Vec<_> = put["responses"].as_object().expect("answers").keys().cloned().collect();
    for status in ["200", "201", "401", "403", "409", "412", "422", "503"] {
        assert!(answers.contains(&status.to_owned()), "{status}: {answers:?}");
    }
    let required = &document["components"]["schemas"]["Route"]["required"];
    assert_eq!(required, &json!(["service"]), "the path says the name");
}
