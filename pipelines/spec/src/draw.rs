//! A plan as a picture: Mermaid, DOT and SVG.
//!
//! All three show the same nodes: sources, steps, views, sinks, and alerts beside the stream they watch. The SVG is laid
//! out here: a node stands one layer right of the last one it reads, in the order of the layer before.

use std::fmt::Write as _;

use foreline_engine::{StreamId, ViewKind};

use crate::explain::summary;
use crate::plan::{Plan, StepPlan};
use crate::read::DIAGNOSTICS;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sort {
    Source,
    Step,
    View,
    Sink,
    Alert,
}

/// What a picture shows: nodes with a title, a line below it, and the nodes they read.
struct Drawn {
    sort: Sort,
    id: String,
    title: String,
    detail: String,
    reads: Vec<usize>,
}

fn nodes(plan: &Plan) -> Vec<Drawn> {
    let sources = plan.sources.iter().filter(|s| s.is_own()).count();
    // A relation and the view of what stands of it are one node.
    let relation = |i: usize| match plan.views[i].how {
        ViewKind::Standing(StreamId::Source(source)) => Some(source),
        _ => None,
    };
    let own: Vec<usize> = (0..plan.views.len()).filter(|&i| relation(i).is_none()).collect();
    let alert = |s: &StepPlan| plan.alerts.iter().position(|a| a.name == s.name);
    let steps = plan.steps.iter().filter(|s| plan.is_own(s)).count();
    let mut all = Vec::new();
    // Those that are not of the file come last.
    for (i, s) in plan.sources.iter().enumerate().filter(|(_, s)| s.is_own()) {
        let detail = format!("{} · {}", s.kind, summary(&plan.schema(StreamId::Source(i))));
        all.push(Drawn::new(Sort::Source, &s.name, detail, Vec::new()));
    }
    let taken = |d: &&(&str, StreamId, &str)| plan.sinks.iter().any(|s| s.from == d.1);
    let diagnostics: Vec<_> = DIAGNOSTICS.iter().filter(taken).collect();
    let place = |stream: &StreamId| match *stream {
        StreamId::Source(i) | StreamId::Versions(i) => i,
        StreamId::Step(i) => match alert(&plan.steps[i]) {
            Some(a) => sources + steps + own.len() + diagnostics.len() + a,
            None => sources + plan.steps[..i].iter().filter(|s| plan.is_own(s)).count(),
        },
        StreamId::View(i) | StreamId::Log(i) => relation(i)
            .unwrap_or_else(|| sources + steps + own.iter().take_while(|&&view| view < i).count()),
        StreamId::DeadLetters | StreamId::Late => {
            let before = diagnostics.iter().take_while(|d| d.1 != *stream);
            sources + steps + own.len() + before.count()
        }
    };
    for (i, s) in plan.steps.iter().enumerate().filter(|(_, s)| plan.is_own(s)) {
        let detail = format!("{} · {}", s.kind, summary(&plan.schema(StreamId::Step(i))));
        let reads = s.inputs.iter().filter(|input| plan.is_shown(**input)).map(place);
        all.push(Drawn::new(Sort::Step, &s.name, detail, reads.collect()));
    }
    for view in own.iter().map(|&i| &plan.views[i]) {
        let key = view.relation.key().iter().map(|k| view.relation.columns()[*k].name.as_str());
        let key = key.collect::<Vec<_>>().join(", ");
        let detail = format!("{} · {} columns by {key}", view.kind, view.relation.columns().len());
        let reads = view.made_of(plan).iter().map(place).collect();
        all.push(Drawn::new(Sort::View, &view.name, detail, reads));
    }
    for (name, _, holds) in &diagnostics {
        all.push(Drawn::new(Sort::Source, name, (*holds).to_owned(), Vec::new()));
    }
    for alert in &plan.alerts {
        let detail = alert.condition.clone();
        all.push(Drawn::new(Sort::Alert, &alert.name, detail, vec![place(&alert.from)]));
    }
    for sink in &plan.sinks {
        let from = place(&sink.from);
        match all.iter_mut().find(|n| n.sort == Sort::Sink && n.title == sink.name) {
            Some(node) => node.reads.push(from),
            None => {
                all.push(Drawn::new(Sort::Sink, &sink.name, sink.kind.to_owned(), vec![from]));
            }
        }
    }
    all
}

