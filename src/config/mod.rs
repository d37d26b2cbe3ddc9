//! Text in, [`Config`](checked::Config) out, or every mistake at once with its place and its cure.
//! No tokio, no sockets, no clock: what is here can run in `portway check`.

pub mod checked;
pub mod defaults;
