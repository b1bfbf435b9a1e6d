//! The `device_clock` of a source: what it compares, and what it makes of the source's schema.
//!
//! What a reader would get wrong: a source with a column of arrivals is opened with that column as its event time. It
//! comes in the order of arrival, and it is the arrival that no row may lack. The device's stamp becomes the event
//! time in the ordering step, as far as it is believed.

use foreline_engine::{ClockPolicy, Column, DeviceClock, Schema, TimeDomain, type_name};

use crate::diagnostic::{Code, Diagnostic};
use crate::file::{DeviceClockConfig, Otherwise, SourceCommon};
use crate::planner::Planner;
use crate::yaml::{Node, Span};

/// Name of the column that keeps replaced stamps, where the file gives none.
const DEVICE_TIME: &str = "device_time";

/// A source's schemas and its device clock, if it has one.
pub(super) struct Clocked {
    pub(super) clock: Option<DeviceClock>,
    /// As the source is opened.
    pub(super) read: Schema,
    /// As the stream comes out.
    pub(super) out: Schema,
}

impl Planner<'_> {
    /// What `device_clock` makes of a source whose declared columns are `declared`; nothing where it has a mistake.
    pub(super) fn clocked(
        &mut self,
        common: &SourceCommon,
        node: &Node,
        declared: &Schema,
    ) -> Option<Clocked> {
        let plain = Clocked { clock: None, read: declared.clone(), out: declared.clone() };
        let Some(config) = &common.device_clock else { return Some(plain) };
        let before = self.out.len();
        if declared.domain() == TimeDomain::Logical {
            let span = node.entry("device_clock").map_or(node.span, |e| e.key_span);
            let message =
                "'device_clock' compares with the time of arrival, but the event time is a count";
            let error = Diagnostic::error(Code::TIME_DOMAIN, span, message);
            self.out.push(error.help("remove it"));
            return None;
        }
        let max = self.length(node, "device_clock.max_difference", config.max_difference, declared);
        let arrival = config.arrival.as_deref().map(|name| self.arrival(name, node, declared));
        let otherwise = match config.otherwise {
            Otherwise::Arrival => ClockPolicy::Arrival,
            Otherwise::DeadLetter => ClockPolicy::DeadLetter,
        };
        let kept = self.kept_as(config, node, declared);
        if self.out.len() > before {
            return None;
        }
        let arrival = arrival.flatten();
        let time = arrival.unwrap_or(declared.time());
        Some(Clocked {
            clock: Some(DeviceClock { arrival, max_difference_ns: max?, otherwise }),
            read: with(declared, None, time)?,
            out: with(declared, kept, declared.time())?,
        })
    }

    /// The column of arrivals; a name that is not declared is reported with the columns.
    fn arrival(&mut self, name: &str, node: &Node, declared: &Schema) -> Option<usize> {
        let index = declared.index_of(name)?;
        let span = place(node, "arrival");
        let data_type = &declared.columns()[index].data_type;
        if index == declared.time() {
            let message =
                format!("'{name}' is the event time already: it cannot be its own arrival");
            let error = Diagnostic::error(Code::BAD_VALUE, span, message);
            self.out.push(error.help(
                "name the column with the receiver's stamp, or leave 'arrival' out for this machine's clock",
            ));
        } else if *data_type != TimeDomain::UtcNanos.data_type() {
            let found = type_name(data_type);
            let message = format!("column '{name}' cannot be the arrival: it is a {found}");
            let error = Diagnostic::error(Code::SCHEMA, span, message);
            self.out.push(error.help("give the column 'type: timestamp'"));
        }
        Some(index)
    }

    /// The column that keeps replaced stamps, if stamps are replaced.
    fn kept_as<'c>(
        &mut self,
        config: &'c DeviceClockConfig,
        node: &Node,
        declared: &Schema,
    ) -> Option<&'c str> {
        if config.otherwise == Otherwise::DeadLetter {
            if config.keep_as.is_some() {
                let message =
                    "'keep_as' has nothing to keep: a row whose clock is off becomes a dead letter";
                let error = Diagnostic::error(Code::BAD_VALUE, place(node, "keep_as"), message);
                self.out.push(error.help("remove it, or write 'otherwise: arrival'"));
            }
            return None;
        }
        let name = config.keep_as.as_deref().unwrap_or(DEVICE_TIME);
        if declared.index_of(name).is_some() {
            let message = format!("'{name}' is a column already: stamps cannot be kept in it");
            let error = Diagnostic::error(Code::SCHEMA, place(node, "keep_as"), message);
            self.out.push(error.help("give 'keep_as' a name that is not under 'columns'"));
        }
        Some(name)
    }
}

fn place(node: &Node, key: &str) -> Span {
    node.place(&format!("device_clock.{key}"), node.span)
}

/// `declared` with another column, with the event time at `time`.
fn with(declared: &Schema, added: Option<&str>, time: usize) -> Option<Schema> {
    let mut columns = declared.columns().to_vec();
    columns.extend(added.map(|name| Column::new(name, TimeDomain::UtcNanos.data_type())));
    let name = |i: &usize| declared.columns()[*i].name.as_str();
    let key: Vec<&str> = declared.key().iter().map(name).collect();
    // The names were looked at before: whatever is wrong with them is reported.
    Schema::new(columns, &key, name(&time)).ok()
}
