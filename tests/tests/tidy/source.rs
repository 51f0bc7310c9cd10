//! A source file as the checks see it: by lines, which is enough for code that rustfmt has laid out.

use std::{
    collections::HashSet,
    fs,
    path::{Path, PathBuf},
};

use stile_tests::guest::workspace;

/// Folders with sources of the workspace.
const FOLDERS: [&str; 5] = ["gateway", "plugin-sdk", "plugins", "examples", "tests"];

pub(super) struct Source {
    /// Relative to the workspace.
    pub(super) path: String,
    pub(super) text: String,
}

impl Source {
    pub(super) fn all() -> Vec<Self> {
        let mut files = Vec::new();
        FOLDERS.iter().for_each(|folder| collect(&workspace().join(folder), &mut files));
        assert!(files.len() > 50, "only {} sources were found", files.len());
        files.sort();
        files.iter().map(|file| Self::read(file)).collect()
    }

    /// The modules of the gateway's library that are not for tests.
    pub(super) fn gateway() -> Vec<Self> {
        let library = |source: &Self| {
            let inside = source.path.strip_prefix("gateway/src/").filter(|rest| !rest.starts_with("cli/templates/"));
            inside.is_some_and(|rest| !["lib.rs", "main.rs"].contains(&rest))
        };
        let all: Vec<Self> = Self::all().into_iter().filter(|source| source.path.starts_with("gateway/src/")).collect();
        let for_tests: HashSet<String> = all.iter().flat_map(Self::test_modules).collect();
        all.into_iter().filter(library).filter(|source| !for_tests.contains(&source.module())).collect()
    }

    fn read(file: &Path) -> Self {
        let path = file.strip_prefix(workspace()).expect("a file of the workspace").display().to_string();
        Self { path, text: fs::read_to_string(file).expect("a source is text") }
    }

    /// `a::b` for `gateway/src/a/b.rs`.
    pub(super) fn module(&self) -> String {
        let inside = self.path.trim_start_matches("gateway/src/").trim_end_matches(".rs");
        inside.replace('/', "::")
    }

    pub(super) fn without_tests(&self) -> Vec<&str> {
        let lines: Vec<&str> = self.text.lines().collect();
        let tests = lines.windows(2).position(|two| two[0] == "#[cfg(test)]" && two[1].starts_with("mod tests {"));
        lines[..tests.unwrap_or(lines.len())].to_vec()
    }

    /// Without comments and tests.
    pub(super) fn code(&self) -> String {
        let code = |line: &&str| !line.trim_start().starts_with("//");
        self.without_tests().into_iter().filter(code).collect::<Vec<_>>().join("\n")
    }

    /// The functions and how many lines each has.
    pub(super) fn functions(&self) -> Vec<(String, usize)> {
        let lines: Vec<&str> = self.text.lines().collect();
        let mut functions = Vec::new();
        for (start, line) in lines.iter().enumerate() {
            let Some(name) = function(line) else { continue };
            let indent = &line[..line.len() - line.trim_start().len()];
            let head = lines[start..].iter().position(|line| line.ends_with(['{', ';', '}']));
            let Some(open) = head.map(|head| start + head).filter(|open| lines[*open].ends_with('{')) else { continue };
            let end = format!("{indent}}}");
            let body = lines[open..].iter().position(|line| *line == end).expect("rustfmt has laid it out");
            functions.push((name.to_owned(), open + body - start + 1));
        }
        functions
    }

    /// What is named as `crate::…`, in full.
    pub(super) fn uses(&self) -> Vec<String> {
        let code = self.code();
        let mut uses = Vec::new();
        for (at, found) in code.match_indices("crate::") {
            // `pub(in crate::…)` is a visibility and not a use.
            if !code[..at].ends_with("pub(in ") && !code[..at].ends_with('$') {
                expand("", &code[at + found.len()..], &mut uses);
            }
        }
        uses
    }

    /// Modules that `#[cfg(test)]` stands before.
    fn test_modules(&self) -> Vec<String> {
        let lines: Vec<&str> = self.text.lines().collect();
        let named = lines.windows(2).filter(|two| two[0] == "#[cfg(test)]");
        let named = named.filter_map(|two| two[1].strip_prefix("mod ")?.strip_suffix(';'));
        let parent = if self.path == "gateway/src/lib.rs" { String::new() } else { self.module() + "::" };
        named.map(|name| format!("{parent}{name}")).collect()
    }
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder of the workspace").map(|entry| entry.expect("an entry").path()) {
        // Bindings are generated, and nobody edits them.
        let is_ours = !entry.ends_with("target") && !entry.ends_with("plugin-sdk/src/bindings");
        if entry.is_dir() && is_ours {
            collect(&entry, files);
        } else if entry.extension().is_some_and(|extension| extension == "rs") {
            files.push(entry);
        }
    }
}

fn function(line: &str) -> Option<&str> {
    let mut words = line.trim_start().split_inclusive([' ', '(']);
    let before = ["pub ", "pub(", "crate) ", "super) ", "in ", "async ", "const ", "unsafe ", "default "];
    let keyword = words.find(|word| !before.contains(word) && !word.ends_with(") "))?;
    let rest = line.split_once(keyword)?.1;
    (keyword == "fn ").then(|| rest.split(['(', '<']).next().unwrap_or_default())
}

/// Writes out a tree such as `a::{b, c::{self, D}}`, of which `text` begins with the part after `prefix`; gives the rest.
fn expand<'t>(prefix: &str, text: &'t str, uses: &mut Vec<String>) -> &'t str {
    if let Some(mut rest) = text.strip_prefix('{') {
        loop {
            rest = expand(prefix, rest.trim_start_matches([',', ' ', '\n']), uses);
            rest = rest.trim_start_matches([',', ' ', '\n']);
            match rest.strip_prefix('}') {
                Some(after) => return after,
                None if rest.is_empty() => panic!("a group without an end after {prefix}"),
                None => {}
            }
        }
    }
    // A macro may leave a name to whoever uses it.
    let end = text.find(|c: char| !c.is_alphanumeric() && !['_', '*', '$'].contains(&c)).unwrap_or(text.len());
    assert!(end > 0, "cannot read what follows {prefix}: {}", &text[..text.len().min(40)]);
    let path = format!("{prefix}{}", &text[..end]);
    if let Some(rest) = text[end..].strip_prefix("::").filter(|rest| !rest.starts_with('<')) {
        return expand(&format!("{path}::"), rest, uses);
    }
    let renamed = text[end..]
        .strip_prefix(" as ")
        .map(|rest| &rest[rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len())..]);
    uses.push(path.trim_end_matches("::self").to_owned());
    renamed.unwrap_or(&text[end..])
}

#[test]
fn trees_are_written_out() {
    let mut uses = Vec::new();
    let rest = expand("", "{a, b::{self, C as D, e::*},\n  f::G}; more", &mut uses);
    assert_eq!((uses.join(" ").as_str(), rest), ("a b b::C b::e::* f::G", "; more"));
}

#[test]
fn functions_are_measured() {
    let text = "fn one() {\n}\n\nimpl A {\n    pub(super) async fn two(\n        a: u8,\n    ) -> u8 {\n        1\n    }\n    \
                fn three(&self);\n}\npub const fn four<T>() {}\nstruct Fn {\n}\n";
    let source = Source { path: String::new(), text: text.to_owned() };
    assert_eq!(source.functions(), [("one".to_owned(), 2), ("two".to_owned(), 5)]);
}
