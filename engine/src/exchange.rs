//! Sends every row to the worker that owns its key's shard.

use arrow::array::UInt32Array;
use timely::communication::Push;
use timely::dataflow::channels::Message;
use timely::dataflow::channels::pushers::exchange::Distributor;
use timely::progress::Stamp;

use crate::batch::Batch;
use crate::keyed::{shard_of, worker_of};

/// Splits a batch by the shards of its key hashes. A row's order among the rows of its key is kept.
#[derive(Debug, Default)]
pub(crate) struct ByShard {
    picks: Vec<Vec<u32>>,
}

impl ByShard {
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
        self.pick(container, pushers.len());
        for (pick, pusher) in self.picks.iter_mut().zip(pushers) {
            if pick.is_empty() {
                continue;
            }
            let mut part = if pick.len() == container.len() {
                container.clone()
            } else {
                let rows = UInt32Array::from(std::mem::take(pick));
                container.take(&rows).expect("the rows were counted in this batch")
            };
            Message::push_at(&mut part, stamp.clone(), pusher);
        }
    }

    /// Nothing is held back.
    fn flush<T: Clone, P: Push<Message<T, Batch>>>(&mut self, _: &Stamp<T>, _: &mut [P]) {}
}
