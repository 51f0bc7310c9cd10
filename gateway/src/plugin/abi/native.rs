//! The ABI of `stile:plugin`, Stile's own contract: bindings of its WIT and thin impls over the neutral host.

mod body;
mod capabilities;
mod crypto;
mod phases;

use http::HeaderMap;
use wasmtime::component::{HasSelf, Linker, Resource};

use self::bindings::stile::plugin::{
    clock, connection, consumers,
    exchange::{self, Header},
    http_client, key_value, log, metrics, random,
};
use super::super::host::{EditError, Head, Host, Write};

pub(in crate::plugin) use phases::{Calls, Phases};

/// The request or response of the call; a guest never owns one, and there is one at a time.
#[derive(Debug)]
#[expect(unreachable_pub, reason = "the macro exports it again")]
pub enum RequestHandle {}

/// See [`RequestHandle`].
#[derive(Debug)]
#[expect(unreachable_pub, reason = "the macro exports it again")]
pub enum ResponseHandle {}

/// The body of the call, likewise.
#[derive(Debug)]
#[expect(unreachable_pub, reason = "the macro exports it again")]
pub enum BodyHandle {}

/// A call under way, by its number.
#[derive(Debug)]
#[expect(unreachable_pub, reason = "the macro exports it again")]
pub enum CallHandle {}

mod bindings {
    wasmtime::component::bindgen!({
        path: "../plugin-sdk/wit",
        world: "stile:plugin/host",
        imports: {
            "stile:plugin/consumers.verify": async | trappable,
            "stile:plugin/key-value.set": async | trappable,
            "stile:plugin/key-value.compare-and-swap": async | trappable,
            "stile:plugin/key-value.increment": async | trappable,
            "stile:plugin/http-client.send": async | trappable,
            "stile:plugin/http-client.[method]pending.wait": async | trappable,
            default: trappable,
        },
        with: {
            "stile:plugin/exchange.request": super::RequestHandle,
            "stile:plugin/exchange.response": super::ResponseHandle,
            "stile:plugin/body.body-stream": super::BodyHandle,
            "stile:plugin/http-client.pending": super::CallHandle,
        },
    });
}

pub(super) fn add_to_linker(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    exchange::add_to_linker::<_, HasSelf<Host>>(linker, |host| host)?;
    body::add_to_linker(linker)?;
    log::add_to_linker::<_, HasSelf<Host>>(linker, |host| host)?;
    consumers::add_to_linker::<_, HasSelf<Host>>(linker, |host| host)?;
    connection::add_to_linker::<_, HasSelf<Host>>(linker, |host| host)?;
    clock::add_to_linker::<_, HasSelf<Host>>(linker, |host| host)?;
    random::add_to_linker::<_, HasSelf<Host>>(linker, |host| host)?;
    crypto::add_to_linker(linker)?;
    key_value::add_to_linker::<_, HasSelf<Host>>(linker, |host| host)?;
    metrics::add_to_linker::<_, HasSelf<Host>>(linker, |host| host)?;
    http_client::add_to_linker::<_, HasSelf<Host>>(linker, |host| host)
}

type Edit = wasmtime::Result<Result<(), exchange::EditError>>;
type Request = Resource<RequestHandle>;
type Response = Resource<ResponseHandle>;

impl exchange::Host for Host {}

impl exchange::HostRequest for Host {
    fn method(&mut self, _: Request) -> wasmtime::Result<String> {
        Ok(self.lent()?.request.method.to_string())
    }

    fn set_method(&mut self, _: Request, method: String) -> Edit {
        Ok(self.lent()?.set_method(&method).map_err(Into::into))
    }

    fn path(&mut self, _: Request) -> wasmtime::Result<String> {
        Ok(self.lent()?.request.target.path().to_owned())
    }

    fn set_path(&mut self, _: Request, path: String) -> Edit {
        Ok(self.lent()?.set_path(&path).map_err(Into::into))
    }

    fn query(&mut self, _: Request) -> wasmtime::Result<Option<String>> {
        Ok(self.lent()?.request.target.query().map(str::to_owned))
    }

    fn set_query(&mut self, _: Request, query: Option<String>) -> Edit {
        Ok(self.lent()?.set_query(query.as_deref()).map_err(Into::into))
    }

    fn authority(&mut self, _: Request) -> wasmtime::Result<String> {
        Ok(self.lent()?.request.authority.as_ref().map(ToString::to_string).unwrap_or_default())
    }

    fn header(&mut self, _: Request, name: String) -> wasmtime::Result<Option<Vec<u8>>> {
        Ok(first(self.lent()?.read(Head::Request, &name), &name))
    }

