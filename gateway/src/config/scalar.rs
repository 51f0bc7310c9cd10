//! Times (`250ms`, `5s`, `2m`, `1h`) and sizes (`512B`, `64KiB`, `16MiB`, `1GiB`) as the configuration writes them,
//! and the formats that the JSON Schema names.

use std::{fmt, net::SocketAddr, str::FromStr, time};

use data_encoding::BASE64;
use http::Uri;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A span of time, whole milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Duration(pub time::Duration);

/// A moment, in seconds since 1970; written as RFC 3339 in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timestamp(pub u64);

/// A number of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

/// An IP address and a port, such as `127.0.0.1:8080` or `[::1]:8080`.
// Stands for a `SocketAddr` in the schema, by `#[schemars(with = "Address")]`.
#[derive(Debug, JsonSchema)]
#[schemars(extend("format" = "stile-address"))]
pub struct Address(#[expect(dead_code, reason = "stands for a schema, never made")] String);

/// What can be fetched, such as `https://example.com/plugins/users.wasm`.
#[derive(Debug, JsonSchema)]
#[schemars(extend("format" = "stile-url"))]
pub struct Url(#[expect(dead_code, reason = "stands for a schema, never made")] String);

/// A SHA-256 digest, 64 hexadecimal digits in lower case.
#[derive(Debug, JsonSchema)]
#[schemars(extend("format" = "stile-sha256"))]
pub struct Sha256(#[expect(dead_code, reason = "stands for a schema, never made")] String);

/// An Ed25519 key, 32 bytes in base64.
#[derive(Debug, JsonSchema)]
#[schemars(extend("format" = "stile-public-key"))]
pub struct PublicKey(#[expect(dead_code, reason = "stands for a schema, never made")] String);

/// A `format` of the JSON Schema.
#[derive(Debug)]
pub struct Format {
    pub name: &'static str,
    /// Completes "expected …".
    pub means: &'static str,
    /// Some text of this format.
    pub sample: &'static str,
    pub holds: fn(&str) -> bool,
}

pub const FORMATS: [Format; 7] = [
    Format {
        name: "stile-time",
        means: "a time such as 250ms, 5s, 2m or 1h",
        sample: "0ms",
        holds: |text| text.parse::<Duration>().is_ok(),
    },
    Format {
        name: "stile-size",
        means: "a size such as 512B, 64KiB, 16MiB or 1GiB",
        sample: "0B",
        holds: |text| text.parse::<Size>().is_ok(),
    },
    Format {
        name: "stile-address",
        means: "an address and port such as 127.0.0.1:8080 or [::1]:8080",
        sample: "127.0.0.1:0",
        holds: |text| text.parse::<SocketAddr>().is_ok(),
    },
    Format {
        name: "stile-timestamp",
        means: "a time such as 2030-01-01T00:00:00Z",
        sample: "2030-01-01T00:00:00Z",
        holds: |text| text.parse::<Timestamp>().is_ok(),
    },
    Format {
        name: "stile-url",
        means: "a URL such as https://example.com/path",
        sample: "http://localhost/",
        holds: is_url,
    },
    Format {
        name: "stile-sha256",
        means: "a SHA-256 digest, 64 hexadecimal digits in lower case",
        sample: "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        holds: |text| text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')),
    },
    Format {
        name: "stile-public-key",
        means: "an Ed25519 key, 32 bytes in base64",
        sample: "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
        holds: |text| BASE64.decode(text.as_bytes()).is_ok_and(|key| key.len() == 32),
    },
];

impl Duration {
    pub const fn from_millis(millis: u64) -> Self {
        Self(time::Duration::from_millis(millis))
    }

    pub const fn from_secs(secs: u64) -> Self {
        Self(time::Duration::from_secs(secs))
    }
}

impl Size {
    pub const fn kib(n: u64) -> Self {
        Self(n << 10)
    }

    pub const fn mib(n: u64) -> Self {
        Self(n << 20)
    }
}

impl FromStr for Timestamp {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let time = humantime::parse_rfc3339(text)
            .map_err(|_| format!("expected a time such as 2030-01-01T00:00:00Z, found {text}"))?;
        let since = time.duration_since(time::SystemTime::UNIX_EPOCH);
        since.map(|since| Self(since.as_secs())).map_err(|_| "a time before 1970".to_owned())
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        humantime::format_rfc3339_seconds(time::SystemTime::UNIX_EPOCH + time::Duration::from_secs(self.0)).fmt(f)
    }
}

const TIMES: [(&str, u64); 4] = [("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000)];
const SIZES: [(&str, u64); 4] = [("B", 1), ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)];

impl FromStr for Duration {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        scaled(text, &TIMES)
            .map(Self::from_millis)
            .ok_or_else(|| format!("\"{text}\" is not a time such as 250ms, 5s, 2m or 1h"))
    }
}

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        scaled(text, &SIZES)
            .map(Self)
            .ok_or_else(|| format!("\"{text}\" is not a size such as 512B, 64KiB, 16MiB or 1GiB"))
    }
}

impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX);
        display(millis, &TIMES, f)
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        display(self.0, &SIZES, f)
    }
}

