//! Portway: the front door of containerised services and the sidecar next to each of them.

#![deny(unsafe_code)]

pub mod admin;
pub mod app;
pub mod balance;
pub mod cli;
pub mod config;
pub mod control;
pub mod error;
pub mod filters;
pub mod http;
pub mod lifecycle;
pub mod net;
pub mod proxy;
pub mod routing;
pub mod runtime;
pub mod telemetry;
pub mod units;
