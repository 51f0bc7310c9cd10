//! How an endpoint is chosen: a policy by its name, or a plugin. It has no behaviour.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use super::Filter;

/// How an endpoint is chosen.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(untagged)]
pub enum Balance {
    Policy(Policy),
    /// A plugin with the phase `balance`.
    Plugin(Filter),
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Policy {
    #[default]
    RoundRobin,
    Random,
    Weighted,
}

impl Default for Balance {
    fn default() -> Self {
        Self::Policy(Policy::default())
    }
}

/// One list of forms, where two types would make two that say less.
impl JsonSchema for Balance {
    fn schema_name() -> Cow<'static, str> {
        "Balance".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "How an endpoint is chosen.",
            "oneOf": [
                { "type": "string", "const": "round-robin", "description": "In turn, exact per worker, weights ignored." },
                { "type": "string", "const": "random", "description": "By chance, weights ignored." },
                { "type": "string", "const": "weighted", "description": "In turn, as often as the weights say." },
                {
                    "type": "object",
                    "description": "By a plugin with the phase `balance`.",
                    "properties": {
                        "plugin": { "type": "string", "description": "Name of a plugin." },
                        "config": { "description": "Handed to the plugin as it is.", "default": null },
                    },
                    "required": ["plugin"],
                    "additionalProperties": false,
                },
            ],
        })
    }
}
