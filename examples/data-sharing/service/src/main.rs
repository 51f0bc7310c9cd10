//! `data-sharing users|orders ID [WEIGHT]`: one service, until Ctrl-C. Where the gateway is comes from the environment.

use std::{env, process::ExitCode};

use anyhow::{Context, Result};
use data_sharing::{Gateway, Kind, Service, run};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match started().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            #[expect(clippy::print_stderr, reason = "it is a command")]
            {
                eprintln!("data-sharing: {error:#}");
            }
            ExitCode::FAILURE
        }
    }
}

async fn started() -> Result<()> {
    let mut arguments = env::args().skip(1);
    let usage = "data-sharing users|orders ID [WEIGHT]";
    let kind = match arguments.next().as_deref() {
        Some("users") => Kind::Users,
        Some("orders") => Kind::Orders,
        _ => anyhow::bail!(usage),
    };
    let id = arguments.next().context(usage)?;
    let weight = arguments.next().map_or(Ok(1), |weight| weight.parse()).context(usage)?;
    let admin = env::var("STILE_ADMIN").unwrap_or_else(|_| "http://127.0.0.1:9090".to_owned());
    let calls = env::var("STILE_CALLS").unwrap_or_else(|_| "http://127.0.0.1:8081".to_owned());
    let token = env::var("STILE_TOKEN").context("STILE_TOKEN is not set")?;
    run(Service::start(kind, &id, weight, Gateway::new(&admin, &calls, &token)).await?).await
}
