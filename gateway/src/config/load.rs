//! From files to a `Document`: read, check, put together, deserialise; each step goes on with what the one before
//! understood, so that one answer tells every mistake.

mod assembly;
mod text;

use std::{
    mem,
    path::{Path, PathBuf},
};

use serde_json::Value;

use super::{
    Config, Errors, Problem,
    check::deserialise,
    error::{Finding, Premise},
    include::Pattern,
    schema,
    tree::{self, Source, Spot, Tree},
};
use assembly::Assembly;

/// The lists that the Admin API takes too.
const BUNDLED: [&str; 6] = ["plugins", "services", "routes", "apis", "consumers", "groups"];

/// A configuration, as far as it could be understood, and where each part of it stands in its files.
#[derive(Debug)]
pub struct Document {
    pub file: PathBuf,
    /// Paths in it are relative to the working directory, not to a file. With mistakes, it has what is right: defaults
    /// and stand-ins are where those are.
    pub config: Config,
    pub sources: Sources,
    /// The main one, then those included, by their numbers in positions.
    files: Vec<PathBuf>,
    spot: Spot,
    mistakes: Vec<Finding>,
}

/// The lists of a file that the Admin API takes too, as they are written there or in the text that is given for it, variables
/// filled in.
///
/// # Errors
///
/// All that is wrong with their form, and every other part that the file has.
pub fn bundle(file: &Path, text: Option<&str>, env: &dyn Fn(&str) -> Option<String>) -> Result<Value, Errors> {
    let mut assembly = Assembly::new(file, text, env);
    assembly.include();
    let Assembly { mut tree, files, .. } = assembly;
    // As it is written: deserialised, it would have every default.
    let mut written = mem::take(&mut tree.value);
    let Value::Object(parts) = &mut written else { return Err(Errors::new(&files, tree.findings)) };
    parts.shift_remove("include");
    for key in parts.keys().filter(|key| !BUNDLED.contains(&key.as_str())) {
        let found = tree.spot.find(key);
        let message = format!("only {} are imported; \"{key}\" is for the configuration file", BUNDLED.join(", "));
        tree.findings.push(Finding { position: found.spot.at, path: found.path, message });
    }
    if tree.findings.is_empty() { Ok(written) } else { Err(Errors::new(&files, tree.findings)) }
}

/// What a YAML text says, whatever that is, without variables.
///
/// # Errors
///
/// Where it is no YAML.
pub fn plain(file: &Path, text: &str) -> Result<Value, Errors> {
    let Tree { value, findings, .. } = tree::read_plain(text, 0);
    if findings.is_empty() { Ok(value) } else { Err(Errors::new(&[file.to_owned()], findings)) }
}

/// What a change of a configuration may come from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sources {
    /// Of the configuration and of its plugins.
    pub files: Vec<PathBuf>,
    /// Of included files, there or not.
    pub patterns: Vec<Pattern>,
}

impl Document {
    /// Reads a file and those it includes; `env` gives the value of a variable. That a file cannot be read is a mistake
    /// like the others.
    pub fn read(file: &Path, env: &dyn Fn(&str) -> Option<String>) -> Self {
        Self::new(Assembly::new(file, None, env))
    }

    /// Reads the text of a file, and the files it includes.
    pub fn parse(file: &Path, text: &str, env: &dyn Fn(&str) -> Option<String>) -> Self {
        Self::new(Assembly::new(file, Some(text), env))
    }

    /// Whether no mistake has been found yet: the configuration of any other must not be used.
    pub fn is_sound(&self) -> bool {
        self.mistakes.is_empty()
    }

    /// Adds a mistake that was found elsewhere.
    pub fn refuse(&mut self, problem: Problem) {
        self.mistakes.push(self.locate(problem));
    }

    /// The mistakes found in reading, and these problems but for those that only follow from them; none, if the
    /// configuration may be used.
    pub fn errors(&self, problems: Vec<Problem>) -> Errors {
        let mut findings = self.mistakes.clone();
        let news = problems.into_iter().filter(|problem| self.is_sound() || self.is_news(problem));
        findings.extend(news.map(|problem| self.locate(problem)));
        Errors::new(&self.files, findings)
    }

    /// One whose path is not in the file gets the position of the nearest parent.
    fn locate(&self, problem: Problem) -> Finding {
        let Problem { path, mut message, other, .. } = problem;
        if let Some(other) = other {
            message += &format!(", at {}", self.spot.find(&other).spot.at.shown(&self.files));
        }
        let found = self.spot.find(&path);
        Finding { position: found.spot.at, path: found.path, message }
    }

