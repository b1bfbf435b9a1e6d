//! Groups, and the first rows in some order.
//!
//! A row that changes must not cost a walk through its group. So a group is cut into 4,096 parts by the hash of the row,
//! those into 64, and those are put together: with a million rows a change walks through some 250 rows and twice 64 parts.
//! `distinct` and `quantile` are the exception: they keep each value, and a change costs as much as there are.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Float64Array, Int64Array};
use arrow::compute::{SortOptions, cast};
use arrow::datatypes::{DataType, Float64Type};
use arrow::error::ArrowError;
use arrow::row::{RowConverter, SortField};
use differential_dataflow::VecCollection;
use serde::Serialize;
use serde::de::DeserializeOwned;
use xxhash_rust::xxh3::xxh3_64;

use crate::relation::{Aggregate, Codec, Function, Relation, Row};
use crate::run::step::Shared;
use crate::run::views::part::{Exact, Part, together};
use crate::run::views::{Rows, Updates, ViewWiring, each};

/// The parts of the first cut, in bits of the hash.
const FINE: u32 = 12;
/// Those of the second.
const COARSE: u32 = 6;

/// A part of a group: the group, and which of its parts.
type At = (Row, u16);
type Parts = Vec<Part>;

/// The part of a row in the first cut.
fn fine(row: &Row) -> u16 {
    u16::try_from(xxh3_64(row.bytes()) >> (u64::BITS - FINE)).expect("it has 12 bits")
}

/// Puts elements together by group, in three rounds.
fn tree<'s, V>(
    view: &ViewWiring,
    leaves: VecCollection<'s, u64, (At, V), isize>,
    mut together: impl FnMut(&At, &[(&V, isize)], &mut Vec<(V, isize)>) + Clone + 'static,
) -> VecCollection<'s, u64, (At, V), isize>
where
    V: Clone + Ord + std::fmt::Debug + Send + Serialize + DeserializeOwned + 'static,
{
    let (name, table) = (&view.name, Arc::clone(&view.table));
    let together = move |at: &At, all: &[(&V, isize)], out: &mut Vec<(V, isize)>| {
        table.count_touched(all.len());
        together(at, all, out);
    };
    leaves
        .reduce_named(&format!("{name} 1"), together.clone())
        .map(|((group, part), v)| ((group, part >> (FINE - COARSE)), v))
        .reduce_named(&format!("{name} 2"), together.clone())
        .map(|((group, _), v)| ((group, 0), v))
        .reduce_named(&format!("{name} 3"), together)
}

/// One row for all that agree in `by`.
pub(super) fn group<'s>(
    view: &ViewWiring,
    (rows, relation): &(Rows<'s>, Relation),
    by: &[usize],
    aggregates: &[Aggregate],
    shared: &Shared,
) -> Result<Rows<'s>, ArrowError> {
    let name = view.name.to_string();
    let codec = Codec::new(relation.arrow().clone())?;
    let of_group = Codec::of(relation.arrow(), by)?;
    let mut asked = Vec::with_capacity(aggregates.len());
    for aggregate in aggregates {
        asked.push(Asked::new(*aggregate, relation)?);
    }
    let asked = Arc::new(asked);
    let (of_rows, by) = (Arc::clone(&asked), by.to_vec());
    let leaves = each(format!("{name} rows"), rows.clone(), shared, move |updates: Updates| {
        let columns = codec.decode(updates.iter().map(|(row, _, _)| row))?;
        let group: Vec<ArrayRef> = by.iter().map(|&c| columns.column(c).clone()).collect();
        let groups = of_group.encode(&group)?;
        let mut parts = vec![Vec::with_capacity(of_rows.len()); updates.len()];
        for asked in of_rows.iter() {
            let column = asked.aggregate.column.map(|c| columns.column(c));
            for (row, part) in asked.parts(column, updates.len())?.into_iter().enumerate() {
                parts[row].push(part);
            }
        }
        let all = updates.into_iter().zip(groups).zip(parts);
        Ok(all
            .map(|(((row, time, n), group), parts)| (((group, fine(&row)), parts), time, n))
            .collect())
    });
    let functions: Vec<Function> = aggregates.iter().map(|a| a.function).collect();
    let whole = tree(view, leaves, move |_, parts: &[(&Parts, isize)], out| {
        out.push((together(parts, &functions), 1));
    });
    let fields = view.relation.arrow().fields()[relation_keys(view)..].to_vec();
    let of_found = Codec::new(Arc::new(arrow::datatypes::Schema::new(fields)))?;
    Ok(each(
        format!("{name} result"),
        whole,
        shared,
        move |updates: Vec<((At, Parts), u64, isize)>| {
            let column = |(i, asked): (usize, &Asked)| {
                let parts = updates.iter().map(|((_, parts), _, _)| &parts[i]);
                asked.found(&parts.collect::<Vec<_>>())
            };
            let columns = asked.iter().enumerate().map(column).collect::<Result<Vec<_>, _>>()?;
            let found = match columns.is_empty() {
                true => vec![Row::default(); updates.len()],
                false => of_found.encode(&columns)?,
            };
            let rows = updates.into_iter().zip(found);
            Ok(rows
                .map(|((((group, _), _), time, n), found)| (group.followed_by(&found), time, n))
                .collect())
        },
    ))
}

