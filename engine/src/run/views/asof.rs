//! Rows beside the last row of another view that is of no later time.
//!
//! What agrees in `on` is one group, whose rows of both views are walked in the order of their times whenever one of them
//! changes: a change costs as much as its group has rows, and no other group is looked at.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef};
use arrow::error::ArrowError;
use differential_dataflow::VecCollection;

use crate::relation::{Codec, Relation, Row};
use crate::run::step::Shared;
use crate::run::views::{Rows, Updates, ViewWiring, each, nulls};

/// A row in its group: its time, the view it is of, what breaks ties, and what comes out of it. Of one time those that are found
/// come before those that look for one.
type Moment = (Row, Side, Row, Row);

#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
enum Side {
    Found,
    Looks,
}

/// The view of `left` beside what is found in `right`; `take` are the columns of it that come out, and whether rows come
/// out that find none.
pub(super) fn asof<'s>(
    view: &ViewWiring,
    [left, right]: [&(Rows<'s>, Relation); 2],
    on: &[(usize, usize)],
    time: (usize, usize),
    (take, unmatched): (&[usize], bool),
    shared: &Shared,
) -> Result<Rows<'s>, ArrowError> {
    let name = &view.name;
    let (on_left, on_right): (Vec<usize>, Vec<usize>) = on.iter().copied().unzip();
    let looks = moments(format!("{name} left"), left, &on_left, time.0, None, shared)?;
    let found = moments(format!("{name} right"), right, &on_right, time.1, Some(take), shared)?;
    let (none, table) = (nulls(&right.1, take)?, Arc::clone(&view.table));
    let walked = found.concat(looks).reduce_named(
        &format!("{name} walk"),
        move |_, moments: &[(&Moment, isize)], out: &mut Vec<(Row, isize)>| {
            table.count_touched(moments.len());
            let mut last = None;
            for ((_, side, _, row), n) in moments {
                match (side, last) {
                    (Side::Found, _) => last = Some(row),
                    (Side::Looks, Some(found)) => out.push((row.followed_by(found), *n)),
                    (Side::Looks, None) if unmatched => out.push((row.followed_by(&none), *n)),
                    (Side::Looks, None) => {}
                }
            }
        },
    );
    Ok(walked.map(|(_, row)| row))
}

/// Rows by the values of `on`. With `take` those that can be found: only those columns, of rows that have a time and agree
/// with something.
fn moments<'s>(
    name: String,
    (rows, relation): &(Rows<'s>, Relation),
    on: &[usize],
    time: usize,
    take: Option<&[usize]>,
    shared: &Shared,
) -> Result<VecCollection<'s, u64, (Row, Moment), isize>, ArrowError> {
    let codec = Codec::new(relation.arrow().clone())?;
    let of = |columns: &[usize]| Codec::of(relation.arrow(), columns);
    let (of_on, of_time, of_key) = (of(on)?, of(&[time])?, of(relation.key())?);
    let of_take = of(take.unwrap_or_default())?;
    let (on, key, take) = (on.to_vec(), relation.key().to_vec(), take.map(<[usize]>::to_vec));
    let side = if take.is_some() { Side::Found } else { Side::Looks };
    Ok(each(name, rows.clone(), shared, move |updates: Updates| {
        let columns = codec.decode(updates.iter().map(|(row, _, _)| row))?;
        let pick = |of: &[usize]| of.iter().map(|&c| columns.column(c).clone()).collect::<Vec<_>>();
        let encoded = |codec: &Codec, of: &[usize]| match of {
            [] => Ok(vec![Row::default(); updates.len()]),
            _ => codec.encode(&pick(of)),
        };
        let groups = encoded(&of_on, &on)?;
        let times = encoded(&of_time, &[time])?;
        let needed: Vec<ArrayRef> = pick(&on).into_iter().chain(pick(&[time])).collect();
        let agrees = |row: usize| needed.iter().all(|column| column.is_valid(row));
        let (ties, takes) = match &take {
            Some(take) => (encoded(&of_key, &key)?, Some(encoded(&of_take, take)?)),
            None => (vec![Row::default(); updates.len()], None),
        };
        let mut made = Vec::with_capacity(updates.len());
        let placed = updates.into_iter().zip(groups).zip(times).zip(ties).enumerate();
        for (i, ((((row, at, n), group), time), tie)) in placed {
            let row = match &takes {
                Some(_) if !agrees(i) => continue,
                Some(takes) => takes[i].clone(),
                None => row,
            };
            made.push(((group, (time, side, tie, row)), at, n));
        }
        Ok(made)
    }))
}
