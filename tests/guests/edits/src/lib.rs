//! Makes the edits of a request or a response that a header of the request names, and answers with what came of each and the
//! head behind them.

use serde_json::{Value, json};
use stile_sdk::prelude::*;

/// The fields that name edits of the request and of the response: JSON, in hexadecimal digits.
pub const OF_REQUEST: &str = "x-edits";
pub const OF_RESPONSE: &str = "x-response-edits";

#[derive(Debug, Deserialize)]
pub struct Edits {}

/// One edit of a head.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Edit {
    Method(String),
    Path(String),
    Query(Option<String>),
    Set(String, Vec<u8>),
    Add(String, Vec<u8>),
    Remove(String),
    /// A field of so many letters.
    LongValue(usize),
    /// A path, and a query, of so many letters.
    LongPath(usize),
    LongQuery(usize),
    /// So many bytes of state, beside the two quotes around them.
    Keep(usize),
    /// Of a response.
    Status(u16),
    /// A field of the reply.
    Reply(u16, String, Vec<u8>),
}

/// The text that these fields have.
pub fn encoded(edits: &[Edit]) -> String {
    let json = serde_json::to_vec(edits).expect("edits are JSON");
    json.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn decoded(text: &str) -> Result<Vec<Edit>> {
    let bytes: Result<Vec<u8>, _> =
        (0..text.len() / 2).map(|at| u8::from_str_radix(&text[2 * at..2 * at + 2], 16)).collect();
    Ok(serde_json::from_slice(&bytes?)?)
}

impl RequestFilter for Edits {
    fn on_request(&self, request: &mut Request) -> Result<Verdict> {
        let Some(edits) = request.header(OF_REQUEST) else { return Ok(Verdict::Proceed) };
        let edits = decoded(&edits.to_string())?;
        if let [Edit::Reply(status, name, value)] = &edits[..] {
            return Ok(Reply::new(*status).header(name.as_str(), value).into());
        }
        let results: Vec<Value> = edits.iter().map(|edit| edit.make(request)).collect();
        let told = json!({
            "results": results,
            "method": request.method(),
            "path": request.path(),
            "query": request.query(),
            "headers": fields(request),
        });
        Ok(Reply::json(200, &told)?.into())
    }
}

impl ResponseFilter for Edits {
    fn on_response(&self, response: &mut Response) -> Result<Verdict> {
        let Some(edits) = response.request_header(OF_RESPONSE) else { return Ok(Verdict::Proceed) };
        let make = |edit: &Edit| match edit {
            Edit::Status(status) => result(response.set_status(*status)),
            edit => edit.make_in(response),
        };
        let results: Vec<Value> = decoded(&edits.to_string())?.iter().map(make).collect();
        let told = json!({ "results": results, "status": response.status(), "headers": fields(response) });
        Ok(Reply::json(200, &told)?.into())
    }
}

impl Edit {
    fn make(&self, request: &mut Request) -> Value {
        match self {
            Self::Method(method) => result(request.set_method(method)),
            Self::Path(path) => result(request.set_path(path)),
            Self::Query(query) => result(request.set_query(query.as_deref())),
            Self::LongPath(letters) => result(request.set_path(&format!("/{}", "x".repeat(*letters)))),
            Self::LongQuery(letters) => result(request.set_query(Some(&"x".repeat(*letters)))),
            Self::Keep(bytes) => result(request.keep(&"x".repeat(*bytes))),
            edit => edit.make_in(request),
        }
    }

    /// Makes an edit that requests and responses both take.
    fn make_in(&self, head: &mut impl Headers) -> Value {
        match self {
            Self::Set(name, value) => result(head.set_header(name, value)),
            Self::Add(name, value) => result(head.add_header(name, value)),
            Self::Remove(name) => result(head.remove_header(name)),
            Self::LongValue(letters) => result(head.set_header("x-e-long", "x".repeat(*letters))),
            _ => json!("no edit of this head"),
        }
    }
}

fn result<E: std::fmt::Debug>(edit: Result<(), E>) -> Value {
    edit.map_or_else(|error| json!(format!("{error:?}")), |()| json!("done"))
}

/// The fields that edits are about, not those that a gateway adds.
fn fields(head: &impl Headers) -> Vec<(String, Vec<u8>)> {
    let all = head.headers().into_iter();
    let edited = all.filter(|(name, _)| name.starts_with("x-e-") || name == "trailer");
    let mut edited: Vec<_> = edited.map(|(name, value)| (name, value.as_bytes().to_vec())).collect();
    edited.sort();
    edited
}

stile_sdk::export!(Edits: request, response);
