//! The operations on revisions of plugins.

use serde_json::{Value, json};

use super::{FAILED, Operation, list_of, reference};
use crate::{
    admin::plugins,
    config::schema::Role,
    plugin::{loader::MAX_MODULE, signature},
};

pub(super) fn operations() -> Vec<Operation> {
    let revision = || reference("Revision");
    vec![
        Operation::new(
            "get",
            "/v1/plugins/{name}/revisions",
            Some(Role::Viewer),
            "List the revisions of a plugin",
            plugins::revisions,
        )
        .gives(200, "The oldest first.", list_of(&json!({ "type": "object" })))
        .problem(404, "There is no such plugin.")
        .problem(503, "The store cannot be read."),
        Operation::new(
            "put",
            "/v1/plugins/{name}/revisions",
            Some(Role::Publisher),
            "Push a revision of a plugin and make it live, for all exchanges or some",
            plugins::push,
        )
        .query("percent", percent(), "Of a hundred exchanges; 100 without it, 0 only stores it.")
        .header(signature::FIELD, json!({ "type": "string" }), "An Ed25519 signature of the module, in base64.")
        .takes("application/wasm", json!({ "type": "string", "format": "binary" }))
        .up_to(MAX_MODULE)
        .gives(200, "A revision with this digest was there, and is live.", revision())
        .gives(201, "It is new, and live.", revision())
        .problem(404, "There is no such plugin.")
        .problem(503, FAILED),
        Operation::new(
            "post",
            "/v1/plugins/{name}/rollout",
            Some(Role::Publisher),
            "Say which revision of a plugin is live, for all exchanges or some",
            plugins::rollout,
        )
        .takes("application/json", reference("RolloutSent"))
        .gives(200, "It is live.", revision())
        .problem(400, "The body is not JSON.")
        .problem(404, "There is no such plugin, or no such revision.")
        .problem(415, "The body is not said to be JSON.")
        .problem(503, FAILED),
    ]
}

fn percent() -> Value {
    json!({ "type": "integer", "minimum": 0, "maximum": 100 })
}
