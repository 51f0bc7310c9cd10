//! JSON in which no object has a name twice: of two, one reader takes the first and another the last (RFC 8259 §4), and a check of
//! one would say nothing of the other.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// The value of a text.
///
/// # Errors
///
/// It is no JSON, or some object has a name twice.
pub fn read(bytes: &[u8]) -> Result<Value, serde_json::Error> {
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let value = Unambiguous.deserialize(&mut reader)?;
    reader.end()?;
    Ok(value)
}

/// The value of a text that is stored, and so must be what was sent.
///
/// # Errors
///
/// Those of [`read`], or a whole number needs more than 64 bits and would be rounded.
pub fn read_to_store(bytes: &[u8]) -> Result<Value, serde_json::Error> {
    let value = read(bytes)?;
    match beyond_64_bits(bytes) {
        Some(number) => Err(Error::custom(format!(
            "{number} is too large: whole numbers reach from {} to {}; put larger ones in quotes to make them strings",
            i64::MIN,
            u64::MAX
        ))),
        None => Ok(value),
    }
}

/// The beginning of the first whole number of a JSON text that 64 bits cannot hold.
fn beyond_64_bits(mut text: &[u8]) -> Option<String> {
    while let [first, rest @ ..] = text {
        text = match first {
            b'"' => behind_string(rest),
            b'-' | b'0'..=b'9' => {
                let is_of_number = |byte: &u8| byte.is_ascii_digit() || b"+-.eE".contains(byte);
                let (number, behind) = text.split_at(text.iter().take_while(|byte| is_of_number(byte)).count());
                let number = String::from_utf8_lossy(number);
                let is_whole = !number.contains(['.', 'e', 'E']);
                if is_whole && number.parse::<i64>().is_err() && number.parse::<u64>().is_err() {
                    return Some(number.chars().take(64).collect());
                }
                behind
            }
            _ => rest,
        };
    }
    None
}

/// Returns the text behind a string whose first quote is taken off.
fn behind_string(mut text: &[u8]) -> &[u8] {
    loop {
        text = match text {
            [b'"', rest @ ..] => return rest,
            [b'\\', _, rest @ ..] | [_, rest @ ..] => rest,
            [] => return text,
        };
    }
}

struct Unambiguous;

impl<'de> DeserializeSeed<'de> for Unambiguous {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Unambiguous {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut parts: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(part) = parts.next_element_seed(Self)? {
            list.push(part);
        }
        Ok(list.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut parts: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(name) = parts.next_key::<String>()? {
            if object.contains_key(&name) {
                let shown: String = name.chars().take(64).collect();
                return Err(A::Error::custom(format!("\"{}\" is there more than once", shown.escape_debug())));
            }
            object.insert(name, parts.next_value_seed(Self)?);
        }
        Ok(object.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_whole_number_beyond_64_bits_is_refused() {
        for number in ["18446744073709551616", "-9223372036854775809", "99999999999999999999"] {
            let text = format!(r#"{{"a\"1":"{number}\\","n":[1,{number}]}}"#);
            let error = read_to_store(text.as_bytes()).expect_err("it would be rounded").to_string();
            assert!(error.starts_with(&format!("{number} is too large: ")), "{error}");
        }
        for number in ["18446744073709551615", "-9223372036854775808", "1e20", "-0", "99999999999999999999.5"] {
            let text = format!(r#"{{"99999999999999999999":"99999999999999999999","n":{number}}}"#);
            let value = read_to_store(text.as_bytes()).unwrap_or_else(|error| panic!("{number}: {error}"));
            assert!(value["n"].is_number(), "{number}");
        }
    }
}
