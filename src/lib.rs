//! Portway: the front door of containerised services and the sidecar next to each of them.

#![forbid(unsafe_code)]

pub mod cli;
pub mod config;
pub mod error;
pub mod units;
