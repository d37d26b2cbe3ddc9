//! Portway: the front door of containerised services and the sidecar next to each of them.

#![deny(unsafe_code)]

pub mod config;
pub mod error;
pub mod net;
pub mod units;