/// Reads digits followed by one of the units, without a space between.
fn scaled(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let end = text.find(|c: char| !c.is_ascii_digit())?;
    let (_, scale) = units.iter().find(|(unit, _)| *unit == &text[end..])?;
    text[..end].parse::<u64>().ok()?.checked_mul(*scale)
}

fn display(n: u64, units: &[(&str, u64)], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let exact = units.iter().rev().find(|(_, scale)| n.is_multiple_of(*scale) && n > 0);
    let (unit, scale) = exact.unwrap_or(&units[0]);
    write!(f, "{}{unit}", n / scale)
}

/// No name and password belong into what is shown everywhere.
fn is_url(text: &str) -> bool {
    let Ok(uri) = text.parse::<Uri>() else { return false };
    let plain = uri.authority().is_some_and(|host| !host.as_str().contains('@') && !host.host().is_empty());
    plain && matches!(uri.scheme_str(), Some("http" | "https"))
}

pub const NAME: &str = "a name has 1 to 64 letters, digits, \".\", \"_\" or \"-\"";

/// Names of resources stand in metrics, store keys and Admin API paths.
pub fn is_name(name: &str) -> bool {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    (1..=64).contains(&name.len()) && name.bytes().all(legal)
}

pub const SCOPE: &str = "a scope has 1 to 128 bytes and no blank";

/// What versions of APIs ask for and grants have.
pub fn is_scope(scope: &str) -> bool {
    (1..=128).contains(&scope.len()) && !scope.contains(char::is_whitespace)
}

macro_rules! as_text {
    ($type:ident, $format:literal, $pattern:literal, $means:literal) => {
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
            }
        }

        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl JsonSchema for $type {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($type).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", "format": $format, "pattern": $pattern, "description": $means })
            }
        }
    };
}

as_text!(Duration, "stile-time", "^[0-9]+(ms|s|m|h)$", "A time, such as `250ms`, `5s`, `2m` or `1h`.");
as_text!(
    Timestamp,
    "stile-timestamp",
    "^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\\.[0-9]+)?Z$",
    "A time in UTC, such as `2030-01-01T00:00:00Z`."
);
as_text!(Size, "stile-size", "^[0-9]+(B|KiB|MiB|GiB)$", "A size, such as `512B`, `64KiB`, `16MiB` or `1GiB`.");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_writes_its_own_form() {
        for text in ["250ms", "5s", "2m", "1h", "0ms"] {
            assert_eq!(text.parse::<Duration>().expect(text).to_string(), text);
        }
        for text in ["512B", "64KiB", "16MiB", "1GiB"] {
            assert_eq!(text.parse::<Size>().expect(text).to_string(), text);
        }
        for text in ["2030-01-01T00:00:00Z", "1970-01-01T00:00:00Z"] {
            assert_eq!(text.parse::<Timestamp>().expect(text).to_string(), text);
        }
        assert_eq!("1500ms".parse::<Duration>().expect("time").to_string(), "1500ms");
    }

    #[test]
    fn refuses_what_has_no_unit_or_does_not_fit() {
        for text in ["", "5", "s", "5 s", "-1s", "1.5s", "99999999999999999999s", "18446744073709551615h", "5MiB"] {
            assert!(text.parse::<Duration>().is_err(), "{text}");
        }
        for text in ["", "2030-01-01", "2030-13-01T00:00:00Z", "1960-01-01T00:00:00Z", "2030-01-01T00:00:00+01:00"] {
            assert!(text.parse::<Timestamp>().is_err(), "{text}");
        }
        for text in ["", "16", "16MB", "16 MiB", "18446744073709551615GiB"] {
            assert!(text.parse::<Size>().is_err(), "{text}");
        }
    }
}
