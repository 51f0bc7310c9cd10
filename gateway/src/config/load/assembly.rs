//! One tree from the main file and those it includes.

use std::{
    collections::HashSet,
    fs, io,
    path::{Path, PathBuf},
};

use super::{
    super::{
        check::{Form, SHARED},
        error::{Finding, Position},
        include::{Include, IncludeError, MAX_FILES, Pattern},
        tree::{self, MAX_SIZE, Source, Tree},
    },
    folder_of,
    text::{self, TextError},
};

type Env<'e> = &'e dyn Fn(&str) -> Option<String>;

/// The files read so far, and what they hold together.
pub(super) struct Assembly<'e> {
    pub(super) tree: Tree,
    /// By their numbers in positions; the main one is the first.
    pub(super) files: Vec<PathBuf>,
    pub(super) patterns: Vec<Pattern>,
    /// The files by their one name, since none is read twice.
    seen: HashSet<PathBuf>,
    /// Bytes that may still be read.
    left: usize,
    env: Env<'e>,
}

impl<'e> Assembly<'e> {
    /// Begins with the main file, whose text may be there already.
    pub(super) fn new(file: &Path, text: Option<&str>, env: Env<'e>) -> Self {
        let mut assembly = Self {
            tree: Tree::unreadable(0, Vec::new()),
            files: Vec::new(),
            patterns: Vec::new(),
            seen: HashSet::new(),
            left: MAX_SIZE,
            env,
        };
        assembly.is_new(file);
        assembly.tree = assembly.tree_of(file, text).unwrap_or_else(|error| {
            let message = format!("cannot read the file: {error}");
            Tree::unreadable(0, vec![Finding::of_file(Position::start_of(0), message)])
        });
        Form::of_main().check(&mut assembly.tree);
        assembly
    }

    /// Adds what the files hold that the main one includes.
    pub(super) fn include(&mut self) {
        let Some(includes) = self.tree.value["include"].as_array().filter(|includes| !includes.is_empty()) else {
            return;
        };
        let (includes, form) = (includes.clone(), Form::of_included());
        for (index, text) in includes.iter().enumerate() {
            let path = format!("include[{index}]");
            let spot = self.tree.spot.find(&path).spot;
            let (position, readable) = (spot.at, spot.source != Source::Unreadable);
            let Some(text) = text.as_str().filter(|_| readable) else {
                self.miss(Vec::new());
                continue;
            };
            for error in self.include_one(text, &form) {
                self.miss(vec![Finding { position, path: path.clone(), message: error.to_string() }]);
            }
        }
    }

    /// Adds the files of one element of `include`, and tells which cannot be had.
    fn include_one(&mut self, text: &str, form: &Form) -> Vec<IncludeError> {
        let files = match Include::parse(text, folder_of(&self.files[0])) {
            Ok(Include::File(file)) => Ok(vec![file]),
            Ok(Include::Pattern(pattern)) => {
                let files = pattern.files();
                self.patterns.push(pattern);
                files
            }
            Err(error) => Err(error),
        };
        let files = match files {
            Ok(files) => files,
            Err(error) => return vec![error],
        };
        let mut errors = Vec::new();
        for file in files {
            if !self.is_new(&file) {
                continue;
            }
            if self.files.len() > MAX_FILES {
                errors.push(IncludeError::TooMany);
                break;
            }
            match self.tree_of(&file, None) {
                Ok(mut tree) => {
                    form.check(&mut tree);
                    self.append(tree);
                }
                Err(error) => errors.push(IncludeError::Read(file, error)),
            }
        }
        errors
    }

    /// Notes that what a file holds is not known.
    fn miss(&mut self, findings: Vec<Finding>) {
        self.append(Tree::unreadable(0, findings));
    }

    fn append(&mut self, mut tree: Tree) {
        SHARED.iter().for_each(|list| self.tree.append(list, &mut tree));
        self.tree.findings.append(&mut tree.findings);
    }

    fn is_new(&mut self, file: &Path) -> bool {
        self.seen.insert(fs::canonicalize(file).unwrap_or_else(|_| file.to_owned()))
    }

    fn tree_of(&mut self, file: &Path, text: Option<&str>) -> Result<Tree, io::Error> {
        let number = self.files.len();
        self.files.push(file.to_owned());
        let text = match text {
            Some(text) if text.len() > self.left => Err(TextError::Content(text::too_large(number))),
            Some(text) => Ok(text.to_owned()),
            None => text::read(file, number, self.left),
        };
        match text {
            Ok(text) => {
                self.left -= text.len();
                Ok(tree::read(&text, number, self.env))
            }
            Err(TextError::Content(finding)) => Ok(Tree::unreadable(number, vec![finding])),
            Err(TextError::Read(error)) => Err(error),
        }
    }
}
