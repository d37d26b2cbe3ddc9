//! HTTP facts: what a gateway must check, remove, add and say, whatever the route.
//! Pure: bytes and header maps in, verdicts out; no socket, no clock, no runtime.
//! It knows no routes and no backends.

pub mod authority;
pub mod chunked;
pub mod forwarded;
pub mod framing;
pub mod head_guard;
pub mod headers;
pub mod leaving;
pub mod local_reply;
pub mod patience;
pub mod request_head;
pub mod response_head;
pub mod signature;
pub mod survey;
pub mod upgrade;
