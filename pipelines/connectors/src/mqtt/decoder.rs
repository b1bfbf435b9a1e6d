//! Turns chunks of messages into rows; every worker has one.

use std::sync::Arc;

use foreline_engine::{Chunk, Decoded, Decoder, Position, Reason};

use super::frame::Frame;
use super::plan::{Given, Plan};
use crate::format::RecordDecoder;
use crate::record::{Rejected, Value};

/// Decodes the chunks of one source.
#[derive(Debug)]
pub(super) struct MessageDecoder {
    plan: Arc<Plan>,
    records: RecordDecoder,
}

impl MessageDecoder {
    pub(super) fn new(plan: &Arc<Plan>) -> Self {
        MessageDecoder { plan: Arc::clone(plan), records: plan.format.decoder() }
    }

    fn message(&mut self, frame: &Frame<'_>, first: Position, out: &mut Decoded) {
        let max = self.plan.max_message_bytes;
        if frame.whole_bytes as usize != frame.payload.len() {
            let n = frame.whole_bytes;
            let detail = format!(
                "the message has {n} bytes, and {max} are the limit (see `max_message_bytes`)"
            );
            let rejected = Rejected { reason: Reason::ROW_TOO_LONG, detail };
            return self.records.refuse(frame.payload, rejected, first, out);
        }
        match values(&self.plan, frame) {
            Some(given) => self.records.payload(frame.payload, &given, first, out),
            None => {
                let detail = format!("topic '{}' is none of the source's", frame.topic);
                self.records.refuse(frame.payload, Rejected::malformed(detail), first, out);
            }
        }
    }
}

/// The values of the columns that come with the message, in the plan's order; `None` when no topic of the source fits.
fn values<'f>(plan: &Plan, frame: &Frame<'f>) -> Option<Vec<Value<'f>>> {
    let mut levels = Vec::new();
    let fits = plan.templates.iter().any(|template| {
        levels.clear();
        template.fits(frame.topic, |column, level| levels.push((column, level)))
    });
    let level = |column: usize| levels.iter().find(|(c, _)| *c == column).map(|(_, level)| *level);
    let property = |name: &str| frame.properties.iter().find(|(n, _)| *n == name).map(|(_, v)| *v);
    let text = |text: Option<&'f str>| text.map_or(Value::Null, Value::Text);
    let value = |(column, given): &(usize, Given)| match given {
        Given::Level => text(level(*column)),
        Given::Topic => Value::Text(frame.topic),
        Given::Received => Value::Time(frame.received_ns),
        Given::Retained => Value::Bool(frame.is_retained),
        Given::Property(name) => text(property(name)),
    };
    fits.then(|| plan.given.iter().map(value).collect())
}

impl Decoder for MessageDecoder {
    fn decode(&mut self, chunk: &Chunk, out: &mut Decoded) {
        let mut rest = &chunk.payload[..];
        let mut ordinal = chunk.range.first_ordinal;
        while !rest.is_empty() {
            let first = Position::new(chunk.partition, ordinal);
            let before = rest;
            let Some(frame) = Frame::read(&mut rest) else {
                let rejected = Rejected::malformed("the journal's messages cannot be told apart");
                self.records.refuse(before, rejected, first, out);
                break;
            };
            self.message(&frame, first, out);
            ordinal += u64::from(frame.records);
        }
        self.records.finish(out);
    }
}
