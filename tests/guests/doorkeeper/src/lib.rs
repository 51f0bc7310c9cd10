//! Asks the gateway whose it is that a client presents, in any way there is, and tells it.

use stile_sdk::consumers::{self, Consumer, Presented};
use stile_sdk::prelude::*;

/// With `eager`, asks while it is configured, when there is nobody to ask for.
#[derive(Deserialize)]
#[serde(from = "Config")]
struct Doorkeeper;

#[derive(Deserialize)]
struct Config {
    #[serde(default)]
    eager: bool,
}

impl From<Config> for Doorkeeper {
    fn from(config: Config) -> Self {
        if config.eager {
            let _ = consumers::verify(&Presented::ApiKey("any"));
        }
        Self
    }
}

impl RequestFilter for Doorkeeper {
    fn on_request(&self, request: &mut Request) -> Result<Verdict> {
        let text =
            |name: &str| request.header(name).and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default();
        let (shown, other) = (text("x-shown"), text("x-other"));
        let digits = |n: usize| other.get(2 * n..2 * n + 2).and_then(|digits| u8::from_str_radix(digits, 16).ok());
        let signature: Vec<u8> = (0..).map_while(digits).collect();
        let long = vec![b'x'; text("x-long").parse().unwrap_or_default()];
        let presented = match text("x-kind").as_str() {
            "long-hmac" => Presented::Hmac { key_id: &shown, message: &long, signature: &signature },
            "api-key" => Presented::ApiKey(&shown),
            "basic" => Presented::Basic { username: &shown, password: &other },
            "hmac" => Presented::Hmac { key_id: &shown, message: b"message", signature: &signature },
            "jwt" => Presented::Jwt { issuer: &shown, subject: &other },
            _ => Presented::Certificate(&shown),
        };
        while request.header("x-forever").is_some() {
            let _ = consumers::verify(&presented);
        }
        Ok(match consumers::verify(&presented) {
            Some(Consumer { name, groups, credential }) => {
                Reply::text(200, format!("{name} {} {credential}", groups.join("+"))).into()
            }
            None => Reply::text(401, "nobody").into(),
        })
    }
}

stile_sdk::export!(Doorkeeper: request);
