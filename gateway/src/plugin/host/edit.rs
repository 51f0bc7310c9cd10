//! Edits of heads by guests: what is valid, what is the gateway's own, and how much one call may write.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, uri::PathAndQuery};

use super::Lent;
use crate::exchange::{headers::is_gateways_own, path::normalize};

/// Edits that one call may make.
const MAX_EDITS: usize = 256;
/// Bytes that one call may write into heads.
const MAX_BYTES: usize = 64 << 10;
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

/// How much the current call has written, and which fields: how they were before is kept once.
#[derive(Debug, Default)]
pub(in crate::plugin) struct Written {
    edits: usize,
    bytes: usize,
    fields: Vec<(Head, HeaderName)>,
}

impl Written {
    fn add(&mut self, bytes: usize) -> Result<(), EditError> {
        let bytes = self.bytes + bytes;
        if self.edits >= MAX_EDITS {
            return Err(EditError::Limit("256 edits by one call"));
        }
        if bytes > MAX_BYTES {
            return Err(EditError::Limit("64 KiB written by one call"));
        }
        self.edits += 1;
        self.bytes = bytes;
        Ok(())
    }
}

/// Whose fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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
        self.written.add(method.as_str().len())?;
        self.request.set(|head| &mut head.method, method);
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
        self.written.add(parsed.as_str().len())?;
        self.request.set(|head| &mut head.target, parsed);
        Ok(())
    }

    pub(in crate::plugin) fn set_status(&mut self, status: u16) -> Result<(), EditError> {
        let status = final_status(status)?;
        self.written.add(0)?;
        self.response.set(|head| &mut head.status, status);
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
        self.written.add(name.as_str().len() + value.len())?;
        let headers = self.edit_field(head, &name);
        let full = match how {
            Write::Set => headers.try_insert(name, value).err(),
            Write::Add => headers.try_append(name, value).err(),
        };
        full.map_or(Ok(()), |_| Err(EditError::Limit("header fields of a head")))
    }

    pub(in crate::plugin) fn remove_header(&mut self, head: Head, name: &str) -> Result<(), EditError> {
        let name = field_name(name)?;
        if self.headers(head).contains_key(&name) {
            self.written.add(0)?;
            self.edit_field(head, &name).remove(name);
        }
        Ok(())
    }

    /// Gives a head's fields, of which this one may be edited.
    fn edit_field(&mut self, head: Head, name: &HeaderName) -> &mut HeaderMap {
        if !self.written.fields.iter().any(|(of, written)| *of == head && written == name) {
            self.written.fields.push((head, name.clone()));
            let before: Vec<HeaderValue> = self.headers(head).get_all(name).iter().cloned().collect();
            let name = name.clone();
            match head {
                Head::Request => drop(self.request.edit(move |head| restore(&mut head.headers, name, before))),
                Head::Response => drop(self.response.edit(move |head| restore(&mut head.headers, name, before))),
            }
        }
        match head {
            Head::Request => &mut self.request.edit_again().headers,
            Head::Response => &mut self.response.edit_again().headers,
        }
    }
}

fn restore(headers: &mut HeaderMap, name: HeaderName, before: Vec<HeaderValue>) {
    headers.remove(&name);
    for value in before {
        // There was room for them before.
        let _ = headers.try_append(name.clone(), value);
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
