//! How far each key's event time is complete.

use arrow::array::{Int64Array, RecordBatch, UInt64Array};
use arrow::datatypes::SchemaRef;

/// Event-time progress of the keys it names, as data on the edge (it is not timely's frontier).
///
/// No row of key `k` with an event time below `max(at[k], low)` follows. A key's watermark never falls. Once
/// all sources above an edge have ended, `low` is [`Watermarks::END`] and every window can close.
#[derive(Debug, Clone)]
pub struct Watermarks {
    /// The key columns of the keys whose watermark rose in this epoch, sorted by hash.
    pub keys: RecordBatch,
    /// Their hashes.
    pub key_hash: UInt64Array,
    /// Their watermarks, in the unit of the stream's time domain.
    pub at: Int64Array,
    /// A bound below the watermark of every key, named here or not, seen or not.
    pub low: i64,
}

impl Watermarks {
    /// The `low` of a stream that has ended.
    pub const END: i64 = i64::MAX;

    /// Nothing is known: no key, and `low` as small as can be.
    #[must_use]
    pub fn none(keys: SchemaRef) -> Self {
        Watermarks {
            keys: RecordBatch::new_empty(keys),
            key_hash: UInt64Array::from(Vec::<u64>::new()),
            at: Int64Array::from(Vec::<i64>::new()),
            low: i64::MIN,
        }
    }

    /// Whether the stream has ended: nothing follows, whatever its event time.
    #[must_use]
    pub fn ended(&self) -> bool {
        self.low == Self::END
    }

    /// The keys whose watermark rose, as (row in `keys`, hash, watermark).
    pub fn iter(&self) -> impl Iterator<Item = (usize, u64, i64)> + '_ {
        let pairs = self.key_hash.values().iter().zip(self.at.values());
        pairs.enumerate().map(|(row, (&hash, &at))| (row, hash, at.max(self.low)))
    }
}
