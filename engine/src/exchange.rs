//! Sends every row to the worker that owns its key's shard.

use arrow::array::UInt32Array;
use timely::communication::Push;
use timely::dataflow::channels::Message;
use timely::dataflow::channels::pushers::exchange::Distributor;
use timely::progress::Stamp;

use crate::batch::Batch;
use crate::keyed::{shard_of, worker_of};
use crate::run::Meter;

/// Splits a batch by the shards of its key hashes. A row's order among the rows of its key is kept.
#[derive(Debug)]
pub(crate) struct ByShard {
    picks: Vec<Vec<u32>>,
    meter: Meter,
    stage: String,
}

impl ByShard {
    pub(crate) fn new(meter: Meter, stage: String) -> Self {
        ByShard { picks: Vec::new(), meter, stage }
    }

    /// The parts of `batch` that go to other workers or stay, by worker.
    fn parts(&mut self, batch: &Batch, peers: usize) -> Vec<Batch> {
        self.pick(batch, peers);
        let part = |pick: &mut Vec<u32>| {
            if pick.len() == batch.len() {
                return batch.clone();
            }
            let rows = UInt32Array::from(std::mem::take(pick));
            batch.take(&rows).expect("the rows were counted in this batch")
        };
        self.picks.iter_mut().map(part).collect()
    }

    /// Fills `picks` with the rows of each of `peers` workers.
    fn pick(&mut self, batch: &Batch, peers: usize) {
        self.picks.resize_with(peers, Vec::new);
        self.picks.iter_mut().for_each(Vec::clear);
        for (row, &hash) in (0_u32..).zip(batch.key_hash.values()) {
            self.picks[worker_of(shard_of(hash), peers)].push(row);
        }
    }
}

impl Distributor<Batch> for ByShard {
    fn partition<T: Clone, P: Push<Message<T, Batch>>>(
        &mut self,
        container: &mut Batch,
        stamp: &Stamp<T>,
        pushers: &mut [P],
    ) {
        let meter = self.meter.clone();
        let stage = std::mem::take(&mut self.stage);
        let parts = meter.time(&stage, || self.parts(container, pushers.len()));
        self.stage = stage;
        for (mut part, pusher) in parts.into_iter().zip(pushers) {
            if !part.is_empty() {
                Message::push_at(&mut part, stamp.clone(), pusher);
            }
        }
    }

    /// Nothing is held back.
    fn flush<T: Clone, P: Push<Message<T, Batch>>>(&mut self, _: &Stamp<T>, _: &mut [P]) {}
}
