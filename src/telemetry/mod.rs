//! What a request leaves behind: numbers, one log line, and ids that tie it to what happened elsewhere.
//! Promises that the request path takes no lock shared between workers and allocates nothing for them.
//! It does not know what a route, a backend's health or a configuration file is: others hand it names and numbers.

pub mod access_log;
pub mod events;
pub mod exposition;
pub mod histogram;
pub mod logging;
pub mod metrics;
pub mod request_id;
pub mod shards;
pub mod trace;
pub mod window;
