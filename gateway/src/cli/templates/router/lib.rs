//! Sends requests with a header to a service of their own, and leaves the others to the routes.

use stile_sdk::prelude::*;

/// The router's `config`, checked when it is loaded.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Beta {
    header: HeaderName,
    service: String,
}

impl Router for Beta {
    fn route(&self, request: &mut Request, _body: Option<Vec<u8>>) -> Result<Destination> {
        Ok(match request.header(&self.header) {
            Some(_) => Destination::Service(self.service.clone()),
            None => Destination::Matched,
        })
    }
}

stile_sdk::export!(Beta: route);

#[cfg(test)]
mod tests {
    use stile_sdk::testing::{self, Filter, json};

    use super::*;

    fn router() -> Result<Filter<Beta>> {
        testing::filter(json!({ "header": "x-beta", "service": "next" }))
    }

    #[test]
    fn sends_those_with_the_header_elsewhere() -> Result<()> {
        let (destination, _) = router()?.route(testing::request("GET", "/").header("x-beta", "1"), b"")?;
        assert_eq!(destination, Destination::Service("next".to_owned()));
        Ok(())
    }

    #[test]
    fn leaves_the_others_to_the_routes() -> Result<()> {
        let (destination, _) = router()?.route(testing::request("GET", "/"), b"")?;
        assert_eq!(destination, Destination::Matched);
        Ok(())
    }
}
