//! What the births of edge nodes and devices have said about their metrics.
//!
//! An alias is known by its edge node, a name by its device. An edge node that is born again begins anew.

use std::collections::BTreeMap;

use prost::Message as _;

use super::message::{Metric, Payload};
use super::sequence::{Sequence, command};

/// Most metrics that are remembered, of all edge nodes together: some hundred megabytes.
const METRICS_MAX: usize = 1_000_000;
/// Most edge nodes that are remembered: topics can be invented.
const NODES_MAX: usize = 100_000;

/// The edge nodes, by `group/node`.
#[derive(Debug, Default)]
pub(crate) struct Births {
    nodes: BTreeMap<String, Node>,
    n_metrics: usize,
}

/// An edge node with its devices.
#[derive(Debug, Default)]
struct Node {
    metrics: BTreeMap<Id, Born>,
    sequence: Sequence,
}

/// What a metric is called in a message.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Id {
    Alias(u64),
    /// By device, which is empty for the edge node's own, and name.
    Name(String, String),
}

/// What its birth said about a metric.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Born {
    name: String,
    datatype: Option<u32>,
}

/// How a message came.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Arrival {
    /// When, in nanoseconds of UTC.
    pub(crate) received_ns: i64,
    /// Whether the broker says that it has sent it before.
    pub(crate) is_repeated: bool,
}

/// A payload with the names and types that its births have given. A payload whose alias no birth has named stays as it
/// is, for the decoder to refuse.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Resolved {
    /// It lacks none, or they are not known.
    AsItIs,
    /// With what it lacked.
    Filled(Vec<u8>),
}

/// A command to an edge node to be born again.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Rebirth {
    pub(crate) topic: String,
    pub(crate) payload: Vec<u8>,
}

/// A message's topic, taken apart.
#[derive(Clone, Copy)]
struct Topic<'t> {
    namespace: &'t str,
    group: &'t str,
    kind: &'t str,
    node: &'t str,
    /// Empty for the edge node itself.
    device: &'t str,
}

impl<'t> Topic<'t> {
    fn parse(topic: &'t str) -> Option<Self> {
        let levels: Vec<&str> = topic.split('/').collect();
        match levels[..] {
            [namespace, group, kind, node] => {
                Some(Topic { namespace, group, kind, node, device: "" })
            }
            [namespace, group, kind, node, device] => {
                Some(Topic { namespace, group, kind, node, device })
            }
            _ => None,
        }
    }
}

impl Births {
    /// Takes in what a message tells about metrics, and puts in what it lacks. When a birth is missing, or a message
    /// between, the command that asks for it comes along, now and then. A message that cannot be read is left as it is.
    pub(crate) fn resolve(
        &mut self,
        topic: &str,
        payload: &[u8],
        arrival: Arrival,
    ) -> (Resolved, Option<Rebirth>) {
        let nothing = (Resolved::AsItIs, None);
        let Some(at) = Topic::parse(topic) else { return nothing };
        // A death counts only when a device dies: that of an edge node is the broker's to send.
        if !matches!(at.kind, "NBIRTH" | "DBIRTH" | "NDATA" | "DDATA" | "DDEATH") {
            return nothing;
        }
        let Ok(mut message) = Payload::decode(payload) else { return nothing };
        let name = format!("{}/{}", at.group, at.node);
        if self.nodes.len() >= NODES_MAX && !self.nodes.contains_key(&name) {
            return nothing;
        }
        let is_full = self.n_metrics >= METRICS_MAX;
        let node = self.nodes.entry(name).or_default();
        match at.kind {
            "NBIRTH" => node.sequence.begin(message.seq),
            _ => node.sequence.go_on(message.seq, arrival.is_repeated),
        }
        let resolved = match at.kind {
            "NBIRTH" | "DBIRTH" => {
                node.learn(at, &message, &mut self.n_metrics);
                Resolved::AsItIs
            }
            "NDATA" | "DDATA" => node.fill(at, &mut message, is_full),
            _ => Resolved::AsItIs,
        };
        let rebirth = node.sequence.asks(arrival.received_ns).then(|| Rebirth {
            topic: format!("{}/{}/NCMD/{}", at.namespace, at.group, at.node),
            payload: command(arrival.received_ns),
        });
        (resolved, rebirth)
    }
}

impl Node {
    /// Remembers what a birth says; `n_metrics` are those of all edge nodes.
    fn learn(&mut self, at: Topic<'_>, message: &Payload, n_metrics: &mut usize) {
        if at.kind == "NBIRTH" {
            *n_metrics -= self.metrics.len();
            self.metrics.clear();
        }
        for metric in &message.metrics {
            let Some(name) = &metric.name else { continue };
            let born = Born { name: name.clone(), datatype: metric.datatype };
            let by_name = Id::Name(at.device.to_owned(), name.clone());
            for id in metric.alias.map(Id::Alias).into_iter().chain([by_name]) {
                if *n_metrics < METRICS_MAX || self.metrics.contains_key(&id) {
                    *n_metrics += usize::from(self.metrics.insert(id, born.clone()).is_none());
                } else {
                    let node = at.node;
                    tracing::warn!(
                        "more than {METRICS_MAX} sparkplug metrics; one of '{node}' is forgotten"
                    );
                    return;
                }
            }
        }
    }

    /// Puts in what the metrics of a message lack. Where births were forgotten (`is_full`) asking for them is no use.
    fn fill(&mut self, at: Topic<'_>, message: &mut Payload, is_full: bool) -> Resolved {
        if !is_full && !self.knows(at.device) {
            self.sequence.lacks_birth();
        }
        let mut filled = false;
        for metric in &mut message.metrics {
            match fill(metric, at.device, &self.metrics) {
                Ok(changed) => filled |= changed,
                Err(UnknownAlias) => {
                    if !is_full {
                        self.sequence.lacks_birth();
                    }
                    return Resolved::AsItIs;
                }
            }
        }
        if filled { Resolved::Filled(message.encode_to_vec()) } else { Resolved::AsItIs }
    }

    /// Whether a device was born since its edge node was; the edge node itself counts its messages from its birth on.
    fn knows(&self, device: &str) -> bool {
        let first = Id::Name(device.to_owned(), String::new());
        let of_device = |(id, _): (&Id, _)| matches!(id, Id::Name(d, _) if d == device);
        device.is_empty() || self.metrics.range(first..).next().is_some_and(of_device)
    }
}

struct UnknownAlias;

/// Puts in what a metric lacks; whether anything was.
fn fill(
    metric: &mut Metric,
    device: &str,
    known: &BTreeMap<Id, Born>,
) -> Result<bool, UnknownAlias> {
    let id = match (&metric.name, metric.alias) {
        (Some(name), _) if !name.is_empty() => Id::Name(device.to_owned(), name.clone()),
        (_, Some(alias)) => Id::Alias(alias),
        _ => return Ok(false),
    };
    let by_alias = matches!(id, Id::Alias(_));
    let Some(born) = known.get(&id) else {
        return if by_alias { Err(UnknownAlias) } else { Ok(false) };
    };
    let lacks_type = metric.datatype.is_none() && born.datatype.is_some();
    if lacks_type {
        metric.datatype = born.datatype;
    }
    if by_alias {
        metric.name = Some(born.name.clone());
    }
    Ok(by_alias || lacks_type)
}
