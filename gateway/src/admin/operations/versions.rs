//! The operations on versions of APIs.

use super::{FAILED, Operation, list_of, reference};
use crate::{admin::versions, config::schema::Role};

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
    ]
}
