//! Rules for the edits that a plugin makes in heads and replies. The gateway includes this file, and native tests use it, so that
//! both refuse the same edits in the same words.

#[cfg(not(target_arch = "wasm32"))]
use std::borrow::Cow;
use std::fmt;

#[cfg(not(target_arch = "wasm32"))]
use super::path::{PathError, normalize};

/// Bytes that one filter keeps of an exchange.
pub const MAX_KEPT: usize = 4096;
/// Bytes of a path with its query.
pub const MAX_TARGET: usize = 16 << 10;
/// Edits of heads that one call may make.
pub const MAX_EDITS: usize = 256;
/// Bytes that one call may write into heads.
pub const MAX_WRITTEN: usize = 64 << 10;
/// Characters that a message quotes of a refused text.
const MAX_QUOTED: usize = 100;

/// Why an edit is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refused {
    /// It is not what its place takes; says why.
    Invalid(String),
    /// The field of this name is the gateway's to write.
    Forbidden(String),
    /// It is over a bound, which this names.
    Limit(&'static str),
}

/// How many edits of heads one call has made, and how many bytes these wrote.
#[derive(Clone, Debug, Default)]
pub struct EditCount {
    edits: usize,
    bytes: usize,
}

impl EditCount {
    /// Refuses an edit of this many bytes if there is no room for it. Asked before anything looks at each of the bytes.
    pub fn check(&self, bytes: usize) -> Result<(), Refused> {
        if self.edits >= MAX_EDITS {
            return Err(Refused::Limit("256 edits by one call"));
        }
        if self.bytes.saturating_add(bytes) > MAX_WRITTEN {
            return Err(Refused::Limit("64 KiB written by one call"));
        }
        Ok(())
    }

    /// Counts an edit, or refuses it.
    pub fn add(&mut self, bytes: usize) -> Result<(), Refused> {
        self.check(bytes)?;
        self.edits += 1;
        self.bytes += bytes;
        Ok(())
    }
}

/// Says whether a field is the gateway's alone: framing and hop-by-hop fields (RFC 9110 §7.6.1, RFC 9112 §6), and `host`, which
/// follows the route. `name` is in lower case.
pub fn is_reserved(name: &str) -> bool {
    matches!(
        name,
        "connection"
            | "content-length"
            | "expect"
            | "host"
            | "keep-alive"
            | "proxy-authenticate"
            | "proxy-connection"
            | "te"
            | "transfer-encoding"
            | "upgrade"
    )
}

/// RFC 9110 §5.6.2.
pub fn is_token(text: &str) -> bool {
    let is_tchar = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(is_tchar)
}

/// RFC 9110 §5.5: field-value, with obs-text.
pub fn is_field_value(value: &[u8]) -> bool {
    value.iter().all(|&byte| byte == b'\t' || !byte.is_ascii_control())
}

/// The refusal of a text that is no name of a field.
pub fn not_a_field_name(name: &str) -> Refused {
    Refused::Invalid(format!("{} is not a field name", quoted(name)))
}

/// The refusal of a value, whose field has this name.
pub fn not_a_field_value(name: &str) -> Refused {
    Refused::Invalid(format!("the value of {} has a character that no field may have", quoted(name)))
}

/// Any method but CONNECT, which asks for a tunnel (RFC 9110 §9.3.6).
pub fn method(text: &str) -> Result<(), Refused> {
    match text {
        "CONNECT" => Err(Refused::Invalid("a plugin cannot make it a CONNECT".to_owned())),
        _ if is_token(text) => Ok(()),
        _ => Err(Refused::Invalid(format!("{} is not a method", quoted(text)))),
    }
}

/// A status that ends an exchange: 1xx and 101 are the gateway's own.
pub fn status(status: u16) -> Result<(), Refused> {
    match status {
        200..=599 => Ok(()),
        _ => Err(Refused::Invalid(format!("{status} is not a status from 200 to 599"))),
    }
}

/// A path in its one form, without a query.
#[cfg(not(target_arch = "wasm32"))]
pub fn path(text: &str) -> Result<Cow<'_, str>, Refused> {
    if let Some(found) = text.chars().find(|character| matches!(character, '?' | '#')) {
        let query = if found == '?' { "; a query is set by itself" } else { "" };
        return Err(Refused::Invalid(format!("the path has a \"{found}\", which only its encoded form may be{query}")));
    }
    // The normal form of "*", which asks about a server as a whole, is "*": OPTIONS alone may have it (RFC 9112 §3.2.4).
    if text == "*" {
        return Err(Refused::Invalid(PathError::NotAbsolute.to_string()));
    }
    let normal = normalize(text).map_err(|error| Refused::Invalid(error.to_string()))?;
    if normal.encoded_slash {
        return Err(Refused::Invalid("the path has an encoded slash, backslash or NUL".to_owned()));
    }
    Ok(normal.path)
}

/// A query as it is sent: what the URL standard's query set has must come encoded.
pub fn query(text: &str) -> Result<(), Refused> {
    let must_be_encoded = |byte: u8| !byte.is_ascii_graphic() || b"\"#<>".contains(&byte);
    if text.bytes().any(must_be_encoded) {
        return Err(Refused::Invalid(format!(
            "{} is not a query: encode spaces, \", #, <, > and all that is not printable ASCII",
            quoted(text)
        )));
    }
    Ok(())
}

/// A path and its query together.
pub fn target(path: &str, query: Option<&str>) -> Result<(), Refused> {
    let bytes = path.len() + query.map_or(0, |query| query.len() + 1);
    if bytes > MAX_TARGET { Err(Refused::Limit("16384 bytes of a path and query")) } else { Ok(()) }
}

/// What a filter keeps for its later phases.
pub fn kept(state: &[u8]) -> Result<(), Refused> {
    if state.len() > MAX_KEPT { Err(Refused::Limit("4096 bytes of kept state")) } else { Ok(()) }
}

/// A text in quotes, escaped and shortened.
fn quoted(text: &str) -> String {
    let shown: String = text.chars().take(MAX_QUOTED).collect();
    let rest = if shown.len() < text.len() { "…" } else { "" };
    format!("\"{}{rest}\"", shown.escape_debug())
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invalid(text) => f.write_str(text),
            Self::Forbidden(name) => write!(f, "\"{name}\" is the gateway's to write"),
            Self::Limit(name) => write!(f, "over the limit of {name}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_that_of_a_resource() {
        let refused = Refused::Invalid("path does not start with \"/\"".to_owned());
        assert_eq!(path("*"), Err(refused.clone()));
        assert_eq!(path("users"), Err(refused));
        assert_eq!(path("/*"), Ok("/*".into()));
    }

    #[test]
    fn messages_quote_the_beginning_of_what_is_refused() {
        let text = "\n".repeat(1 << 20);
        for refused in [
            not_a_field_name(&text),
            not_a_field_value(&text),
            method(&text).expect_err("it is no method"),
            query(&text).expect_err("it is no query"),
        ] {
            let message = refused.to_string();
            assert!(message.len() < 400 && message.contains("\\n…\""), "{message}");
        }
        assert_eq!(not_a_field_name("a b").to_string(), "\"a b\" is not a field name");
        let whole = "é".repeat(100);
        assert_eq!(method(&whole), Err(Refused::Invalid(format!("\"{whole}\" is not a method"))));
    }
}
