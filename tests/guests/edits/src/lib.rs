//! Makes the edits that a header of the request, or a trailer, names, and reports the result of each edit and the
//! fields after them.

use serde_json::{Value, json};
use stile_sdk::prelude::*;

/// The fields that name edits of the request and of the response: JSON, in hexadecimal digits.
pub const OF_REQUEST: &str = "x-edits";
pub const OF_RESPONSE: &str = "x-response-edits";
/// The fields that name edits for the phases with a whole body.
pub const OF_REQUEST_BODY: &str = "x-body-edits";
pub const OF_RESPONSE_BODY: &str = "x-response-body-edits";
/// The trailer that names edits of trailers, and the one with the results, which takes its place.
pub const OF_TRAILERS: &str = "x-trailer-edits";
pub const RESULTS: &str = "x-results";

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
    /// The last edit of a phase with a whole body: the results take the place of the body.
    Replace,
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
        Ok(Reply::json(200, &in_request(request, &edits))?.into())
    }
}

impl RequestBody for Edits {
    fn on_request_body(&self, request: &mut Request, _: Vec<u8>) -> Result<BodyVerdict> {
        let Some(edits) = request.header(OF_REQUEST_BODY) else { return Ok(BodyVerdict::Proceed) };
        let edits = decoded(&edits.to_string())?;
        verdict(&edits, &in_request(request, &edits))
    }
}

impl RequestTrailers for Edits {
    fn on_request_trailers(&self, trailers: &mut Trailers) -> Result<()> {
        in_trailers(trailers)
    }
}

impl ResponseFilter for Edits {
    fn on_response(&self, response: &mut Response) -> Result<Verdict> {
        let Some(edits) = response.request_header(OF_RESPONSE) else { return Ok(Verdict::Proceed) };
        let edits = decoded(&edits.to_string())?;
        Ok(Reply::json(200, &in_response(response, &edits))?.into())
    }
}

impl ResponseBody for Edits {
    fn on_response_body(&self, response: &mut Response, _: Vec<u8>) -> Result<BodyVerdict> {
        let Some(edits) = response.request_header(OF_RESPONSE_BODY) else { return Ok(BodyVerdict::Proceed) };
        let edits = decoded(&edits.to_string())?;
        verdict(&edits, &in_response(response, &edits))
    }
}

impl ResponseTrailers for Edits {
    fn on_response_trailers(&self, trailers: &mut Trailers) -> Result<()> {
        in_trailers(trailers)
    }
}

fn in_request(request: &mut Request, edits: &[Edit]) -> Value {
    let results: Vec<Value> = edits.iter().map(|edit| edit.make(request)).collect();
    json!({
        "results": results,
        "method": request.method(),
        "path": request.path(),
        "query": request.query(),
        "headers": fields(request),
    })
}

fn in_response(response: &mut Response, edits: &[Edit]) -> Value {
    let make = |edit: &Edit| match edit {
        Edit::Status(status) => result(response.set_status(*status)),
        edit => edit.make_in(response),
    };
    let results: Vec<Value> = edits.iter().map(make).collect();
    json!({ "results": results, "status": response.status(), "headers": fields(response) })
}

fn in_trailers(trailers: &mut Trailers) -> Result<()> {
    let Some(edits) = trailers.header(OF_TRAILERS) else { return Ok(()) };
    let edits = decoded(&edits.to_string())?;
    let results: Vec<Value> = edits.iter().map(|edit| edit.make_in(trailers)).collect();
    let report = json!({ "results": results, "headers": fields(trailers) });
    trailers.remove_header(OF_TRAILERS)?;
    Ok(trailers.set_header(RESULTS, report.to_string())?)
}

fn verdict(edits: &[Edit], report: &Value) -> Result<BodyVerdict> {
    match edits {
        [Edit::Reply(status, name, value)] => Ok(Reply::new(*status).header(name.as_str(), value).into()),
        [.., Edit::Replace] => Ok(BodyVerdict::Replace(serde_json::to_vec(report)?)),
        _ => Ok(Reply::json(200, report)?.into()),
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

    /// Makes an edit that requests, responses and trailers all take.
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

stile_sdk::export!(Edits: request, request_body, request_trailers, response, response_body, response_trailers);
