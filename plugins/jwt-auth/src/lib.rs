//! Tells who calls by a JSON Web Token (RFC 7519), by the best current practice (RFC 8725): only algorithms that are asked for,
//! keys that are theirs, and no header that says otherwise.

mod jws;
mod keys;

use std::collections::BTreeMap;
use std::time::Duration;

use jws::{Alg, Key, Token};
use keys::{Fetched, KeySet};
use serde_json::{Map, Value};
use stile_sdk::{
    clock,
    consumers::{self, Presented},
    prelude::*,
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    /// Who must have issued it.
    issuer: String,
    /// Whom it must be for: one of these.
    #[serde(default)]
    audiences: Vec<String>,
    algorithms: Vec<Alg>,
    /// A set of keys.
    jwks: Option<KeySet>,
    /// Where one is fetched.
    jwks_url: Option<String>,
    /// Seconds after which it is fetched again.
    #[serde(default = "ten_minutes")]
    jwks_fresh: u64,
    /// Seconds that clocks may differ.
    #[serde(default = "one_minute")]
    leeway: u64,
    /// Whether whom the token names must be a consumer of the gateway.
    #[serde(default)]
    consumer: Mode,
    /// Whoever has no token passes as nobody.
    #[serde(default)]
    optional: bool,
    /// Fields that the service finds claims in.
    #[serde(default)]
    claims: BTreeMap<HeaderName, String>,
}

/// Whether whom a token names must be known.
#[derive(Clone, Copy, Default, PartialEq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Mode {
    #[default]
    Required,
    Optional,
}

fn ten_minutes() -> u64 {
    600
}

fn one_minute() -> u64 {
    60
}

struct JwtAuth {
    issuer: String,
    audiences: Vec<String>,
    algorithms: Vec<Alg>,
    own: Vec<Key>,
    fetched: Option<Fetched>,
    leeway: f64,
    consumer: Mode,
    optional: bool,
    claims: BTreeMap<HeaderName, String>,
}

impl Plugin for JwtAuth {
    type Config = Config;

    fn configure(config: Config) -> Result<Self> {
        let Config { issuer, audiences, algorithms, jwks, jwks_url, .. } = config;
        if algorithms.is_empty() {
            return Err(Error::new("algorithms must name at least one"));
        }
        let own = jwks.map(keys::usable).unwrap_or_default();
        if own.is_empty() && jwks_url.is_none() {
            return Err(Error::new("it takes jwks with a key that is of use, or jwks_url"));
        }
        if !own.iter().all(|key| key.is_strong(&algorithms)) {
            return Err(Error::new("a secret is shorter than the digest that it is used with (RFC 7518 §3.2)"));
        }
        if algorithms.iter().any(|alg| alg.is_secret()) && !own.iter().any(Key::is_secret) {
            return Err(Error::new("HS256, HS384 and HS512 take a secret in jwks"));
        }
        let fetched = jwks_url.map(|url| Fetched::new(url, Duration::from_secs(config.jwks_fresh)));
        let Config { leeway, consumer, optional, claims, .. } = config;
        Ok(Self { issuer, audiences, algorithms, own, fetched, leeway: leeway as f64, consumer, optional, claims })
    }
}

impl Authenticator for JwtAuth {
    fn authenticate(&self, request: &mut Request) -> Result<Identity> {
        let presented = request.header("authorization");
        let Some(token) = presented.as_ref().and_then(bearer) else {
            // RFC 6750 §3: who presents nothing is told nothing of errors.
            let refusal = Refusal::unauthorized("Bearer", "a token is needed");
            return Ok(if self.optional && presented.is_none() { Identity::Unknown } else { refusal.into() });
        };
        let claims = match self.claims_of(token)? {
            Ok(claims) => claims,
            Err(why) => return Ok(invalid(why)),
        };
        let told = |(name, claim): (&HeaderName, &String)| match claims.get(claim) {
            Some(Value::String(text)) => Some((name.to_string(), text.clone())),
            Some(Value::Null) | None => None,
            Some(other) => Some((name.to_string(), other.to_string())),
        };
        if request.keep(&self.claims.iter().filter_map(told).collect::<BTreeMap<_, _>>()).is_err() {
            return Ok(invalid("the claims that are to go on are too large"));
        }
        let subject = claims.get("sub").and_then(Value::as_str).unwrap_or_default();
        match (consumers::verify(&Presented::Jwt { issuer: &self.issuer, subject }), self.consumer) {
            (Some(consumer), _) => Ok(Identity::Known(consumer)),
            (None, Mode::Optional) => Ok(Identity::Unknown),
            (None, Mode::Required) => Ok(invalid("whom it names is not known here")),
        }
    }
}

