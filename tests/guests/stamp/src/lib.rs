//! Stamps both heads with who it is: the mark in its module, which tests overwrite in the built file to make any
//! number of revisions from one build, and the mark in its configuration.

use std::hint::black_box;

use stile_sdk::prelude::*;

/// Long, so that it stays one piece of data in the module.
static MARK: [u8; 65] = *b"stile-mark:00000000:the-module-has-to-have-this-text-in-one-piece";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Stamp {
    /// The header that is stamped.
    #[serde(default = "x_stamp")]
    header: String,
    mark: String,
}

impl RequestFilter for Stamp {
    fn on_request(&self, request: &mut Request) -> Result<Verdict> {
        request.add_header(&self.header, self.text())?;
        Ok(Verdict::Proceed)
    }
}

impl ResponseFilter for Stamp {
    fn on_response(&self, response: &mut Response) -> Result<Verdict> {
        response.add_header(&self.header, self.text())?;
        Ok(Verdict::Proceed)
    }
}

impl Stamp {
    fn text(&self) -> String {
        let digits = black_box(&MARK).iter().skip(11).take(8).fold(0, |n, digit| n * 10 + u32::from(digit - b'0'));
        format!("{digits}/{}", self.mark)
    }
}

fn x_stamp() -> String {
    "x-stamp".to_owned()
}

stile_sdk::export!(Stamp: request, response);
