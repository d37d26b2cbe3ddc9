//! A response head on its way down: cleaned, and its body put where the connection can go on with it.
//! It promises one outcome for the attempt that brought it, whatever becomes of the body. It asks for no other attempt.

use http::{Method, Response};

use crate::error::{FailureKind, ProxyError};
use crate::http::framing::ResponseBody;
use crate::proxy::attempt::Attempt;
use crate::proxy::body::ProxyBody;
use crate::proxy::delivery::Answer;
use crate::proxy::exchange::Exchange;
use crate::proxy::inbound;
use crate::proxy::outbound::Upgrade;
use crate::proxy::relay::{Source, Start};
use crate::proxy::tunnel::Tunnel;

/// An answer that goes down.
pub(crate) struct Arrived {
    pub(crate) attempt: Attempt,
    pub(crate) answer: Answer,
    /// What the request asked to become.
    pub(crate) upgrade: Upgrade,
}

/// Why an answer does not go down.
pub(crate) enum Undelivered {
    /// It may not.
    Unfit(ProxyError),
    /// It broke off behind its head, of which nothing has gone down yet: it is as good as none.
    Broken(Box<(Attempt, ProxyError)>),
}

impl Arrived {
    /// Hands the response to a request of `method` on; what is left of its body follows through the connection.
    pub(crate) fn hand_on(self, exchange: &Exchange, method: &Method) -> Result<Response<ProxyBody>, Undelivered> {
        let Arrived { attempt, answer, .. } = self;
        let Answer { mut upstream, response, at: now } = answer;
        let status = response.status();
        let (mut head, ()) = response.into_parts();
        upstream.note_response(&head.headers);
        let (allowed, cleaned) = match inbound::clean(&mut head, method) {
            Ok(clean) => clean,
            Err(kind) => return Err(Undelivered::Unfit(failed(attempt, kind))),
        };
        if allowed == ResponseBody::Forbidden && !upstream.is_answered() {
            attempt.complete(status, now); // its connection has bytes on it that belong to nobody, and is not kept
            return Ok(Response::from_parts(head, ProxyBody::empty()));
        }
        let connection = &exchange.connection;
        let source = Source { upstream, attempt, status, cleaned };
        let body = match Start::of(source, connection, now) {
            Start::Whole(bytes) => ProxyBody::whole(bytes),
            Start::Broken(error, source) => return Err(Undelivered::Broken(Box::new((source.attempt, error)))),
            Start::Open(relay) => {
                let length = relay.length();
                connection.set_relay(relay);
                ProxyBody::relayed(connection.clone(), length)
            }
        };
        Ok(Response::from_parts(head, body))
    }

    /// Hands a 101 on, and keeps the raw upstream connection for the tunnel that begins when it is sent.
    pub(crate) fn switch(self, exchange: &Exchange) -> Result<Response<ProxyBody>, ProxyError> {
        let Arrived { attempt, answer: Answer { upstream, response, .. }, upgrade, .. } = self;
        let (mut head, ()) = response.into_parts();
        if let Err(kind) = inbound::clean_upgrade(&mut head, upgrade) {
            return Err(failed(attempt, kind));
        }
        let (stream, early) = upstream.into_raw();
        let tunnel = Tunnel { upstream: stream, early, attempt, exchange: None };
        exchange.connection.set_tunnel(Box::new(tunnel));
        Ok(Response::from_parts(head, ProxyBody::empty()))
    }
}

fn failed(attempt: Attempt, kind: FailureKind) -> ProxyError {
    attempt.fail(kind);
    kind.into()
}
