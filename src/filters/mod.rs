//! What a user wraps around the exchange of a service: tower layers, one file per word of the language.
//! They promise to be ready always: overload is an answer, never a wait. They know neither routes nor backends; their
//! order is decided in `proxy::stack`.

pub mod headers;
