//! Loops that write the runtime view, on the control thread: what changes without a request.
//! They promise never to touch the data plane but through `runtime`. They serve nothing.

pub mod autoscale;
pub mod by_hand;
pub mod cold_starts;
pub mod discovery;
pub mod docker;
pub mod health;
pub mod history;
pub mod outlier;
pub mod pulse;
pub mod reload;
pub mod replica_gauges;
pub mod replicas;
pub mod resolve;
pub mod watch;
