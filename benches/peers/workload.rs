//! The work that every contender gets.
//! A workload is a request, what must come back, and how many connections send it. It runs nothing itself.

use clap::ValueEnum;

/// One column of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Workload {
    /// 13-byte body, 64 connections.
    Small,
    /// 64 KiB body.
    #[value(name = "64k")]
    Kib64,
    /// 1 MiB body.
    #[value(name = "1m")]
    Mib1,
    /// 16 KiB POST, 13-byte answer.
    Post,
    /// A new connection for each request.
    Connect,
    /// 13-byte body, 2,000 connections.
    #[value(name = "2000")]
    Many,
    /// Half of HAProxy's maximum, evenly spaced: latency from the intended time of each request.
    Rate,
    /// Memory at start and per idle keep-alive connection.
    Idle,
}

/// How a workload is put on a contender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// As fast as the contender answers.
    Closed,
    /// At a rate, whether it answers or not.
    Open,
    /// No load: connections that do nothing.
    Idle,
}

impl Workload {
    pub(crate) const ALL: [Workload; 8] = [
        Workload::Small,
        Workload::Kib64,
        Workload::Mib1,
        Workload::Post,
        Workload::Connect,
        Workload::Many,
        Workload::Rate,
        Workload::Idle,
    ];

    /// As on the command line and in the JSON file.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Workload::Small => "small",
            Workload::Kib64 => "64k",
            Workload::Mib1 => "1m",
            Workload::Post => "post",
            Workload::Connect => "connect",
            Workload::Many => "2000",
            Workload::Rate => "rate",
            Workload::Idle => "idle",
        }
    }

    /// As in the table and in the chart.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Workload::Small => "13 B, 64 connections",
            Workload::Kib64 => "64 KiB body",
            Workload::Mib1 => "1 MiB body",
            Workload::Post => "16 KiB POST",
            Workload::Connect => "new connection each",
            Workload::Many => "13 B, 2,000 connections",
            Workload::Rate => "fixed rate",
            Workload::Idle => "idle connections",
        }
    }

    pub(crate) fn kind(self) -> Kind {
        match self {
            Workload::Rate => Kind::Open,
            Workload::Idle => Kind::Idle,
            _ => Kind::Closed,
        }
    }

    pub(crate) fn connections(self) -> usize {
        match self {
            Workload::Many => 2_000,
            Workload::Mib1 => 16,
            _ => 64,
        }
    }

    pub(crate) fn path(self) -> &'static str {
        match self {
            Workload::Kib64 => "/64k",
            Workload::Mib1 => "/1m",
            Workload::Post => "/post",
            _ => "/small",
        }
    }

    /// Bytes of the response body.
    pub(crate) fn response_bytes(self) -> usize {
        match self {
            Workload::Kib64 => 64 * 1024,
            Workload::Mib1 => 1024 * 1024,
            _ => "Hello, World!".len(),
        }
    }

    /// Bytes of the request body; none for a GET.
    pub(crate) fn request_bytes(self) -> Option<usize> {
        (self == Workload::Post).then_some(16 * 1024)
    }

    /// The whole request, for the generators of this bench. `wrk` gets the same from [`Workload::lua`].
    pub(crate) fn request(self, address: &str) -> Vec<u8> {
        let path = self.path();
        let close = if self == Workload::Connect { "Connection: close\r\n" } else { "" };
        match self.request_bytes() {
            None => format!("GET {path} HTTP/1.1\r\nHost: {address}\r\n{close}\r\n").into_bytes(),
            Some(n) => {
                let body = "x".repeat(n);
                format!("POST {path} HTTP/1.1\r\nHost: {address}\r\nContent-Length: {n}\r\n\r\n{body}").into_bytes()
            }
        }
    }

    /// The request as a script for `wrk`, which prints its counts for a program to read.
    pub(crate) fn lua(self) -> String {
        let mut script = String::new();
        if let Some(n) = self.request_bytes() {
            script += &format!("wrk.method = \"POST\"\nwrk.body = string.rep(\"x\", {n})\n");
        }
        if self == Workload::Connect {
            script += "wrk.headers[\"Connection\"] = \"close\"\n";
        }
        script
            + r#"done = function(summary, latency, requests)
  local e = summary.errors
  io.write(string.format("COUNTS %d %d %d %d %d %d %d %d %d %d %d\n", summary.requests, summary.duration,
    summary.bytes, e.connect, e.read, e.write, e.status, e.timeout,
    latency:percentile(50), latency:percentile(99), latency:percentile(99.9)))
end
"#
    }
}
