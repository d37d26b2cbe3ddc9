//! What the data plane and the control plane share: snapshots, services, backends. The two meet here and nowhere else.
//! It promises that reading never blocks: configuration and membership change by swap, state by atomics.
//! It does no I/O, spawns nothing and knows neither hyper nor the filters.

pub mod backend;
pub mod budget;
pub mod conduct;
pub mod group;
pub mod idle_limit;
pub mod leaving;
pub mod membership;
pub mod queue;
pub mod registry;
pub mod replicas;
pub mod route;
pub mod scale;
pub mod service;
pub mod snapshot;
pub mod standing;
pub mod store;
pub mod tempo;
