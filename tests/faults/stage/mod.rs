//! What every scenario stands on: backends that misbehave on command, load that misses nothing, the books of both.
//! It promises that nothing outlives its scenario and that every wait is bounded. It asserts nothing about Portway.

#![allow(dead_code, reason = "two programs share it: the short form in `cargo test`, the full form in `cargo bench`")]
#![allow(unused_imports, reason = "a bench has no tests")]

pub(crate) mod backend;
pub(crate) mod client;
pub(crate) mod figures;
pub(crate) mod front;
pub(crate) mod ledger;
pub(crate) mod load;
pub(crate) mod namespace;
pub(crate) mod payload;
pub(crate) mod scenario;
pub(crate) mod site;
pub(crate) mod websockets;