impl Drawn {
    fn new(sort: Sort, title: &str, detail: String, reads: Vec<usize>) -> Self {
        let prefix = match sort {
            Sort::Source | Sort::Step => "stream",
            Sort::View => "view",
            Sort::Sink => "sink",
            Sort::Alert => "alert",
        };
        let id = format!("{prefix}_{}", title.replace('-', "_"));
        Drawn { sort, id, title: title.to_owned(), detail, reads }
    }
}

/// The plan as a Mermaid flowchart.
#[must_use]
pub fn mermaid(plan: &Plan) -> String {
    let nodes = nodes(plan);
    let mut text = "flowchart LR\n".to_owned();
    for node in &nodes {
        let (open, close) = match node.sort {
            Sort::Source => ("([", "])"),
            Sort::Step => ("[", "]"),
            Sort::View => ("[/", "/]"),
            Sort::Sink => ("[(", ")]"),
            Sort::Alert => ("{{", "}}"),
        };
        let label = format!("<b>{}</b><br/>{}", node.title, escape_mermaid(&node.detail));
        let _ = writeln!(text, "  {}{open}\"{label}\"{close}", node.id);
    }
    for node in &nodes {
        for read in &node.reads {
            let _ = writeln!(text, "  {} --> {}", nodes[*read].id, node.id);
        }
    }
    text
}

fn escape_mermaid(text: &str) -> String {
    text.replace('#', "#35;").replace('"', "#quot;").replace('<', "#lt;").replace('>', "#gt;")
}

/// The plan as a Graphviz graph.
#[must_use]
pub fn dot(plan: &Plan) -> String {
    let nodes = nodes(plan);
    let mut text = format!("digraph {} {{\n", quoted_dot(&plan.name));
    text.push_str("  rankdir=LR;\n  node [fontname=\"sans-serif\"];\n");
    for node in &nodes {
        let shape = match node.sort {
            Sort::Source => "oval",
            Sort::Step => "box",
            Sort::View => "parallelogram",
            Sort::Sink => "cylinder",
            Sort::Alert => "hexagon",
        };
        let label = quoted_dot(&format!("{}\n{}", node.title, node.detail));
        let _ = writeln!(text, "  {} [shape={shape}, label={label}];", node.id);
    }
    for node in &nodes {
        for read in &node.reads {
            let _ = writeln!(text, "  {} -> {};", nodes[*read].id, node.id);
        }
    }
    text.push_str("}\n");
    text
}

fn quoted_dot(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"))
}

/// Room for one character of the title, bold, and of the line below; wider than any but the widest letters.
const TITLE_CHAR_PX: usize = 9;
const DETAIL_CHAR_PX: usize = 7;
/// Longest line below a title; the rest of a condition is cut off.
const MAX_DETAIL_CHARS: usize = 44;
const PADDING_PX: usize = 14;
const NODE_HEIGHT_PX: usize = 52;
const ROW_PX: usize = 76;
const LAYER_GAP_PX: usize = 64;
const MARGIN_PX: usize = 20;

/// Where a node stands in the picture.
#[derive(Debug, Clone, Copy, Default)]
struct Place {
    x: usize,
    y: usize,
    width: usize,
}

/// The plan as a picture for a browser; it fits light and dark pages.
#[must_use]
pub fn svg(plan: &Plan) -> String {
    let mut nodes = nodes(plan);
    for node in &mut nodes {
        node.detail = shortened(&node.detail);
    }
    let places = lay_out(&nodes);
    let width = places.iter().map(|p| p.x + p.width).max().unwrap_or(0) + MARGIN_PX;
    let height = places.iter().map(|p| p.y + NODE_HEIGHT_PX).max().unwrap_or(0) + MARGIN_PX;
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
         viewBox=\"0 0 {width} {height}\" role=\"img\" aria-label=\"{}\">\n{STYLE}",
        escape_xml(&format!("pipeline {}", plan.name))
    );
    for (node, to) in nodes.iter().zip(&places) {
        for read in &node.reads {
            text.push_str(&edge(places[*read], *to));
        }
    }
    for (node, place) in nodes.iter().zip(&places) {
        text.push_str(&shape(node, *place));
    }
    text.push_str("</svg>\n");
    text
}

