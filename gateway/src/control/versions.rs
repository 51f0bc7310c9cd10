//! Versions of APIs one by one: a change of one is a change of its API, made over what that is at the time.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{
    Control,
    resources::{Condition, Outcome, ResourceError, Wish},
};
use crate::config::{
    layers::Origin,
    resource::{Kind, Stored},
};

/// Tries to change a version while others change its API.
const TRIES: usize = 16;

impl Control {
    /// Makes, changes or deletes a version; an API that is not there comes with its first one. `new` is in the form of the file and
    /// need not say its name.
    pub async fn change_version(
        self: &Arc<Self>,
        api: &str,
        version: &str,
        new: Option<Value>,
        by: Arc<str>,
    ) -> Result<Outcome, ResourceError> {
        let unknown = || ResourceError::UnknownVersion(api.to_owned(), version.to_owned());
        let mut tries = TRIES;
        loop {
            let view = self.view();
            let (mut whole, condition) = match view.layers.origin(Kind::Api, api) {
                Some(Origin::Store(kept)) => (kept.stored.value.clone(), Condition::At(vec![kept.revision])),
                // What is wrong with that is told by the change.
                Some(Origin::File) => (json!({}), Condition::Any),
                None if new.is_none() => return Err(unknown()),
                None => (json!({}), Condition::Absent),
            };
            let mut versions = whole["versions"].as_array().cloned().unwrap_or_default();
            let place = versions.iter().position(|it| it["name"] == version);
            match (place, &new) {
                (Some(place), Some(new)) => versions[place] = new.clone(),
                (Some(place), None) => drop(versions.remove(place)),
                (None, Some(new)) => versions.push(new.clone()),
                (None, None) if !matches!(condition, Condition::Any) => return Err(unknown()),
                (None, None) => {}
            }
            whole["versions"] = versions.into();
            let stored = Stored::parse(Kind::Api, api, &whole.to_string()).map_err(ResourceError::Invalid)?;
            let wish = Wish {
                kind: Kind::Api,
                name: api.to_owned(),
                stored: Some(Arc::new(stored)),
                condition,
                by: Arc::clone(&by),
            };
            match self.change(wish).await {
                Ok(Outcome::Created(revision) | Outcome::Changed(revision)) => {
                    return Ok(match (place, &new) {
                        (_, None) => Outcome::Deleted,
                        (None, Some(_)) => Outcome::Created(revision),
                        (Some(_), Some(_)) => Outcome::Changed(revision),
                    });
                }
                Err(ResourceError::Condition(..)) if tries > 0 => tries -= 1,
                other => return other,
            }
        }
    }
}
