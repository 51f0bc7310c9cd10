//! Reads one field of each request and sets another: about the least that a filter is good for, which benches measure. Without a
//! configuration it does nothing.

use stile_sdk::prelude::*;

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Header {
    read: String,
    set: String,
}

impl RequestFilter for Header {
    fn on_request(&self, request: &mut Request) -> Result<Verdict> {
        if self.set.is_empty() {
            return Ok(Verdict::Proceed);
        }
        let seen = if request.header(&self.read).is_some() { "yes" } else { "no" };
        request.set_header(&self.set, seen)?;
        Ok(Verdict::Proceed)
    }
}

stile_sdk::export!(Header: request);
