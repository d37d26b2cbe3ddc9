//! The open-loop load and the ledger of the fault suite, for the suites on a real engine.

#![allow(dead_code, reason = "a suite uses what it needs of them")]

#[path = "../../faults/stage/client.rs"]
pub(crate) mod client;
#[path = "../../faults/stage/ledger.rs"]
pub(crate) mod ledger;
#[path = "../../faults/stage/load.rs"]
pub(crate) mod load;
#[path = "../../faults/stage/payload.rs"]
pub(crate) mod payload;
