//! Placeholder
pub mod birth;
pub mod brake;
pub mod crew;
pub mod plan;
pub mod replacement;
