//! Values put onto a grid of times: what `resample` and `align` have in common.
//!
//! A *track* is a series of points of its own: a column, or a sensor. Grid points are the multiples of `every`, counted
//! from 1970-01-01T00:00Z or from 0. A track has a value at grid point `g`
//!
//! ```text
//! hold     that of its last point at or before g, if that is at most max_gap ago
//! linear   that of its point at g, or where t0 < g < t1 are the times of the points around it and t1 - t0 <= max_gap,
//!          y0 + (y1 - y0) (g - t0) / (t1 - t0)
//! ```
//!
//! and none elsewhere. Of points of one time the last counts at it and after it; the line before it goes to the first.
//! A grid point has a row if some track has a value there. So a row depends on the points alone, and not on when they
//! came: what the watermark does is to say when a grid point is *decided*, on every track, and its row can go out.

use std::collections::VecDeque;

use arrow::array::{Int64Array, RecordBatch};
use foreline_engine::{
    Account, Batch, ConfigError, Epoch, Extent, Fault, Group, Input, Keyed, Operator, Out, Schema,
    ShardSet, TimeDomain, Watermarks,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::columns::{positive, same_version};
use crate::emitted::Emitted;
use feed::Taken;

pub(crate) use feed::{Feed, tracks_of};

mod feed;

/// Raised whenever the saved state changes.
pub(crate) const STATE_VERSION: u32 = 1;

/// Most grid points in `max_gap`: so many rows may one row that comes in bring about, and so many values of a track
/// may wait for those of another.
const MAX_GAP_POINTS: i64 = 100_000;

/// What is between two points.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// The last value.
    Hold,
    /// A line. It is known when the next value is there.
    Linear,
}

/// What comes out where no value is known.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Gaps {
    /// Nothing.
    #[default]
    Skip,
    /// One row of nulls, at the first grid point of the gap. (In YAML a bare `null` would be no word.)
    NullRow,
}

/// A grid and how it is filled; lengths in the unit of the time domain.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Grid {
    every: i64,
    max_gap: i64,
    method: Method,
    gaps: Gaps,
}

impl Grid {
    pub(crate) fn plan(
        (every, max_gap): (Extent, Extent),
        method: Method,
        gaps: Gaps,
        domain: TimeDomain,
    ) -> Result<Self, Vec<ConfigError>> {
        let step = positive("every", every, domain);
        let gap = positive("max_gap", max_gap, domain);
        match (step, gap) {
            (Ok(every), Ok(max_gap)) if max_gap / every <= MAX_GAP_POINTS => {
                Ok(Grid { every, max_gap, method, gaps })
            }
            (Ok(_), Ok(_)) => {
                let what = format!("more than {MAX_GAP_POINTS} times {every} fit in {max_gap}");
                let help = "make 'max_gap' shorter or 'every' longer";
                Err(vec![ConfigError::new("max_gap", what).help(help)])
            }
            (every, max_gap) => Err([every.err(), max_gap.err()].into_iter().flatten().collect()),
        }
    }

    /// The first grid point at or after `time`.
    fn at_or_after(&self, time: i64) -> i64 {
        let behind = time.rem_euclid(self.every);
        if behind == 0 { time } else { time.saturating_add(self.every - behind) }
    }

    fn after(&self, point: i64) -> i64 {
        point.saturating_add(self.every)
    }

    /// Where a value of `at` stops to count.
    fn end_of(&self, at: i64) -> i64 {
        at.saturating_add(self.max_gap)
    }
}

/// A value that was measured.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Point {
    pub(crate) at: i64,
    pub(crate) y: f64,
    pub(crate) position: u64,
}

/// A series of points, and its values at decided grid points that are not sent yet.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Track {
    last: Option<Point>,
    /// The first grid point that is not decided.
    next: i64,
    ready: VecDeque<Point>,
}

impl Track {
    fn push(&mut self, y: f64, position: u64, grid: &Grid) {
        self.ready.push_back(Point { at: self.next, y, position });
        self.next = grid.after(self.next);
    }

    /// Takes in the next point.
    fn point(&mut self, point: Point, grid: &Grid) {
        if let Some(last) = self.last.filter(|last| last.at < point.at) {
            match grid.method {
                Method::Hold => self.hold(last, point.at, grid),
                Method::Linear => self.line(last, point, grid),
            }
        }
        self.next = self.next.max(grid.at_or_after(point.at));
        self.last = Some(point);
    }

