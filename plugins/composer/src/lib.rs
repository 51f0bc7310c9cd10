//! Answers with what several services say: asks them at once and makes one JSON object of their answers.

use std::{collections::BTreeMap, time::Duration};

use serde_json::{Map, Value};
use stile_sdk::{
    http::{self, CallError, Pending},
    prelude::*,
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Composer {
    /// The path with names in braces for the segments that `parts` may use.
    path: String,
    /// Whom to ask for each member of the answer.
    parts: BTreeMap<String, Part>,
    /// For each of them.
    #[serde(default)]
    timeout_ms: Option<u64>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Part {
    Required(String),
    Either(Asked),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    url: String,
    #[serde(default)]
    optional: bool,
}

impl Part {
    fn url(&self) -> &str {
        match self {
            Self::Required(url) | Self::Either(Asked { url, .. }) => url,
        }
    }

    fn is_optional(&self) -> bool {
        matches!(self, Self::Either(Asked { optional: true, .. }))
    }
}

impl RequestFilter for Composer {
    fn on_request(&self, request: &mut Request) -> Result<Verdict> {
        let path = request.path();
        let Some(named) = segments(&self.path, &path) else { return Ok(Verdict::Proceed) };
        if !["GET", "HEAD"].contains(&request.method().as_str()) {
            return Ok(problem(405, "only GET is answered here").header("allow", "GET, HEAD").into());
        }
        // All of them are under way before the first is waited for.
        let asked: Vec<_> = self.parts.iter().map(|(name, part)| (name, part, self.ask(part, &named))).collect();
        let mut whole = Map::new();
        for (name, part, asked) in asked {
            match answer(asked) {
                Ok(value) => drop(whole.insert(name.clone(), value)),
                Err(_) if part.is_optional() => drop(whole.insert(name.clone(), Value::Null)),
                Err((status, why)) => {
                    log::warn!("{name} of {path}: {why}");
                    return Ok(problem(status, &format!("there is no \"{name}\": {why}")).into());
                }
            }
        }
        Ok(Reply::json(200, &whole)?.into())
    }
}

impl Composer {
    fn ask(&self, part: &Part, named: &[(&str, &str)]) -> Result<Pending, CallError> {
        let fill = |url: String, (name, value): &(&str, &str)| url.replace(&format!("{{{name}}}"), &encoded(value));
        let url = named.iter().fold(part.url().to_owned(), fill);
        let call = http::get(url).header("accept", "application/json");
        match self.timeout_ms {
            Some(timeout) => call.timeout(Duration::from_millis(timeout)).start(),
            None => call.start(),
        }
    }
}

/// What a part says, or with which status there is none.
fn answer(asked: Result<Pending, CallError>) -> Result<Value, (u16, String)> {
    let answer = asked.and_then(Pending::wait).map_err(|error| match error {
        CallError::Timeout => (504, error.to_string()),
        // What is behind the gateway is not the client's to know.
        CallError::Failed(_) => (502, "the service cannot be reached".into()),
        error => (500, error.to_string()),
    })?;
    match answer.status {
        200 => answer.json().map_err(|_| (502, "the service did not answer in JSON".into())),
        404 => Err((404, "the service does not know it".into())),
        status => Err((502, format!("the service answered {status}"))),
    }
}

/// The segments that stand where the pattern has names; none if the path is not of that form.
fn segments<'a>(pattern: &'a str, path: &'a str) -> Option<Vec<(&'a str, &'a str)>> {
    let (mut wanted, mut there) = (pattern.split('/'), path.split('/'));
    let mut named = Vec::new();
    loop {
        match (wanted.next(), there.next()) {
            (None, None) => return Some(named),
            (Some(wanted), Some(there)) => match wanted.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
                Some(name) if !there.is_empty() => named.push((name, there)),
                None if wanted == there => {}
                _ => return None,
            },
            _ => return None,
        }
    }
}

