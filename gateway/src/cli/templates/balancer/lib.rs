//! Chooses the endpoint with the fewest exchanges under way for its weight.

use std::cmp::Reverse;

use stile_sdk::prelude::*;

/// The balancer's `config`, checked when it is loaded.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LeastBusy {
    /// Exchanges of one endpoint beyond which others are tried, whatever the weights.
    most: u32,
}

impl Balancer for LeastBusy {
    fn choose(&self, _request: &Request, candidates: &[Candidate]) -> Result<usize> {
        let load = |(_, candidate): &(usize, &Candidate)| {
            let each = u64::from(candidate.in_flight) * 1000 / u64::from(candidate.weight.max(1));
            (candidate.in_flight >= self.most, each, Reverse(candidate.weight))
        };
        let least = candidates.iter().enumerate().min_by_key(load);
        least.map(|(index, _)| index).ok_or_else(|| Error::new("there is no endpoint"))
    }
}

stile_sdk::export!(LeastBusy: balance);

#[cfg(test)]
mod tests {
    use stile_sdk::testing::{self, json};

    use super::*;

    fn chosen(candidates: &[(u16, u32)]) -> Result<usize> {
        let candidate = |(weight, in_flight): &(u16, u32)| Candidate {
            address: "127.0.0.1:7001".to_owned(),
            weight: *weight,
            in_flight: *in_flight,
            latency: None,
        };
        let candidates: Vec<_> = candidates.iter().map(candidate).collect();
        testing::filter::<LeastBusy>(json!({ "most": 100 }))?.choose(testing::request("GET", "/"), &candidates)
    }

    #[test]
    fn chooses_the_least_busy_for_its_weight() -> Result<()> {
        assert_eq!(chosen(&[(1, 1), (1, 0)])?, 1);
        assert_eq!(chosen(&[(1, 2), (4, 4)])?, 1);
        Ok(())
    }

    #[test]
    fn passes_over_those_that_are_full() -> Result<()> {
        assert_eq!(chosen(&[(1, 90), (9, 100)])?, 0);
        Ok(())
    }
}
