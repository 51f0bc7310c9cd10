//! Does harm: what the configuration says, or the header `x-do` of a request, where it says.

use std::hint::black_box;

use stile_sdk::prelude::*;

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Config {
    configure: Option<Harm>,
    request: Option<Harm>,
    response: Option<Harm>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Harm {
    Loop,
    Grow,
    Recurse,
    Panic,
    Trap,
    Error,
    /// An error of 2 MB.
    Shout,
    /// An error that would be three lines of a log.
    Forge,
    /// 800 log lines.
    Chatter,
    /// A reply larger than one call may copy.
    Flood,
}

struct Hostile {
    request: Option<Harm>,
    response: Option<Harm>,
}

impl Plugin for Hostile {
    type Config = Config;

    fn configure(config: Config) -> Result<Self> {
        if let Some(harm) = config.configure {
            let _ = harm.done()?;
        }
        Ok(Self { request: config.request, response: config.response })
    }
}

impl RequestFilter for Hostile {
    fn on_request(&self, request: &mut Request) -> Result<Verdict> {
        request.set_header("x-hostile", "was here")?;
        let asked = request.header("x-do").and_then(|value| Harm::named(value.as_str()?));
        asked.or(self.request).map_or(Ok(Verdict::Proceed), Harm::done)
    }
}

impl ResponseFilter for Hostile {
    fn on_response(&self, response: &mut Response) -> Result<Verdict> {
        response.set_header("x-hostile", "was here")?;
        let asked = response.request_header("x-do-late").and_then(|value| Harm::named(value.as_str()?));
        asked.or(self.response).map_or(Ok(Verdict::Proceed), Harm::done)
    }
}

impl Harm {
    fn named(name: &str) -> Option<Self> {
        Self::deserialize(serde::de::value::StrDeserializer::<serde::de::value::Error>::new(name)).ok()
    }

    fn done(self) -> Result<Verdict> {
        match self {
            Self::Loop => loop {
                black_box(0);
            },
            Self::Grow => loop {
                black_box(Vec::<u8>::with_capacity(1 << 20)).leak();
            },
            Self::Recurse => Ok(Reply::text(200, descend(1).to_string()).into()),
            Self::Panic => panic!("as it was told"),
            Self::Trap => std::process::abort(),
            Self::Error => Err(Error::new("an error of its own")),
            Self::Shout => Err(Error::new("é".repeat(1_000_000))),
            Self::Forge => Err(Error::new("one\r\ntwo\0\nthree")),
            Self::Chatter => {
                (0..800).for_each(|n| log::info!("line {n}\nof many"));
                Ok(Verdict::Proceed)
            }
            Self::Flood => Ok(Reply::new(200).body(vec![b'x'; 4 << 20]).into()),
        }
    }
}

/// The value of the callee is used after the call, so that each call takes a frame of its own.
#[expect(unconditional_recursion, reason = "that is the harm")]
fn descend(depth: u64) -> u64 {
    black_box(descend(black_box(depth + 1))) + depth
}

stile_sdk::export!(Hostile: request, response);
