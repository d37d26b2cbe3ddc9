//! Text in, [`Config`](checked::Config) out, or every mistake at once with its place and its cure.
//! No tokio, no sockets, no clock: what is here can run in `portway check`.

pub mod checked;
pub mod decode;
pub mod defaults;
pub mod diagnostic;
pub mod diff;
pub mod expand;
pub mod include;
pub mod inputs;
pub mod load;
pub mod quantity;
pub mod raw;
pub mod render;
pub mod scalar;
pub mod schema;
pub mod show;
pub mod source;
pub mod tree;
pub mod validate;

#[cfg(test)]
mod tests;
