//! Keeps what it saw of the request, and how often this instance was called, and tells in the response.

use std::cell::Cell;

use stile_sdk::prelude::*;

#[derive(Deserialize)]
struct Keeper {
    #[serde(skip)]
    calls: Cell<u32>,
}

#[derive(Serialize, Deserialize)]
struct Kept {
    path: String,
    padding: String,
}

impl RequestFilter for Keeper {
    fn on_request(&self, request: &mut Request) -> Result<Verdict> {
        self.calls.set(self.calls.get() + 1);
        request.set_header("x-calls", self.calls.get().to_string())?;
        let padding = request.header("x-padding").and_then(|value| value.as_str()?.parse().ok()).unwrap_or(0);
        if request.header("x-keep").is_some() {
            request.keep(&Kept { path: request.path(), padding: "p".repeat(padding) })?;
        }
        Ok(Verdict::Proceed)
    }
}

impl ResponseFilter for Keeper {
    fn on_response(&self, response: &mut Response) -> Result<Verdict> {
        let kept = response.kept::<Kept>()?;
        response.set_header("x-kept", kept.map_or("nothing".to_owned(), |kept| kept.path))?;
        Ok(Verdict::Proceed)
    }
}

stile_sdk::export!(Keeper: request, response);
