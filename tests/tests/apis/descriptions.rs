//! Descriptions of versions: what is served of them, routes made of them, and requests held to them.

use std::pin::pin;

use serde_json::{Value, json};
use stile_tests::{
    admin::VIEWER,
    client::{Client, request},
    gateway::Gateway,
    raw::{self, Raw},
};

use super::{ANN, ask, config, route, upstreams, version};

/// Users with a number, or made of JSON.
fn users_described() -> Value {
    json!({
        "openapi": "3.1.0",
        "info": { "title": "Users", "version": "1" },
        "paths": {
            "/users": { "post": { "requestBody": { "required": true, "content": { "application/json": {
                "schema": { "$ref": "#/components/schemas/User" },
            } } } } },
            "/users/{id}": { "get": { "parameters": [{ "name": "id", "in": "path", "schema": { "type": "integer" } }] } },
        },
        "components": { "schemas": { "User": {
            "type": "object", "required": ["name"], "properties": { "name": { "type": "string" } },
        } } },
    })
}

#[tokio::test]
async fn a_version_has_a_description_and_routes_of_it() {
    let (one, two) = upstreams().await;
    let gateway = Gateway::start(config(&one, &two, json!([]))).await;
    let admin = gateway.admin();
    let described = json!({
        "openapi": "3.1.0",
        "info": { "title": "Users", "version": "1" },
        "paths": {
            "/users": { "get": {}, "post": {} },
            "/users/{id}": { "parameters": [], "get": {}, "delete": {} },
            "/nothing": { "summary": "no operation" },
        },
    });
    let sent = json!({
        "state": "published", "anonymous": true, "select": { "path": "/v1" }, "openapi": described,
        "import": { "service": "one" }, "routes": [route("more", "/more", "two")],
    });
    let path = "/v1/apis/users/versions/1";
    let put = admin.send("PUT", path, sent.clone()).await;
    assert_eq!(put.status, 201, "{}", put.text());
    let told = admin.call("GET", &format!("{path}/openapi"), Some(VIEWER), "").await;
    assert_eq!((told.status.as_u16(), told.json()), (200, described));
    let mut client = Client::connect(gateway.address()).await;
    for (method, path, status) in [
        ("GET", "/v1/users", 200),
        ("POST", "/v1/users", 200),
        ("HEAD", "/v1/users", 200),
        ("DELETE", "/v1/users", 405),
        ("DELETE", "/v1/users/7", 200),
        ("GET", "/v1/users/7/x", 404),
        ("GET", "/v1/nothing", 404),
        ("GET", "/v1/more", 200),
    ] {
        assert_eq!(client.send(request(method, path, &[], "")).await.status, status, "{method} {path}");
    }
    let refused = client.send(request("PUT", "/v1/users/7", &[], "")).await;
    assert_eq!((refused.status.as_u16(), refused.header("allow")), (405, "GET, HEAD, DELETE"));
    let line = r#"stile_requests_total{route="users/1/users-id",service="one",code="200"}"#;
    assert_eq!(admin.metric(line).await, 1);
    let mut without = sent;
    without["openapi"] = Value::Null;
    let refused = admin.send("PUT", path, without.clone()).await;
    assert_eq!(refused.status, 422);
    without["import"] = Value::Null;
    assert_eq!(admin.send("PUT", path, without).await.status, 200);
    assert_eq!(admin.get(&format!("{path}/openapi")).await.status, 404);
}

