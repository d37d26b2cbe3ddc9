//! The immutable runtime view of one configuration: what a request sees from its first to its last byte.
//! It promises to be complete when it is published. Building it opens nothing and resolves no name.

use std::collections::HashMap;
use std::sync::Arc;

use crate::config::checked::{self, Config};
use crate::routing::table::Table;
use crate::runtime::queue::Queue;
use crate::runtime::registry::Registry;
use crate::runtime::route::Route;
use crate::runtime::service::Service;
use crate::telemetry::metrics::Metrics;
use crate::units::ServiceName;

/// One configuration, ready for requests.
#[derive(Debug)]
pub struct Snapshot<S> {
    /// Counts up from 1 with every configuration that was applied.
    pub generation: u64,
    /// What was checked.
    pub config: Config,
    /// Finds the route of a request.
    pub table: Table<Arc<Route<S>>>,
    /// In the order of the configuration.
    pub services: Vec<Arc<Service>>,
    by_name: HashMap<ServiceName, usize>,
}

/// What building a snapshot needs besides the configuration.
pub struct Build<'a, S> {
    /// The number of the new snapshot.
    pub generation: u64,
    /// Where backends with their state are found.
    pub registry: &'a Registry,
    /// Where counters are made.
    pub metrics: &'a Metrics,
    /// Makes the filter stack of a service, if it has filters.
    pub stack: &'a dyn Fn(&checked::Service) -> Option<S>,
}

impl<S: Clone> Snapshot<S> {
    /// Builds the runtime view of `config`. Addresses are members at once, names after their first resolution.
    pub fn build(config: Config, with: &Build<'_, S>) -> Self {
        let mut services = Vec::with_capacity(config.services.len());
        let mut routes = Vec::new();
        for declared in &config.services {
            let metrics = with.metrics.service(&declared.name);
            let service = Arc::new(Service::new(declared, Arc::new(Queue::default()), metrics));
            install_addresses(&service, declared, with.registry);
            let stack = (with.stack)(declared);
            for route in &declared.routes {
                let finished = Route {
                    display: route.display.clone(),
                    action: route.action.clone(),
                    service: service.clone(),
                    stack: stack.clone(),
                };
                routes.push((route.matcher.clone(), Arc::new(finished)));
            }
            services.push(service);
        }
        let by_name = services.iter().enumerate().map(|(idx, service)| (service.name.clone(), idx)).collect();
        Self { generation: with.generation, table: Table::build(routes), services, by_name, config }
    }

    /// The service of this name.
    pub fn service(&self, name: &ServiceName) -> Option<&Arc<Service>> {
        self.by_name.get(name).map(|idx| &self.services[*idx])
    }
}

/// Makes members of the backends that are written as IP addresses; the rest waits for the resolver.
fn install_addresses(service: &Service, declared: &checked::Service, registry: &Registry) {
    let checked::Source::Backends(backends) = &declared.source;
    let mut members = Vec::new();
    let mut unresolved = Vec::new();
    for entry in backends {
        match entry.address.socket_addr() {
            Some(address) => members.push((registry.backend(&service.name, address), entry.weight)),
            None => unresolved.push(entry.address.clone()),
        }
    }
    service.set_members(members, unresolved);
}
