//! How many records the arrangements of each view hold.
//!
//! Differential keeps what it joins, groups and ranks, and says of each batch when it came, was merged and went. What is
//! kept is not the table: a row that changes is there as it was and as it is until batches are merged, which happens
//! little by little. A run in one thread (`simulate`) has no such log, and counts nothing.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;

use differential_dataflow::logging::{DifferentialEvent, DifferentialEventBuilder};
use timely::worker::Worker;

use crate::relation::Table;

/// The log that differential writes, where somebody listens.
const LOG: &str = "differential/arrange";

/// The views of a worker, by the operators that they are made of.
#[derive(Debug, Clone, Default)]
pub(crate) struct Arranged(Rc<RefCell<BTreeMap<usize, Arc<Table>>>>);

impl Arranged {
    /// Listens. To be called before a dataflow is built.
    pub(crate) fn listen(worker: &Worker) -> Self {
        let arranged = Arranged::default();
        let tables = Rc::clone(&arranged.0);
        if let Some(mut register) = worker.log_register() {
            register.insert::<DifferentialEventBuilder, _>(LOG, move |_, events| {
                let tables = tables.borrow();
                for (_, event) in events.iter_mut().flat_map(|events| events.drain(..)) {
                    count(&tables, &event);
                }
            });
        }
        arranged
    }

    /// These operators are those of the view that `table` shows.
    pub(crate) fn belong(&self, operators: Range<usize>, table: &Arc<Table>) {
        self.0.borrow_mut().extend(operators.map(|operator| (operator, Arc::clone(table))));
    }
}

fn count(tables: &BTreeMap<usize, Arc<Table>>, event: &DifferentialEvent) {
    let (operator, came, went) = match event {
        DifferentialEvent::Batch(batch) => {
            if let Some(table) = tables.get(&batch.operator) {
                table.count_touched(batch.length);
            }
            (batch.operator, batch.length, 0)
        }
        DifferentialEvent::Merge(merge) => match merge.complete {
            Some(length) => (merge.operator, length, merge.length1 + merge.length2),
            None => return,
        },
        DifferentialEvent::Drop(batch) => (batch.operator, 0, batch.length),
        _ => return,
    };
    if let Some(table) = tables.get(&operator) {
        table.count_arranged(came, went);
    }
}
