//! The results as a Markdown table, a chart and a JSON file.
//! It promises that a contender with errors is marked wherever its figures stand. It computes nothing.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::Context;

use crate::chart;
use crate::contender::Who;
use crate::results::{Results, Sample, Spread};
use crate::workload::{Kind, Workload};

/// Writes `peers.md`, `peers.svg` and `peers.json`, and prints the table.
pub(crate) fn write(results: &Results, out: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(out).with_context(|| format!("cannot make {}", out.display()))?;
    let table = markdown(results);
    fs::write(out.join("peers.md"), &table)?;
    fs::write(out.join("peers.svg"), chart::svg(results))?;
    fs::write(out.join("peers.json"), serde_json::to_string_pretty(&results.to_json())? + "\n")?;
    println!("{table}\nwritten to {}", out.display());
    Ok(())
}

fn markdown(results: &Results) -> String {
    [cpu_table(results), rate_table(results), memory_table(results), errors(results), method(results)]
        .into_iter()
        .filter(|part| !part.is_empty())
        .collect::<Vec<_>>()
        .join("\n")
}

fn cpu_table(results: &Results) -> String {
    let workloads: Vec<Workload> =
        results.workloads().into_iter().filter(|workload| workload.kind() == Kind::Closed).collect();
    if workloads.is_empty() {
        return String::new();
    }
    let mut text = String::from("| CPU per request, × HAProxy |");
    for workload in &workloads {
        write!(text, " {} |", workload.title()).ok();
    }
    text += &format!("\n|---|{}\n", "---:|".repeat(workloads.len()));
    for contender in &results.contenders {
        write!(text, "| {} |", name_and_version(results, contender.who)).ok();
        for workload in &workloads {
            write!(text, " {} |", cpu_cell(results, contender.who, *workload)).ok();
        }
        text.push('\n');
    }
    text
}

/// The yardstick in microseconds, everybody else as a multiple of it.
fn cpu_cell(results: &Results, who: Who, workload: Workload) -> String {
    let Some(cpu) = results.cpu_us(who, workload) else { return "–".to_owned() };
    let mark = mark(results, who, workload);
    match results.ratio(who, workload) {
        Some(_) if who == Who::Haproxy => format!("1.00 ({:.1} µs){mark}", cpu.median),
        Some(Spread { median, min, max }) if who == Who::Portway => {
            format!("**{median:.2}** ({min:.2}–{max:.2}){mark}")
        }
        Some(Spread { median, min, max }) => format!("{median:.2} ({min:.2}–{max:.2}){mark}"),
        None => format!("{:.1} µs{mark}", cpu.median),
    }
}

fn rate_table(results: &Results) -> String {
    let Some(rate) = results.rate else { return String::new() };
    let mut text = format!("| Latency at {rate:.0} requests/s | p50 | p99 | p99.9 | CPU, × HAProxy |\n");
    text += "|---|---:|---:|---:|---:|\n";
    for contender in &results.contenders {
        let who = contender.who;
        let spread = |figure: fn(&Sample) -> f64| results.spread(who, Workload::Rate, figure);
        let Some(p50) = spread(|s| s.counts.p50_us) else { continue };
        let cell = |spread: Option<Spread>| {
            spread.map_or_else(String::new, |s| {
                format!("{} ({}–{})", duration(s.median), duration(s.min), duration(s.max))
            })
        };
        writeln!(
            text,
            "| {} | {} | {} | {} | {} |",
            name_and_version(results, who),
            cell(Some(p50)),
            cell(spread(|s| s.counts.p99_us)),
            cell(spread(|s| s.counts.p999_us)),
            cpu_cell(results, who, Workload::Rate),
        )
        .ok();
    }
    text
}

fn memory_table(results: &Results) -> String {
    if results.memories.is_empty() {
        return String::new();
    }
    let rest = results.rest_seconds;
    let mut text = format!("| Memory | at start | per idle connection | … after {rest} s |\n|---|---:|---:|---:|\n");
    for contender in &results.contenders {
        let who = contender.who;
        let Some(start) = results.memory(who, |m| m.start_kib) else { continue };
        let kib = |spread: Option<Spread>| spread.map_or_else(String::new, |s| format!("{:.1} KiB", s.median));
        writeln!(
            text,
            "| {} | {:.1} MiB | {} | {} |",
            name_and_version(results, who),
            start.median / 1024.0,
            kib(results.memory(who, |m| m.at_once_kib)),
            kib(results.memory(who, |m| m.rested_kib)),
        )
        .ok();
    }
    text
}

fn errors(results: &Results) -> String {
    let mut text = String::new();
    for contender in &results.contenders {
        for workload in results.workloads() {
            let n = results.errors(contender.who, workload);
            if n > 0 {
                let requests = results.spread(contender.who, workload, |s| s.counts.requests as f64);
                let requests = requests.map_or(0.0, |spread| spread.median);
                let title = workload.title();
                writeln!(
                    text,
                    "⚠ {}, {title}: {n} errors (about {requests:.0} requests a round).",
                    contender.who.title()
                )
                .ok();
            }
        }
    }
    text
}

fn method(results: &Results) -> String {
    format!(
        "Measured with `cargo bench --bench peers` on {machine}: the proxy with one worker on one core, load generator and \
         origin (nginx, two backends) on the other; `X-Forwarded-For`, keep-alive on both sides, no access log, Portway's \
         metrics on. CPU is user and system time of the proxy's processes divided by the requests they answered. \
         Contenders take turns; {rounds} rounds of {seconds} s each after a warm-up; ratios are taken within a round; \
         shown are the median and, in brackets, the lowest and the highest round. Latency counts from the time at which \
         a request was due, so a stall counts for each request that it held up. Memory is resident size, per connection \
         over {idle} keep-alive connections that made one request each.\n",
        machine = results.machine,
        rounds = results.rounds,
        seconds = results.seconds,
        idle = results.idle_connections,
    )
}

fn name_and_version(results: &Results, who: Who) -> String {
    let version = results.contenders.iter().find(|c| c.who == who).map_or("", |c| c.version.as_str());
    match who {
        Who::Portway => format!("**Portway {version}**"),
        Who::PortwayLog | Who::HaproxyAlways => who.title().to_owned(),
        _ => format!("{} {version}", who.title()),
    }
}

fn mark(results: &Results, who: Who, workload: Workload) -> &'static str {
    if results.errors(who, workload) > 0 { " ⚠" } else { "" }
}

fn duration(us: f64) -> String {
    match us {
        us if us < 1_000.0 => format!("{us:.0} µs"),
        us if us < 10_000.0 => format!("{:.2} ms", us / 1e3),
        us => format!("{:.0} ms", us / 1e3),
    }
}
