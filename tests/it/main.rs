//! The integration tests: one binary, one module per subject.

mod corpus;
mod guard_and_engine;
