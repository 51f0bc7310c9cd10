//! The operations on grants, of consumers and of groups.

use serde_json::json;

use super::{FAILED, Operation, list_of, reference};
use crate::{
    admin::grants::{self, Of},
    config::schema::Role,
    control::grants::Whose,
};

pub(super) fn operations() -> Vec<Operation> {
    let of: [(&str, Of); 2] = [("consumer", Whose::Consumer), ("group", Whose::Group)];
    let group = json!({
        "type": "object", "required": ["name", "consumers", "grants"],
        "properties": { "name": { "type": "string" }, "consumers": { "type": "integer" }, "grants": { "type": "integer" } },
    });
    let groups =
        Operation::new("get", "/v1/groups", Some(Role::Viewer), "List the groups of consumers", grants::groups)
            .gives(200, "Those that have grants or consumers, by name.", list_of(&group))
            .problem(503, "The store cannot be read.");
    [groups].into_iter().chain(of.into_iter().flat_map(|(kind, of)| of_kind(kind, of))).collect()
}

fn of_kind(kind: &str, of: Of) -> Vec<Operation> {
    let list = format!("/v1/{kind}s/{{name}}/grants");
    let one = format!("{list}/{{api}}/{{version}}");
    let unknown = "There is no such consumer, or no such grant.";
    let change = |operation: Operation| {
        operation
            .problem(404, unknown)
            .problem(409, "It is in the configuration file, or there are as many as there may be.")
            .problem(503, FAILED)
    };
    let sent = |operation: Operation| {
        change(operation)
            .gives(200, "It was there, and is so from the next request on.", reference("Grant"))
            .gives(201, "It is new, and counts from the next request on.", reference("Grant"))
            .problem(400, "The body is not JSON.")
            .problem(415, "The body is not said to be JSON.")
    };
    vec![
        Operation::new(
            "get",
            list.clone(),
            Some(Role::Viewer),
            format!("List the grants of a {kind}"),
            move |state, name| grants::list(of, state, name),
        )
        .gives(200, "By API and version.", list_of(&reference("Grant")))
        .problem(404, "There is no such consumer, or no such group.")
        .problem(503, "The store cannot be read."),
        sent(
            Operation::new(
                "post",
                list,
                Some(Role::Publisher),
                format!("Grant a {kind} the use of an API"),
                move |state, actor, name, grant| grants::add(of, state, actor, name, grant),
            )
            .takes("application/json", reference("GrantSent")),
        ),
        sent(
            Operation::new(
                "put",
                one.clone(),
                Some(Role::Publisher),
                format!("Grant a {kind} the use of a version; `*` is each"),
                move |state, actor, at, terms| grants::put(of, state, actor, at, terms),
            )
            .takes("application/json", reference("Terms")),
        ),
        change(Operation::new(
            "delete",
            one,
            Some(Role::Publisher),
            format!("Take a grant of a {kind} away"),
            move |state, actor, at| grants::remove(of, state, actor, at),
        ))
        .nothing(204, "It is gone.")
        .problem(422, "That is no name."),
    ]
}

/// Scopes and quotas, as schemas.
pub(in crate::admin) fn terms() -> serde_json::Value {
    let number = json!({ "type": ["integer", "null"], "minimum": 0, "maximum": u32::MAX });
    let windows = json!({ "second": number, "minute": number, "day": number, "month": number });
    json!({
        "scopes": { "type": "array", "items": { "type": "string" } },
        "quotas": { "type": "object", "additionalProperties": false, "properties": windows },
    })
}
