//! The `export!` macro: what makes a crate a plugin.

/// Makes the crate a plugin: names its type and the phases it takes part in.
///
/// A phase `p` is the module `phase::p` of this crate, so that a new one needs nothing here.
///
/// ```
/// use stile_sdk::prelude::*;
///
/// #[derive(Deserialize)]
/// struct Trace {}
///
/// impl RequestFilter for Trace {
///     fn on_request(&self, request: &mut Request) -> Result<Verdict> {
///         log::info!("{} {}", request.method(), request.path());
///         Ok(Verdict::Proceed)
///     }
/// }
///
/// impl ResponseFilter for Trace {
///     fn on_response(&self, response: &mut Response) -> Result<Verdict> {
///         log::info!("{} {}", response.status(), response.request_path());
///         Ok(Verdict::Proceed)
///     }
/// }
///
/// stile_sdk::export!(Trace: request, response);
/// ```
#[macro_export]
macro_rules! export {
    ($plugin:ty: $($phase:ident),+ $(,)?) => {
        $(const _: () = $crate::phase::$phase::implemented::<$plugin>();)+

        #[cfg(target_arch = "wasm32")]
        const _: () = {
            struct Component;

            impl $crate::phase::Component for Component {
                type Plugin = $plugin;

                fn slot() -> &'static ::std::thread::LocalKey<::std::cell::OnceCell<$plugin>> {
                    ::std::thread_local! {
                        static PLUGIN: ::std::cell::OnceCell<$plugin> = const { ::std::cell::OnceCell::new() };
                    }
                    &PLUGIN
                }
            }

            $crate::phase::configuration::guest::export!(Component with_types_in $crate::phase::configuration::guest);
            $($crate::phase::$phase::guest::export!(Component with_types_in $crate::phase::$phase::guest);)+
        };
    };
}
