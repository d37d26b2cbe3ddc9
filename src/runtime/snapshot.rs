//! The immutable runtime view of one configuration: what a request sees from its first to its last byte.
//! It promises to be complete when it is published. Building it opens nothing and resolves no name.

use std::collections::HashMap;
use std::sync::Arc;

use crate::config::checked::{self, Config};
use crate::routing::table::Table;
use crate::runtime::membership::Members;
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
    /// What it will replace: its services go on in the new one.
    pub previous: Option<&'a Snapshot<S>>,
}

impl<S> Build<'_, S> {
    /// The service of `declared`: the present one if nothing about it changed, the present one under new policies, or a
    /// new one.
    fn service(&self, declared: &checked::Service) -> Arc<Service> {
        let known = self.previous.and_then(|previous| previous.declared(&declared.name));
        let service = match known {
            Some((before, service)) if before == declared => return service.clone(),
            Some((_, service)) => service.reconfigured(declared),
            None => Service::new(declared, self.metrics.service(&declared.name)),
        };
        Members::of(declared, self.registry).replace(&service, self.registry);
        Arc::new(service)
    }
}

impl<S> Snapshot<S> {
    /// A service with what the configuration says of it.
    pub fn declared(&self, name: &ServiceName) -> Option<(&checked::Service, &Arc<Service>)> {
        self.by_name.get(name).map(|idx| (&self.config.services[*idx], &self.services[*idx]))
    }
}

impl<S: Clone> Snapshot<S> {
    /// Builds the runtime view of `config`. Addresses are members at once, names after their first resolution.
    pub fn build(config: Config, with: &Build<'_, S>) -> Self {
        let mut services = Vec::with_capacity(config.services.len());
        let mut routes = Vec::new();
        for declared in &config.services {
            let service = with.service(declared);
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
