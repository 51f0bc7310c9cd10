//! Log lines that a condition would write many times a second: one a second, with the number of those left out. A leaf.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

const PERIOD: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
pub struct Seldom(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    next: Option<Instant>,
    left_out: u64,
}

impl Seldom {
    /// `Some` if a line may be written, with the number of lines left out since the last.
    pub fn due(&self) -> Option<u64> {
        let now = Instant::now();
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if state.next.is_some_and(|next| now < next) {
            state.left_out += 1;
            return None;
        }
        state.next = Some(now + PERIOD);
        Some(std::mem::take(&mut state.left_out))
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_line_a_second_says_how_many_were_left_out() {
        let seldom = Seldom::default();
        assert_eq!((seldom.due(), seldom.due(), seldom.due()), (Some(0), None, None));
        advance(PERIOD).await;
        assert_eq!((seldom.due(), seldom.due()), (Some(2), None));
        advance(PERIOD).await;
        assert_eq!(seldom.due(), Some(1));
    }
}
