//! `/openapi.json`: what the operations say of themselves, and the schemas of what they take and give.

use axum::Json;
use schemars::{JsonSchema, Schema, generate::SchemaSettings};
use serde_json::{Map, Value, json};

use super::operations::{self, Media, Operation, reference, told_name, type_name};
use crate::config::{resource::Kind, schema};

pub(super) async fn document() -> Json<Value> {
    Json(made())
}

/// OpenAPI 3.1.
fn made() -> Value {
    let mut paths = Map::new();
    for operation in operations::all() {
        let item = paths.entry(operation.path.clone()).or_insert_with(|| json!({}));
        item[operation.method] = told(&operation);
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Stile Admin API",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "What runs in a gateway, and changing it. Errors are problem documents (RFC 9457).",
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
        },
        "paths": paths,
        "components": {
            "schemas": schemas(),
            "securitySchemes": { "token": { "type": "http", "scheme": "bearer" } },
        },
    })
}

fn told(operation: &Operation) -> Value {
    let mut answers: Map<String, Value> = operation
        .answers
        .iter()
        .map(|(status, about, media)| (status.to_string(), answer(about, media.as_ref())))
        .collect();
    let problem = |about| answer(about, Some(&Media::new("application/problem+json", reference("Problem"))));
    if let Some(needs) = operation.needs {
        answers.insert("401".to_owned(), problem("There is no token, or a wrong one."));
        answers.insert("403".to_owned(), problem("The role of the token is too small."));
        answers.insert("429".to_owned(), problem("Too many wrong tokens came from this address."));
        let mut told = described(operation, answers);
        told["security"] = json!([{ "token": [] }]);
        told["x-role"] = super::auth::name_of(needs.role).into();
        if needs.bound.is_some() {
            told["x-services"] = true.into();
        }
        return told;
    }
    described(operation, answers)
}

fn described(operation: &Operation, mut answers: Map<String, Value>) -> Value {
    let parameter = |name: &str, place: &str, required: bool, about: &str, schema: &Value| json!({ "name": name, "in": place, "required": required, "description": about, "schema": schema });
    let text = json!({ "type": "string" });
    let named = json!({ "type": "string", "pattern": "^[A-Za-z0-9._-]{1,64}$" });
    let mut parameters = Vec::new();
    let version = json!({ "type": "string", "pattern": "^([A-Za-z0-9._-]{1,64}|[*])$" });
    let endpoint = json!({ "type": "string", "pattern": "^[A-Za-z0-9._:\\[\\]-]{1,128}$" });
    for (name, about, schema) in [
        ("name", "The name of the resource.", &named),
        ("id", "Which credential of the consumer.", &named),
        ("api", "Which API.", &named),
        ("version", "Which version of it.", &version),
        ("endpoint", "Which endpoint of the service; one of the configuration goes by its address.", &endpoint),
    ] {
        if operation.path.contains(&format!("{{{name}}}")) {
            parameters.push(parameter(name, "path", true, about, schema));
        }
    }
    if operation.path.contains("{generation}") {
        let number = json!({ "type": "integer", "minimum": 1 });
        parameters.push(parameter("generation", "path", true, "The number of the generation.", &number));
    }
    for query in &operation.query {
        parameters.push(parameter(query.name, "query", false, query.about, &query.schema));
    }
    if !operation.query.is_empty() || !parameters.is_empty() {
        let media = Media::new("application/problem+json", reference("Problem"));
        answers.entry("400").or_insert_with(|| answer("The query or the path is not right.", Some(&media)));
    }
    for header in &operation.headers {
        parameters.push(parameter(header.name, "header", false, header.about, &header.schema));
    }
    if operation.conditional {
        for (name, about) in [
            ("If-Match", "`*`, or the `ETag` that the resource must have."),
            ("If-None-Match", "`*`: the resource must not exist."),
        ] {
            parameters.push(parameter(name, "header", false, about, &text));
        }
    }
    let mut told = json!({
        "operationId": format!("{}{}", operation.method, operation.path.replace(['/', '{', '}', '.'], "_")),
        "summary": operation.summary,
        "parameters": parameters,
        "responses": answers,
    });
    if let Some(Media { kind, schema, .. }) = &operation.body {
        told["requestBody"] = json!({ "required": true, "content": { *kind: { "schema": schema } } });
    }
    told
}

fn answer(about: &str, media: Option<&Media>) -> Value {
    match media {
        Some(Media { kind, schema, .. }) => json!({ "description": about, "content": { *kind: { "schema": schema } } }),
        None => json!({ "description": about }),
    }
}

