//! The Docker engines: what runs on them, told as values, and the few things that are asked of them.
//! It promises that an engine which is away, slow or wrong changes nothing that is known. It decides nothing about
//! services: discovery and the replicas do.

pub mod facts;
