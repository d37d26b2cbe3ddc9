//! The listeners of a process as reloads change them: bound before anything else happens, given to the workers after it.
//! It promises that a listener which stays keeps its sockets and its connections, that nothing is accepted on a new one
//! before the configuration that names it is in effect, and that one which goes finishes what it has. It accepts nothing.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::config::checked::{Accept, Config, ListenAddress, Listener};
use crate::lifecycle::clock;
use crate::lifecycle::socket_file::SocketFile;
use crate::net::listener::{self, BindError, Bound, Port};
use crate::proxy::listening::ListenerContext;
use crate::proxy::worker::Opened;
use crate::telemetry::metrics::{Gauge, Metrics};

/// The open listeners and how workers get new ones.
pub(super) struct Listeners {
    /// As the process was started: threads and their way of accepting do not change.
    accept: Accept,
    metrics: Arc<Metrics>,
    workers: Vec<UnboundedSender<Opened>>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// In the order of the configuration.
    open: Vec<Open>,
    /// Closed, and perhaps not yet on every worker.
    closing: Vec<Weak<ListenerContext>>,
}

struct Open {
    context: Arc<ListenerContext>,
    /// Goes with the listener.
    _file: Option<SocketFile>,
}

/// Listeners that are bound and that nobody accepts from yet. Dropped, they are closed again.
pub(super) struct Change {
    next: Vec<Next>,
}

enum Next {
    Kept(Arc<ListenerContext>, Listener),
    New(Open, Vec<Bound>),
}

impl Listeners {
    /// None yet, for as many workers as there are ends that come back.
    pub(super) fn new(config: &Config, metrics: &Arc<Metrics>) -> (Self, Vec<UnboundedReceiver<Opened>>) {
        let (workers, intakes) = (0..config.workers.get()).map(|_| unbounded_channel()).unzip();
        (Self { accept: config.accept, metrics: metrics.clone(), workers, state: Mutex::default() }, intakes)
    }

    /// Those that are open, in the order of the configuration.
    pub(super) fn contexts(&self) -> Vec<Arc<ListenerContext>> {
        self.state().open.iter().map(|open| open.context.clone()).collect()
    }

    /// Where the TCP listeners are, in the same order.
    pub(super) fn addresses(&self) -> Vec<SocketAddr> {
        self.state().open.iter().filter_map(|open| open.context.local).collect()
    }

    /// Binds what `config` names and is not open. Nothing has changed if it fails.
    pub(super) fn prepare(&self, config: &Config) -> Result<Change, BindError> {
        let mut known = self.contexts();
        let mut next = Vec::new();
        for declared in &config.listeners {
            let kept = known.iter().position(|context| context.declared == declared.address);
            next.push(match kept {
                Some(idx) => Next::Kept(known.remove(idx), declared.clone()),
                None => self.bind(declared)?,
            });
        }
        Ok(Change { next })
    }

    fn bind(&self, declared: &Listener) -> Result<Next, BindError> {
        // With `accept: balanced` one worker accepts for all.
        let n_sockets = if self.accept == Accept::Kernel { self.workers.len() } else { 1 };
        let bound = listener::bind(&declared.address, n_sockets, self.port(&declared.address))?;
        let local = bound.first().and_then(Bound::local_addr);
        let counters = self.metrics.listener(&declared.address.to_string());
        let context = Arc::new(ListenerContext::new(declared, local, counters));
        Ok(Next::New(Open { context, _file: listener::file_of(&declared.address) }, bound))
    }

    /// Whether a listener of ours has the port of `address`, or had it a moment ago.
    fn port(&self, address: &ListenAddress) -> Port {
        let state = self.state();
        let closing = state.closing.iter().filter_map(Weak::upgrade);
        let mut ours = state.open.iter().map(|open| open.context.clone()).chain(closing);
        let is_ours = port_of(address).is_some_and(|wanted| ours.any(|own| port_of(&own.declared) == Some(wanted)));
        if is_ours { Port::Ours } else { Port::Free }
    }

    /// Accepts on what is new and closes what is gone.
    pub(super) fn apply(&self, change: Change, config: &Config) {
        let mut state = self.state();
        let mut before = std::mem::take(&mut state.open);
        for next in change.next {
            let open = match next {
                Next::Kept(context, declared) => {
                    context.reconfigure(&declared);
                    let idx = before.iter().position(|open| Arc::ptr_eq(&open.context, &context));
                    before.remove(
                        idx.expect("prepared from the listeners that are open, by the only one who changes them"),
                    )
                }
                Next::New(open, bound) => {
                    self.watch(&open.context);
                    self.give(&open.context, bound);
                    open
                }
            };
            state.open.push(open);
        }
        let cut_at = clock::now().after(config.shutdown.drain);
        state.closing.retain(|context| context.strong_count() > 0);
        for gone in before {
            if gone.context.is_handed_over() {
                let address = &gone.context.address;
                tracing::warn!(
                    %address,
                    "nothing is accepted on this descriptor any more; it stays open until the process ends, since it is not \
                     ours to close, and clients that connect to it meanwhile wait in vain"
                );
            }
            gone.context.close(cut_at);
            state.closing.push(Arc::downgrade(&gone.context));
        }
    }

    fn give(&self, context: &Arc<ListenerContext>, bound: Vec<Bound>) {
        for (worker, socket) in self.workers.iter().zip(bound) {
            // A worker that is gone has been drained: then nobody accepts anything.
            let _ = worker.send(Opened { socket, context: context.clone() });
        }
    }

    fn watch(&self, context: &Arc<ListenerContext>) {
        let weak = Arc::downgrade(context);
        let read = move || weak.upgrade().map(|context| f64::from(context.connections()));
        self.metrics.watch(Gauge::Connections, &[&context.address], read);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The TCP port of an address, if it has a certain one.
pub(super) fn port_of(address: &ListenAddress) -> Option<u16> {
    match address {
        ListenAddress::Tcp(address) => Some(address.port()),
        ListenAddress::AnyTcp(port) => Some(*port),
        ListenAddress::Unix(_) | ListenAddress::Fd(_) => None,
    }
    .filter(|port| *port != 0)
}