fn schemas() -> Map<String, Value> {
    let (mut schemas, mut resources) = (Map::new(), Map::new());
    for kind in Kind::ALL {
        let generated = match kind {
            Kind::Plugin => generated::<schema::Plugin>(),
            Kind::Service => generated::<schema::Service>(),
            Kind::Route => generated::<schema::Route>(),
            Kind::Api => generated::<schema::Api>(),
        };
        let (schema, parts) = generated;
        schemas.extend(parts);
        let mut sent = schema.to_value();
        // The path says the name.
        if let Some(required) = sent.get_mut("required").and_then(Value::as_array_mut) {
            required.retain(|key| key != "name");
        }
        let mut all = sent.clone();
        if let Some(told) = all.as_object_mut() {
            told.remove("additionalProperties");
        }
        all["properties"]["origin"] = json!({ "enum": ["file", "store"] });
        resources.insert(type_name(kind).to_owned(), sent);
        resources.insert(told_name(kind).to_owned(), all);
    }
    // In the place of parts of others that have the name of one.
    schemas.extend(resources);
    for (name, schema) in beside() {
        let before = schemas.insert(name, schema);
        debug_assert!(before.is_none(), "two schemas have one name: {before:?}");
    }
    schemas
}

/// Those of what no file holds.
fn beside() -> impl Iterator<Item = (String, Value)> {
    let own = own_schemas().into_iter().chain(consumer_schemas()).chain(history_schemas());
    own.chain(endpoint_schemas()).chain(grant_schemas())
}

fn own_schemas() -> [(String, Value); 5] {
    let text = json!({ "type": "string" });
    let number = json!({ "type": "integer" });
    [
        (
            "Problem",
            json!({
                "type": "object",
                "required": ["title", "status", "detail"],
                "properties": {
                    "type": text, "title": text, "status": number, "detail": text,
                    "errors": { "type": "array", "items": { "type": "object" } },
                },
            }),
        ),
        (
            "Change",
            json!({
                "type": "object",
                "required": ["number", "at", "by", "action", "kind", "name", "generation"],
                "properties": {
                    "number": number, "at": { "type": "string", "format": "date-time" }, "by": text,
                    "action": { "enum": ["put", "delete", "rollout", "reload"] }, "kind": text, "name": text,
                    "generation": number, "before": true, "after": true,
                },
            }),
        ),
        (
            "Revision",
            json!({
                "type": "object",
                "required": ["revision", "sha256", "phases", "imports"],
                "properties": {
                    "revision": number, "sha256": text, "percent": { "type": "integer", "minimum": 0, "maximum": 100 },
                    "phases": { "type": "array", "items": text }, "imports": { "type": "array", "items": text },
                },
            }),
        ),
        (
            "Would",
            json!({
                "type": "object",
                "required": ["would"],
                "additionalProperties": false,
                "properties": { "would": { "enum": ["create", "change", "delete"] } },
            }),
        ),
        (
            "RolloutSent",
            json!({
                "type": "object",
                "required": ["revision"],
                "additionalProperties": false,
                "properties": {
                    "revision": { "type": "integer", "minimum": 0, "maximum": u32::MAX },
                    "percent": { "type": "integer", "minimum": 0, "maximum": 100 },
                    "pin": { "type": ["boolean", "null"] },
                },
            }),
        ),
    ]
    .map(|(name, schema)| (name.to_owned(), schema))
}

fn consumer_schemas() -> [(String, Value); 5] {
    let text = json!({ "type": "string" });
    let time = json!({ "type": "string", "format": "date-time", "pattern": "Z$" });
    let kind = json!({ "enum": ["api-key", "basic", "hmac", "jwt", "certificate"] });
    let groups = json!({ "type": "array", "items": text });
    let consumer = json!({ "name": text, "groups": groups, "origin": { "enum": ["file", "store"] } });
    let long = json!({ "type": "string", "minLength": 16 });
    [
        ("Consumer", json!({ "type": "object", "required": ["name", "groups", "origin"], "properties": consumer })),
        ("ConsumerSent", json!({ "type": "object", "additionalProperties": false, "properties": consumer })),
        (
            "Credential",
            json!({
                "type": "object",
                "required": ["id", "type", "created"],
                "properties": {
                    "id": text, "type": kind, "created": time, "expires": time, "secret": text, "username": text,
                    "key_id": text, "issuer": text, "subject": text,
                },
            }),
        ),
        (
            "CredentialSent",
            json!({
                "type": "object",
                "required": ["type"],
                "additionalProperties": false,
                "properties": {
                    "id": text, "type": kind, "expires": time, "key": long, "key_sha256": { "type": "string", "pattern": "^[0-9a-fA-F]{64}$" }, "username": text, "password": text,
                    "hash": text, "key_id": text, "secret": long, "issuer": text, "subject": text,
                },
            }),
        ),
        (
            "Rotation",
            json!({
                "type": "object",
                "additionalProperties": false,
                "properties": { "overlap": { "type": "string", "pattern": "^[0-9]+(ms|s|m|h)$" } },
            }),
        ),
    ]
    .map(|(name, schema)| (name.to_owned(), schema))
}