/// How many columns of the view are those that it is grouped by: its key.
fn relation_keys(view: &ViewWiring) -> usize {
    view.relation.key().len()
}

/// An aggregate with what it needs.
#[derive(Debug)]
struct Asked {
    aggregate: Aggregate,
    /// Of the column alone.
    codec: Option<Codec>,
    /// Of the column as a number.
    of_number: Codec,
}

impl Asked {
    fn new(aggregate: Aggregate, relation: &Relation) -> Result<Self, ArrowError> {
        let column = aggregate.column;
        let codec = column.map(|c| Codec::of(relation.arrow(), &[c])).transpose()?;
        let number = arrow::datatypes::Field::new("number", DataType::Float64, true);
        let of_number = Codec::new(Arc::new(arrow::datatypes::Schema::new(vec![number])))?;
        Ok(Asked { aggregate, codec, of_number })
    }

    /// What each of `n_rows` rows is by itself.
    fn parts(&self, column: Option<&ArrayRef>, n_rows: usize) -> Result<Vec<Part>, ArrowError> {
        let (Some(column), Some(codec)) = (column, &self.codec) else {
            return Ok(vec![Part::Count(1); n_rows]);
        };
        let there = |row: usize| column.is_valid(row);
        Ok(match self.aggregate.function {
            Function::Count => (0..n_rows).map(|r| Part::Count(i64::from(there(r)))).collect(),
            Function::Sum | Function::Mean => {
                let numbers = cast(column, &DataType::Float64)?;
                let numbers = numbers.as_primitive::<Float64Type>();
                let part = |x: Option<f64>| {
                    x.map_or(Part::Sum(0, Exact::default()), |x| Part::Sum(1, Exact::of(x)))
                };
                numbers.iter().map(part).collect()
            }
            Function::Min | Function::Max => {
                let rows = codec.encode(std::slice::from_ref(column))?.into_iter().enumerate();
                rows.map(|(r, row)| Part::Extreme(there(r).then_some(row))).collect()
            }
            Function::Distinct | Function::Quantile(_) => {
                let rows = match self.aggregate.function {
                    Function::Distinct => codec.encode(std::slice::from_ref(column))?,
                    _ => self.of_number.encode(&[cast(column, &DataType::Float64)?])?,
                };
                let bag = |(r, row): (usize, Row)| {
                    Part::Bag(if there(r) { vec![(row, 1)] } else { Vec::new() })
                };
                rows.into_iter().enumerate().map(bag).collect()
            }
        })
    }

    /// The results of whole groups.
    fn found(&self, parts: &[&Part]) -> Result<ArrayRef, ArrowError> {
        let sum = |part: &Part| match part {
            Part::Sum(n, sum) if *n > 0 => Some((*n, sum.rounded())),
            _ => None,
        };
        Ok(match self.aggregate.function {
            Function::Count => Arc::new(parts.iter().map(|p| count(p)).collect::<Int64Array>()),
            Function::Distinct => {
                let distinct = |p: &&Part| match p {
                    Part::Bag(bag) => i64::try_from(bag.len()).ok(),
                    _ => None,
                };
                Arc::new(parts.iter().map(distinct).collect::<Int64Array>())
            }
            Function::Sum => {
                Arc::new(parts.iter().map(|p| sum(p).map(|s| s.1)).collect::<Float64Array>())
            }
            #[expect(clippy::cast_precision_loss, reason = "a view has fewer than 2^53 rows")]
            Function::Mean => Arc::new(
                parts.iter().map(|p| sum(p).map(|(n, s)| s / n as f64)).collect::<Float64Array>(),
            ),
            Function::Min | Function::Max => self.extremes(parts)?,
            Function::Quantile(q) => {
                let quantiles = parts.iter().map(|part| match part {
                    Part::Bag(bag) => self.quantile(bag, q),
                    _ => Ok(None),
                });
                Arc::new(quantiles.collect::<Result<Float64Array, _>>()?)
            }
        })
    }

