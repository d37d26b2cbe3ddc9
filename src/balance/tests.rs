//! Facts about balancing.
