//! A small picture of what came out: the first numbers that a step has changed or added, over time.

use std::fmt::Write as _;

use arrow::array::{Array, ArrayRef, AsArray, Float64Array};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use foreline_engine::{Batch, Schema};

const WIDTH: f64 = 720.0;
/// Of one panel.
const HEIGHT: f64 = 92.0;
const MARGIN: f64 = 44.0;
/// Panels of one picture.
const PANELS: usize = 3;
/// Points of a line; of more, the least and the greatest of each stretch are drawn.
const POINTS: usize = 400;
/// Fewer points are drawn as dots too.
const DOTS: usize = 60;
const COLOUR: &str = "#d9480f";
const BEFORE: &str = "#adb5bd";
const TEXT: &str = "#495057";

/// Points of a line.
struct Line {
    name: String,
    points: Vec<(f64, f64)>,
    /// What the horizontal axis is in.
    unit: &'static str,
}

/// A column, and what it was before.
struct Panel {
    line: Line,
    before: Option<Line>,
}

/// The picture; none where there is nothing to draw.
pub(super) fn draw(out: &(Schema, Batch), read: Option<&(Schema, Batch)>) -> Option<String> {
    let mut panels: Vec<Panel> = list(out, read).into_iter().collect();
    if panels.is_empty() {
        let news = new_columns(out, read).into_iter();
        panels = news.map(|c| Panel { line: line(out, c), before: before(out, c, read) }).collect();
    }
    panels.retain(|panel| panel.line.points.len() > 1);
    panels.truncate(PANELS);
    (!panels.is_empty()).then(|| svg(&panels))
}

fn rows_of_first_key(batch: &Batch) -> usize {
    batch.groups().next().map_or(0, |g| g.end)
}

fn is_number(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Float64 | DataType::Int64 | DataType::Boolean)
}

/// Numeric columns that are not in the stream that was read, or not as they were.
fn new_columns((schema, batch): &(Schema, Batch), read: Option<&(Schema, Batch)>) -> Vec<usize> {
    let is_new = |c: &usize| {
        let column = &schema.columns()[*c];
        let there = read.and_then(|(s, b)| Some(b.rows.column(s.index_of(&column.name)?)));
        is_number(&column.data_type)
            && !schema.key().contains(c)
            && schema.time() != *c
            && there.is_none_or(|there| there != batch.rows.column(*c))
    };
    (0..schema.columns().len()).filter(is_new).collect()
}

/// The column as it was read that `column` replaces.
fn before(out: &(Schema, Batch), column: usize, read: Option<&(Schema, Batch)>) -> Option<Line> {
    let read = read?;
    let column = read.0.index_of(&out.0.columns()[column].name)?;
    is_number(&read.0.columns()[column].data_type).then(|| line(read, column))
}

fn line((schema, batch): &(Schema, Batch), column: usize) -> Line {
    let end = rows_of_first_key(batch);
    let values = numbers(batch.rows.column(column));
    let times = batch.times(schema);
    let start = times.first().copied().unwrap_or_default();
    #[expect(clippy::cast_precision_loss, reason = "half an hour")]
    let points = (0..end)
        .filter(|&row| values.is_valid(row))
        .map(|row| ((times[row] - start) as f64 / 1e9, values.value(row)));
    Line { name: schema.columns()[column].name.clone(), points: points.collect(), unit: " s" }
}

fn numbers(column: &ArrayRef) -> Float64Array {
    cast(column, &DataType::Float64).unwrap().as_primitive().clone()
}

/// The values of the first row of the last column of lists, where the step has made it: a waveform or a spectrum.
#[expect(clippy::cast_precision_loss, reason = "values of one list")]
fn list((schema, batch): &(Schema, Batch), read: Option<&(Schema, Batch)>) -> Option<Panel> {
    let is_list = |c: &usize| matches!(schema.columns()[*c].data_type, DataType::List(_));
    let last = (0..schema.columns().len()).rfind(is_list)?;
    let column = &schema.columns()[last];
    if read.is_some_and(|(before, _)| before.index_of(&column.name).is_some()) {
        return None;
    }
    let list = batch.rows.column(last).as_list::<i32>();
    let values = (!list.is_empty() && list.is_valid(0)).then(|| numbers(&list.value(0)))?;
    let step = 1.0 / column.sample_rate.map_or(1.0, foreline_engine::SampleRate::hertz);
    let points = values.iter().flatten().enumerate().map(|(i, v)| (i as f64 * step, v)).collect();
    let unit = if column.sample_rate.is_some() { " s" } else { "" };
    Some(Panel { line: Line { name: column.name.clone(), points, unit }, before: None })
}

