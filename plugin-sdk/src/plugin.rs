//! A plugin as a value: how one is made from its configuration.

use serde::de::DeserializeOwned;

use crate::{Error, Result};

/// A plugin: a value made once per instance from the filter's `config`, and used for many exchanges.
///
/// A type that derives `Deserialize` IS its own configuration and needs nothing more. Use
/// `#[serde(deny_unknown_fields)]`, so that a misspelt key is refused instead of ignored.
///
/// ```
/// use stile_sdk::prelude::*;
///
/// #[derive(Deserialize)]
/// #[serde(deny_unknown_fields)]
/// struct Greet {
///     greeting: HeaderValue,
/// }
///
/// impl ResponseFilter for Greet {
///     fn on_response(&self, response: &mut Response) -> Result<Verdict> {
///         response.set_header("x-greeting", &self.greeting)?;
///         Ok(Verdict::Proceed)
///     }
/// }
/// ```
///
/// A plugin that is not what its configuration says, but is made from it, implements the trait instead, and does not derive
/// `Deserialize`:
///
/// ```
/// use std::net::IpAddr;
/// use stile_sdk::prelude::*;
///
/// #[derive(Deserialize)]
/// #[serde(deny_unknown_fields)]
/// struct Config {
///     networks: Vec<String>,
/// }
///
/// struct Deny {
///     addresses: Vec<IpAddr>,
/// }
///
/// impl Plugin for Deny {
///     type Config = Config;
///
///     fn configure(config: Config) -> Result<Self> {
///         let addresses = config.networks.iter().map(|text| text.parse()).collect::<Result<_, _>>()?;
///         Ok(Self { addresses })
///     }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be made from a configuration",
    note = "derive `Deserialize` for it, or implement `Plugin` with a `Config` that does"
)]
pub trait Plugin: Sized + 'static {
    /// What the filter's `config` holds.
    type Config: DeserializeOwned;

    /// Makes the plugin; the text of an error is shown to who wrote the configuration.
    ///
    /// Work that is needed once, such as compiling regular expressions, belongs here: it has the whole of `limits.timeout` for
    /// each instance, while a phase has `limits.deadline`. An instance whose first call is over that ends, and the next one
    /// begins the same work anew.
    fn configure(config: Self::Config) -> Result<Self>;
}

/// The compiler shows this line, with the name of its parameter, where a type derives `Deserialize` and implements [`Plugin`].
impl<EitherDeriveDeserializeOrImplementPlugin> Plugin for EitherDeriveDeserializeOrImplementPlugin
where
    EitherDeriveDeserializeOrImplementPlugin: DeserializeOwned + 'static,
{
    type Config = Self;

    fn configure(config: Self) -> Result<Self> {
        Ok(config)
    }
}

/// Makes the plugin from the JSON text that the host hands over: `null` where the filter has no `config`,
/// which is read as an empty one by a plugin whose configuration has keys.
pub(crate) fn from_json<P: Plugin>(json: &str) -> Result<P> {
    let config = match serde_json::from_str(json) {
        Err(_) if json == "null" => serde_json::from_str("{}"),
        read => read,
    };
    P::configure(config.map_err(without_position)?)
}

/// Positions are those of the JSON text, which nobody wrote or sees.
fn without_position(error: serde_json::Error) -> Error {
    let text = error.to_string();
    let position = format!(" at line {} column {}", error.line(), error.column());
    Error::new(text.strip_suffix(&position).unwrap_or(&text))
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Port {
        port: u16,
    }

    #[derive(Debug, PartialEq, Default, Deserialize)]
    #[serde(default)]
    struct Lax {
        port: Option<u16>,
    }

    #[derive(Debug, PartialEq, Deserialize)]
    struct Unit;

    fn refusal(json: &str) -> String {
        from_json::<Port>(json).unwrap_err().to_string()
    }

    #[test]
    fn no_configuration_is_an_empty_one() {
        assert_eq!(from_json("null"), Ok(Unit));
        assert_eq!(from_json("null"), Ok(Lax { port: None }));
        assert_eq!(refusal("null"), "missing field `port`");
    }

    #[test]
    fn a_refusal_says_what_and_no_position() {
        assert_eq!(from_json(r#"{"port":1}"#), Ok(Port { port: 1 }));
        assert_eq!(refusal(r#"{"port":1,"prot":2}"#), "unknown field `prot`, expected `port`");
        assert_eq!(refusal(r#"{"port":70000}"#), "invalid value: integer `70000`, expected u16");
    }
}
