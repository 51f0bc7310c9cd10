//! Counts what it is told of the ends of exchanges, and its ticks.

use stile_sdk::{key_value, metrics, prelude::*};

#[derive(Deserialize)]
struct Witness {
    /// What its ticks do.
    #[serde(default)]
    tick: Option<String>,
}

impl RequestFilter for Witness {
    fn on_request(&self, request: &mut Request) -> Result<Verdict> {
        request.keep(&"kept")?;
        if request.header("x-refuse").is_some() {
            return Ok(Reply::text(403, "no").into());
        }
        Ok(Verdict::Proceed)
    }
}

impl ExchangeLog for Witness {
    fn on_log(&self, request: &Request, response: &Response, summary: &Summary) -> Result<()> {
        let Summary { status, route, service, endpoint, received, sent, answered, duration, blame, cause } = summary;
        let told = format!(
            "{} {} {status} {route:?} {service:?} {} {received} {sent} {} {} {blame:?} {cause:?} {:?} {:?}",
            request.method(),
            request.path(),
            endpoint.is_some(),
            answered.is_some(),
            *duration >= answered.unwrap_or(0),
            response.kept::<String>()?,
            response.header("x-seen").map(|value| value.to_string()),
        );
        let id = request.header("x-id").map(|value| value.to_string()).unwrap_or_default();
        metrics::add("told", &[("id", &id)], 1)?;
        log::info!("told {id} {told}");
        key_value::set(&id, told, None)?;
        if request.header("x-trap").is_some() {
            std::process::abort();
        }
        Ok(())
    }
}

impl Tick for Witness {
    fn on_tick(&self) -> Result<()> {
        metrics::add("ticks", &[], 1)?;
        match self.tick.as_deref() {
            Some("loop") => loop {
                std::hint::black_box(0);
            },
            Some("remember") => {
                let _ = key_value::set("much", vec![0; 2048], None);
                Ok(())
            }
            Some("fail") => Err(Error::new("it fails at a tick, as it was told")),
            _ => Ok(()),
        }
    }
}

/// Tells what it was told of an exchange.
impl Router for Witness {
    fn route(&self, request: &mut Request, _: Option<Vec<u8>>) -> Result<Destination> {
        match request.header("x-ask").and_then(|id| key_value::get(&id.to_string())) {
            Some(told) => Ok(Reply::new(200).body(told).into()),
            None => Ok(Destination::Matched),
        }
    }
}

stile_sdk::export!(Witness: request, route, log, tick);
