//! Counts each phase that runs, and gives the verdicts that its configuration names.

use stile_sdk::{metrics, prelude::*};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Phases {
    /// A label of what it counts.
    case: String,
    #[serde(default)]
    verdicts: Verdicts,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
struct Verdicts {
    authenticate: Option<Word>,
    request: Option<Word>,
    request_body: Option<Word>,
    route: Option<Word>,
    balance: Option<Word>,
    request_stream: Option<Word>,
    request_trailers: Option<Word>,
    response: Option<Word>,
    response_body: Option<Word>,
    response_stream: Option<Word>,
    response_trailers: Option<Word>,
    log: Option<Word>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Word {
    PassBody,
    Done,
    Respond,
    Replace,
    Refuse,
    Fail,
}

impl Phases {
    fn ran(&self, phase: &str) -> Result<()> {
        Ok(metrics::add("phases", &[("case", &self.case), ("phase", phase)], 1)?)
    }
}

/// The end of a phase that has no verdict.
fn end(word: Option<Word>) -> Result<()> {
    word.map_or(Ok(()), |_| Err(Error::new("a failure")))
}

fn head(word: Option<Word>) -> Result<Verdict> {
    match word {
        Some(Word::PassBody) => Ok(Verdict::PassBody),
        Some(Word::Done) => Ok(Verdict::Done),
        Some(Word::Respond) => Ok(Reply::text(403, "an answer").into()),
        Some(Word::Fail) => Err(Error::new("a failure")),
        Some(Word::Replace | Word::Refuse) => Err(Error::new("no verdict of this phase")),
        None => Ok(Verdict::Proceed),
    }
}

fn body(word: Option<Word>) -> Result<BodyVerdict> {
    match word {
        Some(Word::Replace) => Ok(BodyVerdict::Replace(b"replaced".to_vec())),
        Some(Word::Respond) => Ok(Reply::text(403, "an answer").into()),
        Some(Word::Fail) => Err(Error::new("a failure")),
        Some(Word::PassBody | Word::Done | Word::Refuse) => Err(Error::new("no verdict of this phase")),
        None => Ok(BodyVerdict::Proceed),
    }
}

impl Authenticator for Phases {
    fn authenticate(&self, _: &mut Request) -> Result<Identity> {
        self.ran("authenticate")?;
        match self.verdicts.authenticate {
            Some(Word::Refuse) => Ok(Refusal::unauthorized("Bearer", "show a token").into()),
            Some(_) => Err(Error::new("a failure")),
            None => Ok(Identity::Unknown),
        }
    }
}

impl RequestFilter for Phases {
    fn on_request(&self, _: &mut Request) -> Result<Verdict> {
        self.ran("request")?;
        head(self.verdicts.request)
    }
}

impl RequestBody for Phases {
    fn on_request_body(&self, _: &mut Request, _: Vec<u8>) -> Result<BodyVerdict> {
        self.ran("request-body")?;
        body(self.verdicts.request_body)
    }
}

impl RequestStream for Phases {
    fn on_request_stream(&self, _: &mut Stream) -> Result<()> {
        self.ran("request-stream")?;
        end(self.verdicts.request_stream)
    }
}

impl RequestTrailers for Phases {
    fn on_request_trailers(&self, _: &mut Trailers) -> Result<()> {
        self.ran("request-trailers")?;
        end(self.verdicts.request_trailers)
    }
}

impl ResponseFilter for Phases {
    fn on_response(&self, _: &mut Response) -> Result<Verdict> {
        self.ran("response")?;
        head(self.verdicts.response)
    }
}

impl ResponseBody for Phases {
    fn on_response_body(&self, _: &mut Response, _: Vec<u8>) -> Result<BodyVerdict> {
        self.ran("response-body")?;
        body(self.verdicts.response_body)
    }
}

impl ResponseStream for Phases {
    fn on_response_stream(&self, _: &mut Stream) -> Result<()> {
        self.ran("response-stream")?;
        end(self.verdicts.response_stream)
    }
}

impl ResponseTrailers for Phases {
    fn on_response_trailers(&self, _: &mut Trailers) -> Result<()> {
        self.ran("response-trailers")?;
        end(self.verdicts.response_trailers)
    }
}

impl ExchangeLog for Phases {
    fn on_log(&self, _: &Request, _: &Response, _: &Summary) -> Result<()> {
        self.ran("log")?;
        end(self.verdicts.log)
    }
}

impl Router for Phases {
    fn route(&self, _: &mut Request, _: Option<Vec<u8>>) -> Result<Destination> {
        self.ran("route")?;
        match self.verdicts.route {
            Some(Word::Respond) => Ok(Reply::text(403, "an answer").into()),
            word => end(word).map(|()| Destination::Matched),
        }
    }
}

impl Balancer for Phases {
    fn choose(&self, _: &Request, _: &[Candidate]) -> Result<usize> {
        self.ran("balance")?;
        end(self.verdicts.balance).map(|()| 0)
    }
}

stile_sdk::export!(
    Phases: authenticate, request, request_body, request_stream, request_trailers, route, balance, response, response_body,
    response_stream, response_trailers, log
);
