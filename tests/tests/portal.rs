//! Pages for developers: which there are, what they show and what they cannot do, and that they go with the configuration.

use http::Method;
use serde_json::{Value, json};
use stile_tests::{
    client::{Answer, Client, request, with},
    gateway::{Gateway, plain},
    upstream::Upstream,
};

/// One listener with pages, for an API with a described version, an old one and a draft.
fn config(upstream: &Upstream) -> Value {
    let route = json!([{ "name": "all", "match": { "path": "/things/{id}" }, "service": "echo" }]);
    let mut config = plain(upstream.address());
    let portal = json!({ "title": "Ours & yours" });
    config["listeners"] = json!([{ "name": "public", "address": "127.0.0.1:0", "portal": portal }]);
    config["apis"] = json!([
        {
            "name": "shop", "title": "The shop", "description": "*All* <script>of</script> it.",
            "versions": [
                { "name": "1", "state": "deprecated", "sunset": "2030-01-01T00:00:00Z", "select": { "path": "/v1" }, "routes": route, "scopes": ["read"] },
                {
                    "name": "2", "state": "published", "anonymous": true, "select": { "path": "/v2", "headers": { "x-tenant": "blue" } },
                    "import": { "service": "echo" }, "openapi": described(),
                },
                { "name": "3", "state": "draft", "select": { "path": "/v3" }, "routes": route },
            ],
        },
        { "name": "gone", "versions": [{ "name": "1", "state": "retired", "select": { "path": "/gone" }, "routes": route }] },
    ]);
    config
}

fn described() -> Value {
    json!({
        "openapi": "3.1.0",
        "info": { "title": "Shop", "version": "2", "description": "The **second**." },
        "paths": { "/users/{id}": {
            "parameters": [{ "name": "id", "in": "path", "required": true, "schema": { "type": "integer" } }],
            "put": {
                "summary": "Change a <user>",
                "requestBody": { "content": { "application/json": { "schema": { "$ref": "#/components/schemas/User" } } } },
                "responses": { "200": { "description": "Changed." } },
            },
        } },
        "components": { "securitySchemes": { "key": { "type": "apiKey", "in": "header", "name": "x-api-key", "description": "Ask *us*." } }, "schemas": { "User": { "type": "object", "properties": { "name": { "type": "string", "example": "ann" } } } } },
    })
}

async fn page(gateway: &Gateway, path: &str) -> String {
    let answer = gateway.get(path).await;
    assert_eq!((answer.status.as_u16(), answer.header("content-type")), (200, "text/html; charset=utf-8"), "{path}");
    answer.text()
}

fn has(page: &str, parts: &[&str]) {
    for part in parts {
        assert!(page.contains(part), "{part}: {page}");
    }
}