fn svg(panels: &[Panel]) -> String {
    let all = || panels.iter().flat_map(|p| &p.line.points);
    let (x0, x1) = range(all().map(|p| p.0));
    #[expect(clippy::cast_precision_loss, reason = "a few panels")]
    let height = panels.len() as f64 * HEIGHT + 16.0;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" font-size=\"11\">\n\
         <rect width=\"{WIDTH}\" height=\"{height}\" fill=\"#ffffff\"/>\n"
    );
    for (i, panel) in panels.iter().enumerate() {
        #[expect(clippy::cast_precision_loss, reason = "a few panels")]
        let top = i as f64 * HEIGHT;
        panel.draw(&mut out, top, (x0, x1));
    }
    let (bottom, end, unit) = (height - 4.0, WIDTH - 8.0, panels[0].line.unit);
    for (x, at, anchor) in [(x0, MARGIN, "start"), (x1, end, "end")] {
        let x = tick(x);
        writeln!(out, "<text x=\"{at}\" y=\"{bottom}\" text-anchor=\"{anchor}\" fill=\"{TEXT}\">{x}{unit}</text>").unwrap();
    }
    out + "</svg>\n"
}

fn range(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let (lo, hi) = values.fold((f64::MAX, f64::MIN), |(lo, hi), v| (lo.min(v), hi.max(v)));
    if hi > lo { (lo, hi) } else { (lo - 0.5, lo + 0.5) }
}

impl Panel {
    fn draw(&self, out: &mut String, top: f64, (x0, x1): (f64, f64)) {
        let all = self.line.points.iter().chain(self.before.iter().flat_map(|b| &b.points));
        let (y0, y1) = range(all.map(|p| p.1));
        let place = |&(x, y): &(f64, f64)| {
            let right = MARGIN + (x - x0) / (x1 - x0) * (WIDTH - MARGIN - 8.0);
            (right, top + HEIGHT - 4.0 - (y - y0) / (y1 - y0) * (HEIGHT - 24.0))
        };
        for (y, at) in [(y1, top + 26.0), (y0, top + HEIGHT - 4.0)] {
            let (x, y) = (MARGIN - 4.0, tick(y));
            writeln!(
                out,
                "<text x=\"{x}\" y=\"{at}\" text-anchor=\"end\" fill=\"{TEXT}\">{y}</text>"
            )
            .unwrap();
        }
        if let Some(before) = &self.before {
            path(out, &before.points, BEFORE, place);
        }
        path(out, &self.line.points, COLOUR, place);
        let (y, name) = (top + 13.0, &self.line.name);
        let grey = if self.before.is_some() { ", before in grey" } else { "" };
        writeln!(out, "<text x=\"{MARGIN}\" y=\"{y}\" fill=\"{COLOUR}\">{name}{grey}</text>")
            .unwrap();
    }
}

fn path(
    out: &mut String,
    points: &[(f64, f64)],
    colour: &str,
    place: impl Fn(&(f64, f64)) -> (f64, f64),
) {
    let few = thinned(points);
    let shown = few.iter().map(&place).map(|(x, y)| format!("{x:.1},{y:.1}"));
    let shown = shown.collect::<Vec<_>>().join(" ");
    writeln!(
        out,
        "<polyline points=\"{shown}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.2\"/>"
    )
    .unwrap();
    if points.len() <= DOTS {
        for (x, y) in few.iter().map(place) {
            writeln!(out, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"2\" fill=\"{colour}\"/>")
                .unwrap();
        }
    }
}

/// The least and the greatest of each stretch, in their order.
fn thinned(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    if points.len() <= POINTS {
        return points.to_vec();
    }
    let stretch = points.len().div_ceil(POINTS / 2);
    let mut out = Vec::with_capacity(POINTS);
    for part in points.chunks(stretch) {
        let by_value = |a: &&(f64, f64), b: &&(f64, f64)| a.1.total_cmp(&b.1);
        let (Some(lo), Some(hi)) = (part.iter().min_by(by_value), part.iter().max_by(by_value))
        else {
            continue;
        };
        let (first, second) = if lo.0 <= hi.0 { (lo, hi) } else { (hi, lo) };
        out.push(*first);
        if first.0 < second.0 {
            out.push(*second);
        }
    }
    out
}

fn tick(value: f64) -> String {
    let shown = if value.abs() >= 100.0 { format!("{value:.0}") } else { format!("{value:.2}") };
    match shown.split_once('.') {
        Some(_) => shown.trim_end_matches('0').trim_end_matches('.').to_owned(),
        None => shown,
    }
}
