//! What a run is watched by: its vitals, the graph as people see it, and the streams whose last rows are kept in memory.

use std::collections::BTreeMap;
use std::sync::Arc;

use foreline_engine::{Recent, Vitals};
use foreline_server::{KEEPS, NodeAbout, Sort, Watched};
use foreline_spec::{ExtraSink, Plan};

/// What a run is watched by.
#[derive(Debug, Clone, Default)]
pub(crate) struct Watching {
    /// How the run goes.
    pub(crate) vitals: Arc<Vitals>,
    /// The last rows of streams, by name.
    pub(crate) kept: BTreeMap<String, Arc<Recent>>,
}

impl Watching {
    /// For a run of `plan`.
    pub(crate) fn of(plan: &Plan) -> Self {
        let kept = plan.kept.iter().map(|kept| {
            let recent = Recent::new(plan.schema(kept.stream), kept.length);
            (plan.stream_name(kept.stream).to_owned(), Arc::new(recent))
        });
        // Without a server nobody could look at them.
        let kept = if plan.serve.is_some() { kept.collect() } else { BTreeMap::new() };
        Watching { vitals: Arc::default(), kept }
    }

    /// What fills the rows that are kept.
    pub(crate) fn sinks(&self) -> Vec<ExtraSink> {
        let sink = |(stream, recent): (&String, &Arc<Recent>)| ExtraSink {
            name: KEEPS.to_owned(),
            stream: stream.clone(),
            sink: recent.sink(),
        };
        self.kept.iter().map(sink).collect()
    }

    /// What the server says of it.
    pub(crate) fn watched(&self, plan: &Plan) -> Watched {
        Watched {
            pipeline: plan.name.clone(),
            version: env!("CARGO_PKG_VERSION"),
            vitals: Arc::clone(&self.vitals),
            nodes: nodes(plan),
            kept: self.kept.iter().map(|(name, r)| (name.clone(), Arc::clone(r))).collect(),
        }
    }
}

/// The parts of a pipeline that are in its file.
fn nodes(plan: &Plan) -> Vec<NodeAbout> {
    let node = |sort, name: &str, kind: &str, reads: Vec<String>| NodeAbout {
        sort,
        name: name.to_owned(),
        kind: kind.to_owned(),
        reads,
    };
    let stream = |id| plan.stream_name(id).to_owned();
    let mut nodes = Vec::new();
    for source in plan.sources.iter().filter(|s| s.is_own()) {
        nodes.push(node(Sort::Source, &source.name, source.kind, Vec::new()));
    }
    for step in plan.steps.iter().filter(|s| plan.is_own(s)) {
        let reads = step.inputs.iter().copied().map(stream).collect();
        nodes.push(node(Sort::Step, &step.name, step.kind, reads));
    }
    for view in &plan.views {
        // A reference and the view of what stands of it are one.
        if nodes.iter().all(|n| n.name != view.name) {
            let reads = view.made_of(plan).into_iter().map(stream).collect();
            nodes.push(node(Sort::View, &view.name, view.kind, reads));
        }
    }
    for alert in &plan.alerts {
        nodes.push(node(Sort::Alert, &alert.name, "alert", vec![stream(alert.from)]));
    }
    for sink in &plan.sinks {
        let from = stream(sink.from);
        match nodes.iter_mut().find(|n| n.sort == Sort::Sink && n.name == sink.name) {
            Some(known) => known.reads.push(from),
            None => nodes.push(node(Sort::Sink, &sink.name, sink.kind, vec![from])),
        }
    }
    nodes
}
