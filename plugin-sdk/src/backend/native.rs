//! The back end of native tests: an exchange in memory, under the host's rules; `testing` fills and reads it.

mod host;

use std::cell::RefCell;
use std::collections::VecDeque;

use log::Level;

use crate::consumers::{Consumer, Presented};
use crate::edits::{self, EditCount};
use crate::headers::field;
use crate::{EditError, HeaderName, HeaderValue, Reply};

pub(crate) use host::*;

#[derive(Clone, Debug, Default)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) query: Option<String>,
    pub(crate) authority: String,
    pub(crate) fields: Fields,
    pub(crate) consumer: Option<Consumer>,
    pub(crate) kept: Vec<u8>,
    pub(crate) edits: EditCount,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) fields: Fields,
    pub(crate) request: Request,
    pub(crate) edits: EditCount,
}

/// A body in memory: its pieces, and what was written.
#[derive(Debug, Default)]
pub(crate) struct Stream {
    pub(crate) pieces: VecDeque<Vec<u8>>,
    pub(crate) written: Vec<u8>,
    pub(crate) kept: Vec<u8>,
}

impl Stream {
    pub(crate) fn read(&mut self) -> Option<Vec<u8>> {
        self.pieces.pop_front()
    }

    pub(crate) fn write(&mut self, piece: &[u8]) {
        self.written.extend_from_slice(piece);
    }

    pub(crate) fn kept(&self) -> Vec<u8> {
        self.kept.clone()
    }
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Fields(Vec<(String, Vec<u8>)>);

impl Request {
    pub(crate) fn method(&self) -> String {
        self.method.clone()
    }

    pub(crate) fn set_method(&mut self, method: &str) -> Result<(), EditError> {
        self.edits.check(method.len())?;
        edits::method(method)?;
        self.edits.add(method.len())?;
        self.method = method.into();
        Ok(())
    }

    pub(crate) fn path(&self) -> String {
        self.path.clone()
    }

    pub(crate) fn set_path(&mut self, path: &str) -> Result<(), EditError> {
        self.edits.check(path.len())?;
        let path = edits::path(path)?;
        self.set_target(path.into_owned(), self.query.clone())
    }

    pub(crate) fn query(&self) -> Option<String> {
        self.query.clone()
    }

    pub(crate) fn set_query(&mut self, query: Option<&str>) -> Result<(), EditError> {
        self.edits.check(query.map_or(0, str::len))?;
        query.map_or(Ok(()), edits::query)?;
        self.set_target(self.path.clone(), query.map(String::from))
    }

    fn set_target(&mut self, path: String, query: Option<String>) -> Result<(), EditError> {
        edits::target(&path, query.as_deref())?;
        self.edits.add(path.len() + query.as_ref().map_or(0, |query| query.len() + 1))?;
        (self.path, self.query) = (path, query);
        Ok(())
    }

    pub(crate) fn authority(&self) -> String {
        self.authority.clone()
    }

    pub(crate) fn kept(&self) -> Vec<u8> {
        self.kept.clone()
    }

    pub(crate) fn consumer(&self) -> Option<Consumer> {
        self.consumer.clone()
    }

    pub(crate) fn keep(&mut self, state: &[u8]) -> Result<(), EditError> {
        edits::kept(state)?;
        self.kept = state.to_vec();
        Ok(())
    }
}

impl Response {
    pub(crate) fn status(&self) -> u16 {
        self.status
    }

    pub(crate) fn set_status(&mut self, status: u16) -> Result<(), EditError> {
        edits::status(status)?;
        self.edits.add(0)?;
        self.status = status;
        Ok(())
    }

    pub(crate) fn kept(&self) -> Vec<u8> {
        self.request.kept.clone()
    }

    pub(crate) fn request_method(&self) -> String {
        self.request.method()
    }

    pub(crate) fn request_path(&self) -> String {
        self.request.path()
    }

    pub(crate) fn request_header(&self, name: &str) -> Option<Vec<u8>> {
        self.request.header(name)
    }
}

impl Fields {
    fn first(&self, name: &str) -> Option<Vec<u8>> {
        self.all(name).into_iter().next()
    }

    fn all(&self, name: &str) -> Vec<Vec<u8>> {
        let same = |(known, _): &&(String, Vec<u8>)| known.eq_ignore_ascii_case(name);
        self.0.iter().filter(same).map(|(_, value)| value.clone()).collect()
    }