const STYLE: &str = "<style>
text{font-family:system-ui,-apple-system,'Segoe UI','DejaVu Sans',sans-serif;text-anchor:middle;fill:#1f2933}
.t{font-size:14px;font-weight:600}.d{font-size:11.5px;fill:#52606d}
rect{stroke-width:1.5}.edge{fill:none;stroke:#7b8794;stroke-width:1.5}.head{fill:#7b8794}
.source rect{fill:#e3f8ff;stroke:#2bb0ed}.step rect{fill:#f5f7fa;stroke:#7b8794}
.view rect{fill:#f0ebff;stroke:#8662c7}.sink rect{fill:#e3f9e5;stroke:#31b237}.alert rect{fill:#fff3c4;stroke:#de911d}
</style>
<rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>
";

fn shortened(text: &str) -> String {
    match text.char_indices().nth(MAX_DETAIL_CHARS) {
        Some((at, _)) => format!("{}…", text[..at].trim_end()),
        None => text.to_owned(),
    }
}

/// Layers from left to right; in a layer from top to bottom, near what each node reads.
fn lay_out(nodes: &[Drawn]) -> Vec<Place> {
    let mut layer = vec![0usize; nodes.len()];
    for (i, node) in nodes.iter().enumerate() {
        layer[i] = node.reads.iter().map(|r| layer[*r] + 1).max().unwrap_or(0);
    }
    let layers = layer.iter().max().map_or(0, |last| last + 1);
    let mut places = vec![Place::default(); nodes.len()];
    let mut taken_to = vec![MARGIN_PX; layers];
    let mut x = MARGIN_PX;
    for l in 0..layers {
        let mut members: Vec<usize> = (0..nodes.len()).filter(|i| layer[*i] == l).collect();
        let wish = |i: &usize, places: &[Place]| {
            let reads = &nodes[*i].reads;
            let sum: usize = reads.iter().map(|r| places[*r].y).sum();
            if reads.is_empty() { MARGIN_PX } else { sum / reads.len() }
        };
        members.sort_by_key(|i| wish(i, &places));
        let widest = members.iter().map(|i| node_width(&nodes[*i])).max().unwrap_or(0);
        for i in members {
            let y = wish(&i, &places).max(taken_to[l]);
            places[i] = Place { x, y, width: widest };
            taken_to[l] = y + ROW_PX;
        }
        // An edge that passes a layer must not run through a node: leave the row of its start free there.
        for (i, node) in nodes.iter().enumerate().filter(|(i, _)| layer[*i] > l + 1) {
            for read in node.reads.iter().filter(|r| layer[**r] == l) {
                for between in &mut taken_to[l + 1..layer[i]] {
                    if *between <= places[*read].y {
                        *between = places[*read].y + ROW_PX;
                    }
                }
            }
        }
        x += widest + LAYER_GAP_PX;
    }
    places
}

fn node_width(node: &Drawn) -> usize {
    let title = node.title.chars().count() * TITLE_CHAR_PX;
    let detail = node.detail.chars().count() * DETAIL_CHAR_PX;
    title.max(detail) + 2 * PADDING_PX
}

fn edge(from: Place, to: Place) -> String {
    let (x1, y1) = (from.x + from.width, from.y + NODE_HEIGHT_PX / 2);
    let (x2, y2) = (to.x, to.y + NODE_HEIGHT_PX / 2);
    // The bend lies in the gap before the target, so that a long edge stays in its own row until there.
    let turn = x2 - LAYER_GAP_PX;
    let (near, far) = (x2 - LAYER_GAP_PX / 2, x2 - 6);
    format!(
        "<path class=\"edge\" d=\"M{x1},{y1} L{turn},{y1} C{near},{y1} {near},{y2} {far},{y2}\"/>\n\
         <path class=\"head\" d=\"M{x2},{y2} l-8,-4 l0,8 z\"/>\n"
    )
}

fn shape(node: &Drawn, place: Place) -> String {
    let (class, radius) = match node.sort {
        Sort::Source => ("source", NODE_HEIGHT_PX / 2),
        Sort::Step => ("step", 6),
        Sort::View => ("view", 2),
        Sort::Sink => ("sink", 14),
        Sort::Alert => ("alert", 2),
    };
    let Place { x, y, width } = place;
    let middle = x + width / 2;
    let (title_y, detail_y) = (y + 22, y + 40);
    format!(
        "<g class=\"{class}\"><rect x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{NODE_HEIGHT_PX}\" rx=\"{radius}\"/>\
         <text class=\"t\" x=\"{middle}\" y=\"{title_y}\">{}</text>\
         <text class=\"d\" x=\"{middle}\" y=\"{detail_y}\">{}</text></g>\n",
        escape_xml(&node.title),
        escape_xml(&node.detail)
    )
}

fn escape_xml(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
