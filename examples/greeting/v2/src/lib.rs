//! Greets in a response header, as one greets the second time.

use stile_sdk::prelude::*;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Greeting {
    name: String,
}

impl ResponseFilter for Greeting {
    fn on_response(&self, response: &mut Response) -> Result<Verdict> {
        response.set_header("x-greeting", format!("hello again, {}", self.name))?;
        Ok(Verdict::Proceed)
    }
}

stile_sdk::export!(Greeting: response);
