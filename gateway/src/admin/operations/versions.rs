//! The operations on versions of APIs, and on how much they are used.

use serde_json::{Value, json};

use super::{FAILED, Operation, list_of, reference};
use crate::{
    admin::{usage, versions},
    config::schema::Role,
};

const LIST: &str = "/v1/apis/{name}/versions";
const ONE: &str = "/v1/apis/{name}/versions/{version}";
const UNKNOWN: &str = "There is no such API, or no such version.";

pub(super) fn operations() -> Vec<Operation> {
    let version = || reference("ApiVersion");
    vec![
        Operation::new("get", LIST, Some(Role::Viewer), "List the versions of an API", versions::list)
            .gives(200, "In the form of the file.", list_of(&version()))
            .problem(404, "There is no such API."),
        Operation::new("get", ONE, Some(Role::Viewer), "Get a version of an API", versions::get)
            .gives(200, "In the form of the file.", version())
            .problem(404, UNKNOWN),
        Operation::new(
            "get",
            "/v1/apis/{name}/versions/{version}/openapi",
            Some(Role::Viewer),
            "Get the description of a version",
            versions::openapi,
        )
        .gives(200, "Its OpenAPI document.", json!({ "type": "object" }))
        .problem(404, "There is no such version, or it has no description."),
        Operation::new("put", ONE, Some(Role::Publisher), "Make or change a version of an API", versions::put)
            .takes("application/json", reference("ApiVersion"))
            .gives(200, "It was there and is changed.", version())
            .gives(201, "It is new; so is its API, if there was none.", version())
            .problem(400, "The body is not JSON.")
            .problem(409, "The API is in the configuration file, and is changed there.")
            .problem(412, "Others change the API at the same time.")
            .problem(415, "The body is not said to be JSON.")
            .problem(503, FAILED),
        Operation::new("delete", ONE, Some(Role::Publisher), "Delete a version of an API", versions::delete)
            .nothing(204, "It is gone.")
            .problem(404, UNKNOWN)
            .problem(409, "Others need it, or the API is in the configuration file.")
            .problem(412, "Others change the API at the same time.")
            .problem(422, "What is left of the API is wrong.")
            .problem(503, FAILED),
        Operation::new("get", "/v1/usage", Some(Role::Viewer), "How much consumers use of APIs, by day", usage::list)
            .query("from", text(), "From this day on, such as 2026-01-31, in UTC.")
            .query("to", text(), "Up to this day.")
            .query("api", text(), "Of this API.")
            .query("version", text(), "Of this version.")
            .query("consumer", text(), "By this consumer; empty is nobody that is known.")
            .query(
                "limit",
                json!({ "type": "integer", "minimum": 1, "maximum": u32::MAX }),
                "At most so many, 1000 at most.",
            )
            .query("after", text(), "Those after: `next` of the page before.")
            .gives(200, "By day, kept for 400 days; `next` is there if there may be more.", list_of(&used()))
            .problem(503, "The store cannot be read."),
    ]
}

fn text() -> Value {
    json!({ "type": "string" })
}

fn used() -> Value {
    let number = json!({ "type": "integer" });
    json!({
        "type": "object",
        "required": ["day", "api", "version", "consumer", "requests", "refused", "failed", "received", "sent"],
        "properties": {
            "day": text(), "api": text(), "version": text(), "consumer": text(), "requests": number,
            "refused": number, "failed": number, "received": number, "sent": number,
        },
    })
}
