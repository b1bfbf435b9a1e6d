//! Where the points of the tracks come from: a column each, or rows that say whose they are.

use arrow::array::{ArrayRef, AsArray, StringArray};
use arrow::buffer::ScalarBuffer;
use arrow::compute::cast;
use arrow::datatypes::DataType;
use foreline_engine::{Batch, Fault, Group, Schema};

use super::{Grid, Point, Tracks};
use crate::columns::channel;

/// Where points come from.
#[derive(Debug, Clone)]
pub(crate) enum Feed {
    /// Each of these columns is a track.
    Columns(Vec<usize>),
    /// The rows whose column `by` is the i-th of `names` are those of track i; the values are in the column `value`.
    Long { by: usize, value: usize, names: Vec<String> },
}

impl Feed {
    pub(super) fn n_tracks(&self) -> usize {
        match self {
            Feed::Columns(columns) => columns.len(),
            Feed::Long { names, .. } => names.len(),
        }
    }

    /// What is read of a batch.
    pub(super) fn taken<'a>(&self, rows: &'a Batch, schema: &Schema) -> Result<Taken<'a>, Fault> {
        let channel = |&c: &usize| channel(rows.rows.column(c));
        let (channels, tracks) = match self {
            Feed::Columns(columns) => {
                (columns.iter().map(channel).collect::<Result<_, _>>()?, None)
            }
            Feed::Long { by, value, names } => {
                (vec![channel(value)?], Some(tracks_of(rows.rows.column(*by), names)?))
            }
        };
        Ok(Taken { times: rows.times(schema), positions: rows.position.values(), channels, tracks })
    }
}

/// The place of each row's text among `names`.
pub(crate) fn tracks_of(by: &ArrayRef, names: &[String]) -> Result<Vec<Option<usize>>, Fault> {
    let texts = cast(by, &DataType::Utf8)?;
    let texts: &StringArray = texts.as_string();
    let track = |text: Option<&str>| text.and_then(|t| names.iter().position(|n| n == t));
    Ok(texts.iter().map(track).collect())
}

/// A batch and what is read of it.
pub(super) struct Taken<'a> {
    pub(super) times: &'a [i64],
    positions: &'a [u64],
    channels: Vec<ScalarBuffer<f64>>,
    tracks: Option<Vec<Option<usize>>>,
}

impl Taken<'_> {
    /// Gives the points of a key to its tracks; returns how many rows were used.
    pub(super) fn points(&self, group: Group, to: &mut Tracks, grid: &Grid) -> u64 {
        let mut used = 0;
        let point =
            |row: usize, y: f64| Point { at: self.times[row], y, position: self.positions[row] };
        let Some(tracks) = &self.tracks else {
            for (track, values) in self.channels.iter().enumerate() {
                for row in (group.start..group.end).filter(|&r| !values[r].is_nan()) {
                    to.point(track, point(row, values[row]), grid);
                }
            }
            return (group.end - group.start) as u64;
        };
        let values = &self.channels[0];
        for row in group.start..group.end {
            let Some(track) = tracks[row] else { continue };
            used += 1;
            if !values[row].is_nan() {
                to.point(track, point(row, values[row]), grid);
            }
        }
        used
    }
}