    fn extremes(&self, parts: &[&Part]) -> Result<ArrayRef, ArrowError> {
        let Some(codec) = &self.codec else {
            return Err(ArrowError::InvalidArgumentError("of no column".to_owned()));
        };
        let best = |part: &&Part| match part {
            Part::Extreme(best) => best.clone(),
            _ => None,
        };
        let best: Vec<Option<Row>> = parts.iter().map(best).collect();
        let values = codec.decode(best.iter().flatten())?.column(0).clone();
        let mut next = 0_u32;
        let places: arrow::array::UInt32Array = best
            .iter()
            .map(|row| {
                row.as_ref().map(|_| {
                    next += 1;
                    next - 1
                })
            })
            .collect();
        arrow::compute::take(&values, &places, None)
    }

    /// Linear between the two values next to place `q · (n − 1)`.
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        reason = "a view has fewer than 2^53 rows"
    )]
    fn quantile(&self, bag: &[(Row, i64)], q: f64) -> Result<Option<f64>, ArrowError> {
        let n: i64 = bag.iter().map(|(_, n)| n).sum();
        if n == 0 {
            return Ok(None);
        }
        let place = q * (n - 1) as f64;
        let at = |place: i64| {
            let mut left = place;
            let found = bag.iter().find(|(_, n)| {
                left -= n;
                left < 0
            });
            let found = found.or(bag.last()).map(|(row, _)| row);
            let decoded = self.of_number.decode(found)?;
            Ok::<_, ArrowError>(decoded.column(0).as_primitive::<Float64Type>().value(0))
        };
        let (below, above) = (at(place.floor() as i64)?, at(place.ceil() as i64)?);
        Ok(Some(below + (above - below) * place.fract()))
    }
}

fn count(part: &Part) -> Option<i64> {
    match part {
        Part::Count(n) => Some(*n),
        _ => None,
    }
}

/// The first `n` rows in `order`, of those that agree in `within`.
pub(super) fn top<'s>(
    view: &ViewWiring,
    (rows, relation): &(Rows<'s>, Relation),
    within: &[usize],
    order: &[(usize, bool)],
    n: usize,
    shared: &Shared,
) -> Result<Rows<'s>, ArrowError> {
    let codec = Codec::new(relation.arrow().clone())?;
    let of_group = Codec::of(relation.arrow(), within)?;
    let key = relation.key().to_vec();
    let of_key = Codec::of(relation.arrow(), &key)?;
    let fields = order.iter().map(|&(column, descending)| {
        let options = SortOptions { descending, nulls_first: false };
        SortField::new_with_options(relation.columns()[column].data_type.clone(), options)
    });
    let sorter = RowConverter::new(fields.collect())?;
    let (within, order) = (within.to_vec(), order.to_vec());
    let leaves =
        each(format!("{} rows", view.name), rows.clone(), shared, move |updates: Updates| {
            let columns = codec.decode(updates.iter().map(|(row, _, _)| row))?;
            let pick = |c: usize| columns.column(c).clone();
            let groups = match within.is_empty() {
                true => vec![Row::default(); updates.len()],
                false => of_group.encode(&within.iter().map(|&c| pick(c)).collect::<Vec<_>>())?,
            };
            let keys = of_key.encode(&key.iter().map(|&c| pick(c)).collect::<Vec<_>>())?;
            let sorted: Vec<ArrayRef> = order.iter().map(|&(c, _)| pick(c)).collect();
            let sorted = sorter.convert_columns(&sorted)?;
            let ranks = sorted.iter().map(|rank| Row::from_bytes(rank.as_ref()));
            let all = updates.into_iter().zip(groups).zip(keys).zip(ranks);
            Ok(all
                .map(|((((row, time, n), group), key), rank)| {
                    (((group, fine(&row)), (rank, key, row)), time, n)
                })
                .collect())
        });
    type Ranked = (Row, Row, Row);
    let first = tree(view, leaves, move |_, rows: &[(&Ranked, isize)], out| {
        out.extend(rows.iter().take(n).map(|(row, _)| ((*row).clone(), 1)));
    });
    Ok(first.map(|(_, (_, _, row))| row))
}
