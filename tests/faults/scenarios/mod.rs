//! The scenarios, one row each: what is injected, what has to hold, and how it is played.
//! They promise to be independent of each other: each brings its own backends and its own proxy.

mod attack;
mod cancel;
mod leaving;
mod overload;
mod process;
mod reload;
mod saves;
mod slow;
mod slow_clients;
mod upstream;
mod version;

use crate::stage::scenario::Scenario;

/// Every scenario, in the order of the table.
pub(crate) fn all() -> impl Iterator<Item = &'static Scenario> {
    const ALL: [&[Scenario]; 10] = [
        cancel::SCENARIOS,
        slow_clients::SCENARIOS,
        attack::SCENARIOS,
        upstream::SCENARIOS,
        leaving::SCENARIOS,
        slow::SCENARIOS,
        overload::SCENARIOS,
        reload::SCENARIOS,
        saves::SCENARIOS,
        process::SCENARIOS,
    ];
    ALL.into_iter().flatten()
}
