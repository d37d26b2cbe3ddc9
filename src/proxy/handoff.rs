//! `accept: balanced`: one worker accepts and hands each connection to the worker with the fewest.
//! It promises that the difference between two workers stays one connection as long as connections live alike. It costs a
//! wake-up of another thread per connection, none per request; `accept: kernel` has neither.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};

use crate::net::stream::{Detached, Stream};
use crate::proxy::listening::ListenerContext;

/// A connection on its way from the accepting worker to another. It has its place in the capacity, which bounds how many
/// there can be.
pub(crate) struct Accepted {
    stream: Detached,
    pub(crate) peer: Option<SocketAddr>,
    pub(crate) context: Arc<ListenerContext>,
}

impl Accepted {
    pub(crate) fn new(stream: Stream, peer: Option<SocketAddr>, context: Arc<ListenerContext>) -> io::Result<Self> {
        Ok(Self { stream: stream.detach()?, peer, context })
    }

    /// Gives the socket to the runtime of this thread.
    pub(crate) fn into_stream(self) -> io::Result<Stream> {
        self.stream.attach()
    }
}

/// Where each worker takes its connections from.
pub(crate) struct Handoff {
    seats: Vec<Seat>,
}

struct Seat {
    n_open: AtomicU32,
    sender: UnboundedSender<Accepted>,
}

impl Handoff {
    /// Seats for `n_workers`, with the end at which each of them receives.
    pub(crate) fn new(n_workers: usize) -> (Arc<Self>, Vec<UnboundedReceiver<Accepted>>) {
        let (mut seats, mut receivers) = (Vec::new(), Vec::new());
        for _ in 0..n_workers {
            let (sender, receiver) = mpsc::unbounded_channel();
            seats.push(Seat { n_open: AtomicU32::new(0), sender });
            receivers.push(receiver);
        }
        (Arc::new(Self { seats }), receivers)
    }

    /// Takes a seat at the worker with the fewest connections; [`Handoff::leave`] gives it back.
    pub(crate) fn enter(&self) -> usize {
        let fewest = self.seats.iter().enumerate().min_by_key(|(_, seat)| seat.n_open.load(Relaxed));
        let worker_idx = fewest.map_or(0, |(idx, _)| idx);
        self.seats[worker_idx].n_open.fetch_add(1, Relaxed);
        worker_idx
    }

    pub(crate) fn leave(&self, worker_idx: usize) {
        self.seats[worker_idx].n_open.fetch_sub(1, Relaxed);
    }

    /// How many connections a worker has, those on their way to it included.
    pub(crate) fn n_open(&self, worker_idx: usize) -> u32 {
        self.seats[worker_idx].n_open.load(Relaxed)
    }

    /// Sends a connection to a worker; false if that worker is gone.
    pub(crate) fn send(&self, worker_idx: usize, accepted: Accepted) -> bool {
        self.seats[worker_idx].sender.send(accepted).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worker_with_the_fewest_connections_is_next() {
        let (handoff, _receivers) = Handoff::new(3);
        assert_eq!([0, 1, 2, 0].map(|_| handoff.enter()), [0, 1, 2, 0]);
        handoff.leave(1);
        handoff.leave(1 + 1);
        assert_eq!(handoff.enter(), 1);
        assert_eq!(handoff.enter(), 2);
        assert_eq!([0, 1, 2].map(|worker_idx| handoff.n_open(worker_idx)), [2, 1, 1]);
    }
}