    /// Decides the grid points before `upto` that `last` counts at.
    fn hold(&mut self, last: Point, upto: i64, grid: &Grid) {
        while self.next < upto && self.next <= grid.end_of(last.at) {
            self.push(last.y, last.position, grid);
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "a gap beyond 104 days loses nanoseconds")]
    fn line(&mut self, from: Point, to: Point, grid: &Grid) {
        self.exact(from, grid);
        let length = to.at.saturating_sub(from.at);
        if length > grid.max_gap {
            return;
        }
        while self.next < to.at {
            let part = (self.next - from.at) as f64 / length as f64;
            self.push(from.y + (to.y - from.y) * part, to.position, grid);
        }
    }

    /// Decides the grid point that `last` is at, if there is one.
    fn exact(&mut self, last: Point, grid: &Grid) {
        if self.next == last.at {
            self.push(last.y, last.position, grid);
        }
    }

    /// Decides what can be when all points before `frontier` are known.
    fn advance(&mut self, frontier: i64, grid: &Grid) {
        if let Some(last) = self.last {
            match grid.method {
                Method::Hold => self.hold(last, frontier, grid),
                Method::Linear if last.at < frontier => self.exact(last, grid),
                Method::Linear => {}
            }
            if grid.method == Method::Linear && frontier <= grid.end_of(last.at) {
                return;
            }
        }
        self.next = self.next.max(grid.at_or_after(frontier));
    }

    /// Whether no grid point has a value any more unless another point comes.
    fn is_spent(&self, grid: &Grid) -> bool {
        let counts = |last: Point| match grid.method {
            Method::Hold => self.next <= grid.end_of(last.at),
            Method::Linear => true,
        };
        self.ready.is_empty() && !self.last.is_some_and(counts)
    }
}

/// The tracks of a key.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Tracks {
    tracks: Vec<Track>,
    /// The last grid point that was sent with a value, and the position it had.
    sent: Option<(i64, u64)>,
    /// Whether the gap behind it was told.
    told: bool,
}

impl Tracks {
    fn new(n_tracks: usize, first: i64, grid: &Grid) -> Self {
        let track = Track { next: grid.at_or_after(first), ..Track::default() };
        Tracks { tracks: vec![track; n_tracks], ..Tracks::default() }
    }

    pub(crate) fn point(&mut self, track: usize, point: Point, grid: &Grid) {
        self.tracks[track].point(point, grid);
    }

    fn advance(&mut self, frontier: i64, grid: &Grid) {
        for track in &mut self.tracks {
            track.advance(frontier, grid);
        }
    }

    /// The first grid point that is not decided on every track.
    fn end(&self) -> i64 {
        self.tracks.iter().map(|t| t.next).min().unwrap_or(i64::MIN)
    }

    /// Whether nothing goes out unless another point comes.
    fn is_spent(&self, grid: &Grid) -> bool {
        let told = self.told || self.sent.is_none() || grid.gaps == Gaps::Skip;
        told && self.tracks.iter().all(|t| t.is_spent(grid))
    }

    /// Sends what is decided.
    fn emit(&mut self, slot: u32, grid: &Grid, out: &mut Emitted) {
        let end = self.end();
        loop {
            let first = self.tracks.iter().filter_map(|t| t.ready.front()).map(|p| p.at).min();
            let Some(at) = first.filter(|&at| at < end) else { break };
            self.gap_before(at, slot, grid, out);
            let mut position = 0;
            for (track, channel) in self.tracks.iter_mut().zip(&mut out.channels) {
                let here = track.ready.front().is_some_and(|p| p.at == at);
                let point = if here { track.ready.pop_front() } else { None };
                channel.push(point.map_or(f64::NAN, |p| p.y));
                position = point.map_or(position, |p| p.position.max(position));
            }
            out.row(slot, at, position);
            (self.sent, self.told) = (Some((at, position)), false);
        }
        self.gap_before(end, slot, grid, out);
    }

    /// Says that the grid point behind the last one sent has no value, if it is before `end`.
    fn gap_before(&mut self, end: i64, slot: u32, grid: &Grid, out: &mut Emitted) {
        let Some((sent, position)) = self.sent.filter(|_| grid.gaps == Gaps::NullRow) else {
            return;
        };
        let first = grid.after(sent);
        if !self.told && first < end {
            out.channels.iter_mut().for_each(|c| c.push(f64::NAN));
            out.row(slot, first, position);
            self.told = true;
        }
    }
}