    /// Puts the variables of the text in the place of what they hold, in a value that stands at this path.
    pub(super) fn with_variables(&self, path: &str, value: &mut Value) {
        let found = self.spot.find(path);
        if found.ends {
            put_variables(found.spot, value);
        }
    }

    /// Where a place of this file is.
    pub(super) fn shown(&self, path: &str) -> String {
        self.spot.find(path).spot.at.shown(&self.files)
    }

    fn is_news(&self, problem: &Problem) -> bool {
        self.spot.find(&problem.path).readable && self.implies(problem)
    }

    /// Whether all that a problem was concluded from could be read.
    pub(super) fn implies(&self, problem: &Problem) -> bool {
        let holds = |premise: &Premise| match premise {
            Premise::All(path) => self.spot.has_all(path),
            Premise::Names(list) => self.spot.has_names(list),
        };
        self.is_sound() || problem.premises.iter().all(holds)
    }

    fn new(mut assembly: Assembly<'_>) -> Self {
        assembly.include();
        let Assembly { mut tree, files, patterns, .. } = assembly;
        let mut config = deserialise::<Config>(&tree).unwrap_or_else(|finding| {
            let findings = mem::take(&mut tree.findings);
            tree = Tree::unreadable(0, if findings.is_empty() { vec![finding] } else { findings });
            Config::default()
        });
        let Tree { spot, findings: mistakes, .. } = tree;
        for (index, plugin) in config.plugins.iter_mut().enumerate() {
            let own = spot.find(&format!("plugins[{index}]")).spot.at.file_of(&files);
            plugin.file = plugin.file.take().map(|file| folder_of(own).join(file));
        }
        for (index, service) in config.services.iter_mut().enumerate() {
            let own = spot.find(&format!("services[{index}]")).spot.at.file_of(&files);
            for file in service.sources.iter_mut().filter_map(|source| source.file.as_mut()) {
                *file = folder_of(own).join(&*file);
            }
        }
        let main = files[0].clone();
        if let Some(store) = &mut config.store {
            store.path = folder_of(&main).join(&store.path);
        }
        if let Some(file) = config.access_log.as_mut().and_then(|log| log.file.as_mut()) {
            *file = folder_of(&main).join(&*file);
        }
        let plugins = config.plugins.iter().flat_map(files_of);
        let sources = Sources { files: files.iter().cloned().chain(plugins).collect(), patterns };
        Self { file: main, config, sources, files, spot, mistakes }
    }
}

/// Where the signature of a plugin's file is.
pub fn signature_file(module: &Path) -> PathBuf {
    let mut name = module.as_os_str().to_owned();
    name.push(".sig");
    name.into()
}

/// What a plugin is read from.
fn files_of(plugin: &schema::Plugin) -> impl Iterator<Item = PathBuf> {
    let signature = plugin.file.as_deref().filter(|_| !plugin.signed_by.is_empty()).map(signature_file);
    plugin.file.clone().into_iter().chain(signature)
}

fn put_variables(spot: &Spot, value: &mut Value) {
    if let Source::Variables(text) = &spot.source {
        *value = text.as_str().into();
        return;
    }
    match value {
        Value::Array(items) => {
            for (n, item) in items.iter_mut().enumerate() {
                spot.step(&n.to_string()).into_iter().for_each(|spot| put_variables(spot, item));
            }
        }
        Value::Object(members) => {
            for (key, member) in members.iter_mut() {
                spot.step(key).into_iter().for_each(|spot| put_variables(spot, member));
            }
        }
        _ => {}
    }
}

fn folder_of(file: &Path) -> &Path {
    file.parent().unwrap_or(Path::new(""))
}

#[cfg(test)]
mod tests {
    use std::{env, fs, ops::Range, process};

    use serde_json::json;

    use super::{
        super::{include::MAX_FILES, tree::MAX_SIZE},
        *,
    };

    fn parse(text: &str) -> Document {
        Document::parse(Path::new("a.yaml"), text, &|_| None)
    }

