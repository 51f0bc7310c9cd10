//! What an unquoted scalar is, by the core schema of YAML 1.2 (§10.3.2): `yes` is a string, `012` is twelve.

use serde_json::{Number, Value};

/// A whole number that no 64 bits hold: as a float it would be rounded.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("whole numbers reach from {} to {}; put larger ones in quotes to make them strings", i64::MIN, u64::MAX)]
pub(super) struct TooLarge;

/// `1.0` and `1e3` become integers, as JSON Schema has it; infinities, which JSON does not have, stay strings.
///
/// # Errors
///
/// It is a whole number below -2⁶³ or above 2⁶⁴ - 1.
pub(super) fn resolve(text: &str) -> Result<Value, TooLarge> {
    Ok(match text {
        "" | "~" | "null" | "Null" | "NULL" => Value::Null,
        "true" | "True" | "TRUE" => true.into(),
        "false" | "False" | "FALSE" => false.into(),
        _ if is_too_large(text) => return Err(TooLarge),
        _ => number(text).map_or_else(|| text.into(), Value::Number),
    })
}

fn is_too_large(text: &str) -> bool {
    if let Some(digits) = text.strip_prefix("0o") {
        return is_whole(digits, 8) && u64::from_str_radix(digits, 8).is_err();
    }
    if let Some(digits) = text.strip_prefix("0x") {
        return is_whole(digits, 16) && u64::from_str_radix(digits, 16).is_err();
    }
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    let is_negative = text.starts_with('-');
    is_whole(digits, 10) && if is_negative { text.parse::<i64>().is_err() } else { digits.parse::<u64>().is_err() }
}

fn is_whole(digits: &str, radix: u32) -> bool {
    !digits.is_empty() && digits.chars().all(|digit| digit.is_digit(radix))
}

fn number(text: &str) -> Option<Number> {
    if let Some(digits) = text.strip_prefix("0o") {
        return radix(digits, 8);
    }
    if let Some(digits) = text.strip_prefix("0x") {
        return radix(digits, 16);
    }
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    if !unsigned.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        return None;
    }
    let text = text.strip_prefix('+').unwrap_or(text);
    let whole = text.parse::<u64>().map(Number::from).or_else(|_| text.parse::<i64>().map(Number::from));
    whole.ok().or_else(|| float(text.parse().ok()?))
}

fn float(float: f64) -> Option<Number> {
    // Up to here every whole number is a float of its own.
    const EXACT: f64 = (1_u64 << f64::MANTISSA_DIGITS) as f64;
    let whole = float.fract() == 0.0 && float.abs() <= EXACT;
    if whole { Some((float as i64).into()) } else { Number::from_f64(float) }
}

fn radix(digits: &str, radix: u32) -> Option<Number> {
    is_whole(digits, radix).then(|| u64::from_str_radix(digits, radix).ok().map(Number::from)).flatten()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn follows_the_core_schema() {
        for (text, expected) in [
            ("", Value::Null),
            ("~", Value::Null),
            ("True", json!(true)),
            ("12", json!(12)),
            ("012", json!(12)),
            ("-0x1", json!("-0x1")),
            ("0x1F", json!(31)),
            ("0o17", json!(15)),
            ("+3", json!(3)),
            ("18446744073709551615", json!(u64::MAX)),
            ("-5", json!(-5)),
            ("1.", json!(1)),
            ("-.5e1", json!(-5)),
            ("1.25", json!(1.25)),
            ("1e30", json!(1e30)),
            ("-9223372036854775808", json!(i64::MIN)),
            ("0xFFFFFFFFFFFFFFFF", json!(u64::MAX)),
            ("18446744073709551616.0", json!(18446744073709551616.0)),
        ] {
            assert_eq!(resolve(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn refuses_whole_numbers_that_would_be_rounded() {
        for text in [
            "18446744073709551616",
            "+18446744073709551616",
            "-9223372036854775809",
            "0x10000000000000000",
            "0o2000000000000000000000",
            "100000000000000000000000000000000000000",
        ] {
            assert_eq!(resolve(text), Err(TooLarge), "{text}");
        }
    }

    #[test]
    fn leaves_everything_else_a_string() {
        for text in [
            "yes",
            "No",
            "on",
            "off",
            "y",
            "tRUE",
            "nULL",
            "0x",
            "0x-1",
            "0o8",
            "+-1",
            "--1",
            "1_000",
            "1:30",
            ".",
            "e5",
            "1e",
            "inf",
            "nan",
            ".inf",
            ".NaN",
            "1e999",
            "-",
            "+",
            "0b1",
            "2026-01-01",
        ] {
            assert_eq!(resolve(text), Ok(json!(text)));
        }
    }
}
