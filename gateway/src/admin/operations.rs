//! Every operation of the Admin API: its path, who may call it, what it takes and gives, and what carries it out. The
//! router and the OpenAPI document are both made of this, so that neither says what the other does not do.

mod endpoints;
pub(super) mod grants;
mod revisions;
mod versions;

use axum::{
    handler::Handler,
    routing::{MethodFilter, MethodRouter, on},
};
use serde_json::{Value, json};

use super::{
    Admin, audit, consumers, errors, history, openapi, resources, status,
    transfer::{self, MAX_IMPORT},
};
use crate::{
    config::{resource::Kind, schema::Role},
    control::transfer::MAX_RESOURCE,
};

/// What a change comes to that the store could not make.
const FAILED: &str =
    "The store failed. Nothing is changed, unless it was written all the same, which is told when it is read again.";

/// One method on one path.
pub(super) struct Operation {
    pub(super) method: &'static str,
    /// With `{name}` for its parts that are parameters.
    pub(super) path: String,
    /// Who may call it; none is everybody.
    pub(super) needs: Option<Needs>,
    pub(super) summary: String,
    pub(super) query: Vec<Parameter>,
    /// Fields of the head.
    pub(super) headers: Vec<Parameter>,
    pub(super) conditional: bool,
    pub(super) body: Option<Media>,
    /// By status, with what they hold.
    pub(super) answers: Vec<(u16, &'static str, Option<Media>)>,
    pub(super) handler: MethodRouter<Admin>,
}

/// What a token needs.
#[derive(Debug, Clone, Copy)]
pub(super) struct Needs {
    /// This role or a greater one.
    pub(super) role: Role,
    /// Or to be of a service: of the one that the path names, or one that may find it.
    pub(super) bound: Option<Bound>,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Bound {
    Own,
    Discover,
    /// It is told of those alone that it may find.
    Filtered,
}

/// A parameter that may be left out.
#[derive(Debug, Clone)]
pub(super) struct Parameter {
    pub(super) name: &'static str,
    pub(super) about: &'static str,
    pub(super) schema: Value,
}

/// A body.
#[derive(Debug, Clone)]
pub(super) struct Media {
    pub(super) kind: &'static str,
    pub(super) schema: Value,
    /// Bytes that it may have, where it is sent here.
    pub(super) most: usize,
}

impl Media {
    pub(super) fn new(kind: &'static str, schema: Value) -> Self {
        Self { kind, schema, most: MAX_RESOURCE }
    }
}

impl Operation {
    fn new<H, T>(
        method: &'static str,
        path: impl Into<String>,
        role: Option<Role>,
        summary: impl Into<String>,
        handler: H,
    ) -> Self
    where
        H: Handler<T, Admin>,
        T: 'static,
    {
        let filter = match method {
            "get" => MethodFilter::GET,
            "put" => MethodFilter::PUT,
            "post" => MethodFilter::POST,
            _ => MethodFilter::DELETE,
        };
        Self {
            method,
            path: path.into(),
            needs: role.map(|role| Needs { role, bound: None }),
            summary: summary.into(),
            query: Vec::new(),
            headers: Vec::new(),
            conditional: false,
            body: None,
            answers: Vec::new(),
            handler: on(filter, handler),
        }
    }

    /// Services may call it, too.
    fn of_services(mut self, bound: Bound) -> Self {
        self.needs = self.needs.map(|needs| Needs { bound: Some(bound), ..needs });
        self
    }

    fn query(mut self, name: &'static str, schema: Value, about: &'static str) -> Self {
        self.query.push(Parameter { name, about, schema });
        self
    }

    fn header(mut self, name: &'static str, schema: Value, about: &'static str) -> Self {
        self.headers.push(Parameter { name, about, schema });
        self
    }

    fn dry_run(self) -> Self {
        self.query("dry_run", json!({ "type": "boolean" }), "Only say what would come of it.")
    }

    fn conditional(mut self) -> Self {
        self.conditional = true;
        self.problem(412, "The resource is not as the condition says.")
    }

    fn takes(mut self, kind: &'static str, schema: Value) -> Self {
        self.body = Some(Media::new(kind, schema));
        self.problem(413, "The body is too large.")
            .problem(422, "Something is wrong with the body; `errors` tells all of it.")
    }

