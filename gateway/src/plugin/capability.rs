//! Capabilities: which of a plugin's imports its configuration has to allow.

/// What this gateway offers beyond access to the exchange and its bodies.
pub const NAMES: [&str; 9] =
    ["log", "clock", "random", CONNECTION, CONSUMERS, "crypto", HTTP_CLIENT, "key-value", "metrics"];
pub(super) const CONSUMERS: &str = "consumers";
pub(super) const HTTP_CLIENT: &str = "http-client";
pub(super) const CONNECTION: &str = "connection";
/// Harmless: allowed to every plugin.
const FREE: [&str; 5] = ["exchange", "body", "log", "clock", "random"];

pub fn exists(name: &str) -> bool {
    NAMES.contains(&name)
}

/// The capabilities among the imports (`stile:plugin/log@0.1.0`) that are neither free nor allowed. Imports of other
/// packages are WASI's, whose environment is empty.
pub fn missing<'a>(imports: &'a [String], allowed: &[String]) -> impl Iterator<Item = &'a str> {
    let names = imports.iter().filter_map(|import| capability(import));
    names.filter(|name| !FREE.contains(name) && !allowed.iter().any(|allowed| allowed == name))
}

/// Whether this capability is among the imports.
pub(super) fn is_used(name: &str, imports: &[String]) -> bool {
    imports.iter().any(|import| capability(import) == Some(name))
}

fn capability(import: &str) -> Option<&str> {
    let interface = import.strip_prefix("stile:plugin/")?;
    Some(interface.split_once('@').map_or(interface, |(name, _)| name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_free_must_be_allowed() {
        let imports = ["wasi:cli/stdout@0.2.3", "stile:plugin/exchange@0.1.0", "stile:plugin/key-value@0.1.0"];
        let imports = [&imports[..], &["stile:plugin/metrics@0.1.0"]].concat().into_iter().map(str::to_owned);
        let imports: Vec<_> = imports.collect();
        let missing = |allowed: &[&str]| {
            let allowed: Vec<_> = allowed.iter().copied().map(str::to_owned).collect();
            missing(&imports, &allowed).map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(missing(&[]), ["key-value", "metrics"]);
        assert_eq!(missing(&["key-value"]), ["metrics"]);
        assert!(missing(&["metrics", "key-value"]).is_empty());
    }
}
