//! Tells who calls by the API key that a header, or a parameter of the query, holds.

use stile_sdk::{
    consumers::{self, Presented},
    prelude::*,
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct ApiKeyAuth {
    header: HeaderName,
    /// A parameter that may hold the key where the header does not.
    query: Option<String>,
    /// Whoever has no key passes as nobody.
    optional: bool,
    /// Whether the service sees the key.
    forward: bool,
    /// Where the service finds the consumer's name.
    consumer_header: HeaderName,
    realm: String,
}

impl Default for ApiKeyAuth {
    fn default() -> Self {
        let name = |name: &str| HeaderName::new(name).expect("it is a field name");
        let (header, consumer_header) = (name("x-api-key"), name("x-consumer"));
        Self { header, query: None, optional: false, forward: false, consumer_header, realm: "api".into() }
    }
}

impl Authenticator for ApiKeyAuth {
    fn authenticate(&self, request: &mut Request) -> Result<Identity> {
        let Some(key) = self.key(request)? else {
            return Ok(if self.optional { Identity::Unknown } else { self.refused("an API key is needed") });
        };
        match consumers::verify(&Presented::ApiKey(&key)) {
            Some(consumer) => Ok(Identity::Known(consumer)),
            None => Ok(self.refused("the API key is not known, or has expired")),
        }
    }
}

/// Whoever has told who calls: only the gateway says it to the service.
impl RequestFilter for ApiKeyAuth {
    fn on_request(&self, request: &mut Request) -> Result<Verdict> {
        request.remove_header(&self.consumer_header)?;
        if let Some(consumer) = request.consumer() {
            request.set_header(&self.consumer_header, consumer.name)?;
        }
        Ok(Verdict::Done)
    }
}

impl ApiKeyAuth {
    /// Takes the key off the request unless it is to be forwarded.
    fn key(&self, request: &mut Request) -> Result<Option<String>> {
        if let Some(value) = request.header(&self.header) {
            if !self.forward {
                request.remove_header(&self.header)?;
            }
            return Ok(value.as_str().map(str::to_owned));
        }
        let (Some(name), Some(query)) = (&self.query, request.query()) else { return Ok(None) };
        let is_key = |pair: &&str| pair.split_once('=').map_or(*pair, |(name, _)| name) == name;
        let Some(found) = query.split('&').find(is_key) else { return Ok(None) };
        if !self.forward {
            let rest: Vec<_> = query.split('&').filter(|pair| !is_key(pair)).collect();
            let rest = rest.join("&");
            request.set_query(Some(rest.as_str()).filter(|rest| !rest.is_empty()))?;
        }
        Ok(found.split_once('=').map(|(_, key)| key.to_owned()))
    }

    fn refused(&self, detail: &str) -> Identity {
        Refusal::unauthorized(format!("ApiKey realm=\"{}\"", self.realm.replace(['"', '\\'], "")), detail).into()
    }
}

stile_sdk::export!(ApiKeyAuth: authenticate, request);

#[cfg(test)]
mod tests {
    use stile_sdk::testing::{self, RequestBuilder, Value, json};

    use super::*;

    const KEY: &str = "a-key-of-sixteen-characters";

    fn ask(config: Value, request: RequestBuilder) -> (Identity, Request) {
        testing::known(&Presented::ApiKey(KEY), &testing::consumer("mobile"));
        testing::filter::<ApiKeyAuth>(config).unwrap().authenticate(request).unwrap()
    }

    fn status(identity: &Identity) -> Option<u16> {
        if let Identity::Refused(refusal) = identity { Some(refusal.status) } else { None }
    }

    #[test]
    fn a_known_key_tells_who_calls_and_does_not_go_on() {
        let (identity, request) = ask(json!({}), testing::request("GET", "/x").header("x-api-key", KEY));
        assert_eq!(identity, Identity::Known(testing::consumer("mobile")));
        assert_eq!(request.header("x-api-key"), None);
        let forwarded = testing::request("GET", "/x").header("x-api-key", KEY);
        assert_eq!(ask(json!({ "forward": true }), forwarded).1.header("x-api-key").unwrap(), KEY);
    }

    #[test]
    fn the_service_is_told_who_calls_by_the_gateway_alone() {
        let filter = testing::filter::<ApiKeyAuth>(json!({})).unwrap();
        let claimed = || testing::request("GET", "/x").header("x-consumer", "somebody else");
        let (_, request) = filter.request(claimed().consumer(&testing::consumer("mobile"))).unwrap();
        assert_eq!(request.header_values("x-consumer"), ["mobile"].map(|name| HeaderValue::new(name).unwrap()));
        let (_, request) = filter.request(claimed()).unwrap();
        assert_eq!(request.header("x-consumer"), None);
    }

    #[test]
    fn no_key_or_another_is_refused_with_a_challenge() {
        for request in [testing::request("GET", "/"), testing::request("GET", "/").header("x-api-key", "other")] {
            let (identity, _) = ask(json!({ "realm": "a\"b" }), request);
            assert_eq!(status(&identity), Some(401));
            let Identity::Refused(refusal) = identity else { panic!() };
            assert_eq!(refusal.challenges, ["ApiKey realm=\"ab\""]);
        }
    }

    #[test]
    fn where_it_is_optional_nobody_may_call_but_no_wrong_key() {
        let optional = json!({ "optional": true });
        assert_eq!(ask(optional.clone(), testing::request("GET", "/")).0, Identity::Unknown);
        let wrong = testing::request("GET", "/").header("x-api-key", "other");
        assert_eq!(status(&ask(optional, wrong).0), Some(401));
    }

    #[test]
    fn the_query_may_hold_it_and_loses_it() {
        let config = json!({ "query": "key" });
        for (query, rest) in [("key=K", None), ("a=1&key=K", Some("a=1")), ("key=K&keys=2&b", Some("keys=2&b"))] {
            let target = format!("/x?{}", query.replace('K', KEY));
            let (identity, request) = ask(config.clone(), testing::request("GET", &target));
            assert!(matches!(identity, Identity::Known(_)), "{query}");
            assert_eq!(request.query().as_deref(), rest, "{query}");
        }
        assert_eq!(status(&ask(config, testing::request("GET", "/x?keys=1")).0), Some(401));
        assert_eq!(status(&ask(json!({}), testing::request("GET", &format!("/x?key={KEY}"))).0), Some(401));
    }
}
