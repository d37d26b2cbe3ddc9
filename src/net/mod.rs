//! Bytes and sockets: binding, accepting, dialling. It promises streams with Nagle off and errors that say which address.
//! It knows no routes, no services and no HTTP.

pub mod dial;
pub mod inherited;
pub mod listener;
pub mod stream;
