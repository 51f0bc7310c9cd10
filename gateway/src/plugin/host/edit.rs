//! Edits of heads by guests: what is valid, what is the gateway's own, and how much one call may write.

use std::{iter, mem};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header::Entry, uri::PathAndQuery};

use super::{Lent, shortened};
use crate::exchange::{
    edits::{self, EditCount},
    headers::is_gateways_own,
    representation::describes_content,
};

/// Why an edit was refused; the head is unchanged.
pub(in crate::plugin) use crate::exchange::edits::Refused as EditError;

/// What the current call has written, and what stood there before its first edit.
#[derive(Debug, Default)]
pub(in crate::plugin) struct Written {
    count: EditCount,
    method: Option<Method>,
    target: Option<PathAndQuery>,
    status: Option<StatusCode>,
    fields: Vec<Field>,
}

/// A header field as it was.
#[derive(Debug)]
struct Field {
    head: Head,
    /// As the guest writes it: valid, in letters of any case. A copy of the map's own name would cost an allocation.
    name: String,
    values: Vec<HeaderValue>,
}

impl Written {
    /// The call is over.
    pub(super) fn clear(&mut self) {
        (self.count, self.method, self.target, self.status) = Default::default();
        self.fields.clear();
    }

    /// The fields among those it has edited that describe the content.
    pub(super) fn described(&self) -> impl Iterator<Item = HeaderName> {
        let names = self.fields.iter().map(|field| &field.name).filter(|name| describes_content(name));
        names.filter_map(|name| name.parse().ok())
    }

    /// Keeps what a field was before its first edit.
    fn before(&mut self, head: Head, name: String, values: impl Iterator<Item = HeaderValue>) {
        if !self.fields.iter().any(|field| field.head == head && field.name.eq_ignore_ascii_case(&name)) {
            self.fields.push(Field { head, name, values: values.collect() });
        }
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
        self.written.count.check(method.len())?;
        edits::method(method)?;
        let method = Method::from_bytes(method.as_bytes())
            .map_err(|_| EditError::Invalid(format!("\"{}\" is not a method", shortened(method))))?;
        self.written.count.add(method.as_str().len())?;
        let before = mem::replace(&mut self.request.method, method);
        self.written.method.get_or_insert(before);
        Ok(())
    }

    pub(in crate::plugin) fn set_path(&mut self, path: &str) -> Result<(), EditError> {
        self.written.count.check(path.len())?;
        let path = edits::path(path)?;
        let query = self.request.target.query().map(str::to_owned);
        self.set_target(&path, query.as_deref())
    }

    pub(in crate::plugin) fn set_query(&mut self, query: Option<&str>) -> Result<(), EditError> {
        self.written.count.check(query.map_or(0, str::len))?;
        query.map_or(Ok(()), edits::query)?;
        let path = self.request.target.path().to_owned();
        self.set_target(&path, query)
    }

    fn set_target(&mut self, path: &str, query: Option<&str>) -> Result<(), EditError> {
        edits::target(path, query)?;
        let target = query.map_or_else(|| path.to_owned(), |query| format!("{path}?{query}"));
        let parsed = PathAndQuery::from_maybe_shared(Bytes::from(target))
            .map_err(|_| EditError::Invalid("it is not a path and query".to_owned()))?;
        self.written.count.add(parsed.as_str().len())?;
        let before = mem::replace(&mut self.request.target, parsed);
        self.written.target.get_or_insert(before);
        Ok(())
    }

    pub(in crate::plugin) fn set_status(&mut self, status: u16) -> Result<(), EditError> {
        let status = final_status(status)?;
        self.written.count.add(0)?;
        let before = mem::replace(&mut self.response.status, status);
        self.written.status.get_or_insert(before);
        Ok(())
    }

    pub(in crate::plugin) fn keep(&mut self, state: Vec<u8>) -> Result<(), EditError> {
        edits::kept(&state)?;
        self.kept = Bytes::from(state);
        Ok(())
    }

    /// The fields, of which a guest reads or edits one: those that servers take for it do not pass.
    pub(in crate::plugin) fn read(&mut self, head: Head, name: &str) -> &HeaderMap {
        if head == Head::Request {
            self.request.touch(name);
        }
        self.headers(head)
    }

    pub(in crate::plugin) fn headers(&self, head: Head) -> &HeaderMap {
        match head {
            Head::Request => &self.request.headers,
            Head::Response => &self.response.headers,
        }
    }

    pub(in crate::plugin) fn write_header(
        &mut self,
        head: Head,
        how: Write,
        name: String,
        value: Vec<u8>,
    ) -> Result<(), EditError> {
        self.written.count.check(name.len() + value.len())?;
        let (key, value) = field(&name, value)?;
        self.read(head, key.as_str());
        self.written.count.add(name.len() + value.len())?;
        let full = || EditError::Limit("32768 header fields of a head");
        let (headers, written) = self.edited(head);
        // The name is valid: there is one way to fail.
        match headers.try_entry(key).map_err(|_| full())? {
            Entry::Vacant(entry) => {
                written.before(head, name, iter::empty());
                entry.try_insert(value).map(drop).map_err(|_| full())
            }
            Entry::Occupied(mut entry) => {
                written.before(head, name, entry.iter().cloned());
                match how {
                    Write::Set => drop(entry.insert(value)),
                    Write::Add => entry.append(value),
                }
                Ok(())
            }
        }
    }

