//! Sets, adds and removes headers of requests and of responses.

use std::collections::BTreeMap;

use stile_sdk::prelude::*;

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct AddHeaders {
    request: Edits,
    response: Edits,
}

/// What is done to one head, in this order.
#[derive(Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Edits {
    remove: Vec<HeaderName>,
    set: BTreeMap<HeaderName, HeaderValue>,
    add: BTreeMap<HeaderName, HeaderValue>,
}

impl RequestFilter for AddHeaders {
    fn on_request(&self, request: &mut Request) -> Result<Verdict> {
        self.request.apply(request)?;
        // Most configurations are about one head.
        Ok(if self.response == Edits::default() { Verdict::Done } else { Verdict::Proceed })
    }
}

impl ResponseFilter for AddHeaders {
    fn on_response(&self, response: &mut Response) -> Result<Verdict> {
        self.response.apply(response)?;
        Ok(Verdict::Proceed)
    }
}

impl Edits {
    fn apply(&self, head: &mut impl Headers) -> Result<()> {
        for name in &self.remove {
            head.remove_header(name)?;
        }
        for (name, value) in &self.set {
            head.set_header(name, value)?;
        }
        for (name, value) in &self.add {
            head.add_header(name, value)?;
        }
        Ok(())
    }
}

stile_sdk::export!(AddHeaders: request, response);

#[cfg(test)]
mod tests {
    use stile_sdk::testing::{self, Value, json};

    use super::*;

    fn refusal(config: Value) -> String {
        testing::filter::<AddHeaders>(config).err().map(|error| error.to_string()).unwrap_or_default()
    }

    #[test]
    fn removes_then_sets_then_adds() {
        let edits = json!({ "remove": ["X-Gone"], "set": { "X-One": "1" }, "add": { "x-one": "2", "x-many": "b" } });
        let filter = testing::filter::<AddHeaders>(json!({ "request": edits, "response": edits })).unwrap();

        let sent = testing::request("GET", "/").header("x-gone", "1").header("x-one", "0").header("x-many", "a");
        let (verdict, request) = filter.request(sent).unwrap();
        assert_eq!(verdict, Verdict::Proceed);
        assert_eq!(request.header("x-gone"), None);
        assert_eq!(request.header_values("x-one"), ["1", "2"]);
        assert_eq!(request.header_values("x-many"), ["a", "b"]);

        let (verdict, response) = filter.response(testing::response(200).header("x-gone", "1").to(request)).unwrap();
        assert_eq!(verdict, Verdict::Proceed);
        assert_eq!(response.header("x-gone"), None);
        assert_eq!(response.header_values("x-one"), ["1", "2"]);
    }

    #[test]
    fn does_nothing_without_a_configuration() {
        let filter = testing::filter::<AddHeaders>(json!(null)).unwrap();
        let (verdict, request) = filter.request(testing::request("GET", "/").header("accept", "*/*")).unwrap();
        assert_eq!((verdict, request.headers().len()), (Verdict::Done, 1));
    }

    #[test]
    fn refuses_what_could_never_be_written() {
        assert_eq!(refusal(json!({ "request": { "set": { "x y": "1" } } })), "\"x y\" is not a field name");
        assert_eq!(refusal(json!({ "response": { "add": { "x": "1\n2" } } })), "\"1\\n2\" is not a field value");
        assert_eq!(refusal(json!({ "request": { "remove": ["Host"] } })), "header host is the gateway's to write");
        assert_eq!(
            refusal(json!({ "request": { "append": {} } })),
            "unknown field `append`, expected one of `remove`, `set`, `add`"
        );
    }
}
