//! Tells who calls by the API key in a header, and lets nobody else through.

use stile_sdk::{
    consumers::{self, Presented},
    prelude::*,
};

/// The authenticator's `config`, checked when it is loaded.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Auth {
    header: HeaderName,
}

impl Authenticator for Auth {
    fn authenticate(&self, request: &mut Request) -> Result<Identity> {
        let Some(key) = request.header(&self.header) else {
            return Ok(refused("an API key is needed"));
        };
        // The service need not see it.
        request.remove_header(&self.header)?;
        match key.as_str().and_then(|key| consumers::verify(&Presented::ApiKey(key))) {
            Some(consumer) => Ok(Identity::Known(consumer)),
            None => Ok(refused("nobody has this API key")),
        }
    }
}

fn refused(detail: &str) -> Identity {
    Refusal::unauthorized("ApiKey", detail).into()
}

stile_sdk::export!(Auth: authenticate);

#[cfg(test)]
mod tests {
    use stile_sdk::testing::{self, Filter, json};

    use super::*;

    fn auth() -> Result<Filter<Auth>> {
        testing::filter(json!({ "header": "x-api-key" }))
    }

    #[test]
    fn tells_whose_a_key_is() -> Result<()> {
        let mobile = testing::consumer("mobile");
        testing::known(&Presented::ApiKey("a-key-of-sixteen-characters"), &mobile);
        let request = testing::request("GET", "/").header("x-api-key", "a-key-of-sixteen-characters");
        let (identity, request) = auth()?.authenticate(request)?;
        assert_eq!(identity, Identity::Known(mobile));
        assert_eq!(request.header("x-api-key"), None);
        Ok(())
    }

    #[test]
    fn refuses_everybody_else() -> Result<()> {
        for request in [testing::request("GET", "/"), testing::request("GET", "/").header("x-api-key", "another")] {
            let (identity, _) = auth()?.authenticate(request)?;
            assert!(matches!(identity, Identity::Refused(refusal) if refusal.status == 401));
        }
        Ok(())
    }
}
