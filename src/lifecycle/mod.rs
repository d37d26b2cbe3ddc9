//! From start to end of the process: what time it is, whether it is ready, how it drains, what signals ask for, which
//! socket files it leaves.
//! Promises that all of it works across several current-thread runtimes. It binds nothing and ends no connection itself.

pub mod clock;
pub mod drain;
pub mod memory;
pub mod readiness;
pub mod signal;
pub mod socket_file;