#[tokio::test]
async fn pages_show_what_is_served_and_how_it_is_called() {
    let upstream = Upstream::echo().await;
    let gateway = Gateway::start(config(&upstream)).await;
    let index = page(&gateway, "/developers").await;
    has(&index, &["<h1>Ours &amp; yours</h1>", "The shop", "<em>All</em>", "&lt;script&gt;"]);
    has(&index, &["href=\"/developers/shop/2\"", "href=\"/developers/shop/1\"", "2030-01-01T00:00:00Z"]);
    assert!(!index.contains("shop/3") && !index.contains("gone/1"), "{index}");
    assert_eq!(page(&gateway, "/developers/").await, index);

    let second = page(&gateway, "/developers/shop/2").await;
    has(
        &second,
        &["<strong>second</strong>", "Anybody may call it", "<code>/v2/users/{id}</code>", "Change a &lt;user&gt;"],
    );
    has(
        &second,
        &[
            "data-method=\"PUT\"",
            "data-path=\"/v2/users/{id}\"",
            "data-headers=\"{&quot;x-tenant&quot;:&quot;blue&quot;}\"",
        ],
    );
    has(
        &second,
        &["data-name=\"id\" data-in=\"path\"", "&quot;name&quot;: &quot;ann&quot;", "id=\"schema-User\"", "Changed."],
    );
    assert_eq!(page(&gateway, "/developers/shop/2/").await, second);
    has(
        &second,
        &["a key in the field <code>x-api-key</code>", "Ask <em>us</em>", "id=\"credential-name\" value=\"x-api-key\""],
    );
    assert_eq!(page(&gateway, "/developers/shop").await, second, "the newest");
    let mut served = described();
    served["servers"] = json!([{ "url": "/v2" }]);
    assert_eq!(gateway.get("/developers/shop/2/openapi.json").await.json(), served);

    let first = page(&gateway, "/developers/shop/1").await;
    has(
        &first,
        &[
            "value=\"Authorization\"",
            "deprecated",
            "who have a grant",
            "<code>read</code>",
            "data-path=\"/v1/things/{id}\"",
        ],
    );
    for (path, kind) in [("portal.css", "text/css; charset=utf-8"), ("portal.js", "text/javascript; charset=utf-8")] {
        let answer = gateway.get(&format!("/developers/{path}")).await;
        assert_eq!((answer.status.as_u16(), answer.header("content-type")), (200, kind));
    }
    assert_eq!(upstream.count(), 0, "no route has seen them");
    assert_eq!(gateway.get("/developers/shop/3").await.status, 200, "what is no page is for routes");
    assert_eq!(upstream.count(), 1);
}

#[tokio::test]
async fn a_page_is_known_by_its_tag_and_runs_nothing_of_others() {
    let upstream = Upstream::echo().await;
    let gateway = Gateway::start(config(&upstream)).await;
    let mut client = Client::connect(gateway.address()).await;
    let first: Answer = client.get("/developers").await;
    assert!(first.header("content-security-policy").starts_with("default-src 'none'; script-src 'self'"));
    assert_eq!(first.header("x-content-type-options"), "nosniff");
    let tag = first.header("etag").to_owned();
    for (tags, status) in [(&*tag, 304), (&format!("\"x\", W/{tag}"), 304), ("\"x\"", 200)] {
        let again = client.send(with("/developers", &[("if-none-match", tags)])).await;
        assert_eq!((again.status.as_u16(), again.header("etag")), (status, &*tag), "{tags}");
        assert_eq!(again.text().is_empty(), status == 304);
    }
    let head = client.send(request("HEAD", "/developers", &[], "")).await;
    assert_eq!((head.status.as_u16(), head.header("content-length")), (200, first.header("content-length")));
    let post = client.send(request(Method::POST.as_str(), "/developers", &[], "")).await;
    assert_eq!((post.status.as_u16(), upstream.count()), (200, 1), "it is for routes");
}

#[tokio::test]
async fn pages_go_with_the_configuration() {
    let upstream = Upstream::echo().await;
    let mut config = config(&upstream);
    config["listeners"][0]["portal"] = json!({ "path": "/docs", "apis": ["gone"] });
    let gateway = Gateway::start(config.clone()).await;
    has(&page(&gateway, "/docs").await, &["No API is published yet."]);
    config["apis"][1]["versions"][0]["state"] = json!("published");
    gateway.rewrite(config.clone()).await;
    has(&page(&gateway, "/docs").await, &["/docs/gone/1"]);
    for path in ["docs", "/do/../cs", "/docs/*", "/d%6fcs", "/docs?x"] {
        config["listeners"][0]["portal"] = json!({ "path": path, "apis": ["shops"] });
        let refused = gateway.rewrite_refused(config.clone()).await;
        let no_path = format!("\"{path}\" is no plain path such as /developers");
        has(&refused, &[&no_path, "did you mean \"shop\"?"]);
    }
    config["listeners"][0].as_object_mut().expect("a listener").remove("portal");
    gateway.rewrite(config).await;
    assert_eq!(gateway.get("/docs").await.status, 200);
    assert_eq!(upstream.count(), 1);
}
