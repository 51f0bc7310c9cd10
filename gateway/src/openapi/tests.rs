//! Requests against small documents, and documents that are wrong.

mod bounds;

use http::{
    HeaderMap, HeaderName, HeaderValue, Method,
    header::{CONTENT_ENCODING, CONTENT_TYPE, COOKIE},
};
use serde_json::{Value, json};

use super::{Description, Finding, Invalid};
use crate::exchange::RequestHead;

/// A document with these paths.
fn document(version: &str, paths: &Value) -> Value {
    json!({
        "openapi": version,
        "info": { "title": "a", "version": "1" },
        "paths": paths,
        "components": {
            "parameters": { "page": { "name": "page", "in": "query", "schema": { "type": "integer", "minimum": 1 } } },
            "schemas": {
                "User": {
                    "type": "object",
                    "required": ["name"],
                    "additionalProperties": false,
                    "properties": {
                        "name": { "type": "string", "minLength": 1 },
                        "age": { "type": "integer", "minimum": 0 },
                        "friends": { "type": "array", "items": { "$ref": "#/components/schemas/User" } },
                    },
                },
            },
            "requestBodies": {
                "User": {
                    "required": true,
                    "content": { "application/json": { "schema": { "$ref": "#/components/schemas/User" } } },
                },
            },
        },
    })
}

fn compiled(paths: &Value) -> Description {
    Description::compile(&document("3.1.0", paths)).expect("a good document")
}

