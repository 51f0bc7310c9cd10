//! Sends some requests to another route or service: those with a header or a cookie, and a share of the others.

use std::collections::BTreeMap;

use stile_sdk::{prelude::*, random};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    /// Only requests below this path.
    #[serde(default = "everything")]
    path: String,
    route: Option<String>,
    service: Option<String>,
    /// Any of these decides for the canary.
    #[serde(default)]
    headers: BTreeMap<HeaderName, String>,
    #[serde(default)]
    cookies: BTreeMap<String, String>,
    /// How many of a hundred others.
    #[serde(default)]
    percent: u8,
    /// A field by whose value these are chosen, so that the same caller always comes to the same.
    key: Option<HeaderName>,
}

struct Canary {
    path: String,
    to: Destination,
    headers: BTreeMap<HeaderName, String>,
    cookies: BTreeMap<String, String>,
    percent: u8,
    key: Option<HeaderName>,
}

fn everything() -> String {
    "/".into()
}

impl Plugin for Canary {
    type Config = Config;

    fn configure(config: Config) -> Result<Self> {
        let Config { path, route, service, headers, cookies, percent, key } = config;
        let to = match (route, service) {
            (Some(route), None) => Destination::Route(route),
            (None, Some(service)) => Destination::Service(service),
            _ => return Err(Error::new("it takes a route or a service, and not both")),
        };
        if percent > 100 {
            return Err(Error::new(format!("percent is {percent}, more than 100")));
        }
        if headers.is_empty() && cookies.is_empty() && percent == 0 {
            return Err(Error::new("it takes headers, cookies or percent, or nothing would ever go there"));
        }
        Ok(Self { path: path.trim_end_matches('/').into(), to, headers, cookies, percent, key })
    }
}

impl Router for Canary {
    fn route(&self, request: &mut Request, _: Option<Vec<u8>>) -> Result<Destination> {
        let path = request.path();
        let is_below = path.strip_prefix(&self.path).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        Ok(if is_below && (self.is_named(request) || self.takes(request)) {
            self.to.clone()
        } else {
            Destination::Matched
        })
    }
}

impl Canary {
    fn is_named(&self, request: &Request) -> bool {
        let has =
            |(name, value): (&HeaderName, &String)| request.header_values(name).iter().any(|it| it == value.as_str());
        self.headers.iter().any(has) || request.header_values("cookie").iter().any(|cookie| self.is_marked(cookie))
    }

    /// RFC 6265 §4.2.1.
    fn is_marked(&self, cookie: &HeaderValue) -> bool {
        let pairs = cookie.as_str().unwrap_or_default().split(';').filter_map(|pair| pair.trim().split_once('='));
        pairs.into_iter().any(|(name, value)| self.cookies.get(name).is_some_and(|wanted| wanted == value))
    }

    fn takes(&self, request: &Request) -> bool {
        if self.percent == 0 {
            return false;
        }
        let key = self.key.as_ref().and_then(|name| request.header(name));
        let drawn = key.map_or_else(|| u64::from_le_bytes(random::bytes()), |key| hash(key.as_bytes()));
        drawn % 100 < u64::from(self.percent)
    }
}

/// FNV-1a, with the bits mixed once more so that the last digits are as good as the first.
fn hash(bytes: &[u8]) -> u64 {
    let hash = bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3));
    let hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash ^ (hash >> 33)
}

stile_sdk::export!(Canary: route);

#[cfg(test)]
mod tests {
    use stile_sdk::testing::{self, Filter, RequestBuilder, Value, json};

    use super::*;

    fn filter(config: Value) -> Filter<Canary> {
        testing::filter(config).unwrap()
    }

    fn goes(filter: &Filter<Canary>, request: RequestBuilder) -> bool {
        filter.route(request, b"").unwrap().0 != Destination::Matched
    }

    #[test]
    fn headers_and_cookies_decide() {
        let filter = filter(json!({
            "route": "next", "path": "/users/", "headers": { "X-Canary": "yes" }, "cookies": { "canary": "1" }
        }));
        let request = || testing::request("GET", "/users/7");
        let (to, _) = filter.route(request().header("x-canary", "yes"), b"").unwrap();
        assert_eq!(to, Destination::Route("next".into()));
        assert!(goes(&filter, request().header("cookie", "a=b; canary=1")));
        for fields in [("x-canary", "no"), ("cookie", "canary=2"), ("cookie", "xcanary=1"), ("cookie", "canary")] {
            assert!(!goes(&filter, request().header(fields.0, fields.1)), "{fields:?}");
        }
        for (path, below) in [("/users", true), ("/usersx", false), ("/", false)] {
            assert_eq!(goes(&filter, testing::request("GET", path).header("x-canary", "yes")), below, "{path}");
        }
    }

    #[test]
    fn a_share_is_of_its_size_and_by_its_key() {
        let shared = filter(json!({ "service": "next", "percent": 10, "key": "x-user" }));
        let request = |user: usize| testing::request("GET", "/").header("x-user", format!("user-{user}"));
        let goes_there: Vec<bool> = (0..10_000).map(|user| goes(&shared, request(user))).collect();
        let count = goes_there.iter().filter(|there| **there).count();
        assert!((900..=1100).contains(&count), "{count}");
        assert!((0..10_000).step_by(13).all(|user| goes(&shared, request(user)) == goes_there[user]));
        let drawn = filter(json!({ "service": "next", "percent": 50 }));
        let count = (0..2000).filter(|_| goes(&drawn, testing::request("GET", "/"))).count();
        assert!((850..=1150).contains(&count), "{count}");
    }

    #[test]
    fn a_configuration_that_leads_nowhere_is_refused() {
        for config in [
            json!({ "percent": 5 }),
            json!({ "route": "a", "service": "b", "percent": 5 }),
            json!({ "route": "a" }),
            json!({ "route": "a", "percent": 101 }),
        ] {
            testing::filter::<Canary>(config.clone()).map(drop).expect_err(&config.to_string());
        }
    }
}
