//! The events of the YAML parser into a value and its spots.

use std::{borrow::Cow, collections::HashMap, mem};

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, StrInput};
use serde_json::{Map, Value};

use super::{
    super::{
        error::{Finding, Position},
        variable,
        words::shown,
    },
    Inside, MAX_SIZE, Source, Spot, Tree, join, scalar, syntax,
};

/// The deepest nesting of lists and mappings: whoever walks a tree may recurse.
const MAX_DEPTH: usize = 64;

type Env<'t> = &'t dyn Fn(&str) -> Option<String>;

/// Without `env`, `${` means nothing.
pub(super) fn read(text: &str, file: usize, env: Option<Env<'_>>) -> Tree {
    let events = Parser::new_from_str(text);
    let (path, findings) = (String::new(), Vec::new());
    let end = Position::end_of(text, file);
    let mut reader = Reader { text, file, end, events, env, anchors: HashMap::new(), copied: 0, path, findings };
    let root = reader.document();
    let mut findings = reader.findings;
    match root {
        Ok(Node { value, spot }) => Tree { value, spot, findings },
        Err(last) => {
            findings.push(last);
            Tree::unreadable(file, findings)
        }
    }
}

struct Reader<'t> {
    text: &'t str,
    file: usize,
    end: Position,
    events: Parser<'t, StrInput<'t>>,
    env: Option<Env<'t>>,
    anchors: HashMap<usize, Node>,
    /// Bytes that aliases have added so far.
    copied: usize,
    /// Of the node being read.
    path: String,
    findings: Vec<Finding>,
}

#[derive(Clone)]
struct Node {
    value: Value,
    spot: Spot,
}

impl<'t> Reader<'t> {
    fn document(&mut self) -> Result<Node, Finding> {
        let empty = Finding::of_file(Position::start_of(self.file), "the file is empty");
        let (event, _) = self.next()?;
        if event == Event::StreamEnd {
            return Err(empty);
        }
        let (event, at) = self.next()?;
        let root = self.node(event, at, 1)?;
        if root.value.is_null() && root.spot.source == Source::Literal {
            return Err(empty);
        }
        let (event, at) = self.next()?;
        if event != Event::StreamEnd {
            return Err(Finding::of_file(at, "a second document starts here; a file holds one"));
        }
        Ok(root)
    }

    /// The next event that opens, closes or is a node, or opens a document, or ends the stream.
    fn next(&mut self) -> Result<(Event<'t>, Position), Finding> {
        loop {
            let (event, span) = match self.events.next_event() {
                None => return Ok((Event::StreamEnd, Position::start_of(self.file))),
                Some(Err(error)) => return Err(self.unreadable(&error)),
                Some(Ok(next)) => next,
            };
            if !matches!(event, Event::Nothing | Event::StreamStart | Event::DocumentEnd) {
                return Ok((event, self.position(&span.start)));
            }
        }
    }

    fn node(&mut self, event: Event<'t>, at: Position, depth: usize) -> Result<Node, Finding> {
        let (anchor, tag) = match &event {
            Event::Scalar(_, _, anchor, tag) => (*anchor, tag.is_some()),
            Event::SequenceStart(anchor, tag) | Event::MappingStart(anchor, tag) => (*anchor, tag.is_some()),
            _ => (0, false),
        };
        if depth > MAX_DEPTH {
            return Err(self.finding(at, format!("lists and mappings are nested deeper than {MAX_DEPTH}")));
        }
        let mut node = match event {
            Event::Alias(anchor) => self.alias(anchor, at, depth)?,
            Event::Scalar(text, style, ..) => self.scalar(text, style, at),
            Event::SequenceStart(..) => self.list(at, depth)?,
            _ => self.mapping(at, depth)?,
        };
        if tag {
            self.find(at, "tags are not supported; to make a value a string, put it in quotes");
            node.spot.source = Source::Unreadable;
        }
        if anchor > 0 {
            // Kept for the aliases to come: a copy like theirs.
            self.copied += extent(&node.value).0;
            if self.copied > MAX_SIZE {
                return Err(self.finding(at, "anchors and aliases make the file larger than 16MiB"));
            }
            self.anchors.insert(anchor, node.clone());
        }
        Ok(node)
    }

    fn list(&mut self, at: Position, depth: usize) -> Result<Node, Finding> {
        let (mut values, mut spots) = (Vec::new(), Vec::new());
        loop {
            let (event, item_at) = self.next()?;
            if event == Event::SequenceEnd {
                return Ok(Node { value: values.into(), spot: Spot::new(at, Source::Literal, Inside::List(spots)) });
            }
            let path = format!("{}[{}]", self.path, values.len());
            let item = self.under(path, |reader| reader.node(event, item_at, depth + 1))?;
            values.push(item.value);
            spots.push(item.spot);
        }
    }

