//! Conditions of a match beside host and path. A new sort of condition is a case of `Condition` and nothing else.

use http::{HeaderName, Method};
use thiserror::Error;

use super::{
    Rule, RuleCause, Subject, Texts,
    text::{RegexError, Text},
    values::{in_cookies, in_query},
};
use crate::exchange::headers::is_hop_by_hop;

/// What a request must meet, all of it. Equal sets of conditions are equal values.
#[derive(Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Conditions(Vec<Condition>);

/// Met by any of several: field lines, parameters and cookies may come more than once.
#[derive(Debug, PartialEq, Eq, Hash)]
enum Condition {
    /// Any of these; sorted, each once.
    Method(Vec<Method>),
    Header(HeaderName, Text),
    Query(String, Text),
    Cookie(String, Text),
}

/// Why a text is not a part of a condition.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ConditionError {
    #[error("method \"{0}\" is not a token")]
    Method(String),
    #[error("method \"{0}\" is not in upper case, and methods are case-sensitive")]
    LowerCase(String),
    #[error("header {0:?} is not a field name")]
    Header(String),
    #[error("header \"{0}\" is about the connection, and taken off before a route is looked for")]
    HopByHop(HeaderName),
    #[error("header \"{0}\" is there twice, and names compare without case")]
    RepeatedHeader(HeaderName),
    #[error("name of a query parameter is empty")]
    EmptyQuery,
    #[error("cookie {0:?} is not a name that a Cookie field can have")]
    Cookie(String),
    #[error(transparent)]
    Regex(#[from] RegexError),
}

/// Values of one name that are shown to a person, and characters of each.
const SHOWN_VALUES: usize = 4;
const SHOWN_CHARS: usize = 60;

impl Conditions {
    /// None if a text is wrong; what is wrong is reported, each with its key.
    pub(super) fn read(rule: &Rule<'_>, report: &mut impl FnMut(&str, RuleCause)) -> Option<Self> {
        let mut reader = Reader { report, wrong: false };
        let methods = reader.methods(rule.methods);
        let headers = reader.headers(rule.headers);
        let query = reader.texts("query", rule.query, query_name);
        let cookies = reader.texts("cookies", rule.cookies, cookie_name);
        if reader.wrong {
            return None;
        }
        let methods = (!methods.is_empty()).then_some(Condition::Method(methods));
        let headers = headers.into_iter().map(|(name, text)| Condition::Header(name, text));
        let query = query.into_iter().map(|(name, text)| Condition::Query(name, text));
        let cookies = cookies.into_iter().map(|(name, text)| Condition::Cookie(name, text));
        Some(Self(methods.into_iter().chain(headers).chain(query).chain(cookies).collect()))
    }

    /// More of them go before fewer.
    pub(super) fn count(&self) -> usize {
        self.0.len()
    }

    pub(super) fn hold(&self, subject: &Subject<'_>) -> bool {
        self.0.iter().all(|condition| condition.holds(subject))
    }

    /// What is wanted and what is there, for each that does not hold.
    pub(super) fn unmet(&self, subject: &Subject<'_>) -> Vec<String> {
        self.0
            .iter()
            .filter(|condition| !condition.holds(subject))
            .map(|condition| condition.compare(subject))
            .collect()
    }
}

impl Condition {
    fn holds(&self, subject: &Subject<'_>) -> bool {
        match self {
            Self::Method(methods) => methods.contains(subject.method),
            Self::Header(name, text) => subject.headers.get_all(name).iter().any(|value| text.admits(value.as_bytes())),
            Self::Query(name, text) => in_query(subject.query, name).any(|value| text.admits(&value)),
            Self::Cookie(name, text) => in_cookies(subject.headers, name).any(|value| text.admits(value)),
        }
    }

    fn compare(&self, subject: &Subject<'_>) -> String {
        match self {
            Self::Method(methods) => {
                let methods: Vec<_> = methods.iter().map(Method::as_str).collect();
                format!("method: wants {}, got {}", methods.join(" or "), subject.method)
            }
            Self::Header(name, text) => {
                format!("header {name}: wants {text}, got {}", shown(subject.headers.get_all(name).iter()))
            }
            Self::Query(name, text) => {
                format!("query {name}: wants {text}, got {}", shown(in_query(subject.query, name)))
            }
            Self::Cookie(name, text) => {
                format!("cookie {name}: wants {text}, got {}", shown(in_cookies(subject.headers, name)))
            }
        }
    }
}

