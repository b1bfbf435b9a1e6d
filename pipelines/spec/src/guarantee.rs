//! What a pipeline promises for each way from a source to a sink, and why.

use std::fmt;

use foreline_engine::{Replay, StreamId};

use crate::plan::{Plan, SinkPlan, SourcePlan};

/// How often the effect of a reading is in a sink, whatever fails on the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Once or not at all.
    AtMostOnce,
    /// Once or several times.
    AtLeastOnce,
    /// Once.
    ExactlyOnce,
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Level::AtMostOnce => "at-most-once",
            Level::AtLeastOnce => "at-least-once",
            Level::ExactlyOnce => "exactly-once",
        })
    }
}

/// The promise for the ways from a source to a sink.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Guarantee {
    /// The source.
    pub source: String,
    /// The sink.
    pub sink: String,
    /// The streams that lead there.
    pub streams: Vec<String>,
    /// The promise.
    pub level: Level,
    /// Why it is no more and no less.
    pub why: String,
}

impl fmt::Display for Guarantee {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Guarantee { source, sink, streams, level, why } = self;
        write!(f, "{source} -> {sink} ({}): {level}: {why}", streams.join(", "))
    }
}

/// The promises of a plan, in the order of its sinks and sources.
#[must_use]
pub fn guarantees(plan: &Plan) -> Vec<Guarantee> {
    let mut all: Vec<Guarantee> = Vec::new();
    for sink in &plan.sinks {
        let stream = plan.stream_name(sink.from).to_owned();
        for source in sources_of(plan, sink.from) {
            let source = &plan.sources[source];
            let (level, why) = promise(source, sink);
            let same = |g: &&mut Guarantee| g.source == source.name && g.sink == sink.name;
            match all.iter_mut().find(same) {
                Some(known) => known.streams.push(stream.clone()),
                None => all.push(Guarantee {
                    source: source.name.clone(),
                    sink: sink.name.clone(),
                    streams: vec![stream.clone()],
                    level,
                    why,
                }),
            }
        }
    }
    all
}

/// The sources that a stream is made from; dead letters and late rows come from all of them.
fn sources_of(plan: &Plan, stream: StreamId) -> Vec<usize> {
    let is_stream = |i: usize| {
        let source = &plan.sources[i];
        source.is_own() && !source.front.is_relation()
    };
    if matches!(stream, StreamId::DeadLetters | StreamId::Late) {
        return (0..plan.sources.len()).filter(|&i| is_stream(i)).collect();
    }
    let above = plan.leading_to([stream]);
    let source = |id: &StreamId| match id {
        StreamId::Source(i) if is_stream(*i) => Some(*i),
        _ => None,
    };
    above.iter().filter_map(source).collect()
}

fn promise(source: &SourcePlan, sink: &SinkPlan) -> (Level, String) {
    let (kind, into) = (source.kind, sink.kind);
    let (level, read) = match source.source.replay {
        Replay::ByRange => {
            (Level::ExactlyOnce, format!("'{kind}' is read again where a run left off"))
        }
        Replay::ByPayload if source.order().is_some_and(|order| order.dedupe.is_empty()) => (
            Level::AtLeastOnce,
            format!(
                "'{kind}' sends again what was not yet acknowledged when a run died; `dedupe:` tells it apart"
            ),
        ),
        Replay::ByPayload => (
            Level::ExactlyOnce,
            format!(
                "'{kind}' is journaled before it is acknowledged, and `dedupe:` tells repetitions apart"
            ),
        ),
        Replay::Never => {
            (Level::AtMostOnce, format!("'{kind}' sends nothing again of what is lost on the way"))
        }
    };
    if sink.sink.transactional {
        return (level, format!("{read}; '{into}' takes rows and epoch in one step"));
    }
    let why = format!(
        "{read}; '{into}' does not keep which epoch it has, so a restart may write one again"
    );
    (level.min(Level::AtLeastOnce), why)
}
