//! Lets a request through if a header holds one of the configured tokens, and answers 401 otherwise.

use stile_sdk::prelude::*;
use subtle::{Choice, ConstantTimeEq};

const SCHEME: &[u8] = b"Bearer ";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    header: Option<HeaderName>,
    tokens: Vec<String>,
}

struct RequireToken {
    header: HeaderName,
    tokens: Vec<String>,
    /// What stands before the token: the scheme in `authorization`, nothing elsewhere.
    prefix: &'static [u8],
}

impl Plugin for RequireToken {
    type Config = Config;

    fn configure(Config { header, tokens }: Config) -> Result<Self> {
        if tokens.is_empty() || tokens.iter().any(String::is_empty) {
            return Err(Error::new("tokens must name at least one token, and none that is empty"));
        }
        let header = header.map_or_else(|| HeaderName::new("authorization"), Ok)?;
        let prefix = if header.as_ref() == "authorization" { SCHEME } else { b"" };
        Ok(Self { header, tokens, prefix })
    }
}

impl RequestFilter for RequireToken {
    fn on_request(&self, request: &mut Request) -> Result<Verdict> {
        if request.header(&self.header).is_some_and(|value| self.accepts(value.as_bytes())) {
            return Ok(Verdict::Proceed);
        }
        log::debug!("refused {} {}: no known token in {}", request.method(), request.path(), self.header);
        Ok(refusal().into())
    }
}

impl RequireToken {
    fn accepts(&self, value: &[u8]) -> bool {
        let Some((prefix, token)) = value.split_at_checked(self.prefix.len()) else { return false };
        // RFC 9110 §11.1: the scheme has no case.
        prefix.eq_ignore_ascii_case(self.prefix) && self.knows(token)
    }

    /// Compares with every token, each in constant time: the time taken tells nothing but lengths.
    fn knows(&self, token: &[u8]) -> bool {
        self.tokens.iter().fold(Choice::from(0), |known, one| known | one.as_bytes().ct_eq(token)).into()
    }
}

fn refusal() -> Reply {
    Reply::new(401)
        .header("www-authenticate", "Bearer")
        .header("content-type", "application/problem+json")
        .body(r#"{"type":"about:blank","title":"Unauthorized","status":401}"#)
}

stile_sdk::export!(RequireToken: request);

#[cfg(test)]
mod tests {
    use stile_sdk::testing::{self, Filter, RequestBuilder, Value, json};

    use super::*;

    fn filter(config: Value) -> Filter<RequireToken> {
        testing::filter(config).unwrap()
    }

    fn status(filter: &Filter<RequireToken>, request: RequestBuilder) -> Option<u16> {
        let (verdict, _) = filter.request(request).unwrap();
        verdict.reply().map(|reply| reply.status)
    }

    fn request() -> RequestBuilder {
        testing::request("GET", "/x")
    }

    #[test]
    fn lets_through_any_of_the_tokens() {
        let filter = filter(json!({ "tokens": ["one", "two"] }));
        for token in ["one", "two"] {
            assert_eq!(status(&filter, request().header("authorization", format!("Bearer {token}"))), None);
        }
        assert_eq!(testing::log(), []);
    }

    #[test]
    fn refuses_everything_else() {
        let filter = filter(json!({ "tokens": ["one", "two"] }));
        assert_eq!(status(&filter, request()), Some(401));
        for value in ["one", "Bearer", "Bearer ", "Bearer on", "Bearer ones", "Bearer One", "Bearer  one", "Digest one"]
        {
            assert_eq!(status(&filter, request().header("authorization", value)), Some(401), "{value}");
        }
    }

    #[test]
    fn the_refusal_is_a_problem_document_and_logs_no_token() {
        let filter = filter(json!({ "tokens": ["one"] }));
        let (verdict, _) = filter.request(request().header("authorization", "Bearer guess")).unwrap();
        let reply = verdict.reply().unwrap();
        assert_eq!(reply.header_value("www-authenticate"), Some(&b"Bearer"[..]));
        assert_eq!(reply.header_value("content-type"), Some(&b"application/problem+json"[..]));
        assert!(reply.body.starts_with(br#"{"type":"#));
        let refused = "refused GET /x: no known token in authorization".to_string();
        assert_eq!(testing::log(), [(log::Level::Debug, refused)]);
    }

    #[test]
    fn the_scheme_has_no_case() {
        let filter = filter(json!({ "tokens": ["one"] }));
        assert_eq!(status(&filter, request().header("authorization", "bearer one")), None);
    }

    #[test]
    fn another_header_holds_the_token_alone() {
        let filter = filter(json!({ "header": "X-Api-Key", "tokens": ["one"] }));
        assert_eq!(status(&filter, request().header("x-api-key", "one")), None);
        assert_eq!(status(&filter, request().header("x-api-key", "Bearer one")), Some(401));
        assert_eq!(status(&filter, request().header("authorization", "Bearer one")), Some(401));
    }

    #[test]
    fn a_configuration_without_usable_tokens_is_refused() {
        for config in [json!(null), json!({ "tokens": [] }), json!({ "tokens": ["one", ""] })] {
            testing::filter::<RequireToken>(config.clone()).map(drop).expect_err(&config.to_string());
        }
    }
}
