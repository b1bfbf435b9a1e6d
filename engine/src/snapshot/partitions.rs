//! What a snapshot says of the partitions of its sources: which there are, and how far each was read.
//!
//! A source may have a million objects, of which a handful are read between two snapshots. So partitions are kept like
//! state: in blocks of successive numbers, of which a snapshot writes those with news. A block is a shard of a node
//! that no step can be, since no step has a `/` in its name.

use std::ops::RangeInclusive;
use std::sync::Arc;

use arrow::array::{
    Array as _, ArrayRef, AsArray, BinaryArray, RecordBatch, StringArray, UInt32Array, UInt64Array,
};
use arrow::datatypes::{UInt32Type, UInt64Type};

use crate::source::{KnownPartition, Partition, ReadUpTo};

/// Partitions of a block. With some 150 bytes each, a block is rewritten in a millisecond, and a million partitions are
/// a thousand entries of the manifest.
const BLOCK: u32 = 1_024;
/// How the nodes that hold blocks begin.
const PREFIX: &str = "partitions/";

/// The block of a partition.
pub(crate) fn block_of(partition: Partition) -> u32 {
    partition.0 / BLOCK
}

/// The partitions of a block.
pub(crate) fn partitions_in(block: u32) -> RangeInclusive<Partition> {
    let first = block * BLOCK;
    Partition(first)..=Partition(first + (BLOCK - 1))
}

/// The node and shard that hold a block of a source.
pub(super) fn place_of(source: &str, block: u32) -> (String, u8) {
    let [.., shard] = block.to_be_bytes();
    (format!("{PREFIX}{:06}/{source}", block >> 8), shard)
}

/// The source whose partitions a node holds; `None` for the node of a step.
pub(super) fn source_of(node: &str) -> Option<&str> {
    node.strip_prefix(PREFIX)?.split_once('/').map(|(_, source)| source)
}

/// A block as rows.
pub(super) fn to_rows(partitions: &[KnownPartition]) -> RecordBatch {
    let all = || partitions.iter();
    let number: UInt32Array = all().map(|p| Some(p.partition.0)).collect();
    let name: StringArray = all().map(|p| Some(p.name.as_str())).collect();
    let identity: BinaryArray = all().map(|p| Some(p.identity.as_slice())).collect();
    let end: UInt64Array = all().map(|p| p.read.map(|r| r.end)).collect();
    let end_ordinal: UInt64Array = all().map(|p| p.read.map(|r| r.end_ordinal)).collect();
    let columns: [(&str, ArrayRef); 5] = [
        ("partition", Arc::new(number)),
        ("name", Arc::new(name)),
        ("identity", Arc::new(identity)),
        ("end", Arc::new(end)),
        ("end_ordinal", Arc::new(end_ordinal)),
    ];
    RecordBatch::try_from_iter_with_nullable(columns.map(|(name, column)| (name, column, true)))
        .expect("the columns have as many rows as there are partitions")
}

/// What [`to_rows`] was given; `None` when the rows are of another shape.
pub(super) fn from_rows(rows: &RecordBatch) -> Option<Vec<KnownPartition>> {
    let column = |name| rows.column_by_name(name);
    let number = column("partition")?.as_primitive_opt::<UInt32Type>()?;
    let name = column("name")?.as_string_opt::<i32>()?;
    let identity = column("identity")?.as_binary_opt::<i32>()?;
    let end = column("end")?.as_primitive_opt::<UInt64Type>()?;
    let end_ordinal = column("end_ordinal")?.as_primitive_opt::<UInt64Type>()?;
    let read = |row: usize| {
        (end.is_valid(row) && end_ordinal.is_valid(row))
            .then(|| ReadUpTo { end: end.value(row), end_ordinal: end_ordinal.value(row) })
    };
    let one = |row: usize| KnownPartition {
        partition: Partition(number.value(row)),
        name: name.value(row).to_owned(),
        identity: identity.value(row).to_vec(),
        read: read(row),
    };
    Some((0..rows.num_rows()).map(one).collect())
}
