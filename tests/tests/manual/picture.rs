//! A small picture of what came out: the first numbers that a step has changed or added, over time.

use std::fmt::Write as _;

use arrow::array::{Array, ArrayRef, AsArray, Float64Array};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use foreline_engine::{Batch, Schema};

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 180.0;
const MARGIN: f64 = 44.0;
/// Lines of one picture.
const LINES: usize = 3;
/// Points of a line; of more, the least and the greatest of each stretch are drawn.
const POINTS: usize = 500;
/// Fewer points are drawn as dots too.
const DOTS: usize = 60;
const COLOURS: [&str; LINES] = ["#d9480f", "#1971c2", "#2f9e44"];

/// Points of a line.
struct Line {
    name: String,
    points: Vec<(f64, f64)>,
}

/// The picture; none where there is nothing to draw.
pub(super) fn draw(out: &(Schema, Batch), read: Option<&(Schema, Batch)>) -> Option<String> {
    let mut lines = waveform(out);
    let mut before = None;
    if lines.is_empty() {
        let news = new_columns(out, read);
        lines = news.iter().take(LINES).map(|&c| line(out, c)).collect();
        before = read.and_then(|read| before_of(out, read, &news));
    }
    lines.retain(|line| line.points.len() > 1);
    (!lines.is_empty()).then(|| svg(&lines, before.as_ref()))
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

/// The column as it was read that the first new one replaces.
fn before_of(out: &(Schema, Batch), read: &(Schema, Batch), news: &[usize]) -> Option<Line> {
    let name = &out.0.columns()[*news.first()?].name;
    let column = read.0.index_of(name)?;
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
    Line { name: schema.columns()[column].name.clone(), points: points.collect() }
}

fn numbers(column: &ArrayRef) -> Float64Array {
    cast(column, &DataType::Float64).unwrap().as_primitive().clone()
}

/// The samples of the first waveform, or spectrum.
#[expect(clippy::cast_precision_loss, reason = "samples of one waveform")]
fn waveform((schema, batch): &(Schema, Batch)) -> Vec<Line> {
    let is_list = |c: &usize| matches!(schema.columns()[*c].data_type, DataType::List(_));
    let lists = (0..schema.columns().len()).filter(is_list).take(1);
    let of = |c: usize| {
        let column = &schema.columns()[c];
        let list = batch.rows.column(c).as_list::<i32>();
        let values = (!list.is_empty() && list.is_valid(0)).then(|| numbers(&list.value(0)));
        let step = 1.0 / column.sample_rate.map_or(1.0, foreline_engine::SampleRate::hertz);
        let points = values.iter().flatten().flatten().enumerate();
        Line {
            name: column.name.clone(),
            points: points.map(|(i, v)| (i as f64 * step, v)).collect(),
        }
    };
    lists.map(of).collect()
}

fn svg(lines: &[Line], before: Option<&Line>) -> String {
    let all = || lines.iter().chain(before).flat_map(|line| &line.points);
    let range = |of: fn(&(f64, f64)) -> f64| {
        let (lo, hi) =
            all().map(of).fold((f64::MAX, f64::MIN), |(lo, hi), v| (lo.min(v), hi.max(v)));
        if hi > lo { (lo, hi) } else { (lo - 0.5, lo + 0.5) }
    };
    let ((x0, x1), (y0, y1)) = (range(|p| p.0), range(|p| p.1));
    let place = |&(x, y): &(f64, f64)| {
        let right = MARGIN + (x - x0) / (x1 - x0) * (WIDTH - MARGIN - 8.0);
        (right, HEIGHT - 22.0 - (y - y0) / (y1 - y0) * (HEIGHT - 44.0))
    };
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" font-size=\"11\">\n\
         <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"#ffffff\"/>\n"
    );
    for (y, at) in [(y1, 26.0), (y0, HEIGHT - 18.0)] {
        let x = MARGIN - 4.0;
        writeln!(
            out,
            "<text x=\"{x}\" y=\"{at}\" text-anchor=\"end\" fill=\"#495057\">{}</text>",
            tick(y)
        )
        .unwrap();
    }
    let (bottom, end) = (HEIGHT - 4.0, WIDTH - 8.0);
    for (x, at, anchor) in [(x0, MARGIN, "start"), (x1, end, "end")] {
        let x = tick(x);
        writeln!(
            out,
            "<text x=\"{at}\" y=\"{bottom}\" text-anchor=\"{anchor}\" fill=\"#495057\">{x} s</text>"
        )
        .unwrap();
    }
    let grey = before.map(|line| (line, "#ced4da", "before"));
    let coloured = lines.iter().zip(COLOURS).map(|(line, colour)| (line, colour, ""));
    let mut legend = MARGIN;
    for (line, colour, word) in grey.into_iter().chain(coloured) {
        path(&mut out, &line.points, colour, place);
        let name = format!("{} {word}", line.name);
        let shown = name.trim();
        writeln!(out, "<text x=\"{legend}\" y=\"13\" fill=\"{colour}\">{shown}</text>").unwrap();
        #[expect(clippy::cast_precision_loss, reason = "a name")]
        let width = shown.len() as f64 * 6.5 + 18.0;
        legend += width;
    }
    out + "</svg>\n"
}

fn path(
    out: &mut String,
    points: &[(f64, f64)],
    colour: &str,
    place: impl Fn(&(f64, f64)) -> (f64, f64),
) {
    let few = thinned(points);
    let shown: Vec<String> =
        few.iter().map(|p| place(p)).map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
    let shown = shown.join(" ");
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
