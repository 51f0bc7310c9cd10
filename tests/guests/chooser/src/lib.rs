//! Chooses the endpoint that the header `x-endpoint` of a request says.

use stile_sdk::prelude::*;

#[derive(Deserialize)]
struct Chooser {}

impl Balancer for Chooser {
    fn choose(&self, request: &Request, candidates: &[Candidate]) -> Result<usize> {
        let wanted = request.header("x-endpoint").map(|value| value.to_string()).unwrap_or_default();
        let least = |key: fn(&Candidate) -> u64| {
            let numbers = candidates.iter().enumerate();
            numbers.min_by_key(|(_, candidate)| key(candidate)).map_or(0, |(number, _)| number)
        };
        match wanted.as_str() {
            "idle" => Ok(least(|candidate| candidate.in_flight.into())),
            "fast" => Ok(least(|candidate| candidate.latency.map_or(0, u64::from))),
            "heavy" => Ok(least(|candidate| u64::MAX - u64::from(candidate.weight))),
            "fail" => Err(Error::new("it cannot choose, as it was told")),
            "beyond" => Ok(candidates.len()),
            "trap" => std::process::abort(),
            address => Ok(candidates.iter().position(|candidate| candidate.address == address).unwrap_or(0)),
        }
    }
}

stile_sdk::export!(Chooser: balance);
