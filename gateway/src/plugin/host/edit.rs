//! Edits of heads by guests: what is valid, what is the gateway's own, and how much one call may write.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, uri::PathAndQuery};

use super::Lent;
use crate::exchange::{headers::is_gateways_own, path::normalize};

/// Fields that one call may set or add.
const MAX_FIELDS: usize = 256;
/// Bytes of names and values that one call may write.
const MAX_FIELD_BYTES: usize = 64 << 10;
/// Bytes kept from a request phase for its response phase.
const MAX_KEPT: usize = 4096;
/// Bytes of a path with its query.
const MAX_TARGET: usize = 16 << 10;

/// Why an edit was refused; the head is unchanged.
#[derive(Debug)]
pub(in crate::plugin) enum EditError {
    Invalid(String),
    Forbidden(String),
    Limit(&'static str),
}

/// How much the current call has written.
#[derive(Debug, Default)]
pub(in crate::plugin) struct Written {
    fields: usize,
    bytes: usize,
}

impl Written {
    fn add(&mut self, name: &HeaderName, value: &HeaderValue) -> Result<(), EditError> {
        let bytes = self.bytes + name.as_str().len() + value.len();
        if self.fields >= MAX_FIELDS {
            return Err(EditError::Limit("header fields written by one call"));
        }
        if bytes > MAX_FIELD_BYTES {
            return Err(EditError::Limit("header bytes written by one call"));
        }
        self.fields += 1;
        self.bytes = bytes;
        Ok(())
    }
}

/// Whose fields.
#[derive(Debug, Clone, Copy)]
pub(in crate::plugin) enum Head {
    Request,
    Response,
}

/// How a field is written.
#[derive(Debug, Clone, Copy)]
pub(in crate::plugin) enum Write {
    Set,
    Add,
}

impl Lent {
    pub(in crate::plugin) fn set_method(&mut self, method: &str) -> Result<(), EditError> {
        let method = Method::from_bytes(method.as_bytes())
            .map_err(|_| EditError::Invalid(format!("\"{}\" is not a method", method.escape_debug())))?;
        if method == Method::CONNECT {
            return Err(EditError::Forbidden("CONNECT".to_owned()));
        }
        self.request.edit().method = method;
        Ok(())
    }

    pub(in crate::plugin) fn set_path(&mut self, path: &str) -> Result<(), EditError> {
        let normal = normalize(path).map_err(|error| EditError::Invalid(error.to_string()))?;
        if normal.encoded_slash {
            return Err(EditError::Invalid("the path has an encoded slash, backslash or NUL".to_owned()));
        }
        let query = self.request.read().target.query().map(str::to_owned);
        self.set_target(&normal.path, query.as_deref())
    }

    pub(in crate::plugin) fn set_query(&mut self, query: Option<&str>) -> Result<(), EditError> {
        let path = self.request.read().target.path().to_owned();
        self.set_target(&path, query)
    }

    fn set_target(&mut self, path: &str, query: Option<&str>) -> Result<(), EditError> {
        let target = query.map_or_else(|| path.to_owned(), |query| format!("{path}?{query}"));
        if target.len() > MAX_TARGET {
            return Err(EditError::Limit("bytes of a path and query"));
        }
        let shown = target.escape_debug().to_string();
        if target.contains('#') {
            return Err(EditError::Invalid(format!("\"{shown}\" has a fragment")));
        }
        let parsed = PathAndQuery::from_maybe_shared(Bytes::from(target))
            .map_err(|_| EditError::Invalid(format!("\"{shown}\" is not a path and query")))?;
        self.request.edit().target = parsed;
        Ok(())
    }

    pub(in crate::plugin) fn set_status(&mut self, status: u16) -> Result<(), EditError> {
        self.response.edit().status = final_status(status)?;
        Ok(())
    }

    pub(in crate::plugin) fn keep(&mut self, state: Vec<u8>) -> Result<(), EditError> {
        if state.len() > MAX_KEPT {
            return Err(EditError::Limit("4096 bytes of kept state"));
        }
        self.kept = Bytes::from(state);
        Ok(())
    }

    pub(in crate::plugin) fn headers(&self, head: Head) -> &HeaderMap {
        match head {
            Head::Request => &self.request.read().headers,
            Head::Response => &self.response.read().headers,
        }
    }

    pub(in crate::plugin) fn write_header(
        &mut self,
        head: Head,
        how: Write,
        name: &str,
        value: Vec<u8>,
    ) -> Result<(), EditError> {
        let (name, value) = field(name, value)?;
        self.written.add(&name, &value)?;
        let headers = self.edit_headers(head);
        let full = match how {
            Write::Set => headers.try_insert(name, value).err(),
            Write::Add => headers.try_append(name, value).err(),
        };
        full.map_or(Ok(()), |_| Err(EditError::Limit("header fields of a head")))
    }

    pub(in crate::plugin) fn remove_header(&mut self, head: Head, name: &str) -> Result<(), EditError> {
        let name = field_name(name)?;
        if self.headers(head).contains_key(&name) {
            self.edit_headers(head).remove(name);
        }
        Ok(())
    }

    fn edit_headers(&mut self, head: Head) -> &mut HeaderMap {
        match head {
            Head::Request => &mut self.request.edit().headers,
            Head::Response => &mut self.response.edit().headers,
        }
    }
}

/// A field that a guest may write.
pub(in crate::plugin) fn field(name: &str, value: Vec<u8>) -> Result<(HeaderName, HeaderValue), EditError> {
    let name = field_name(name)?;
    let value = HeaderValue::from_maybe_shared(Bytes::from(value))
        .map_err(|_| EditError::Invalid(format!("the value of \"{name}\" has a character that no field may have")))?;
    Ok((name, value))
}

/// A status that ends an exchange: 1xx and 101 are the gateway's own.
pub(in crate::plugin) fn final_status(status: u16) -> Result<StatusCode, EditError> {
    StatusCode::from_u16(status)
        .ok()
        .filter(|code| (200..600).contains(&code.as_u16()))
        .ok_or_else(|| EditError::Invalid(format!("{status} is not a status from 200 to 599")))
}

fn field_name(name: &str) -> Result<HeaderName, EditError> {
    let name = HeaderName::from_bytes(name.as_bytes())
        .map_err(|_| EditError::Invalid(format!("\"{}\" is not a field name", name.escape_debug())))?;
    if is_gateways_own(&name) {
        return Err(EditError::Forbidden(name.to_string()));
    }
    Ok(name)
}
