//! Edits each head as its configuration says, and tells what the gateway refused of it.

use std::collections::BTreeMap;

use stile_sdk::prelude::*;

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Editor {
    method: Option<String>,
    path: Option<String>,
    query: Option<String>,
    status: Option<u16>,
    /// Set in the request.
    headers: BTreeMap<String, String>,
    /// Set in the response.
    response_headers: BTreeMap<String, String>,
    remove: Vec<String>,
    /// Answers the request, with this status.
    respond: Option<u16>,
    /// Answers in the place of the response.
    respond_late: Option<u16>,
    /// Fields of such an answer.
    respond_headers: BTreeMap<String, String>,
    /// Fails after the edits.
    fail: bool,
    /// Wants no response phase.
    done: bool,
    /// Writes this many header fields.
    many: usize,
}

impl RequestFilter for Editor {
    fn on_request(&self, request: &mut Request) -> Result<Verdict> {
        let mut refused = Vec::new();
        if let Some(method) = &self.method {
            refused.extend(request.set_method(method).err());
        }
        if let Some(path) = &self.path {
            refused.extend(request.set_path(path).err());
        }
        if let Some(query) = &self.query {
            refused.extend(request.set_query(Some(query).filter(|query| !query.is_empty()).map(String::as_str)).err());
        }
        for (name, value) in &self.headers {
            refused.extend(request.set_header(name, value).err());
        }
        for name in &self.remove {
            refused.extend(request.remove_header(name).err());
        }
        for n in 0..self.many {
            refused.extend(request.add_header("x-many", n.to_string()).err());
        }
        if !refused.is_empty() {
            request.set_header("x-refused", texts(&refused))?;
        }
        if self.done {
            return Ok(Verdict::Done);
        }
        self.verdict(self.respond)
    }
}

impl ResponseFilter for Editor {
    fn on_response(&self, response: &mut Response) -> Result<Verdict> {
        let mut refused = Vec::new();
        if let Some(status) = self.status {
            refused.extend(response.set_status(status).err());
        }
        for (name, value) in &self.response_headers {
            refused.extend(response.set_header(name, value).err());
        }
        for name in &self.remove {
            refused.extend(response.remove_header(name).err());
        }
        if !refused.is_empty() {
            response.set_header("x-refused", texts(&refused))?;
        }
        self.verdict(self.respond_late)
    }
}

impl Editor {
    fn verdict(&self, respond: Option<u16>) -> Result<Verdict> {
        if self.fail {
            return Err(Error::new("it fails after its edits, as it was told"));
        }
        let Some(status) = respond else { return Ok(Verdict::Proceed) };
        let reply = Reply::text(status, "from the editor");
        Ok(self.respond_headers.iter().fold(reply, |reply, (name, value)| reply.header(name, value)).into())
    }
}

fn texts(refused: &[EditError]) -> String {
    refused.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

stile_sdk::export!(Editor: request, response);
