//! The data plane: connections in, exchanges through, connections to backends out.
//! Read it from `handler` (the shell) to `forward` (the core); everything else is what these two stand on.
//! It never touches `control`: both meet in `runtime`.

pub(crate) mod activity;
pub(crate) mod arrived;
pub(crate) mod attempt;
pub(crate) mod body;
pub(crate) mod capacity;
pub(crate) mod client_stream;
pub(crate) mod connection;
pub(crate) mod delivery;
pub(crate) mod exchange;
pub(crate) mod expect;
pub(crate) mod forward;
pub(crate) mod handler;
pub(crate) mod handoff;
pub(crate) mod inbound;
pub(crate) mod listening;
pub(crate) mod outbound;
pub(crate) mod place;
pub(crate) mod pool;
pub(crate) mod refusal;
pub(crate) mod relay;
pub(crate) mod request_body;
pub(crate) mod rest;
pub(crate) mod retry;
pub mod stack;
pub(crate) mod timer;
pub(crate) mod tunnel;
pub(crate) mod upstream;
pub(crate) mod worker;
