//! The `export!` macro: what makes a crate a plugin.

/// Makes the crate a plugin: names its type and the phases it takes part in.
///
/// A crate has one `export!`, which names all phases: `authenticate`, `request`, `request_body`, `request_stream`,
/// `request_trailers`, `route`, `balance`, `response`, `response_body`, `response_stream`, `response_trailers`, `log` and `tick`.
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
        // Its name is what the compiler says of a second one.
        #[doc(hidden)]
        #[allow(dead_code, non_upper_case_globals)]
        const export_stands_once_and_names_all_phases: () = ();

        $($crate::__phase!(implemented $phase $plugin);)+

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
            $($crate::__phase!(exported $phase Component);)+
        };
    };
}

/// One phase by its name, or what the names are.
#[doc(hidden)]
#[macro_export]
macro_rules! __phase {
    ($part:ident authenticate $for:tt) => { $crate::__phase_of!($part authenticate $for); };
    ($part:ident request $for:tt) => { $crate::__phase_of!($part request $for); };
    ($part:ident request_body $for:tt) => { $crate::__phase_of!($part request_body $for); };
    ($part:ident request_stream $for:tt) => { $crate::__phase_of!($part request_stream $for); };
    ($part:ident request_trailers $for:tt) => { $crate::__phase_of!($part request_trailers $for); };
    ($part:ident route $for:tt) => { $crate::__phase_of!($part route $for); };
    ($part:ident balance $for:tt) => { $crate::__phase_of!($part balance $for); };
    ($part:ident response $for:tt) => { $crate::__phase_of!($part response $for); };
    ($part:ident response_body $for:tt) => { $crate::__phase_of!($part response_body $for); };
    ($part:ident response_stream $for:tt) => { $crate::__phase_of!($part response_stream $for); };
    ($part:ident response_trailers $for:tt) => { $crate::__phase_of!($part response_trailers $for); };
    ($part:ident log $for:tt) => { $crate::__phase_of!($part log $for); };
    ($part:ident tick $for:tt) => { $crate::__phase_of!($part tick $for); };
    (implemented $unknown:ident $for:tt) => {
        ::std::compile_error!(::std::concat!(
            "there is no phase `",
            ::std::stringify!($unknown),
            "`: the phases are authenticate, request, request_body, request_stream, request_trailers, route, balance, response, \
             response_body, response_stream, response_trailers, log and tick"
        ));
    };
    // It was refused by its name already.
    (exported $unknown:ident $for:tt) => {};
}

#[doc(hidden)]
#[macro_export]
macro_rules! __phase_of {
    (implemented $phase:ident $plugin:ty) => {
        const _: () = $crate::phase::$phase::implemented::<$plugin>();
    };
    (exported $phase:ident $component:ident) => {
        $crate::phase::$phase::guest::export!($component with_types_in $crate::phase::$phase::guest);
    };
}