fn head(method: &Method, target: &str, fields: &[(HeaderName, &'static str)]) -> RequestHead {
    let headers = fields.iter().map(|(name, value)| (name.clone(), HeaderValue::from_static(value)));
    let (method, target) = (method.clone(), target.parse().expect("a target"));
    RequestHead { method, target, headers: HeaderMap::from_iter(headers), ..RequestHead::default() }
}

/// What is wrong with a GET.
fn get(description: &Description, target: &str, fields: &[(HeaderName, &'static str)]) -> Vec<String> {
    let head = head(&Method::GET, target, fields);
    told(checked(description, &head, ""))
}

/// What is wrong with a POST.
fn post(description: &Description, fields: &[(HeaderName, &'static str)], body: &str) -> Vec<String> {
    let head = head(&Method::POST, "/users", fields);
    told(checked(description, &head, body))
}

fn checked(description: &Description, head: &RequestHead, body: &str) -> Result<(), Invalid> {
    description.check(head, head.target.path())?;
    let Some(described) = description.body(&head.method, head.target.path())? else { return Ok(()) };
    if body.is_empty() {
        return described.none();
    }
    described.of(&head.headers)?.map_or(Ok(()), |held| held.check(body.as_bytes()))
}

fn told(checked: Result<(), Invalid>) -> Vec<String> {
    match checked {
        Ok(()) => Vec::new(),
        Err(Invalid::Findings(findings)) => findings.iter().map(Finding::to_string).collect(),
        Err(other) => vec![other.to_string()],
    }
}

/// One GET with these parameters.
fn of_parameters(parameters: &Value) -> Description {
    compiled(&json!({ "/a/{id}": { "get": { "parameters": parameters } } }))
}

#[test]
fn a_path_and_a_method_are_among_those_described() {
    let description = compiled(&json!({
        "/users": { "get": {}, "post": {} },
        "/users/{id}": { "parameters": [{ "name": "id", "in": "path", "schema": { "type": "integer" } }], "get": {} },
        "/users/me": { "get": {} },
        "x-owner": "us",
    }));
    for good in ["/users", "/users/7", "/users/me"] {
        assert_eq!(get(&description, good, &[]), [""; 0], "{good}");
    }
    assert_eq!(get(&description, "/orders", &[]), ["the API has no such path"]);
    assert_eq!(get(&description, "/users/x", &[]), ["path id: the value is not of type \"integer\""]);
    let check = |method: Method| told(checked(&description, &head(&method, "/users", &[]), ""));
    assert_eq!(check(Method::HEAD), [""; 0]);
    assert_eq!(check(Method::DELETE), ["the API has no DELETE for this path; it has GET, POST"]);
}

#[test]
fn parameters_are_read_in_their_style() {
    let numbers = json!({ "type": "array", "items": { "type": "integer" }, "maxItems": 2 });
    let point =
        json!({ "type": "object", "additionalProperties": false, "properties": { "x": { "type": "integer" } } });
    let in_query = |name: &str, schema: &Value| json!({ "name": name, "in": "query", "schema": schema });
    let styled = |name: &str, schema: &Value, style: &str, explode: bool| json!({ "name": name, "in": "query", "schema": schema, "style": style, "explode": explode });
    let description = of_parameters(&json!([
        in_query("n", &json!({ "type": "number" })),
        in_query("flag", &json!({ "type": "boolean" })),
        in_query("either", &json!({ "type": ["integer", "string"], "pattern": "^[a-z0-9]+$" })),
        in_query("known", &json!({ "enum": [1, "two"] })),
        in_query("list", &numbers),
        styled("commas", &numbers, "form", false),
        styled("pipes", &numbers, "pipeDelimited", false),
        styled("deep", &point, "deepObject", true),
        { "name": "json", "in": "query", "content": { "application/json": { "schema": point } } },
        { "name": "X-List", "in": "header", "schema": numbers },
        { "name": "color", "in": "cookie", "schema": { "enum": ["red"] } },
        { "name": "Accept", "in": "header", "schema": { "const": "never" } },
        { "$ref": "#/components/parameters/page" },
    ]));
    let list = HeaderName::from_static("x-list");
    for good in [
        "/a/1?n=1.5e2&flag=true&other=1",
        "/a/1?either=7&known=1",
        "/a/1?either=x&known=two",
        "/a/1?list=1&list=2",
        "/a/1?commas=1,2&pipes=3%7C4",
        "/a/1?deep[x]=1&json=%7B%22x%22:1%7D",
        "/a/1?page=1",
    ] {
        assert_eq!(get(&description, good, &[(list.clone(), "1, 2"), (COOKIE, "a=b; color=red")]), [""; 0], "{good}");
    }
    for (bad, expected) in [
        ("n=1x", "query n: the value is not of type \"number\""),
        ("n=1&n=2", "query n: is there more than once"),
        ("flag=yes", "query flag: the value is not of type \"boolean\""),
        ("either=X", "query either: the value does not match \"^[a-z0-9]+$\""),
        ("known=2", "query known: the value is not one of 1 or \"two\""),
        ("list=1&list=2&list=3", "query list: the value has more than 2 items"),
        ("list=x", "query list: the value is not of type \"integer\""),
        ("commas=1,2,3", "query commas: the value has more than 2 items"),
        ("deep[y]=1", "query deep: Additional properties are not allowed ('y' was unexpected)"),
        ("deep[x]=1&deep[x]=2", "query deep: has \"x\" more than once"),
        ("json=%7B", "query json: is no JSON: EOF while parsing an object at line 1 column 1"),
        ("page=0", "query page: the value is less than the minimum of 1"),
    ] {
        assert_eq!(get(&description, &format!("/a/1?{bad}"), &[]), [expected], "{bad}");
    }
    let wrong = get(&description, "/a/1", &[(list, "1, x"), (COOKIE, "color=blue")]);
    assert_eq!(
        wrong,
        ["header X-List: the value is not of type \"integer\"", "cookie color: the value is not one of \"red\""]
    );
}

#[test]
fn what_is_required_is_there_and_an_operation_says_more_than_its_path() {
    let description = compiled(&json!({
        "/a": {
            "parameters": [
                { "name": "q", "in": "query", "required": true, "schema": { "type": "integer" } },
                { "name": "r", "in": "query", "required": true, "allowEmptyValue": true, "schema": { "type": "integer" } },
            ],
            "get": { "parameters": [{ "name": "q", "in": "query", "required": true, "schema": { "type": "string" } }] },
        },
    }));
    assert_eq!(get(&description, "/a?q=x&r=1", &[]), [""; 0]);
    assert_eq!(get(&description, "/a", &[]), ["query q: is required", "query r: is required"]);
}

#[test]
fn a_body_is_what_its_media_type_asks_for() {
    let described = json!({ "post": { "requestBody": { "$ref": "#/components/requestBodies/User" } } });
    let description = compiled(&json!({ "/users": described }));
    let json = [(CONTENT_TYPE, "Application/JSON; charset=utf-8")];
    assert_eq!(post(&description, &json, r#"{"name":"ann","friends":[{"name":"bob"}]}"#), [""; 0]);
    for (body, expected) in [
        (r#"{"name":1}"#, "body #/name: the value is not of type \"string\""),
        (r#"{"name":"a","friends":[{}]}"#, "body #/friends/0: \"name\" is a required property"),
        (r#"{"name":"a","x":1}"#, "body #: Additional properties are not allowed ('x' was unexpected)"),
        (r#"{"name":"a","name":"b"}"#, "body #: is no JSON: \"name\" is there more than once at line 1 column 18"),
        (r#"{"name":"a"}{"#, "body #: is no JSON: trailing characters at line 1 column 13"),
        ("", "body #: is required"),
    ] {
        assert_eq!(post(&description, &json, body), [expected], "{body}");
    }
    for (fields, expected) in [
        (&[][..], "the body has no Content-Type; the API takes application/json"),
        (
            &[(CONTENT_TYPE, "application/json"), (CONTENT_TYPE, "text/plain")],
            "the body has more than one Content-Type; the API takes application/json",
        ),
        (&[(CONTENT_TYPE, "text/plain")], "the body is text/plain; the API takes application/json"),
        (&[(CONTENT_TYPE, "json")], "the Content-Type is no media type; the API takes application/json"),
        (&[(CONTENT_TYPE, "application/json; charset=utf-16")], "the body is not in UTF-8"),
        (
            &[(CONTENT_TYPE, "application/json"), (CONTENT_ENCODING, "gzip")],
            "the body has a Content-Encoding, and the API does not take any",
        ),
    ] {
        assert_eq!(post(&description, fields, r#"{"name":"ann"}"#), [expected]);
    }
}

#[test]
fn the_most_exact_media_type_counts_and_what_cannot_be_read_passes() {
    let object = |kind: &str| json!({ "schema": { "type": "object", "required": [kind] } });
    let form = json!({ "schema": { "type": "object", "properties": { "n": { "type": "integer" }, "tags": { "type": "array", "items": { "type": "string" } } }, "additionalProperties": false } });
    let content = json!({
        "*/*": {},
        "application/*": object("any"),
        "application/merge-patch+json": object("patch"),
        "application/x-www-form-urlencoded": form,
    });
    let description = compiled(&json!({ "/users": { "post": { "requestBody": { "content": content } } } }));
    let of = |kind: &'static str, body| post(&description, &[(CONTENT_TYPE, kind)], body);
    assert_eq!(of("application/merge-patch+json", r#"{"patch":1}"#), [""; 0]);
    assert_eq!(of("application/merge-patch+json", r#"{"any":1}"#), ["body #: \"patch\" is a required property"]);
    assert_eq!(of("image/png", "whatever"), [""; 0]);
    assert_eq!(of("application/x-www-form-urlencoded", "n=1&tags=a&tags=b"), [""; 0]);
    assert_eq!(of("application/x-www-form-urlencoded", "n=x"), ["body #/n: the value is not of type \"integer\""]);
    assert_eq!(of("application/x-www-form-urlencoded", "n=1&n=2"), ["body #: has \"n\" more than once"]);
}

#[test]
fn documents_of_3_0_have_schemas_of_their_own() {
    let schema = json!({ "type": "object", "properties": {
        "n": { "type": "integer", "nullable": true, "minimum": 0, "exclusiveMinimum": true },
    } });
    let content = json!({ "application/json": { "schema": schema } });
    let paths = json!({ "/users": { "post": { "requestBody": { "content": content } } } });
    let description = Description::compile(&document("3.0.3", &paths)).expect("a good document");
    let of = |body| post(&description, &[(CONTENT_TYPE, "application/json")], body);
    assert_eq!(of(r#"{"n":null}"#), [""; 0]);
    assert_eq!(of(r#"{"n":1}"#), [""; 0]);
    assert_eq!(of(r#"{"n":0}"#), ["body #/n: the value is less than or equal to the minimum of 0"]);
}

#[test]
fn what_is_wrong_with_a_document_is_told_with_its_place() {
    let wrong = |paths: Value| {
        let mistakes = Description::compile(&document("3.1.0", &paths)).expect_err("a mistake");
        mistakes.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    };
    let parameter = |parameter: Value| wrong(json!({ "/a/{id}": { "get": { "parameters": [parameter] } } }));
    let schema = json!({ "type": "string" });
    for (outcome, expected) in [
        (wrong(json!({ "users": {} })), "/paths/users: \"users\" is no path: it does not begin with \"/\""),
        (
            wrong(json!({ "/a{b}c": {} })),
            "/paths/~1a{b}c: segment \"a{b}c\" is neither plain nor one part such as {id}",
        ),
        (
            wrong(json!({ "/a/{b}": {}, "/a/{c}": {} })),
            "/paths/~1a~1{c}: \"/a/{b}\" and \"/a/{c}\" are the same but for the names of their parts",
        ),
        (
            parameter(json!({ "name": "x", "in": "path", "schema": schema })),
            "/paths/~1a~1{id}/get/parameters/0: no segment of \"/a/{id}\" is {x}",
        ),
        (
            parameter(json!({ "name": "x", "in": "body", "schema": schema })),
            "/paths/~1a~1{id}/get/parameters/0: a parameter is in path, query, header or cookie, not in \"body\"",
        ),
        (parameter(json!({ "name": "x", "in": "query" })), "/paths/~1a~1{id}/get/parameters/0: it has no schema"),
        (
            parameter(json!({ "name": "id", "in": "path", "style": "matrix", "schema": schema })),
            "/paths/~1a~1{id}/get/parameters/0: style \"matrix\" is not known for a parameter in path",
        ),
        (
            parameter(json!({ "$ref": "#/components/parameters/none" })),
            "/paths/~1a~1{id}/get/parameters/0: there is nothing at \"#/components/parameters/none\"",
        ),
        (
            parameter(json!({ "$ref": "other.json#/x" })),
            "/paths/~1a~1{id}/get/parameters/0: \"other.json#/x\" is in another document, and none is fetched",
        ),
    ] {
        assert_eq!(outcome, expected);
    }
    let schema = parameter(json!({ "name": "q", "in": "query", "schema": { "$ref": "https://example.org/schema" } }));
    assert!(schema.contains("in another document, and none is fetched"), "{schema}");
    let kind = parameter(json!({ "name": "q", "in": "query", "schema": { "type": "strin" } }));
    assert!(kind.starts_with("/paths/~1a~1{id}/get/parameters/0/schema: this is no schema: "), "{kind}");
    let pattern = parameter(json!({ "name": "q", "in": "query", "schema": { "type": "string", "pattern": "(" } }));
    assert!(pattern.starts_with("/paths/~1a~1{id}/get/parameters/0/schema: this is no schema: "), "{pattern}");
}

#[test]
fn external_references_elsewhere_do_not_matter() {
    let responses = json!({ "200": { "content": { "application/json": { "schema": { "$ref": "other.json" } } } } });
    let description = compiled(&json!({ "/a": { "get": { "responses": responses } } }));
    assert_eq!(get(&description, "/a", &[]), [""; 0]);
}

#[test]
fn what_is_read_only_is_not_required_of_requests() {
    let plain = json!({ "type": "object", "required": ["id", "name"], "properties": {
        "id": { "type": "integer", "readOnly": true },
        "name": { "type": "string" },
    } });
    let referring = json!({ "type": "object", "required": ["id", "name"], "properties": {
        "id": { "$ref": "#/components/schemas/Id", "readOnly": true },
    } });
    let apart = json!({ "allOf": [{ "$ref": "#/components/schemas/Base" }, { "required": ["id", "name"] }] });
    for (version, schema) in
        [("3.0.3", &plain), ("3.1.0", &plain), ("3.1.0", &referring), ("3.0.3", &apart), ("3.1.0", &apart)]
    {
        let content = json!({ "application/json": { "schema": schema } });
        let mut whole = document(version, &json!({ "/users": { "post": { "requestBody": { "content": content } } } }));
        whole["components"]["schemas"]["Id"] = json!({ "type": "integer" });
        whole["components"]["schemas"]["Base"] = plain.clone();
        whole["components"]["schemas"]["Base"].as_object_mut().expect("an object").remove("required");
        let description = Description::compile(&whole).expect("a good document");
        let of = |body| post(&description, &[(CONTENT_TYPE, "application/json")], body);
        assert_eq!(of(r#"{"name":"ann"}"#), [""; 0], "{version}");
        assert_eq!(of(r#"{"id":1}"#), ["body #: \"name\" is a required property"], "{version}");
    }
}

#[test]
fn a_media_type_is_read_by_what_was_sent_and_found_by_its_parameters() {
    let needs = |name: &str| json!({ "schema": { "type": "object", "required": [name] } });
    let content = json!({
        "application/json; version=1": needs("a"),
        "application/json; version=2": needs("b"),
        "application/*": needs("c"),
    });
    let description = compiled(&json!({ "/users": { "post": { "requestBody": { "content": content } } } }));
    let of = |kind: &'static str, body| post(&description, &[(CONTENT_TYPE, kind)], body);
    assert_eq!(of("application/json; version=2", r#"{"b":1}"#), [""; 0]);
    assert_eq!(of("application/json; version=2", r#"{"a":1}"#), ["body #: \"b\" is a required property"]);
    assert_eq!(of("application/json", r#"{"a":1}"#), ["body #: \"c\" is a required property"]);
    assert_eq!(of("application/json; charset=utf8; charset=utf-16", r#"{"c":1}"#), ["the body is not in UTF-8"]);
    assert_eq!(of("application/pdf", "whatever"), [""; 0]);
    assert_eq!(of("text/plain", "x").len(), 1);
}

#[test]
fn cookies_are_octets_and_names_in_json_are_there_once() {
    let role = json!({ "type": "object", "properties": { "role": { "enum": ["user"] } } });
    let description = of_parameters(&json!([
        { "name": "sid", "in": "cookie", "schema": { "type": "string", "pattern": "^[0-9]+$" } },
        { "name": "f", "in": "query", "content": { "application/json": { "schema": role } } },
        { "name": "t", "in": "query", "content": { "text/plain": { "schema": { "type": "string" } } } },
    ]));
    let with_cookie = |cookie: &'static [u8]| {
        let mut head = head(&Method::GET, "/a/1", &[]);
        head.headers.insert(COOKIE, HeaderValue::from_bytes(cookie).expect("a value"));
        told(checked(&description, &head, ""))
    };
    assert_eq!(with_cookie(b"a=\xff; sid=1"), [""; 0]);
    assert_eq!(with_cookie(b"sid=evil; a=\xff"), ["cookie sid: the value does not match \"^[0-9]+$\""]);
    assert_eq!(with_cookie(b"sid =evil; a=\t1"), ["cookie sid: the value does not match \"^[0-9]+$\""]);
    assert_eq!(with_cookie(b"sid=1; sid=2"), ["cookie sid: is there more than once"]);
    let twice = "/a/1?f=%7B%22role%22:%22admin%22,%22role%22:%22user%22%7D";
    assert!(get(&description, twice, &[])[0].contains("more than once"));
    assert_eq!(get(&description, "/a/1?t=hello&f=%7B%22role%22:%22user%22%7D", &[]), [""; 0]);
}

#[test]
fn forms_are_read_whichever_branch_says_what_they_have() {
    let base = json!({ "type": "object", "required": ["name"], "properties": { "name": { "type": "string" } } });
    let more = json!({ "properties": { "age": { "type": "integer" } } });
    let address = json!({ "type": "object", "properties": { "zip": { "type": "integer" } } });
    for (schema, form) in [
        (json!({ "allOf": [base, more] }), "name=x&age=3"),
        (json!({ "oneOf": [base, { "required": ["b"], "properties": { "b": { "type": "integer" } } }] }), "b=3"),
        (json!({ "type": "object", "additionalProperties": { "type": "integer" } }), "b=3"),
        (json!({ "type": "object", "properties": { "address": address } }), "address=%7B%22zip%22:1%7D"),
    ] {
        let content = json!({ "application/x-www-form-urlencoded": { "schema": schema } });
        let description = compiled(&json!({ "/users": { "post": { "requestBody": { "content": content } } } }));
        let kind = [(CONTENT_TYPE, "application/x-www-form-urlencoded")];
        assert_eq!(post(&description, &kind, form), [""; 0], "{schema}");
    }
    let list = json!({ "type": "array", "items": { "type": "integer" } });
    let description = of_parameters(&json!([
        { "name": "ids", "in": "query", "schema": { "anyOf": [{ "enum": ["all"] }, list] } },
        { "name": "map", "in": "query", "style": "deepObject", "schema": { "type": "object", "additionalProperties": { "type": "integer" } } },
    ]));
    for good in ["ids=all", "ids=1&ids=2", "map[a]=1&map[b]=2"] {
        assert_eq!(get(&description, &format!("/a/1?{good}"), &[]), [""; 0], "{good}");
    }
    assert_eq!(get(&description, "/a/1?map[a]=x", &[]).len(), 1);
}

#[test]
fn parts_of_paths_have_whatever_names_and_nullable_is_beside_branches_too() {
    let user = json!({ "nullable": true, "allOf": [{ "$ref": "#/components/schemas/User" }] });
    let content = json!({ "application/json": { "schema": user } });
    let paths = json!({
        "/users": { "post": { "requestBody": { "content": content } } },
        "/users//{user-id}": { "get": { "parameters": [
            { "name": "user-id", "in": "path", "required": true, "schema": { "type": "integer" } },
        ] } },
    });
    let description = Description::compile(&document("3.0.3", &paths)).expect("a good document");
    assert_eq!(get(&description, "/users/7", &[]), [""; 0]);
    assert_eq!(get(&description, "/users/x", &[]).len(), 1);
    let of = |body| post(&description, &[(CONTENT_TYPE, "application/json")], body);
    assert_eq!((of("null").len(), of(r#"{"name":"ann"}"#).len(), of("1").len()), (0, 0, 1));
}

#[test]
fn what_is_unique_is_known_whatever_it_is() {
    let content = json!({ "application/json": { "schema": { "uniqueItems": true } } });
    let description = compiled(&json!({ "/users": { "post": { "requestBody": { "content": content } } } }));
    let of = |body: &str| post(&description, &[(CONTENT_TYPE, "application/json")], body).is_empty();
    for unique in [
        "[1,2,true,\"1\",null,[],[[]],[[],[]],{}]",
        "[9223372036854775808,9223372036854775809]",
        "[0.1,0.2,[1,2],[12]]",
    ] {
        assert!(of(unique), "{unique}");
    }
    for twice in
        ["[1,1.0]", "[{\"a\":1,\"b\":2},{\"b\":2.0,\"a\":1}]", "[0,-0.0]", "[[1e2],[100]]", "[\"é\",\"\\u00e9\"]"]
    {
        assert!(!of(twice), "{twice}");
    }
}
