//! Environment variables in scalars: `${NAME}` is the variable's value, `$${` a literal `${`.

use std::borrow::Cow;

/// Puts in the values of the variables; borrowed means that there were none.
pub(super) fn expand<'t>(text: &'t str, env: &dyn Fn(&str) -> Option<String>) -> Result<Cow<'t, str>, String> {
    if !text.contains("${") {
        return Ok(Cow::Borrowed(text));
    }
    let mut expanded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find("${") {
        let (before, from) = rest.split_at(start);
        let after = &from[2..];
        if let Some(before) = before.strip_suffix('$') {
            expanded.push_str(before);
            expanded.push_str("${");
            rest = after;
            continue;
        }
        let (name, after) = after.split_once('}').ok_or("\"${\" has no \"}\"; a literal \"${\" is written \"$${\"")?;
        if !is_name(name) {
            return Err(format!("\"${{{name}}}\" does not name a variable; a literal \"${{\" is written \"$${{\""));
        }
        expanded.push_str(before);
        expanded.push_str(&env(name).ok_or_else(|| format!("environment variable {name} is not set"))?);
        rest = after;
    }
    expanded.push_str(rest);
    Ok(Cow::Owned(expanded))
}

fn is_name(name: &str) -> bool {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    name.chars().all(word) && name.starts_with(|c: char| !c.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expanded(text: &str) -> Result<String, String> {
        expand(text, &|name| (name == "A").then(|| "${B}".to_owned())).map(Cow::into_owned)
    }

    #[test]
    fn puts_in_values_once_and_keeps_escapes() {
        for (text, expected) in [
            ("plain $A $ {A} $", "plain $A $ {A} $"),
            ("${A}", "${B}"),
            ("<${A}|${A}>", "<${B}|${B}>"),
            ("$${A}", "${A}"),
            ("$$${A}", "$${A}"),
            ("a$${b ${A}", "a${b ${B}"),
        ] {
            assert_eq!(expanded(text).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn refuses_what_is_unset_or_names_nothing() {
        assert_eq!(expanded("${B}"), Err("environment variable B is not set".to_owned()));
        for text in ["${", "${A", "${}", "${1A}", "${A-B}", "${ A }", "${A:-x}"] {
            assert!(expanded(text).is_err(), "{text}");
        }
    }
}