#[tokio::test]
async fn requests_are_held_to_a_description_where_that_is_asked_for() {
    let (one, two) = upstreams().await;
    let validated = json!({ "anonymous": true, "select": { "path": "/v1" }, "openapi": users_described(), "validate": { "body": "64B" } });
    let plain = json!({ "anonymous": true, "select": { "path": "/v2" }, "openapi": users_described() });
    let mut deep = validated.clone();
    deep["select"]["path"] = json!("/deep//v3/");
    let versions = [version("1", "one", validated), version("2", "two", plain), version("3", "two", deep)];
    let apis = json!([{ "name": "users", "versions": versions }]);
    let gateway = Gateway::start(config(&one, &two, apis)).await;
    let mut client = Client::connect(gateway.address()).await;
    let json = [("content-type", "application/json")];

    let mut post = async |path: &str, fields: &[(&str, &str)], body: &str| {
        let answer = client.send(request("POST", path, fields, body.to_owned())).await;
        let told = if answer.status == 200 { json!(null) } else { answer.json() };
        (answer.status.as_u16(), told, answer.header("allow").to_owned())
    };
    let good = r#"{ "name" : "ann" }"#;
    assert_eq!(post("/v1/users", &json, good).await.0, 200);
    assert_eq!((one.last().target(), &one.last().body[..]), ("/users", good.as_bytes()), "it goes on as it came");

    let (status, told, _) = post("/v1/users", &json, r#"{"name":7}"#).await;
    let errors = json!([{ "in": "body", "pointer": "#/name", "detail": "the value is not of type \"string\"" }]);
    assert_eq!((status, &told["errors"]), (400, &errors));
    assert_eq!(told["detail"], "the request is not as the API describes it");
    let long = format!(r#"{{"name":"{}"}}"#, "x".repeat(64));
    assert_eq!(post("/v1/users", &json, &long).await.0, 413);
    assert_eq!(post("/v1/users", &[("content-type", "text/plain")], "ann").await.0, 415);
    let (status, _, allow) = post("/v1/users/7", &json, good).await;
    assert_eq!((status, &*allow), (405, "GET"));
    assert_eq!(post("/v1/orders", &json, good).await.0, 404);
    assert_eq!(post("/v2/orders", &json, "anything").await.0, 200, "the other version asks for nothing");
    assert_eq!(post("/deep/v3/users", &json, good).await.0, 200);
    assert_eq!(post("/deep/v3/users", &json, "{}").await.0, 400);

    let chunked = |path: &str, kind: &str, body: &str| {
        let head = format!("POST {path} HTTP/1.1\r\nhost: a\r\n{kind}transfer-encoding: chunked\r\n\r\n");
        raw::ask(gateway.address(), head + body)
    };
    let missing = json!([{ "in": "body", "pointer": "#", "detail": "is required" }]);
    for kind in ["content-type: application/json\r\n", ""] {
        assert_eq!(chunked("/v1/users", kind, "0\r\n\r\n").await.json()["errors"], missing, "{kind:?}");
    }
    assert_eq!(chunked("/v1/users", "", "1\r\nx\r\n0\r\n\r\n").await.status(), 415);
    assert_eq!(chunked("/v1/orders", "", "").await.status(), 404, "it waits for no body");

    let told = gateway.get("/v1/users/x").await.json();
    assert_eq!(
        told["errors"],
        json!([{ "in": "path", "name": "id", "detail": "the value is not of type \"integer\"" }])
    );
    assert_eq!(gateway.get("/v1/users/7").await.status, 200);
    assert_eq!((one.count(), two.count()), (2, 2), "nothing else came through");
    let line = r#"stile_errors_total{route="users/1/all",service="one",blame="client",cause="invalid"}"#;
    assert_eq!(gateway.admin().metric(line).await, 9);
}

/// One worker serves both: without a thread beside it for the long check it would serve nobody meanwhile.
#[tokio::test]
async fn others_are_served_while_a_large_body_is_checked() {
    const OBJECTS: usize = 60_000;
    const SERVED: usize = 5;
    let (one, two) = upstreams().await;
    let mut described = users_described();
    described["components"]["schemas"]["User"] = json!({ "type": "array", "uniqueItems": true });
    let validated = json!({ "anonymous": true, "openapi": described, "validate": { "body": "2MiB" } });
    let mut config = config(&one, &two, json!([{ "name": "users", "versions": [version("1", "one", validated)] }]));
    config["workers"] = json!(1);
    let gateway = Gateway::start(config).await;
    let body = json!((0..OBJECTS).map(|n| json!({ "id": n })).collect::<Vec<_>>()).to_string();
    let (last, most) = (&body[body.len() - 1..], &body[..body.len() - 1]);
    let mut checked = Raw::connect(gateway.address()).await;
    let length = body.len();
    let head = format!(
        "POST /users HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n"
    );
    checked.write(head + most).await;
    let mut client = Client::connect(gateway.address()).await;
    assert_eq!(client.get("/users/7").await.status, 200);
    checked.write(last).await;
    let mut served = 0;
    let mut answer = pin!(checked.answer());
    let answer = loop {
        tokio::select! {
            answer = &mut answer => break answer,
            other = client.get("/users/7") => {
                assert_eq!(other.status, 200);
                served += 1;
            }
        }
    };
    assert_eq!(answer.status(), 200);
    assert!(served >= SERVED, "only {served} others were served");
}

/// An authenticator that wants the body reads it before it is checked; what comes behind it sees only what is good.
#[tokio::test]
async fn who_may_not_call_learns_nothing_of_what_is_described() {
    let (one, two) = upstreams().await;
    let validated = json!({ "openapi": users_described(), "validate": {} });
    let apis = json!([{ "name": "users", "versions": [version("1", "one", validated)] }]);
    let mut config = config(&one, &two, apis);
    config["consumers"][0]["grants"] = json!([{ "api": "users", "quotas": { "day": 1 } }]);
    let gateway = Gateway::start(config).await;
    let as_ann = [("x-api-key", ANN)];
    assert_eq!(ask(&gateway, "/orders", &[]).await.status, 401);
    assert_eq!(ask(&gateway, "/orders", &as_ann).await.status, 404);
    assert_eq!(ask(&gateway, "/users/7", &as_ann).await.status, 429, "what was asked wrongly was asked");
}

#[tokio::test]
async fn a_description_that_cannot_be_held_to_is_refused() {
    let (one, two) = upstreams().await;
    let gateway = Gateway::start(config(&one, &two, json!([]))).await;
    let admin = gateway.admin();
    let put = async |more: Value| {
        let mut sent = json!({ "state": "published", "validate": {}, "routes": [route("all", "/*", "one")] });
        sent.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        let answer = admin.send("PUT", "/v1/apis/users/versions/1", sent).await;
        (answer.status.as_u16(), answer.json()["errors"].clone())
    };
    let (status, errors) = put(json!({})).await;
    assert_eq!((status, errors[0]["path"].as_str()), (422, Some("versions[0].validate")), "{errors}");
    let mut described = users_described();
    described["paths"]["/users/{id}"]["get"]["parameters"][0]["$ref"] = json!("#/nothing");
    described["paths"]["users"] = json!({});
    let (status, errors) = put(json!({ "openapi": described, "import": { "service": "one" } })).await;
    let told: Vec<_> =
        errors.as_array().expect("errors").iter().map(|it| it["message"].as_str().unwrap_or("")).collect();
    assert_eq!(status, 422);
    assert_eq!(
        told,
        [
            "/paths/users: \"users\" is no path: it does not begin with \"/\"",
            "/paths/~1users~1{id}/get/parameters/0: there is nothing at \"#/nothing\"",
        ]
    );
    assert_eq!(put(json!({ "openapi": users_described() })).await.0, 200 + 1);
}
