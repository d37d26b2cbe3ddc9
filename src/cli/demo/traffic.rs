//! The demo's own requests to its front door, so that there is something to see.
//! Promises a steady number per second and no more at a time than a bound, whatever the answers take. It ends with the
//! drain, and counts nothing: the front door does.

use std::io;
use std::net::SocketAddr;
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use crate::lifecycle::drain::{Phase, Watch};

/// Open requests: more than a hanging backend collects in its response timeout at the usual rate.
const OPEN_MAX: usize = 256;

/// Sends `rate` requests per second to `address` until the drain begins.
pub(super) fn start(address: SocketAddr, rate: u32, drain: Watch) -> io::Result<JoinHandle<()>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let thread = std::thread::Builder::new().name("demo-traffic".to_owned());
    thread.spawn(move || runtime.block_on(send(address, rate, drain)))
}

async fn send(address: SocketAddr, rate: u32, mut drain: Watch) {
    if rate == 0 {
        return;
    }
    let mut ticks = tokio::time::interval(Duration::from_secs(1) / rate);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut open = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            () = drain.reached(Phase::Announced) => return,
            _ = ticks.tick() => {}
        }
        while open.try_join_next().is_some() {}
        if open.len() < OPEN_MAX {
            open.spawn(one(address));
        }
    }
}

/// One request on a connection of its own. How it ends is in the table.
async fn one(address: SocketAddr) -> Option<()> {
    let stream = TcpStream::connect(address).await.ok()?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.ok()?;
    let request = Request::get("/").header("host", address.to_string()).header("user-agent", "portway-demo");
    let request = request.body(Empty::<Bytes>::new()).ok()?;
    let exchange = async {
        let body = sender.send_request(request).await.ok()?.into_body();
        let collected = body.collect().await.ok().map(drop);
        drop(sender);
        collected
    };
    let (answered, _) = tokio::join!(exchange, connection);
    answered
}