    pub(in crate::plugin) fn remove_header(&mut self, head: Head, name: String) -> Result<(), EditError> {
        let key = field_name(&name)?;
        self.read(head, key.as_str());
        if self.headers(head).contains_key(&key) {
            self.written.count.add(0)?;
            let (headers, written) = self.edited(head);
            written.before(head, name, headers.get_all(&key).iter().cloned());
            headers.remove(key);
        }
        Ok(())
    }

    fn edited(&mut self, head: Head) -> (&mut HeaderMap, &mut Written) {
        let headers = match head {
            Head::Request => &mut self.request.headers,
            Head::Response => &mut self.response.headers,
        };
        (headers, &mut self.written)
    }

    /// Takes back all edits of the call.
    pub(in crate::plugin) fn undo(&mut self) {
        let Written { method, target, status, fields, .. } = &mut self.written;
        method.take().into_iter().for_each(|method| self.request.method = method);
        target.take().into_iter().for_each(|target| self.request.target = target);
        status.take().into_iter().for_each(|status| self.response.status = status);
        for Field { head, name, values } in fields.drain(..) {
            let headers = match head {
                Head::Request => &mut self.request.headers,
                Head::Response => &mut self.response.headers,
            };
            headers.remove(&name);
            let Ok(name) = HeaderName::from_bytes(name.as_bytes()) else { continue };
            for value in values {
                // There was room for them before.
                let _ = headers.try_append(name.clone(), value);
            }
        }
    }
}

/// A field that a guest may write.
pub(in crate::plugin) fn field(name: &str, value: Vec<u8>) -> Result<(HeaderName, HeaderValue), EditError> {
    let name = field_name(name)?;
    let value =
        HeaderValue::from_maybe_shared(Bytes::from(value)).map_err(|_| edits::not_a_field_value(name.as_str()))?;
    Ok((name, value))
}

/// A status that ends an exchange: 1xx and 101 are the gateway's own.
pub(in crate::plugin) fn final_status(status: u16) -> Result<StatusCode, EditError> {
    edits::status(status)?;
    StatusCode::from_u16(status).map_err(|error| EditError::Invalid(error.to_string()))
}

fn field_name(name: &str) -> Result<HeaderName, EditError> {
    let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| edits::not_a_field_name(name))?;
    if is_gateways_own(&name) {
        return Err(EditError::Forbidden(name.to_string()));
    }
    Ok(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exchange::{RequestHead, edits::MAX_EDITS};

    fn lent() -> Lent {
        let mut request = RequestHead { target: PathAndQuery::from_static("/a?b"), ..RequestHead::default() };
        for value in ["1", "2"] {
            request.headers.append("x-twice", HeaderValue::from_static(value));
        }
        Lent { request, ..Lent::default() }
    }

    fn write(lent: &mut Lent, how: Write, name: &str, value: &str) {
        lent.write_header(Head::Request, how, name.to_owned(), value.into()).expect("it may be written");
    }

    #[test]
    fn undone_everything_is_as_before() {
        let before = lent();
        let mut lent = lent();
        lent.set_method("PUT").expect("a method");
        lent.set_method("PATCH").expect("a method");
        lent.set_path("/c").expect("a path");
        lent.set_query(None).expect("a query");
        lent.set_status(404).expect("a status");
        write(&mut lent, Write::Add, "x-twice", "3");
        write(&mut lent, Write::Set, "x-twice", "4");
        write(&mut lent, Write::Add, "x-new", "5");
        lent.remove_header(Head::Request, "X-Twice".to_owned()).expect("a field");
        lent.write_header(Head::Response, Write::Set, "x-twice".to_owned(), b"6".to_vec()).expect("it may be written");
        assert_eq!((lent.request.target.as_str(), lent.request.headers.len()), ("/c", 1));
        lent.undo();
        assert_eq!((&lent.request.method, &lent.request.target), (&before.request.method, &before.request.target));
        assert_eq!(lent.request.headers, before.request.headers);
        assert_eq!((lent.response.status, lent.response.headers.len()), (before.response.status, 0));
    }

    #[test]
    fn one_call_makes_so_many_edits_and_their_undoing_costs_as_much() {
        let mut lent = lent();
        for _ in 2..MAX_EDITS {
            write(&mut lent, Write::Add, "x-twice", "again");
        }
        assert_eq!(lent.written.fields.len(), 1, "what it was is kept once");
        for name in ["x-a", "x-b"] {
            write(&mut lent, Write::Add, name, "1");
        }
        let refused = lent.write_header(Head::Request, Write::Add, "x-c".to_owned(), b"1".to_vec());
        assert!(matches!(refused, Err(EditError::Limit(_))));
    }
}
