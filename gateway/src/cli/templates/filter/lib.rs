//! Sets a header of every request, and refuses requests that bring it along.

use stile_sdk::prelude::*;

/// The filter's `config`, checked when it is loaded.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Stamp {
    header: HeaderName,
    value: HeaderValue,
}

impl RequestFilter for Stamp {
    fn on_request(&self, request: &mut Request) -> Result<Verdict> {
        if request.header(&self.header).is_some() {
            log::info!("refused {}: it brings {}", request.path(), self.header);
            return Ok(Reply::text(400, format!("{} is not yours to set", self.header)).into());
        }
        request.set_header(&self.header, &self.value)?;
        Ok(Verdict::Proceed)
    }
}

stile_sdk::export!(Stamp: request);

#[cfg(test)]
mod tests {
    use stile_sdk::testing::{self, json};

    use super::*;

    #[test]
    fn sets_the_header() -> Result<()> {
        let filter = testing::filter::<Stamp>(json!({ "header": "x-stamp", "value": "seen" }))?;
        let (verdict, request) = filter.request(testing::request("GET", "/"))?;
        assert_eq!(verdict, Verdict::Proceed);
        assert_eq!(request.header_values("x-stamp"), ["seen"]);
        Ok(())
    }

    #[test]
    fn refuses_a_request_that_brings_it() -> Result<()> {
        let filter = testing::filter::<Stamp>(json!({ "header": "x-stamp", "value": "seen" }))?;
        let request = testing::request("GET", "/").header("x-stamp", "mine");
        let (verdict, _) = filter.request(request)?;
        assert_eq!(verdict.reply().map(|reply| reply.status), Some(400));
        Ok(())
    }
}