/// Only the gateway writes these fields, whoever has told who calls.
impl RequestFilter for JwtAuth {
    fn on_request(&self, request: &mut Request) -> Result<Verdict> {
        self.claims.keys().try_for_each(|name| request.remove_header(name))?;
        let told = request.kept::<BTreeMap<String, String>>()?.unwrap_or_default();
        told.iter().try_for_each(|(name, value)| request.set_header(name, value))?;
        Ok(Verdict::Done)
    }
}

/// Keys are fetched before the first token comes, and again before they are old.
impl Tick for JwtAuth {
    fn on_tick(&self) -> Result<()> {
        self.fetched.as_ref().map_or(Ok(()), |fetched| fetched.fetch().map(drop))
    }
}

impl JwtAuth {
    /// The claims of a token that is good; the inner error is for the client.
    fn claims_of(&self, text: &str) -> Result<Result<Map<String, Value>, &'static str>> {
        let token = match Token::parse(text) {
            Ok(token) => token,
            Err(why) => return Ok(Err(why)),
        };
        if !self.algorithms.contains(&token.alg) {
            return Ok(Err("the token's algorithm is not one of those that are taken"));
        }
        let Some(payload) = self.verified(&token)? else { return Ok(Err("the token's signature is not right")) };
        let Ok(claims) = serde_json::from_slice(&payload) else { return Ok(Err("the token's claims cannot be read")) };
        Ok(self.check(&claims).map(|()| claims))
    }

    fn verified(&self, token: &Token<'_>) -> Result<Option<Vec<u8>>> {
        let by = |keys: &[Key]| keys.iter().find_map(|key| token.verified(key)).map(<[u8]>::to_vec);
        if let Some(payload) = by(&self.own) {
            return Ok(Some(payload));
        }
        let Some(fetched) = &self.fetched else { return Ok(None) };
        let keys = fetched.keys()?;
        if let Some(payload) = by(&keys) {
            return Ok(Some(payload));
        }
        // A key that is not there yet, rather than one that is not right.
        if token.kid.is_none() || keys.iter().any(|key| token.fits(key)) {
            return Ok(None);
        }
        Ok(fetched.again()?.and_then(|keys| by(&keys)))
    }

    /// RFC 7519 §4.1.
    fn check(&self, claims: &Map<String, Value>) -> Result<(), &'static str> {
        let now = clock::now().as_secs_f64();
        let time = |name: &str| match claims.get(name) {
            None => Ok(None),
            Some(value) => value.as_f64().map(Some).ok_or("a time of the token is no number"),
        };
        let expires = time("exp")?.ok_or("the token does not say when it expires")?;
        if expires + self.leeway <= now {
            return Err("the token has expired");
        }
        if [time("nbf")?, time("iat")?].into_iter().flatten().any(|begins| begins - self.leeway > now) {
            return Err("the token is not good yet");
        }
        if claims.get("iss").and_then(Value::as_str) != Some(&self.issuer) {
            return Err("the token is of another issuer");
        }
        let is_ours = |value: &Value| value.as_str().is_some_and(|name| self.audiences.iter().any(|ours| ours == name));
        let for_us = match claims.get("aud") {
            Some(Value::Array(several)) => several.iter().any(is_ours),
            Some(one) => is_ours(one),
            None => false,
        };
        if self.audiences.is_empty() || for_us { Ok(()) } else { Err("the token is for somebody else") }
    }
}

/// RFC 6750 §2.1; the scheme has no case.
fn bearer(value: &HeaderValue) -> Option<&str> {
    let (scheme, token) = value.as_str()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// RFC 6750 §3.
fn invalid(why: &'static str) -> Identity {
    Refusal::unauthorized(format!("Bearer error=\"invalid_token\", error_description=\"{why}\""), why).into()
}

stile_sdk::export!(JwtAuth: authenticate, request, tick);

#[cfg(test)]
mod tests;