    #[test]
    fn locates_problems_at_their_value_or_the_nearest_parent() {
        let document =
            parse("services:\n  - name: a\n    endpoints:\n      - address: 127.0.0.1:1\nstore: { path: x }\n");
        assert!(document.is_sound());
        let paths =
            ["routes[0].service", "store.path", "services[0].endpoints[0].address", "services[0].endpoints[7].x"];
        let errors = document.errors(paths.map(|path| Problem::new(path, path)).to_vec());
        let found: Vec<_> = errors.0.iter().map(|error| (error.line, error.column, error.path.as_str())).collect();
        assert_eq!(found, [(1, 1, paths[0]), (4, 7, paths[3]), (4, 18, paths[2]), (5, 16, paths[1])]);
    }

    #[test]
    fn what_only_follows_from_a_mistake_is_not_told() {
        let text =
            "services:\n  - name: a\n    idle_timeout: 5\n  - name: 1\nroutes:\n  - { name: a, match: { pth: /a } }\n";
        let document = parse(text);
        let mistakes = document.errors(Vec::new()).0.len();
        let told = |problem: Problem| document.errors(vec![problem]).0.len() > mistakes;
        let given = |premise| Problem::new("routes[0].filters", "").given([premise]);
        for (problem, is_told) in [
            (Problem::new("services[0].name", ""), true),
            (Problem::new("services[0].idle_timeout", ""), false),
            (Problem::new("services[1].name", ""), false),
            (Problem::new("routes[0].service", ""), false),
            (given(Premise::Names("services")), false),
            (given(Premise::Names("plugins")), true),
            (given(Premise::Names("routes")), true),
            (given(Premise::All("services[0]".to_owned())), false),
            (given(Premise::All("routes[0].name".to_owned())), true),
            (given(Premise::All("routes[0].match".to_owned())), false),
            (given(Premise::All("routes[0].match.path".to_owned())), false),
        ] {
            assert_eq!(told(problem.clone()), is_told, "{problem:?}");
        }
    }

    #[test]
    fn no_file_is_read_twice_and_not_too_many_are() {
        let folder = env::temp_dir().join(format!("stile-config-include-{}", process::id()));
        fs::create_dir(&folder).expect("a folder of one's own");
        let main = folder.join("stile.yaml");
        fs::write(&main, "include: [0001.yaml, \"*.yaml\", ./0002.yaml]").expect("a file is written");
        let add = |numbers: Range<usize>| {
            for number in numbers {
                let text = format!("services: [{{ name: s{number} }}]");
                fs::write(folder.join(format!("{number:04}.yaml")), text).expect("a file is written");
            }
        };
        let read = || Document::read(&main, &|_| None);
        add(0..4);
        let document = read();
        assert_eq!(document.errors(Vec::new()).to_string(), "");
        let names: Vec<_> = document.config.services.iter().map(|service| service.name.as_str()).collect();
        assert_eq!(names, ["s1", "s0", "s2", "s3"]);
        add(4..MAX_FILES);
        assert!(read().is_sound());
        add(MAX_FILES..MAX_FILES + 1);
        let errors = read().errors(Vec::new()).to_string();
        assert_eq!(errors, format!("{}:1:22: include[1]: more than 1024 files are included", main.display()));
        fs::remove_dir_all(&folder).expect("the folder is removed");
    }

    #[test]
    fn errors_have_the_documented_json() {
        let errors = parse("store: 1").errors(Vec::new());
        let error = json!({
            "file": "a.yaml", "line": 1, "column": 8, "path": "store", "message": "expected a mapping, found a number",
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
            let errors = Document::read(&file, &|_| None).errors(Vec::new());
            errors.to_string().replace(&file.display().to_string(), "FILE")
        };
        let missing = message(None);
        assert_eq!(missing, "FILE:1:1: cannot read the file: No such file or directory (os error 2)");
        assert_eq!(message(Some(b"workers: 1\n# \xff")), "FILE:2:3: the file is not UTF-8 text from here on");
        let large = "é".repeat(MAX_SIZE / 2 + 1);
        assert_eq!(message(Some(large.as_bytes())), "FILE:1:1: the file is larger than 16MiB");
        let comment = "# and so on".repeat(MAX_SIZE / 20);
        fs::write(&file, format!("services: []\n{comment}")).expect("a file is written");
        let errors = parse(&format!("include: [{}]\n{comment}", file.display())).errors(Vec::new()).to_string();
        assert_eq!(errors, format!("{}:1:1: the file, with those before it, is larger than 16MiB", file.display()));
        fs::remove_file(&file).expect("the file is removed");
        assert_eq!(parse(&large).errors(Vec::new()).to_string(), "a.yaml:1:1: the file is larger than 16MiB");
    }
}
