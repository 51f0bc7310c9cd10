//! What Stile does, over real sockets: one module per topic.

mod progress;
mod promises;

mod forwarding;
mod client_address;
mod framing;
mod messages;
mod unparsed;
mod wire;
mod http2;
mod services;
mod registry;
mod invocation;
mod directories;
mod streaming;
mod websocket;
mod recording;

mod filters;
mod hostile;
mod neighbours;
mod by_hand;
mod swap;
mod sources;
mod rollout;
mod store;
mod admin;
mod bodies;
mod porter;
mod toolbox;
mod calls;
mod endings;
mod plugins;
mod resources;
mod consumers;
mod apis;
mod portal;
mod history;
mod transfer;
mod openapi;
mod drain;
mod reload;
mod contract;
mod examples;
mod extended;
mod tidy;
