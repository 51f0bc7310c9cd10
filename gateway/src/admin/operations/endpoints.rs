//! The operations on the endpoints of services, and being told of changes.

use axum::handler::Handler;
use serde_json::{Value, json};

use super::{Bound, FAILED, Operation, list_of, reference};
use crate::{
    admin::{Admin, endpoints, events},
    config::schema::Role,
};

const ONE: &str = "/v1/services/{name}/endpoints/{endpoint}";
const UNKNOWN: &str = "There is no such service, or no such endpoint.";

pub(super) fn operations() -> Vec<Operation> {
    let endpoint = || reference("EndpointTold");
    vec![
        Operation::new(
            "get",
            "/v1/services/{name}/endpoints",
            Some(Role::Viewer),
            "List the endpoints of a service",
            endpoints::list,
        )
        .of_services(Bound::Discover)
        .gives(200, "Those of the configuration first.", list_of(&endpoint()))
        .problem(404, "There is no such service."),
        Operation::new(
            "get",
            "/v1/services/{name}/discover",
            Some(Role::Viewer),
            "Find the next endpoint of a service",
            endpoints::discover,
        )
        .of_services(Bound::Discover)
        .query("policy", policy(), "How it is chosen; without it, as the service says.")
        .query(
            "metadata.KEY",
            json!({ "type": "string" }),
            "What the endpoint's metadata has under KEY; any number of them.",
        )
        .gives(200, "An endpoint that is usable, as far as this gateway knows.", endpoint())
        .problem(404, "There is no such service.")
        .problem(503, "No endpoint is usable and as asked for."),
        Operation::new("get", "/v1/events", Some(Role::Viewer), "Be told of every change from now on", events::stream)
            .of_services(Bound::Filtered)
            .query("service", json!({ "type": "string" }), "Of this service's endpoints alone.")
            .problem(404, "There is no such service.")
            .events("Events `endpoint` and `generation`; `missed` tells how many came too fast. JSON each."),
        Operation::new("get", ONE, Some(Role::Viewer), "Get an endpoint of a service", endpoints::get)
            .of_services(Bound::Discover)
            .gives(200, "As it stands.", endpoint())
            .problem(404, UNKNOWN),
        own("put", "", "Register an endpoint, or say anew what it is", endpoints::register)
            .takes("application/json", reference("Announcement"))
            .gives(200, "It was there.", endpoint())
            .gives(201, "It is new, and requests may be sent to it.", endpoint())
            .problem(400, "The body is not JSON.")
            .problem(409, "The service has as many registrations as it may, or others change this one.")
            .problem(415, "The body is not said to be JSON.")
            .problem(503, FAILED),
        own("post", "/heartbeat", "Say that a registered endpoint is alive", endpoints::heartbeat)
            .nothing(204, "It has its whole time again."),
        own("delete", "", "Take a registration away", endpoints::deregister)
            .nothing(204, "It is gone.")
            .problem(503, FAILED),
        own("put", "/drain", "Send an endpoint no more requests", endpoints::drain)
            .nothing(204, "Those that it has go on to their end.")
            .problem(409, "Others change it at the same time.")
            .problem(503, FAILED),
        own("delete", "/drain", "Send an endpoint requests again", endpoints::restore)
            .nothing(204, "It is chosen again.")
            .problem(409, "Others change it at the same time.")
            .problem(503, FAILED),
    ]
}

/// What a service does with an endpoint of its own.
fn own<H, T>(method: &'static str, below: &str, summary: &str, handler: H) -> Operation
where
    H: Handler<T, Admin>,
    T: 'static,
{
    let operation = Operation::new(method, format!("{ONE}{below}"), Some(Role::Admin), summary, handler);
    operation.of_services(Bound::Own).problem(404, UNKNOWN)
}

fn policy() -> Value {
    json!({ "enum": ["round-robin", "random", "weighted"] })
}
