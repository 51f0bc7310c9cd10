//! The phases a plugin may take part in, one file each: its trait, and on wasm its export.

pub mod authenticate;
pub mod balance;
#[cfg(target_arch = "wasm32")]
pub mod configuration;
pub mod log;
pub mod request;
pub mod request_body;
pub mod request_stream;
pub mod request_trailers;
pub mod response;
pub mod response_body;
pub mod response_stream;
pub mod response_trailers;
pub mod route;
pub mod tick;

#[cfg(target_arch = "wasm32")]
pub use component::Component;

#[cfg(target_arch = "wasm32")]
mod component {
    use std::{cell::OnceCell, thread::LocalKey};

    use crate::{Error, Plugin, Result};

    /// What `export!` makes of a plugin: the place of the one value that an instance holds.
    pub trait Component {
        type Plugin: Plugin;

        fn slot() -> &'static LocalKey<OnceCell<Self::Plugin>>;

        fn call<T>(phase: impl FnOnce(&Self::Plugin) -> Result<T>) -> Result<T, String> {
            Self::slot().with(|slot| match slot.get() {
                Some(plugin) => phase(plugin).map_err(Error::into),
                None => Err("called before it was configured".into()),
            })
        }
    }
}
