//! Decides on whole bodies, as its configuration says.

use stile_sdk::prelude::*;

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Bodies {
    request: Option<Whole>,
    response: Option<Whole>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Whole {
    /// Tells its length in a header.
    Measure,
    Upper,
    Double,
    Clear,
    /// Puts `fixed` in its place.
    Fixed,
    /// The same, and describes it.
    Described,
    /// Answers 422 where the body has the word "bad".
    Judge,
    /// Lets it pass unseen.
    Pass,
    Fail,
    Trap,
    Loop,
}

/// Fields that describe a body.
const DESCRIBING: [&str; 7] =
    ["content-digest", "repr-digest", "digest", "content-md5", "accept-ranges", "content-encoding", "etag"];

impl RequestFilter for Bodies {
    fn on_request(&self, _: &mut Request) -> Result<Verdict> {
        Ok(verdict(self.request))
    }
}

impl RequestBody for Bodies {
    fn on_request_body(&self, request: &mut Request, body: Vec<u8>) -> Result<BodyVerdict> {
        let Some(whole) = self.request else { return Ok(BodyVerdict::Proceed) };
        whole.decide(request, body)
    }
}

impl ResponseFilter for Bodies {
    fn on_response(&self, _: &mut Response) -> Result<Verdict> {
        Ok(verdict(self.response))
    }
}

fn verdict(whole: Option<Whole>) -> Verdict {
    if matches!(whole, None | Some(Whole::Pass)) { Verdict::PassBody } else { Verdict::Proceed }
}

impl ResponseBody for Bodies {
    fn on_response_body(&self, response: &mut Response, body: Vec<u8>) -> Result<BodyVerdict> {
        let Some(whole) = self.response else { return Ok(BodyVerdict::Proceed) };
        whole.decide(response, body)
    }
}

impl Whole {
    fn decide(self, head: &mut impl Headers, body: Vec<u8>) -> Result<BodyVerdict> {
        match self {
            Self::Measure => {
                head.set_header("x-length", body.len().to_string())?;
                Ok(BodyVerdict::Proceed)
            }
            Self::Upper => Ok(BodyVerdict::Replace(body.to_ascii_uppercase())),
            Self::Double => Ok(BodyVerdict::Replace(body.repeat(2))),
            Self::Clear => Ok(BodyVerdict::Replace(Vec::new())),
            Self::Fixed => Ok(BodyVerdict::Replace(b"fixed".to_vec())),
            Self::Described => {
                for name in DESCRIBING {
                    head.set_header(name, "\"own\"")?;
                }
                Ok(BodyVerdict::Replace(b"fixed".to_vec()))
            }
            Self::Judge if body.windows(3).any(|word| word == b"bad") => Ok(Reply::text(422, "it is bad").into()),
            Self::Judge | Self::Pass => Ok(BodyVerdict::Proceed),
            Self::Fail => Err(Error::new("it fails at a body, as it was told")),
            Self::Trap => std::process::abort(),
            Self::Loop => loop {
                std::hint::black_box(0);
            },
        }
    }
}

stile_sdk::export!(Bodies: request, request_body, response, response_body);
