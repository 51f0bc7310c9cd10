//! What a signature is over (RFC 9421 §2): components without parameters, of the request itself. Pure.

use stile_sdk::prelude::*;

/// What is wrong with a signature, for the client.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Wrong(pub(crate) &'static str);

/// One member of `Signature-Input`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Input {
    components: Vec<String>,
    pub(crate) created: u64,
    pub(crate) expires: Option<u64>,
    pub(crate) key_id: String,
    pub(crate) nonce: Option<String>,
    pub(crate) algorithm: Option<String>,
    /// As it was written, which is what is signed.
    text: String,
}

impl Input {
    /// That of a label, or the first.
    pub(crate) fn of(field: &str, label: Option<&str>) -> Result<(String, Self), Wrong> {
        let mut members = members(field);
        let found = members.find(|(name, _)| label.is_none_or(|label| *name == label));
        let (label, text) = found.ok_or(Wrong("there is no signature"))?;
        let unread = Wrong("the signature's input cannot be read");
        let input = Self::parse(text).ok_or(unread)?;
        Ok((label.to_owned(), input))
    }

    /// `("@method" "date");created=1618884473;keyid="k"`.
    fn parse(text: &str) -> Option<Self> {
        let (list, parameters) = text.strip_prefix('(')?.split_once(')')?;
        let mut components = Vec::new();
        for item in list.split(' ').filter(|item| !item.is_empty()) {
            let name = quoted(item)?;
            // Twice the same could be read in two ways (§2).
            if name.is_empty() || components.iter().any(|known| known == name) {
                return None;
            }
            components.push(name.to_owned());
        }
        let (mut created, mut expires, mut key_id, mut nonce, mut algorithm) = Default::default();
        for parameter in split(parameters, ';').into_iter().skip(1) {
            let (name, value) = parameter.trim().split_once('=')?;
            let text = || quoted(value).map(str::to_owned);
            match name {
                "created" => created = Some(value.parse().ok()?),
                "expires" => expires = Some(value.parse().ok()?),
                "keyid" => key_id = Some(text()?),
                "nonce" => nonce = Some(text()?),
                "alg" => algorithm = Some(text()?),
                _ => {}
            }
        }
        Some(Self { components, created: created?, expires, key_id: key_id?, nonce, algorithm, text: text.to_owned() })
    }

    pub(crate) fn covers(&self, component: &str) -> bool {
        self.components.iter().any(|known| known == component)
    }

    /// The signature base (§2.5).
    pub(crate) fn base(&self, request: &Request) -> Result<String, Wrong> {
        let mut base = String::new();
        for name in &self.components {
            base += &format!("\"{name}\": {}\n", component(request, name)?);
        }
        Ok(base + &format!("\"@signature-params\": {}", self.text))
    }
}

fn component(request: &Request, name: &str) -> Result<String, Wrong> {
    match name {
        "@method" => Ok(request.method()),
        "@authority" => Ok(request.authority().to_ascii_lowercase()),
        "@path" => Ok(request.path()),
        "@query" => Ok(format!("?{}", request.query().unwrap_or_default())),
        name if name.starts_with('@') => Err(Wrong("it signs a component that is not known here")),
        name if name.bytes().any(|byte| byte.is_ascii_uppercase()) => Err(Wrong("it signs a field that is none")),
        name => {
            let values = request.header_values(name);
            if values.is_empty() {
                return Err(Wrong("it signs a field that is not there"));
            }
            let values: Option<Vec<_>> = values.iter().map(|value| Some(value.as_str()?.trim())).collect();
            Ok(values.ok_or(Wrong("it signs a field that is not ASCII"))?.join(", "))
        }
    }
}

/// The members of a dictionary (RFC 8941 §3.2) that have values.
pub(crate) fn members(field: &str) -> impl Iterator<Item = (&str, &str)> {
    split(field, ',').into_iter().filter_map(|member| member.trim().split_once('='))
}

/// Splits where a text is neither quoted nor in a list.
fn split(text: &str, separator: char) -> Vec<&str> {
    let (mut parts, mut start, mut is_quoted, mut depth) = (Vec::new(), 0, false, 0_u32);
    for (at, c) in text.char_indices() {
        match c {
            '"' => is_quoted = !is_quoted,
            '(' if !is_quoted => depth += 1,
            ')' if !is_quoted => depth = depth.saturating_sub(1),
            c if c == separator && !is_quoted && depth == 0 => {
                parts.push(&text[start..at]);
                start = at + c.len_utf8();
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
}

/// A text in quotes; none with a backslash, which no key, nonce or component needs.
fn quoted(text: &str) -> Option<&str> {
    let inner = text.strip_prefix('"')?.strip_suffix('"')?;
    (!inner.contains(['"', '\\'])).then_some(inner)
}