    fn header_values(&mut self, _: Request, name: String) -> wasmtime::Result<Vec<Vec<u8>>> {
        Ok(values(self.lent()?.read(Head::Request, &name), &name))
    }

    fn headers(&mut self, _: Request) -> wasmtime::Result<Vec<Header>> {
        Ok(list(self.lent()?.headers(Head::Request)))
    }

    fn set_header(&mut self, _: Request, name: String, value: Vec<u8>) -> Edit {
        Ok(self.lent()?.write_header(Head::Request, Write::Set, name, value).map_err(Into::into))
    }

    fn add_header(&mut self, _: Request, name: String, value: Vec<u8>) -> Edit {
        Ok(self.lent()?.write_header(Head::Request, Write::Add, name, value).map_err(Into::into))
    }

    fn remove_header(&mut self, _: Request, name: String) -> Edit {
        Ok(self.lent()?.remove_header(Head::Request, name).map_err(Into::into))
    }

    fn consumer(&mut self, _: Request) -> wasmtime::Result<Option<exchange::Consumer>> {
        Ok(self.lent()?.consumer.as_deref().cloned().map(Into::into))
    }

    fn keep(&mut self, _: Request, state: Vec<u8>) -> Edit {
        Ok(self.lent()?.keep(state).map_err(Into::into))
    }

    fn kept(&mut self, _: Request) -> wasmtime::Result<Vec<u8>> {
        Ok(self.lent()?.kept.to_vec())
    }

    fn drop(&mut self, _: Request) -> wasmtime::Result<()> {
        Ok(())
    }
}

impl exchange::HostResponse for Host {
    fn status(&mut self, _: Response) -> wasmtime::Result<u16> {
        Ok(self.lent()?.response.status.as_u16())
    }

    fn set_status(&mut self, _: Response, status: u16) -> Edit {
        Ok(self.lent()?.set_status(status).map_err(Into::into))
    }

    fn header(&mut self, _: Response, name: String) -> wasmtime::Result<Option<Vec<u8>>> {
        Ok(first(self.lent()?.headers(Head::Response), &name))
    }

    fn header_values(&mut self, _: Response, name: String) -> wasmtime::Result<Vec<Vec<u8>>> {
        Ok(values(self.lent()?.headers(Head::Response), &name))
    }

    fn headers(&mut self, _: Response) -> wasmtime::Result<Vec<Header>> {
        Ok(list(self.lent()?.headers(Head::Response)))
    }

    fn set_header(&mut self, _: Response, name: String, value: Vec<u8>) -> Edit {
        Ok(self.lent()?.write_header(Head::Response, Write::Set, name, value).map_err(Into::into))
    }

    fn add_header(&mut self, _: Response, name: String, value: Vec<u8>) -> Edit {
        Ok(self.lent()?.write_header(Head::Response, Write::Add, name, value).map_err(Into::into))
    }

    fn remove_header(&mut self, _: Response, name: String) -> Edit {
        Ok(self.lent()?.remove_header(Head::Response, name).map_err(Into::into))
    }

    fn kept(&mut self, _: Response) -> wasmtime::Result<Vec<u8>> {
        Ok(self.lent()?.kept.to_vec())
    }

    fn request_method(&mut self, _: Response) -> wasmtime::Result<String> {
        Ok(self.lent()?.request.method.to_string())
    }

    fn request_path(&mut self, _: Response) -> wasmtime::Result<String> {
        Ok(self.lent()?.request.target.path().to_owned())
    }

    fn request_header(&mut self, _: Response, name: String) -> wasmtime::Result<Option<Vec<u8>>> {
        Ok(first(self.lent()?.read(Head::Request, &name), &name))
    }

    fn drop(&mut self, _: Response) -> wasmtime::Result<()> {
        Ok(())
    }
}

impl From<EditError> for exchange::EditError {
    fn from(error: EditError) -> Self {
        match error {
            EditError::Invalid(text) => Self::Invalid(text),
            EditError::Forbidden(name) => Self::Forbidden(name),
            EditError::Limit(name) => Self::Limit(name.to_owned()),
        }
    }
}

fn first(headers: &HeaderMap, name: &str) -> Option<Vec<u8>> {
    headers.get(name).map(|value| value.as_bytes().to_vec())
}

fn values(headers: &HeaderMap, name: &str) -> Vec<Vec<u8>> {
    headers.get_all(name).iter().map(|value| value.as_bytes().to_vec()).collect()
}

fn list(headers: &HeaderMap) -> Vec<Header> {
    headers.iter().map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_vec())).collect()
}