/// The operator.
#[derive(Debug)]
pub(crate) struct Gridded {
    input: Schema,
    output: Schema,
    grid: Grid,
    feed: Feed,
    keys: Keyed<Tracks>,
    /// The bound below all watermarks that grid points were decided for.
    low: i64,
}

impl Gridded {
    pub(crate) fn new(input: Schema, output: Schema, grid: Grid, feed: Feed) -> Self {
        let keys = Keyed::new(&input);
        Gridded { input, output, grid, feed, keys, low: i64::MIN }
    }

    /// Takes in the rows of a key; returns how many were used.
    fn take_in(
        &mut self,
        rows: &Batch,
        taken: &Taken<'_>,
        group: Group,
        out: &mut Emitted,
    ) -> Result<u64, Fault> {
        let (n_tracks, grid) = (self.feed.n_tracks(), self.grid);
        let first = taken.times[group.start];
        let make = || Tracks::new(n_tracks, first, &grid);
        let slot = self.keys.slot(rows, self.input.key(), group.start, make)?;
        let tracks = self.keys.get_mut(slot);
        let used = taken.points(group, tracks, &grid);
        tracks.advance(taken.times[group.end - 1], &grid);
        tracks.emit(slot, &grid, out);
        Ok(used)
    }

    /// Decides what the watermarks decide.
    fn advance(&mut self, watermarks: &Watermarks, out: &mut Emitted) {
        for (slot, at) in self.keys.reached(watermarks, &mut self.low) {
            self.advance_key(slot, at, out);
        }
    }

    fn advance_key(&mut self, slot: u32, frontier: i64, out: &mut Emitted) {
        // Looked at first, because a look does not mark the shard as changed.
        if !self.keys.get(slot).is_spent(&self.grid) {
            let tracks = self.keys.get_mut(slot);
            tracks.advance(frontier, &self.grid);
            tracks.emit(slot, &self.grid, out);
        }
    }

    /// How far what comes out is complete: no row before the first grid point that is not decided.
    fn watermarks(&self, input: &Watermarks) -> Watermarks {
        let at = |hash: u64, at: i64| match (at, self.keys.find(hash)) {
            (i64::MIN | Watermarks::END, _) => at,
            (at, Some(slot)) if !self.keys.get(slot).is_spent(&self.grid) => {
                self.keys.get(slot).end().min(self.grid.at_or_after(at))
            }
            (at, _) => self.grid.at_or_after(at),
        };
        let waits = if self.grid.method == Method::Linear { self.grid.max_gap } else { 0 };
        let low = match input.low {
            i64::MIN | Watermarks::END => input.low,
            low => self.grid.at_or_after(low.saturating_sub(waits)),
        };
        Watermarks {
            keys: input.keys.clone(),
            key_hash: input.key_hash.clone(),
            at: input.iter().map(|(_, hash, mark)| at(hash, mark)).collect::<Int64Array>(),
            low,
        }
    }
}

impl Operator for Gridded {
    fn epoch(&mut self, _: &Epoch, inputs: &[Input<'_>], out: &mut dyn Out) -> Result<(), Fault> {
        let input = &inputs[0];
        let schema = self.input.clone();
        let taken = self.feed.taken(input.rows, &schema)?;
        let mut emitted = Emitted::new(self.feed.n_tracks());
        let mut used = 0;
        for group in input.rows.groups() {
            used += self.take_in(input.rows, &taken, group, &mut emitted)?;
        }
        self.advance(input.watermarks, &mut emitted);
        let filtered = input.rows.len() as u64 - used;
        out.count(Account { used, filtered, ..Account::default() });
        if let Some(rows) = emitted.batch(&mut self.keys, &self.output)? {
            out.emit(rows);
        }
        out.watermarks(self.watermarks(input.watermarks));
        Ok(())
    }

    fn dirty(&self) -> ShardSet {
        self.keys.dirty()
    }

    fn save(&mut self, shard: u8) -> Result<Option<RecordBatch>, Fault> {
        self.keys.save(shard)
    }

    fn load(&mut self, _: u8, version: u32, state: RecordBatch) -> Result<(), Fault> {
        same_version(version, STATE_VERSION)?;
        self.keys.load(&state)
    }
}