/// RFC 3986 §2.3: only what means itself wherever it stands, so that no segment becomes a parameter. What is encoded already stays.
fn encoded(segment: &str) -> String {
    let mut text = String::new();
    for byte in segment.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'%' => text.push(byte.into()),
            byte => text += &format!("%{byte:02X}"),
        }
    }
    text
}

fn problem(status: u16, detail: &str) -> Reply {
    let body = serde_json::json!({ "type": "about:blank", "status": status, "detail": detail });
    Reply::new(status).header("content-type", "application/problem+json").body(body.to_string())
}

stile_sdk::export!(Composer: request);

#[cfg(test)]
mod tests {
    use stile_sdk::testing::{self, json};

    use super::*;

    /// What the services of the example say.
    fn services(call: &http::Call) -> Result<http::Answer, CallError> {
        match call.url.as_str() {
            "service://users/users/7" => Ok(http::Answer::new(200, r#"{"name":"Ann"}"#)),
            "service://orders/orders?user=7" => Ok(http::Answer::new(200, r#"[{"id":1},{"id":2}]"#)),
            "service://users/users/8" => Ok(http::Answer::new(200, "not JSON")),
            "service://users/users/9" => Err(CallError::Timeout),
            "service://orders/orders?user=8" => Err(CallError::Failed("10.0.0.7:80 is down".into())),
            _ => Ok(http::Answer::new(404, "")),
        }
    }

    fn ask(method: &str, path: &str, optional: bool) -> Option<(u16, Value)> {
        testing::answer_calls(services);
        let config = json!({
            "path": "/profile/{id}",
            "parts": {
                "user": "service://users/users/{id}",
                "orders": { "url": "service://orders/orders?user={id}", "optional": optional },
            },
        });
        let (verdict, _) =
            testing::filter::<Composer>(config).unwrap().request(testing::request(method, path)).unwrap();
        verdict.reply().map(|reply| (reply.status, serde_json::from_slice(&reply.body).unwrap()))
    }

    #[test]
    fn the_parts_make_one_answer() {
        let whole = json!({ "orders": [{ "id": 1 }, { "id": 2 }], "user": { "name": "Ann" } });
        assert_eq!(ask("GET", "/profile/7", false), Some((200, whole)));
    }

    #[test]
    fn a_part_that_is_missing_decides_unless_it_is_optional() {
        for (path, status) in [("/profile/8", 502), ("/profile/9", 404), ("/profile/5", 404)] {
            let (seen, problem) = ask("GET", path, false).unwrap();
            assert_eq!(seen, status, "{path}: {problem}");
            assert!(!problem.to_string().contains("10.0.0.7"), "{problem}");
        }
        assert_eq!(ask("GET", "/profile/9", true).unwrap().0, 504);
        assert_eq!(ask("GET", "/profile/8", true).unwrap().0, 502);
    }

    #[test]
    fn other_paths_and_methods_are_not_its_business() {
        for path in ["/profile", "/profile/", "/profile/7/x", "/other/7"] {
            assert_eq!(ask("GET", path, false), None, "{path}");
        }
        assert_eq!(ask("POST", "/profile/7", false).unwrap().0, 405);
    }

    #[test]
    fn a_segment_is_never_a_parameter() {
        assert_eq!(encoded("7&user=8;a+b"), "7%26user%3D8%3Ba%2Bb");
        assert_eq!(encoded("a%2Fb-._~"), "a%2Fb-._~", "it was encoded by the client");
    }

    #[test]
    fn an_optional_part_that_is_missing_is_null() {
        testing::answer_calls(services);
        let parts =
            json!({ "user": "service://users/users/{id}", "more": { "url": "service://x/{id}", "optional": true } });
        let filter = testing::filter::<Composer>(json!({ "path": "/p/{id}", "parts": parts })).unwrap();
        let (verdict, _) = filter.request(testing::request("GET", "/p/7")).unwrap();
        let told: Value = serde_json::from_slice(&verdict.reply().unwrap().body).unwrap();
        assert_eq!(told, json!({ "user": { "name": "Ann" }, "more": null }));
    }
}