/// Some of the values of a name, each on one line and not without end.
fn shown<V: AsRef<[u8]>>(values: impl Iterator<Item = V>) -> String {
    let shown = values.take(SHOWN_VALUES).map(|value| {
        let text = String::from_utf8_lossy(value.as_ref()).escape_debug().take(SHOWN_CHARS).collect::<String>();
        if text.is_empty() { "\"\"".to_owned() } else { text }
    });
    let shown: Vec<_> = shown.collect();
    if shown.is_empty() { "none".to_owned() } else { shown.join(", ") }
}

/// From the texts of a rule to the parts of its conditions, each sort in one order, so that equal sets are equal.
struct Reader<'r, R> {
    report: &'r mut R,
    wrong: bool,
}

impl<R: FnMut(&str, RuleCause)> Reader<'_, R> {
    fn methods(&mut self, texts: &[String]) -> Vec<Method> {
        let mut methods = Vec::with_capacity(texts.len());
        for (index, text) in texts.iter().enumerate() {
            methods.extend(self.part(parse_method(text), || format!("methods[{index}]")));
        }
        methods.sort_unstable_by(|a, b| a.as_str().cmp(b.as_str()));
        methods.dedup();
        methods
    }

    fn headers(&mut self, texts: &Texts) -> Vec<(HeaderName, Text)> {
        let mut headers = self.texts("headers", texts, header_name);
        headers.sort_by(|(a, _), (b, _)| a.as_str().cmp(b.as_str()));
        for pair in headers.windows(2).filter(|pair| pair[0].0 == pair[1].0) {
            let name = &pair[0].0;
            let written = texts.keys().rfind(|text| text.eq_ignore_ascii_case(name.as_str()));
            let key = format!("headers.{}", written.map_or(name.as_str(), String::as_str));
            self.part::<()>(Err(ConditionError::RepeatedHeader(name.clone())), || key);
        }
        headers
    }

    fn texts<N>(
        &mut self,
        key: &str,
        texts: &Texts,
        read: impl Fn(&str) -> Result<N, ConditionError>,
    ) -> Vec<(N, Text)> {
        let mut all = Vec::with_capacity(texts.len());
        for (name, text) in texts {
            let path = || format!("{key}.{}", name.escape_debug());
            let name = self.part(read(name), path);
            let text = self.part(Text::parse(text).map_err(Into::into), path);
            all.extend(name.zip(text));
        }
        all
    }

    fn part<P>(&mut self, part: Result<P, ConditionError>, key: impl FnOnce() -> String) -> Option<P> {
        part.map_err(|error| {
            self.wrong = true;
            (self.report)(&key(), error.into());
        })
        .ok()
    }
}

/// Reads a method as the configuration names it.
fn parse_method(text: &str) -> Result<Method, ConditionError> {
    if text.bytes().any(|byte| byte.is_ascii_lowercase()) {
        return Err(ConditionError::LowerCase(text.to_owned()));
    }
    text.parse().map_err(|_| ConditionError::Method(text.to_owned()))
}

fn header_name(text: &str) -> Result<HeaderName, ConditionError> {
    let name: HeaderName = text.parse().map_err(|_| ConditionError::Header(text.to_owned()))?;
    if is_hop_by_hop(&name) { Err(ConditionError::HopByHop(name)) } else { Ok(name) }
}

fn query_name(text: &str) -> Result<String, ConditionError> {
    if text.is_empty() { Err(ConditionError::EmptyQuery) } else { Ok(text.to_owned()) }
}

/// Refuses what no cookie can be called; servers use more than the tokens of RFC 6265 §4.1.1.
fn cookie_name(text: &str) -> Result<String, ConditionError> {
    let is_name =
        !text.is_empty() && text.trim() == text && !text.contains(|c: char| matches!(c, '=' | ';') || c.is_control());
    if is_name { Ok(text.to_owned()) } else { Err(ConditionError::Cookie(text.to_owned())) }
}
