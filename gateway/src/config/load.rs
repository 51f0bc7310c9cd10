//! From a file to a `Document`: read, check, deserialise; each step reports all that it finds.

use std::{
    fs::File,
    io::Read,
    path::{Path, PathBuf},
};

use super::{
    Config, Errors, Problem, check,
    error::{Finding, Position},
    tree::{self, MAX_SIZE, Spot, Tree},
};

/// A configuration that has the right form, and where each part of it stands in its file.
#[derive(Debug)]
pub struct Document {
    pub file: PathBuf,
    pub config: Config,
    spot: Spot,
}

impl Document {
    /// Reads a file; `env` gives the value of a variable. That the file cannot be read is an error like the others.
    pub fn read(file: &Path, env: &dyn Fn(&str) -> Option<String>) -> Result<Self, Errors> {
        let text = text(file).map_err(|finding| Errors::new(file, vec![finding]))?;
        Self::parse(file, &text, env)
    }

    /// Reads the text of a file; `env` gives the value of a variable.
    pub fn parse(file: &Path, text: &str, env: &dyn Fn(&str) -> Option<String>) -> Result<Self, Errors> {
        let (config, spot) = config(text, env).map_err(|findings| Errors::new(file, findings))?;
        Ok(Self { file: file.to_owned(), config, spot })
    }

    /// Gives problems their positions; one whose path is not in the file gets that of the nearest parent.
    pub fn locate(&self, problems: Vec<Problem>) -> Errors {
        let located = problems.into_iter().map(|Problem { path, message }| {
            let position = self.spot.nearest(&path).at;
            Finding { position, path, message }
        });
        Errors::new(&self.file, located.collect())
    }
}

fn config(text: &str, env: &dyn Fn(&str) -> Option<String>) -> Result<(Config, Spot), Vec<Finding>> {
    if text.len() > MAX_SIZE {
        return Err(vec![too_large()]);
    }
    let Tree { value, spot, mut findings } = tree::read(text, env)?;
    findings.extend(check::check::<Config>(&value, &spot));
    if !findings.is_empty() {
        return Err(findings);
    }
    let config = check::deserialise(&value, &spot).map_err(|finding| vec![finding])?;
    Ok((config, spot))
}

fn text(file: &Path) -> Result<String, Finding> {
    let mut bytes = Vec::new();
    File::open(file)
        .and_then(|file| file.take(MAX_SIZE as u64 + 1).read_to_end(&mut bytes))
        .map_err(|error| Finding::of_file(Position::START, format!("cannot be read: {error}")))?;
    if bytes.len() > MAX_SIZE {
        return Err(too_large());
    }
    String::from_utf8(bytes).map_err(|error| {
        let valid = error.utf8_error().valid_up_to();
        let before = String::from_utf8_lossy(&error.as_bytes()[..valid]);
        Finding::of_file(end_of(&before), "the file is not UTF-8 text from here on")
    })
}

fn too_large() -> Finding {
    Finding::of_file(Position::START, "the file is larger than 16MiB")
}

fn end_of(text: &str) -> Position {
    let last = text.rsplit('\n').next().unwrap_or_default();
    Position { line: text.matches('\n').count() + 1, column: last.chars().count() + 1 }
}

#[cfg(test)]
mod tests {
    use std::{env, fs, process};

    use serde_json::json;

    use super::*;

    fn problem(path: &str) -> Problem {
        Problem { path: path.to_owned(), message: path.to_owned() }
    }

    #[test]
    fn locates_problems_at_their_value_or_the_nearest_parent() {
        let text = "services:\n  - name: a\n    endpoints:\n      - address: 127.0.0.1:1\nstore: { path: x }\n";
        let document = Document::parse(Path::new("a.yaml"), text, &|_| None).expect("a configuration");
        let paths =
            ["routes[0].service", "store.path", "services[0].endpoints[0].address", "services[0].endpoints[7].x"];
        let errors = document.locate(paths.map(problem).to_vec());
        let found: Vec<_> = errors.0.iter().map(|error| (error.line, error.column, error.path.as_str())).collect();
        assert_eq!(found, [(1, 1, paths[0]), (4, 7, paths[3]), (4, 18, paths[2]), (5, 16, paths[1])]);
    }

    #[test]
    fn errors_have_the_documented_json() {
        let errors = Document::parse(Path::new("a.yaml"), "store: 1", &|_| None).expect_err("a mistake");
        let error = json!({
            "file": "a.yaml", "line": 1, "column": 8, "path": "store", "message": "expected a mapping, found 1",
        });
        assert_eq!(serde_json::to_value(errors).expect("JSON"), json!({ "errors": [error] }));
    }

    #[test]
    fn files_that_are_no_text_are_errors() {
        let file = env::temp_dir().join(format!("stile-config-load-{}.yaml", process::id()));
        let message = |content: Option<&[u8]>| {
            if let Some(content) = content {
                fs::write(&file, content).expect("a file is written");
            }
            let errors = Document::read(&file, &|_| None).expect_err("a mistake");
            errors.to_string().replace(&file.display().to_string(), "FILE")
        };
        assert!(message(None).starts_with("FILE:1:1: cannot be read: "), "{}", message(None));
        assert_eq!(message(Some(b"workers: 1\n# \xff")), "FILE:2:3: the file is not UTF-8 text from here on");
        let large = "é".repeat(MAX_SIZE / 2 + 1);
        assert_eq!(message(Some(large.as_bytes())), "FILE:1:1: the file is larger than 16MiB");
        fs::remove_file(&file).expect("the file is removed");
        let errors = Document::parse(Path::new("FILE"), &large, &|_| None).expect_err("a mistake");
        assert_eq!(errors.to_string(), "FILE:1:1: the file is larger than 16MiB");
    }
}