    fn up_to(mut self, most: usize) -> Self {
        self.body = self.body.map(|body| Media { most, ..body });
        self
    }

    fn gives(mut self, status: u16, about: &'static str, schema: Value) -> Self {
        self.answers.push((status, about, Some(Media::new("application/json", schema))));
        self
    }

    fn events(mut self, about: &'static str) -> Self {
        self.answers.push((200, about, Some(Media::new("text/event-stream", json!({ "type": "string" })))));
        self
    }

    fn text(mut self, about: &'static str) -> Self {
        self.answers.push((200, about, Some(Media::new("text/plain", json!({ "type": "string" })))));
        self
    }

    fn nothing(mut self, status: u16, about: &'static str) -> Self {
        self.answers.push((status, about, None));
        self
    }

    fn problem(mut self, status: u16, about: &'static str) -> Self {
        self.answers.push((status, about, Some(Media::new("application/problem+json", reference("Problem")))));
        self
    }
}

/// All of them.
pub(super) fn all() -> Vec<Operation> {
    let mut all = of_the_gateway();
    for kind in Kind::ALL {
        all.extend(of_a_kind(kind, if kind == Kind::Service { Role::Admin } else { Role::Publisher }));
    }
    all.extend(revisions::operations());
    all.extend(endpoints::operations());
    all.extend(of_consumers());
    all.extend(of_credentials());
    all.extend(grants::operations());
    all.extend(versions::operations());
    all.extend(of_history());
    all.extend(of_transfer());
    all
}

fn of_the_gateway() -> Vec<Operation> {
    let object = || json!({ "type": "object" });
    let limit = || json!({ "type": "integer", "minimum": 1, "maximum": u32::MAX });
    vec![
        Operation::new("get", "/healthz", None, "Is the process alive", status::health)
            .text("It is.")
            .problem(503, "The event loop of a worker, which it names, has not turned for `admin.worker_timeout`."),
        Operation::new("get", "/readyz", None, "Does the gateway take traffic", status::ready)
            .text("It does.")
            .problem(503, "It is stopping."),
        Operation::new("get", "/metrics", None, "Metrics for Prometheus", status::metrics)
            .text("The text format, version 0.0.4."),
        Operation::new("get", "/openapi.json", None, "This document", openapi::document).gives(
            200,
            "OpenAPI 3.1.",
            object(),
        ),
        Operation::new("get", "/v1/status", Some(Role::Viewer), "What is running", status::status).gives(
            200,
            "Generation, listeners, routes, and the last refused change.",
            object(),
        ),
        Operation::new(
            "get",
            "/v1/stats",
            Some(Role::Viewer),
            "What has been counted since the gateway started",
            status::stats,
        )
        .gives(200, "By route, service and plugin; times are in seconds.", object()),
        Operation::new(
            "get",
            "/v1/errors",
            Some(Role::Viewer),
            "The last exchanges that did not end well",
            errors::list,
        )
        .query("route", json!({ "type": "string" }), "Of this route; empty is what no route matched.")
        .query("limit", limit(), "At most so many.")
        .gives(200, "The newest first.", list_of(&object())),
        Operation::new("get", "/v1/audit", Some(Role::Admin), "Who changed what", audit::list)
            .query("limit", limit(), "At most so many, 1000 at most.")
            .query("before", limit(), "Those before the change of this number.")
            .gives(200, "The newest first.", list_of(&reference("Change")))
            .problem(503, "The store cannot be read."),
    ]
}

fn of_a_kind(kind: Kind, role: Role) -> Vec<Operation> {
    let (list, one) = (format!("/v1/{}", kind.list()), format!("/v1/{}/{{name}}", kind.list()));
    let told = || reference(told_name(kind));
    vec![
        Operation::new(
            "get",
            list,
            Some(Role::Viewer),
            format!("List the {}", kind.list()),
            move |state, actor, page| resources::list(kind, state, actor, page),
        )
        .query(
            "limit",
            json!({ "type": "integer", "minimum": 1, "maximum": u32::MAX }),
            "At most so many, 1000 at most.",
        )
        .query("after", json!({ "type": "string" }), "Those after this name: `next` of the page before.")
        .gives(200, "By name; `next` is there if there are more.", list_of(&told())),
        Operation::new(
            "get",
            one.clone(),
            Some(Role::Viewer),
            format!("Get a {}", kind.singular()),
            move |state, actor, name| resources::get(kind, state, actor, name),
        )
        .gives(200, "In the form of the file. One from the store has an `ETag`.", told())
        .problem(404, "There is none of this name."),
        Operation::new(
            "put",
            one.clone(),
            Some(role),
            format!("Make or change a {}", kind.singular()),
            move |state, actor, name, how, headers, body| resources::put(kind, state, actor, name, how, headers, body),
        )
        .dry_run()
        .conditional()
        .takes("application/json", reference(type_name(kind)))
        .gives(
            200,
            "It was there and is changed, or what would be done.",
            json!({ "anyOf": [told(), reference("Would")] }),
        )
        .gives(201, "It is new.", told())
        .problem(409, "It is in the configuration file, and is changed there.")
        .problem(503, FAILED),
        Operation::new(
            "delete",
            one,
            Some(role),
            format!("Delete a {}", kind.singular()),
            move |state, actor, name, how, headers| resources::delete(kind, state, actor, name, how, headers),
        )
        .dry_run()
        .conditional()
        .gives(200, "What would be done.", reference("Would"))
        .nothing(204, "It is gone.")
        .problem(404, "There is none of this name.")
        .problem(409, "Others need it, or it is in the configuration file.")
        .problem(503, FAILED),
    ]
}

fn of_consumers() -> Vec<Operation> {
    let (list, one) = ("/v1/consumers", "/v1/consumers/{name}");
    let told = || reference("Consumer");
    vec![
        Operation::new("get", list, Some(Role::Viewer), "List the consumers", consumers::list)
            .query(
                "limit",
                json!({ "type": "integer", "minimum": 1, "maximum": u32::MAX }),
                "At most so many, 1000 at most.",
            )
            .query("after", json!({ "type": "string" }), "Those after this name: `next` of the page before.")
            .gives(200, "By name; `next` is there if there are more.", list_of(&told()))
            .problem(503, "The store cannot be read."),
        Operation::new("get", one, Some(Role::Viewer), "Get a consumer", consumers::get)
            .gives(200, "One from the store has an `ETag`.", told())
            .problem(404, "There is none of this name.")
            .problem(503, "The store cannot be read."),
        Operation::new("put", one, Some(Role::Publisher), "Make or change a consumer", consumers::put)
            .dry_run()
            .conditional()
            .takes("application/json", reference("ConsumerSent"))
            .gives(
                200,
                "It was there and is changed, or what would be done.",
                json!({ "anyOf": [told(), reference("Would")] }),
            )
            .gives(201, "It is new.", told())
            .problem(400, "The body is not JSON.")
            .problem(409, "It is in the configuration file, and is changed there.")
            .problem(415, "The body is not said to be JSON.")
            .problem(503, FAILED),
        Operation::new(
            "delete",
            one,
            Some(Role::Publisher),
            "Delete a consumer and its credentials",
            consumers::delete,
        )
        .dry_run()
        .conditional()
        .gives(200, "What would be done.", reference("Would"))
        .nothing(204, "It is gone.")
        .problem(404, "There is none of this name.")
        .problem(409, "It is in the configuration file.")
        .problem(503, FAILED),
    ]
}

fn of_credentials() -> Vec<Operation> {
    let (list, one) = ("/v1/consumers/{name}/credentials", "/v1/consumers/{name}/credentials/{id}");
    let made = |operation: Operation| {
        operation
            .gives(201, "It is there; `secret` is told this once, where it was made here.", reference("Credential"))
            .problem(400, "The body is not JSON.")
            .problem(404, "There is no such consumer, or no such credential.")
            .problem(409, "There is such a credential, or the consumer is in the configuration file.")
            .problem(415, "The body is not said to be JSON.")
            .problem(503, FAILED)
    };
    vec![
        Operation::new("get", list, Some(Role::Viewer), "List the credentials of a consumer", consumers::credentials)
            .gives(200, "By id, without anything secret.", list_of(&reference("Credential")))
            .problem(404, "There is no such consumer.")
            .problem(409, "The consumer is in the configuration file.")
            .problem(503, "The store cannot be read."),
        made(
            Operation::new("post", list, Some(Role::Publisher), "Give a consumer a credential", consumers::add)
                .takes("application/json", reference("CredentialSent")),
        ),
        made(
            Operation::new(
                "post",
                format!("{one}/rotate"),
                Some(Role::Publisher),
                "Make a new secret in the place of one that ends",
                consumers::rotate,
            )
            .takes("application/json", reference("Rotation")),
        ),
        Operation::new("delete", one, Some(Role::Publisher), "Take a credential away", consumers::remove)
            .nothing(204, "It is gone.")
            .problem(404, "There is no such consumer, or no such credential.")
            .problem(409, "The consumer is in the configuration file.")
            .problem(503, FAILED),
    ]
}

fn of_history() -> Vec<Operation> {
    let (list, one) = ("/v1/generations", "/v1/generations/{generation}");
    let number = || json!({ "type": "integer", "minimum": 0 });
    let back = |operation: Operation| {
        operation
            .problem(404, "There is no such generation yet.")
            .problem(410, "The audit log does not go back to it any more.")
            .problem(503, "The store cannot be read or written.")
    };
    vec![
        Operation::new("get", list, Some(Role::Viewer), "List the generations", history::list)
            .query("limit", number(), "At most so many, 1000 at most.")
            .query("before", number(), "Those before this generation.")
            .gives(200, "The newest first, each with what made it.", list_of(&reference("Generation")))
            .problem(503, "The store cannot be read."),
        back(Operation::new(
            "get",
            format!("{one}/diff"),
            Some(Role::Admin),
            "Tell what is otherwise now than in a generation",
            history::differences,
        ))
        .gives(
            200,
            "Resources of the store and active revisions of plugins.",
            list_of(&reference("Difference")),
        ),
        back(Operation::new(
            "post",
            format!("{one}/restore"),
            Some(Role::Admin),
            "Make what was stored in a generation live again, as a new one",
            history::restore,
        ))
        .dry_run()
        .gives(200, "What was otherwise, and is as it was then.", list_of(&reference("Difference")))
        .problem(409, "It does not go together with what the file has now, or a revision of it is gone."),
    ]
}

fn of_transfer() -> Vec<Operation> {
    let yes = || json!({ "type": "boolean" });
    vec![
        Operation::new(
            "get",
            "/v1/export",
            Some(Role::Admin),
            "Everything of the store, as one document",
            transfer::export,
        )
        .query("secrets", yes(), "With the credentials of consumers and what is secret of them.")
        .gives(200, "In the form of the file.", reference("Bundle"))
        .problem(503, "The store cannot be read."),
        Operation::new(
            "post",
            "/v1/import",
            Some(Role::Admin),
            "Make the store hold what a document has",
            transfer::import,
        )
        .dry_run()
        .query("prune", yes(), "Delete what is not in the document.")
        .takes("application/json", reference("Bundle"))
        .up_to(MAX_IMPORT)
        .gives(
            200,
            "What was made, changed and deleted; the rest was the same already.",
            list_of(&reference("Imported")),
        )
        .problem(400, "The body is not JSON.")
        .problem(409, "Others need what would be deleted.")
        .problem(415, "The body is not said to be JSON.")
        .problem(503, "The store cannot be read or written."),
    ]
}

/// The schema of a resource as it is sent.
pub(super) fn type_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Plugin => "Plugin",
        Kind::Service => "Service",
        Kind::Route => "Route",
        Kind::Api => "Api",
    }
}

/// The schema of a resource as it is told of.
pub(super) fn told_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Plugin => "PluginTold",
        Kind::Service => "ServiceTold",
        Kind::Route => "RouteTold",
        Kind::Api => "ApiTold",
    }
}

pub(super) fn reference(name: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{name}") })
}

fn list_of(items: &Value) -> Value {
    json!({
        "type": "object",
        "required": ["items"],
        "properties": { "items": { "type": "array", "items": items }, "next": { "type": "string" } },
    })
}
