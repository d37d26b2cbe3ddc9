//! Placeholder
pub mod plan;