fn grant_schemas() -> [(String, Value); 3] {
    let mut all = operations::grants::terms();
    let terms = json!({ "type": "object", "additionalProperties": false, "properties": all });
    all["api"] = json!({ "type": "string" });
    all["version"] = json!({ "type": ["string", "null"] });
    let sent = json!({ "type": "object", "required": ["api"], "additionalProperties": false, "properties": all });
    let told = json!({ "type": "object", "required": ["api", "version", "scopes", "quotas"], "properties": all });
    [("Terms", terms), ("GrantSent", sent), ("Grant", told)].map(|(name, schema)| (name.to_owned(), schema))
}

fn endpoint_schemas() -> [(String, Value); 2] {
    let text = json!({ "type": "string" });
    let weight = json!({ "type": "integer", "minimum": 0, "maximum": 65535 });
    let metadata = json!({ "type": "object", "additionalProperties": text });
    [
        (
            "Announcement",
            json!({
                "type": "object",
                "required": ["address"],
                "additionalProperties": false,
                "properties": {
                    "address": text, "weight": weight, "ttl": { "type": "string", "pattern": "^[0-9]+(ms|s|m|h)$" },
                    "metadata": metadata,
                },
            }),
        ),
        (
            "EndpointTold",
            json!({
                "type": "object",
                "required": ["id", "address", "weight", "metadata"],
                "properties": {
                    "id": text, "address": text, "weight": weight, "metadata": metadata, "ttl": text, "left": text,
                    "source": { "enum": ["configuration", "registration", "file", "dns", "consul"] }, "drained": { "type": "boolean" },
                    "health": { "enum": ["up", "down", "unused"] },
                    "in_flight": { "type": "integer" },
                },
            }),
        ),
    ]
    .map(|(name, schema)| (name.to_owned(), schema))
}

fn history_schemas() -> [(String, Value); 4] {
    let text = json!({ "type": "string" });
    let kind = json!({ "enum": ["plugins", "services", "routes", "apis", "consumers", "groups"] });
    let list = |items: Value| json!({ "type": "array", "items": items });
    let name = json!({ "type": "string", "pattern": "^[A-Za-z0-9._-]{1,64}$" });
    // Resources are checked more closely once it is known which they are.
    let named = json!({ "type": "object", "required": ["name"], "properties": { "name": name } });
    let object = |required: Value, properties: Value| json!({ "type": "object", "required": required, "properties": properties });
    let changes = list(reference("Change"));
    [
        (
            "Generation",
            object(
                json!(["generation", "at", "changes"]),
                json!({ "generation": { "type": "integer" }, "at": text, "changes": changes }),
            ),
        ),
        (
            "Difference",
            object(
                json!(["kind", "name", "now", "then"]),
                json!({ "kind": { "enum": ["plugins", "services", "routes", "apis", "revisions"] }, "name": text, "now": true, "then": true }),
            ),
        ),
        (
            "Bundle",
            json!({
                "type": "object",
                "additionalProperties": false,
                "properties": {
                    "plugins": list(named.clone()), "services": list(named.clone()), "routes": list(named.clone()),
                    "apis": list(named.clone()), "groups": list(named.clone()),
                    "consumers": list(named),
                },
            }),
        ),
        (
            "Imported",
            object(
                json!(["kind", "name", "action"]),
                json!({ "kind": kind, "name": text, "action": { "enum": ["create", "change", "delete"] } }),
            ),
        ),
    ]
    .map(|(name, schema)| (name.to_owned(), schema))
}

/// The schema of a type, and those of its parts by name.
fn generated<T: JsonSchema>() -> (Schema, Map<String, Value>) {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.definitions_path = "/components/schemas".into();
        settings.meta_schema = None;
    });
    let mut generator = settings.into_generator();
    let mut schema = T::json_schema(&mut generator);
    schema.remove("$schema");
    (schema, generator.take_definitions(true))
}
