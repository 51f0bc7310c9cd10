//! Waiting for a condition, with an end.

use std::time::Duration;

use tokio::time::{sleep, timeout};

/// Longer than anything here takes on a busy machine, where a command may build a plugin.
pub const SOON: Duration = Duration::from_secs(120);

/// How often a condition is asked for that cannot be waited for.
const PAUSE: Duration = Duration::from_millis(2);

/// Asks until there is an answer, and panics with `what` if there is none soon.
pub async fn until<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let asking = async {
        loop {
            if let Some(answer) = ask().await {
                return answer;
            }
            sleep(PAUSE).await;
        }
    };
    timeout(SOON, asking).await.unwrap_or_else(|_| panic!("waited in vain until {what}"))
}

/// Waits for something that must come soon, and panics with `what` if it does not.
pub async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    timeout(SOON, future).await.unwrap_or_else(|_| panic!("waited in vain: {what}"))
}
