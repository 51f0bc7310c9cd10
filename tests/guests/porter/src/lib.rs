//! Tells who calls and where requests go, by their headers.

use stile_sdk::{
    consumers::{self, Consumer, Presented},
    prelude::*,
};

#[derive(Deserialize)]
struct Porter {}

impl Authenticator for Porter {
    fn authenticate(&self, request: &mut Request) -> Result<Identity> {
        let text = |name: &str| request.header(name).map(|value| value.to_string());
        if let Some(status) = text("x-refuse") {
            let challenges = text("x-challenge").into_iter().collect();
            return Ok(Refusal { status: status.parse()?, challenges, detail: "not you".into() }.into());
        }
        if let Some(name) = text("x-claim") {
            return Ok(Identity::Known(Consumer { name, groups: Vec::new(), credential: "mine".into() }));
        }
        let Some(key) = text("x-key") else { return Ok(Identity::Unknown) };
        match consumers::verify(&Presented::ApiKey(&key)) {
            Some(consumer) => Ok(Identity::Known(consumer)),
            None => Ok(Refusal::unauthorized("ApiKey realm=\"test\"", "nobody has this key").into()),
        }
    }
}

impl RequestFilter for Porter {
    fn on_request(&self, request: &mut Request) -> Result<Verdict> {
        let told =
            request.consumer().map_or("nobody".to_owned(), |known| format!("{}/{}", known.name, known.credential));
        request.set_header("x-consumer", told)?;
        Ok(Verdict::Proceed)
    }
}

impl Router for Porter {
    fn route(&self, request: &mut Request, body: Option<Vec<u8>>) -> Result<Destination> {
        if let Some(body) = body {
            return Ok(Destination::Service(String::from_utf8(body)?));
        }
        let Some(to) = request.header("x-to").map(|value| value.to_string()) else { return Ok(Destination::Matched) };
        Ok(match to.split_once(':').unwrap_or((&to, "")) {
            ("route", name) => Destination::Route(name.into()),
            ("service", name) => Destination::Service(name.into()),
            ("path", path) => {
                request.set_path(path)?;
                Destination::Matched
            }
            ("body", _) => Destination::WithBody,
            ("respond", text) => Reply::text(200, text).into(),
            _ => return Err(Error::new("it does not know where to")),
        })
    }
}

impl ResponseFilter for Porter {
    fn on_response(&self, response: &mut Response) -> Result<Verdict> {
        response.set_header("x-porter", "was here")?;
        Ok(Verdict::Proceed)
    }
}

stile_sdk::export!(Porter: authenticate, request, route, response);
