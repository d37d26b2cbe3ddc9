//! Nanoseconds from a request to its route: among 1, 100 and 10,000 routes, found and not found.
//! The target is 1 µs among 10,000 routes. The routes are hosts × prefixes, as in a front door for many services.
//! It measures the table, the ambiguity check in front of it and the rewrite behind it, each alone.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use portway::config::checked::{HeaderMatch, HostMatch, PathMatch, Rewrite, RouteMatch, ValueMatch};
use portway::routing::table::{Inquiry, Table};
use portway::routing::{path, rewrite};

fn route(host: HostMatch, path: &str) -> RouteMatch {
    RouteMatch { host, path: PathMatch::Prefix(path.to_owned()), methods: vec![], headers: vec![], query: vec![] }
}

fn host(idx: usize) -> HostMatch {
    HostMatch::Exact(format!("shop-{idx}.example.com"))
}

/// `n_hosts` × `n_prefixes` routes.
fn table(n_hosts: usize, n_prefixes: usize) -> Table<usize> {
    let routes = (0..n_hosts * n_prefixes).map(|idx| {
        let path = format!("/api/service-{}", idx % n_prefixes);
        (route(host(idx / n_prefixes), &path), idx)
    });
    Table::build(routes)
}

/// What a browser sends, for conditions to look through.
fn headers() -> HeaderMap {
    let fields = [("accept", "text/html, */*"), ("user-agent", "bench"), ("cookie", "a=b"), ("x-version", "1, beta")];
    fields.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect()
}

fn bench_find<T>(criterion: &mut Criterion, name: &str, table: &Table<T>, (host, path): (&str, &str), expected: Hit) {
    let headers = headers();
    let inquiry = Inquiry { host, method: &Method::GET, path, query: Some("page=2"), headers: &headers };
    assert_eq!(table.find(&inquiry).is_some(), expected == Hit::Found, "{name}");
    criterion
        .bench_function(&format!("find/{name}"), |bencher| bencher.iter(|| table.find(black_box(&inquiry)).is_some()));
}

#[derive(PartialEq)]
enum Hit {
    Found,
    Missed,
}

fn find(criterion: &mut Criterion) {
    const PATH: &str = "/api/service-7/items/42";
    let catch_all = Table::build([(route(HostMatch::Any, "/"), ())]);
    bench_find(criterion, "1 catch-all", &catch_all, ("shop-7.example.com", PATH), Hit::Found);
    let two = Table::build([(route(HostMatch::Any, "/"), ()), (route(HostMatch::Any, "/api"), ())]);
    bench_find(criterion, "2 prefixes", &two, ("shop-7.example.com", PATH), Hit::Found);

    for (n_hosts, n_prefixes) in [(1, 1), (10, 10), (100, 100), (10_000, 1), (1, 10_000)] {
        let table = table(n_hosts, n_prefixes);
        let name = |what: &str| format!("{} = {n_hosts} hosts x {n_prefixes} prefixes, {what}", table.len());
        let host = format!("shop-{}.example.com", n_hosts - 1);
        let path = format!("/api/service-{}/items/42", n_prefixes - 1);
        bench_find(criterion, &name("hit"), &table, (&host, &path), Hit::Found);
        bench_find(criterion, &name("hit, mixed case"), &table, (&host.replace('s', "S"), &path), Hit::Found);
        bench_find(criterion, &name("path miss"), &table, (&host, "/api/service-x/items/42"), Hit::Missed);
        bench_find(criterion, &name("host miss"), &table, ("www.example.com", &path), Hit::Missed);
    }
}

fn find_the_hard_way(criterion: &mut Criterion) {
    let wildcards = (0..10_000).map(|idx| (route(HostMatch::Wildcard(format!("shop-{idx}.example.com")), "/"), idx));
    let wildcards = Table::build(wildcards);
    bench_find(criterion, "10000 wildcards, hit", &wildcards, ("a.shop-7.example.com", "/items/42"), Hit::Found);
    bench_find(criterion, "10000 wildcards, 120 labels", &wildcards, (&"a.".repeat(120), "/items/42"), Hit::Missed);

    let version = |idx: usize| {
        let value = ValueMatch::Exact(if idx == 0 { "beta".to_owned() } else { format!("v{idx}") });
        let condition = HeaderMatch { name: HeaderName::from_static("x-version"), value };
        RouteMatch { headers: vec![condition], ..route(HostMatch::Any, "/") }
    };
    let versions = Table::build((0..10).map(|idx| (version(idx), idx)));
    bench_find(criterion, "10 header conditions, hit", &versions, ("h", "/items/42"), Hit::Found);

    let table = table(100, 100);
    let slashes = "/".repeat(8192);
    bench_find(criterion, "10000, 8 KiB of slashes", &table, ("shop-7.example.com", &slashes), Hit::Missed);
    bench_find(criterion, "10000, not normal", &table, ("shop-7.example.com", "/%61pi/service-7/x"), Hit::Found);
}

fn around(criterion: &mut Criterion) {
    for path in ["/api/service-7/items/42/photos", "/.well-known/acme-challenge/x", "/caf%C3%A9/menu%20of%20today"] {
        criterion.bench_function(&format!("is_ambiguous/{path}"), |bencher| {
            bencher.iter(|| path::is_ambiguous(black_box(path)))
        });
    }
    let strip = Rewrite::StripPrefix("/api".to_owned());
    for query in [None, Some("page=2")] {
        criterion.bench_function(&format!("strip_prefix/{query:?}"), |bencher| {
            bencher.iter(|| rewrite::apply(black_box(&strip), black_box("/api/service-7/items/42"), query).is_ok());
        });
    }
}

criterion_group!(benches, find, find_the_hard_way, around);
criterion_main!(benches);
