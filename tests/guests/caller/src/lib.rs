//! Calls the URL in the header `x-call` of a request, as often as `x-times` says and at once, and answers with the results. With
//! `x-again` each call asks for the same again, with `x-copy` the answer is the reply, with `x-forever` it calls without end. With `x-stream` the call is made from the body,
//! which it asks for again, and its result stands before that.

use std::{io::Write, time::Duration};

use stile_sdk::{http, prelude::*};

#[derive(Deserialize)]
struct Caller {
    /// While it is configured, where nobody can be called.
    call: Option<String>,
}

struct Ready {}

impl Plugin for Ready {
    type Config = Caller;

    fn configure(config: Caller) -> Result<Self> {
        if let Some(url) = config.call {
            http::get(url).send()?;
        }
        Ok(Self {})
    }
}

impl RequestFilter for Ready {
    fn on_request(&self, request: &mut Request) -> Result<Verdict> {
        let text = |name: &str| request.header(name).map(|value| value.to_string());
        let Some(url) = text("x-call") else { return Ok(Verdict::Proceed) };
        if text("x-stream").is_some() {
            request.keep(&url)?;
            return Ok(Verdict::Proceed);
        }
        let times = text("x-times").map_or(Ok(1), |text| text.parse::<usize>())?;
        let timeout = text("x-timeout").map(|text| text.parse()).transpose()?.map(Duration::from_millis);
        let one = || {
            let mut call = http::call(request.method(), url.clone()).header("x-from", "a plugin");
            if text("x-again").is_some() {
                call = call.header("x-call", &url).header("x-again", "1");
            }
            http::Call { timeout, ..call }
        };
        if text("x-drop").is_some() {
            let dropped = one().start()?;
            drop(dropped);
        }
        while text("x-forever").is_some() {
            let _ = one().send();
        }
        if text("x-copy").is_some() {
            let http::Answer { status, headers, body } = one().send()?;
            return Ok(Reply { status, headers, body }.into());
        }
        let under_way: Vec<_> = (0..times).map(|_| one().start()).collect();
        let told: Vec<_> = under_way
            .into_iter()
            .map(|call| match call.and_then(http::Pending::wait) {
                Ok(answer) => format!("{} {}", answer.status, answer.text()),
                Err(error) => error.to_string(),
            })
            .collect();
        Ok(Reply::text(200, told.join("\n")).into())
    }
}

impl RequestStream for Ready {
    fn on_request_stream(&self, body: &mut Stream) -> Result<()> {
        let Some(url) = body.kept::<String>()? else { return Ok(()) };
        let call = http::post(&*url).header("x-call", &url).header("x-stream", "1").body("again");
        let told = match call.send() {
            Ok(answer) => format!("{} {}", answer.status, answer.text()),
            Err(error) => error.to_string(),
        };
        Ok(body.write_all(told.as_bytes())?)
    }
}

stile_sdk::export!(Ready: request, request_stream);
