//! The chart of the README: CPU per request as a multiple of HAProxy's, a row per workload, a dot per contender.
//! It promises to be readable on a light and on a dark page and without colour vision: Portway is larger, labelled, and
//! the others differ in shape. It is written by hand, in plain SVG, so that no drawing library is needed.

use std::fmt::Write as _;

use crate::contender::Who;
use crate::results::{Results, Spread};
use crate::workload::{Kind, Workload};

const WIDTH: f64 = 880.0;
const LEFT: f64 = 190.0;
const RIGHT: f64 = 40.0;
const TOP: f64 = 96.0;
const ROW: f64 = 46.0;
const BOTTOM: f64 = 44.0;
/// The axis is logarithmic: twice as much is equally far everywhere.
const TICKS: [f64; 6] = [0.5, 1.0, 2.0, 4.0, 8.0, 16.0];

const STYLE: &str = "
  text { font: 13px system-ui, -apple-system, 'Segoe UI', Helvetica, Arial, sans-serif; fill: #1f2328 }
  .page { fill: #ffffff }
  .title { font-size: 16px; font-weight: 600 }
  .dim { fill: #59636e; font-size: 12px }
  .value { font-weight: 600; fill: #0b5fce }
  .grid { stroke: #d8dee4 } .one { stroke: #59636e; stroke-width: 1.5 }
  .portway { fill: #0b5fce; stroke: #0b5fce } .portway-log { fill: none; stroke: #0b5fce }
  .haproxy-always { fill: none; stroke: #59636e }
  .nginx { fill: #1a7f37; stroke: #1a7f37 } .envoy { fill: #8250df; stroke: #8250df }
  .traefik { fill: #bc4c00; stroke: #bc4c00 } .caddy { fill: #bf3989; stroke: #bf3989 }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3 } .page { fill: #0d1117 } .dim { fill: #9198a1 } .value { fill: #58a6ff }
    .grid { stroke: #2a313c } .one { stroke: #9198a1 }
    .portway { fill: #58a6ff; stroke: #58a6ff } .portway-log { fill: none; stroke: #58a6ff }
    .haproxy-always { fill: none; stroke: #9198a1 }
    .nginx { fill: #3fb950; stroke: #3fb950 } .envoy { fill: #a371f7; stroke: #a371f7 }
    .traefik { fill: #f0883e; stroke: #f0883e } .caddy { fill: #f778ba; stroke: #f778ba }
  }
";

pub(crate) fn svg(results: &Results) -> String {
    let workloads: Vec<Workload> = results.workloads().into_iter().filter(|w| w.kind() == Kind::Closed).collect();
    let height = TOP + ROW * workloads.len() as f64 + BOTTOM;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" height=\"{height}\" \
         role=\"img\" aria-labelledby=\"title description\">\n\
         <title id=\"title\">CPU per request, as a multiple of HAProxy's</title>\n\
         <desc id=\"description\">{}</desc>\n<style>{STYLE}</style>\n\
         <rect class=\"page\" width=\"{WIDTH}\" height=\"{height}\" rx=\"8\"/>\n\
         <text class=\"title\" x=\"20\" y=\"32\">CPU per request, as a multiple of HAProxy's (further left is better)</text>\n",
        describe(results, &workloads)
    );
    svg += &legend(results);
    svg += &axis(height - BOTTOM);
    for (idx, workload) in workloads.iter().enumerate() {
        svg += &row(results, *workload, TOP + ROW * (idx as f64 + 0.5));
    }
    svg + "</svg>\n"
}

/// The same for those who cannot see it.
fn describe(results: &Results, workloads: &[Workload]) -> String {
    let mut text = String::new();
    for workload in workloads {
        write!(text, "{}:", workload.title()).ok();
        for contender in &results.contenders {
            if let Some(ratio) = results.ratio(contender.who, *workload) {
                write!(text, " {} {:.2},", contender.who.title(), ratio.median).ok();
            }
        }
        text.pop();
        text += ". ";
    }
    text
}

fn legend(results: &Results) -> String {
    let mut text = String::new();
    let mut x = 24.0;
    for contender in results.contenders.iter().filter(|c| c.who != Who::Haproxy) {
        let title = contender.who.title();
        text += &mark(contender.who, x, 59.0);
        writeln!(text, "<text class=\"dim\" x=\"{}\" y=\"63\">{title}</text>", x + 12.0).ok();
        x += 40.0 + 6.6 * title.len() as f64;
    }
    text
}

fn axis(bottom: f64) -> String {
    let mut text = String::new();
    for tick in TICKS {
        let x = x_of(tick);
        let class = if tick == 1.0 { "one" } else { "grid" };
        let label = if tick == 1.0 { "1 = HAProxy".to_owned() } else { format!("{tick}×") };
        writeln!(text, "<line class=\"{class}\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{TOP}\" y2=\"{bottom}\"/>").ok();
        let y = bottom + 20.0;
        writeln!(text, "<text class=\"dim\" x=\"{x:.1}\" y=\"{y}\" text-anchor=\"middle\">{label}</text>").ok();
    }
    text
}

fn row(results: &Results, workload: Workload, y: f64) -> String {
    let mut text = String::new();
    let label_y = y + 4.0;
    writeln!(text, "<text x=\"20\" y=\"{label_y}\">{}</text>", workload.title()).ok();
    let edge = WIDTH - RIGHT;
    writeln!(text, "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{edge}\" y1=\"{y}\" y2=\"{y}\"/>").ok();
    // Portway last, so that it lies on top.
    for contender in results.contenders.iter().rev().filter(|c| c.who != Who::Haproxy) {
        let Some(ratio) = results.ratio(contender.who, workload) else { continue };
        let Spread { median, min, max } = ratio;
        let name = contender.who.name();
        let (from, to) = (x_of(min), x_of(max));
        writeln!(
            text,
            "<line class=\"{name}\" x1=\"{from:.1}\" x2=\"{to:.1}\" y1=\"{y}\" y2=\"{y}\" stroke-width=\"2\"/>"
        )
        .ok();
        text += &mark(contender.who, x_of(median), y);
        if contender.who == Who::Portway {
            let (x, y) = (x_of(median), y - 12.0);
            writeln!(text, "<text class=\"value\" x=\"{x:.1}\" y=\"{y}\" text-anchor=\"middle\">{median:.2}</text>")
                .ok();
        }
    }
    text
}

/// A shape of its own for each contender.
fn mark(who: Who, x: f64, y: f64) -> String {
    let name = who.name();
    let (left, top) = (x - 5.0, y - 5.0);
    let shape = match who {
        Who::Portway => format!("<circle class=\"{name}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"7\"/>"),
        Who::PortwayLog => {
            format!("<circle class=\"{name}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"6\" stroke-width=\"2\"/>")
        }
        Who::Nginx => format!("<circle class=\"{name}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"5\"/>"),
        Who::Envoy => format!("<rect class=\"{name}\" x=\"{left:.1}\" y=\"{top:.1}\" width=\"10\" height=\"10\"/>"),
        Who::Traefik => polygon(name, [(x, y - 6.0), (x + 6.0, y + 5.0), (x - 6.0, y + 5.0)].as_slice()),
        _ => polygon(name, [(x, y - 6.5), (x + 6.5, y), (x, y + 6.5), (x - 6.5, y)].as_slice()),
    };
    shape + "\n"
}

fn polygon(name: &str, corners: &[(f64, f64)]) -> String {
    let corners: Vec<String> = corners.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
    format!("<polygon class=\"{name}\" points=\"{}\"/>", corners.join(" "))
}

fn x_of(ratio: f64) -> f64 {
    let (first, last) = (TICKS[0].log2(), TICKS[TICKS.len() - 1].log2());
    let share = (ratio.max(0.01).log2() - first) / (last - first);
    LEFT + share.clamp(0.0, 1.0) * (WIDTH - LEFT - RIGHT)
}