    fn mapping(&mut self, at: Position, depth: usize) -> Result<Node, Finding> {
        let mut values = Map::new();
        let mut spots: HashMap<String, Spot> = HashMap::new();
        let mut partial = false;
        loop {
            let (event, key_at) = self.next()?;
            if event == Event::MappingEnd {
                let spot = Spot::new(at, Source::Literal, Inside::Mapping(spots));
                return Ok(Node { value: values.into(), spot: Spot { partial, ..spot } });
            }
            let Some(key) = self.key(event, key_at, depth)? else {
                let (event, at) = self.next()?;
                self.node(event, at, depth + 1)?;
                partial = true;
                continue;
            };
            let path = join(&self.path, &key);
            let node = self.under(path.clone(), |reader| reader.member(key_at, depth))?;
            if let Some(first) = spots.get_mut(&key) {
                first.partial = true;
                let message = format!("key {key:?} stands twice, first in line {}", first.key.line);
                self.findings.push(Finding { position: key_at, path, message });
                continue;
            }
            spots.insert(key.clone(), Spot { key: key_at, ..node.spot });
            values.insert(key, node.value);
        }
    }

    /// The string that a key is; none, and a finding, if it is something else.
    fn key(&mut self, event: Event<'t>, at: Position, depth: usize) -> Result<Option<String>, Finding> {
        if matches!(&event, Event::Scalar(text, ScalarStyle::Plain, ..) if text == "<<") {
            self.find(at, "merge keys are not supported; repeat the keys, or use an alias for a whole value");
            return Ok(None);
        }
        let node = self.node(event, at, depth + 1)?;
        match node.value {
            Value::String(key) => return Ok(Some(key)),
            _ if node.spot.source == Source::Unreadable => {}
            Value::Bool(_) | Value::Number(_) => {
                self.find(at, format!("a key must be a string; put {} in quotes", shown(&node.value)));
            }
            value => self.find(at, format!("a key must be a string, not {}", shown(&value))),
        }
        Ok(None)
    }

    fn member(&mut self, key: Position, depth: usize) -> Result<Node, Finding> {
        let (event, at) = self.next()?;
        // The parser places a value that is not there where the next token happens to be.
        let absent = matches!(&event, Event::Scalar(text, ScalarStyle::Plain, ..) if text.is_empty());
        self.node(event, if absent { key } else { at }, depth + 1)
    }

    fn scalar(&mut self, text: Cow<'t, str>, style: ScalarStyle, at: Position) -> Node {
        let expanded = self.env.map_or_else(|| Ok(Cow::Borrowed(&*text)), |env| variable::expand(&text, env));
        let resolved = expanded.and_then(|expanded| {
            let variables = matches!(expanded, Cow::Owned(_));
            let plain = style == ScalarStyle::Plain;
            let value = if plain { scalar::resolve(&expanded) } else { Ok(expanded.into_owned().into()) };
            value.map(|value| (value, variables)).map_err(|error| error.to_string())
        });
        let (value, source) = match resolved {
            Ok((value, true)) => (value, Source::Variables(text.into_owned())),
            Ok((value, false)) => (value, Source::Literal),
            Err(message) => {
                self.find(at, message);
                (Value::Null, Source::Unreadable)
            }
        };
        Node { value, spot: Spot::new(at, source, Inside::Nothing) }
    }

    /// A copy of what an anchor names; copies are bounded, since aliases of aliases grow exponentially.
    fn alias(&mut self, anchor: usize, at: Position, depth: usize) -> Result<Node, Finding> {
        let Some(node) = self.anchors.get(&anchor) else {
            return Err(self.finding(at, "the alias stands inside of what it names"));
        };
        let (size, height) = extent(&node.value);
        self.copied += size;
        if self.copied > MAX_SIZE {
            return Err(self.finding(at, "aliases make the file larger than 16MiB"));
        }
        if depth + height > MAX_DEPTH + 1 {
            return Err(self.finding(at, format!("aliases nest lists and mappings deeper than {MAX_DEPTH}")));
        }
        Ok(Node { value: node.value.clone(), spot: Spot { at, key: at, ..node.spot.clone() } })
    }

    fn under<T>(&mut self, path: String, read: impl FnOnce(&mut Self) -> T) -> T {
        let parent = mem::replace(&mut self.path, path);
        let read = read(self);
        self.path = parent;
        read
    }

    fn find(&mut self, at: Position, message: impl Into<String>) {
        self.findings.push(self.finding(at, message));
    }

    fn finding(&self, position: Position, message: impl Into<String>) -> Finding {
        Finding { position, path: self.path.clone(), message: message.into() }
    }

    fn unreadable(&self, error: &saphyr_parser::ScanError) -> Finding {
        let at = error.marker();
        Finding::of_file(self.position(at), syntax::words(error.info(), self.text, at.index()))
    }

    fn position(&self, marker: &Marker) -> Position {
        let position = Position { file: self.file, line: marker.line(), column: marker.col() + 1 };
        // The parser ends the last line itself where the text does not.
        position.min(self.end)
    }
}

/// The memory that a value takes, roughly, and how many levels it has.
fn extent(value: &Value) -> (usize, usize) {
    const NODE: usize = 64;
    let join = |(size, height): (usize, usize), (more, below): (usize, usize)| (size + more, height.max(below + 1));
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => (NODE, 1),
        Value::String(text) => (NODE + text.len(), 1),
        Value::Array(items) => items.iter().map(extent).fold((NODE, 1), join),
        Value::Object(members) => members
            .iter()
            .map(|(key, value)| (key, extent(value)))
            .fold((NODE, 1), |all, (key, (size, height))| join(all, (size + key.len(), height))),
    }
}
