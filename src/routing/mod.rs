//! From a request's host, method, path, query and headers to its route, and to the path that the backend sees.
//! Pure and order-free: the same routes in any order choose alike. `path` refuses what two readers could read differently.
//! It knows no backend and no clock, and opens nothing.
//!
//! # Which route wins
//!
//! 1. **Host**: exact beats wildcard, a longer wildcard beats a shorter one, a wildcard beats none. If no route of the
//!    best host takes the request, the next host is asked: a host is a preference, not a wall.
//! 2. **Path**: exact beats pattern beats prefix; a longer pattern or prefix beats a shorter one.
//! 3. **Conditions**: more beat fewer. Among as many, more exact values win, then more patterns, then fewer methods.
//! 4. What is still equal is decided by the text of the conditions, and only then by the order of the file.
//!
//! Paths are compared in the normal form of RFC 3986 §6.2.2 (`%7e` is `~`, `%c3` is `%C3`) and forwarded as they came.
//! A caller refuses [`path::is_ambiguous`] paths before it asks the [`table::Table`].

pub mod explain;
pub mod path;
mod precedence;
mod predicate;
pub mod redirect;
pub mod rewrite;
pub mod table;

#[cfg(test)]
mod oracle;
#[cfg(test)]
mod tests;