    /// As it comes from the network, where a plugin's bounds do not hold.
    pub(crate) fn receive(&mut self, name: &str, value: &[u8]) {
        self.0.push((name.to_ascii_lowercase(), value.to_vec()));
    }

    fn add(&mut self, name: HeaderName, value: HeaderValue) {
        self.0.push((name.into(), value.0));
    }

    fn remove(&mut self, name: &HeaderName) {
        self.0.retain(|(known, _)| known != name.as_ref());
    }
}

macro_rules! impl_fields {
    ($head:ty) => {
        impl $head {
            pub(crate) fn header(&self, name: &str) -> Option<Vec<u8>> {
                self.fields.first(name)
            }

            pub(crate) fn header_values(&self, name: &str) -> Vec<Vec<u8>> {
                self.fields.all(name)
            }

            pub(crate) fn headers(&self) -> Vec<(String, Vec<u8>)> {
                self.fields.0.clone()
            }

            /// Starts the count of edits of a new call.
            pub(crate) fn begin_call(&mut self) {
                self.edits = EditCount::default();
            }

            pub(crate) fn set_header(&mut self, name: &str, value: &[u8]) -> Result<(), EditError> {
                let (name, value) = self.counted(name, value)?;
                self.fields.remove(&name);
                self.fields.add(name, value);
                Ok(())
            }

            pub(crate) fn add_header(&mut self, name: &str, value: &[u8]) -> Result<(), EditError> {
                let (name, value) = self.counted(name, value)?;
                self.fields.add(name, value);
                Ok(())
            }

            pub(crate) fn remove_header(&mut self, name: &str) -> Result<(), EditError> {
                let name = HeaderName::new(name)?;
                if self.fields.first(name.as_ref()).is_some() {
                    self.edits.add(0)?;
                    self.fields.remove(&name);
                }
                Ok(())
            }

            /// A field that is valid, and counted as an edit.
            fn counted(&mut self, name: &str, value: &[u8]) -> Result<(HeaderName, HeaderValue), EditError> {
                let bytes = name.len() + value.len();
                self.edits.check(bytes)?;
                let field = field(name, value)?;
                self.edits.add(bytes)?;
                Ok(field)
            }
        }
    };
}

impl_fields!(Request);
impl_fields!(Response);

pub(crate) fn check_reply(reply: &Reply) -> Result<(), EditError> {
    edits::status(reply.status)?;
    reply.headers.iter().try_for_each(|(name, value)| field(name, value).map(drop))
}

// The logger is the process's: `None` in threads that test no plugin, whose lines nobody takes.
thread_local!(static LOG: RefCell<Option<Vec<(Level, String)>>> = const { RefCell::new(None) });

/// Keeps the log lines of this thread from now on.
pub(crate) fn collect_log() {
    LOG.with_borrow_mut(|lines| _ = lines.get_or_insert_default());
}

pub(crate) fn log_enabled(_: Level) -> bool {
    LOG.with_borrow(Option::is_some)
}

pub(crate) fn log_write(level: Level, message: &str) {
    LOG.with_borrow_mut(|lines| {
        if let Some(lines) = lines {
            lines.push((level, message.into()));
        }
    });
}

thread_local!(static KNOWN: RefCell<Vec<(String, Consumer)>> = const { RefCell::new(Vec::new()) });

/// What tells what was presented from all else.
fn key_of(presented: &Presented<'_>) -> String {
    match presented {
        Presented::ApiKey(key) => format!("{key:?}"),
        Presented::Basic { username, password } => format!("{username:?} {password:?}"),
        Presented::Hmac { key_id, message, signature } => format!("{key_id:?} {message:?} {signature:?}"),
        Presented::Jwt { .. } | Presented::Certificate(_) => format!("{presented:?}"),
    }
}

pub(crate) fn know(presented: &Presented<'_>, consumer: Consumer) {
    KNOWN.with_borrow_mut(|known| known.push((format!("{presented:?} {}", key_of(presented)), consumer)));
}

pub(crate) fn verify(presented: &Presented<'_>) -> Option<Consumer> {
    let key = format!("{presented:?} {}", key_of(presented));
    KNOWN.with_borrow(|known| known.iter().rev().find(|(known, _)| *known == key).map(|(_, consumer)| consumer.clone()))
}

pub(crate) fn take_log() -> Vec<(Level, String)> {
    LOG.with_borrow_mut(|lines| lines.as_mut().map(std::mem::take)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn invalid<T: std::fmt::Debug>(edit: Result<T, EditError>) -> String {
        match edit {
            Err(EditError::Invalid(text)) => text,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_thread_that_tests_no_plugin_keeps_no_log_lines() {
        crate::logger::install();
        collect_log();
        log::warn!("here");
        let elsewhere = std::thread::spawn(|| {
            log::warn!("there");
            take_log()
        });
        assert_eq!(elsewhere.join().expect("a thread"), []);
        assert_eq!(take_log(), [(Level::Warn, "here".to_owned())]);
    }

    #[test]
    fn set_replaces_add_appends_and_names_have_no_case() {
        let mut request = Request::default();
        request.add_header("X-A", b"1").unwrap();
        request.add_header("x-a", b"2").unwrap();
        assert_eq!(request.header_values("X-a"), [b"1", b"2"]);
        request.set_header("X-A", b"3").unwrap();
        assert_eq!(request.headers(), [("x-a".to_string(), b"3".to_vec())]);
        request.remove_header("X-A").unwrap();
        request.remove_header("X-A").unwrap();
        assert_eq!(request.header("x-a"), None);
    }

    #[test]
    fn a_refused_edit_changes_nothing() {
        let mut request = Request::default();
        request.set_header("x-a", b"1").unwrap();
        assert_eq!(
            invalid(request.set_header("x-a", b"1\r\nx-b: 2")),
            "the value of \"x-a\" has a character that no field may have"
        );
        assert_eq!(invalid(request.add_header("x a", b"1")), "\"x a\" is not a field name");
        assert_eq!(request.set_header("Host", b"b"), Err(EditError::Forbidden("host".into())));
        assert_eq!(request.remove_header("Connection"), Err(EditError::Forbidden("connection".into())));
        assert_eq!(request.headers(), [("x-a".to_string(), b"1".to_vec())]);
    }

    #[test]
    fn targets_and_methods_are_checked() {
        let mut request = Request::default();
        assert_eq!(invalid(request.set_method("GET /")), "\"GET /\" is not a method");
        assert_eq!(invalid(request.set_method("CONNECT")), "a plugin cannot make it a CONNECT");
        assert_eq!(invalid(request.set_path("users")), "path does not start with \"/\"");
        assert_eq!(
            invalid(request.set_path("/a?x=1")),
            "the path has a \"?\", which only its encoded form may be; a query is set by itself"
        );
        for path in ["/100%", "/a%2fb", "/a\\b", "/a#b"] {
            invalid(request.set_path(path));
        }
        for query in ["a=#", "a b", "a=\"<>\"", "caf\u{e9}"] {
            assert!(invalid(request.set_query(Some(query))).contains("is not a query: encode"), "{query}");
        }
        request.set_path("/a/../caf\u{e9}").unwrap();
        assert_eq!(request.path(), "/caf%C3%A9", "it has the form that the gateway gives it");
        request.set_path("/100%25").unwrap();
        request.set_query(Some("a=1&b=%23")).unwrap();
        request.set_query(None).unwrap();
        assert_eq!((request.path(), request.query()), ("/100%25".into(), None));
    }

    #[test]
    fn kept_state_and_status_are_bounded() {
        let mut request = Request::default();
        request.keep(&[0; 4096]).unwrap();
        assert_eq!(request.keep(&[0; 4097]), Err(EditError::Limit("4096 bytes of kept state".into())));
        assert_eq!(request.kept.len(), 4096);
        let mut response = Response::default();
        response.set_status(599).unwrap();
        assert_eq!(invalid(response.set_status(101)), "101 is not a status from 200 to 599");
        assert_eq!(response.status(), 599);
    }

    #[test]
    fn a_reply_is_checked_as_an_edit_is() {
        let reply = Reply::new(200).header("x-a", "1");
        assert_eq!(check_reply(&reply), Ok(()));
        invalid(check_reply(&Reply::new(99)));
        invalid(check_reply(&reply.clone().header("x-b", "\0")));
        assert_eq!(
            check_reply(&reply.header("Content-Length", "1")),
            Err(EditError::Forbidden("content-length".into()))
        );
    }
}
