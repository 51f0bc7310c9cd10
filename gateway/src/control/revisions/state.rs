//! What the store keeps of a plugin as a whole, and what becomes of it: pure.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::plugin::WHOLE;

/// Which revisions run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// The last that is known to be good.
    pub active: u32,
    /// Digest of what its file or URL gave last: what is as it was does not undo a later push.
    #[serde(alias = "file_sha256")]
    pub source_sha256: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trial: Option<TrialState>,
    /// Nothing but a rollout changes what runs.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub pinned: bool,
    /// The last that was taken back by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub taken_back: Option<TakenBack>,
}

/// A revision that some exchanges get, or all of them for a time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrialState {
    pub revision: u32,
    pub percent: u8,
    /// Seconds since 1970.
    pub since: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TakenBack {
    pub revision: u32,
    pub failures: u32,
    /// Seconds since 1970.
    pub at: u64,
}

impl State {
    /// That of most exchanges.
    pub fn leading(&self) -> u32 {
        let whole = self.trial.as_ref().filter(|trial| trial.percent >= WHOLE);
        whole.map_or(self.active, |trial| trial.revision)
    }

    /// Those that run.
    pub fn running(&self) -> impl Iterator<Item = u32> {
        std::iter::once(self.active).chain(self.trial.as_ref().map(|trial| trial.revision))
    }

    /// Of a hundred exchanges, those that a revision gets.
    pub fn percent(&self, revision: u32) -> u8 {
        let trial = self.trial.as_ref().map_or(0, |trial| trial.percent);
        match &self.trial {
            Some(trial) if trial.revision == revision => trial.percent,
            _ if self.active == revision => WHOLE - trial,
            _ => 0,
        }
    }

    /// A newer revision has come: the first is live, any later one on trial, and of a plugin that is pinned nothing changes.
    pub fn with_new(before: Option<&Self>, revision: u32, percent: u8, now: u64) -> Self {
        let Some(before) = before else { return Self { active: revision, ..Self::default() } };
        let trial = match &before.trial {
            _ if before.pinned => before.trial.clone(),
            // It is only stored, or its own trial ends.
            Some(trial) if percent == 0 && trial.revision != revision => Some(trial.clone()),
            _ if revision == before.active || percent == 0 => None,
            Some(trial) if trial.revision == revision && trial.percent == percent => Some(trial.clone()),
            _ => Some(TrialState { revision, percent: percent.min(WHOLE), since: now }),
        };
        Self { trial, ..before.clone() }
    }

    /// Somebody says what runs: a whole rollout is at once what is known to be good, any less is on trial.
    pub fn rolled(before: &Self, revision: u32, percent: u8, pinned: Option<bool>, now: u64) -> Self {
        let pinned = pinned.unwrap_or(before.pinned);
        if percent >= WHOLE {
            return Self { active: revision, trial: None, pinned, ..before.clone() };
        }
        Self { pinned, ..Self::with_new(Some(&Self { pinned: false, ..before.clone() }), revision, percent, now) }
    }

    /// The trial of that revision, since then, has lasted without too many failures; nothing if there is another by now.
    pub fn settled(&self, revision: u32, since: u64) -> Option<Self> {
        let same = |trial: &&TrialState| (trial.revision, trial.since, trial.percent) == (revision, since, WHOLE);
        self.trial.as_ref().filter(same)?;
        Some(Self { active: revision, trial: None, ..self.clone() })
    }

    /// The trial has failed too often; nothing if it is over already.
    pub fn taken_back(&self, revision: u32, failures: u32, now: u64) -> Option<Self> {
        self.trial.as_ref().filter(|trial| trial.revision == revision)?;
        Some(Self { trial: None, taken_back: Some(TakenBack { revision, failures, at: now }), ..self.clone() })
    }

    /// As the audit log tells it.
    pub fn told(&self) -> Value {
        let mut told = json!({ "revision": self.leading() });
        if let Some(trial) = self.trial.as_ref().filter(|trial| trial.percent < WHOLE) {
            told["trial"] = json!({ "revision": trial.revision, "percent": trial.percent });
        }
        if self.pinned {
            told["pinned"] = true.into();
        }
        told
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trial(state: &State) -> Option<(u32, u8)> {
        state.trial.as_ref().map(|trial| (trial.revision, trial.percent))
    }

    #[test]
    fn the_first_is_live_and_later_ones_are_on_trial_until_they_have_lasted() {
        let first = State::with_new(None, 1, 10, 0);
        assert_eq!((first.active, trial(&first), first.leading()), (1, None, 1), "there is nothing to go back to");
        let second = State::with_new(Some(&first), 2, 100, 0);
        assert_eq!((second.active, trial(&second), second.leading()), (1, Some((2, 100)), 2));
        let third = State::with_new(Some(&second), 3, 100, 0);
        assert_eq!((third.active, trial(&third)), (1, Some((3, 100))), "2 has not lasted");
        assert_eq!(third.settled(2, 0), None, "that is over");
        let settled = third.settled(3, 0).expect("it is on trial");
        assert_eq!((settled.active, trial(&settled)), (3, None));
        let again = State::with_new(Some(&second), 1, 100, 0);
        assert_eq!((again.active, trial(&again)), (1, None), "the good one ends a trial");
    }

    #[test]
    fn a_share_goes_up_or_ends_and_what_fails_is_taken_back() {
        let before = State { active: 1, ..State::default() };
        let tenth = State::with_new(Some(&before), 2, 10, 5);
        assert_eq!((tenth.leading(), trial(&tenth)), (1, Some((2, 10))));
        assert_eq!(trial(&State::rolled(&tenth, 2, 50, None, 6)), Some((2, 50)));
        assert_eq!(trial(&State::rolled(&tenth, 2, 0, None, 6)), None);
        assert_eq!(trial(&State::with_new(Some(&tenth), 3, 0, 6)), Some((2, 10)), "3 is only stored");
        assert_eq!(tenth.settled(2, 5), None, "it is not for all");
        let whole = State::rolled(&tenth, 2, 100, None, 6);
        assert_eq!((whole.active, trial(&whole)), (2, None));
        let back = tenth.taken_back(2, 7, 9).expect("it is on trial");
        assert_eq!((back.active, trial(&back)), (1, None));
        assert_eq!(back.taken_back, Some(TakenBack { revision: 2, failures: 7, at: 9 }));
        assert_eq!(back.taken_back(2, 8, 9), None, "once");
        assert_eq!(tenth.taken_back(1, 7, 9), None);
    }

    #[test]
    fn what_is_pinned_changes_by_rollouts_alone() {
        let before = State { active: 1, ..State::default() };
        let pinned = State::rolled(&before, 1, 100, Some(true), 0);
        let pushed = State::with_new(Some(&pinned), 2, 100, 0);
        assert_eq!((pushed.leading(), trial(&pushed)), (1, None));
        let rolled = State::rolled(&pushed, 2, 20, None, 0);
        assert_eq!((trial(&rolled), rolled.pinned), (Some((2, 20)), true));
        let released = State::rolled(&rolled, 2, 100, Some(false), 0);
        assert_eq!((released.active, released.pinned), (2, false));
    }

    #[test]
    fn what_an_older_version_stored_is_read() {
        let old: State = serde_json::from_str(r#"{"active":3,"source_sha256":null}"#).expect("the old form");
        assert_eq!(old, State { active: 3, ..State::default() });
        assert_eq!(serde_json::to_string(&old).expect("JSON"), r#"{"active":3,"source_sha256":null}"#);
    }
}
