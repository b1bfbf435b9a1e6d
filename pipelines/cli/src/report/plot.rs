//! The plots of a report, as SVG.

use std::fmt::Write as _;

use super::escaped;
use crate::metrics::prognosis::{Course, Point};

/// Width of a plot, in its own units.
const WIDTH: f64 = 800.0;
/// Height of a plot.
const HEIGHT: f64 = 380.0;
/// Room for the numbers of the axes.
const LEFT: f64 = 64.0;
const BOTTOM: f64 = 46.0;
const TOP: f64 = 10.0;
const RIGHT: f64 = 14.0;
/// Marks of a plot; more are not told apart.
const MOST_DOTS: usize = 4000;
/// Bins over the life that is left.
const BINS: usize = 20;
/// Rows of a bin below which its quantiles say little.
const FEWEST: usize = 3;
/// Height of a bar with its room.
const BAR: f64 = 22.0;
/// Room for the names of bars.
const NAMES: f64 = 230.0;

/// The rows of a bin of life left.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Horizon {
    /// The middle of the bin.
    left: f64,
    /// Quantiles of prediction minus truth.
    low: f64,
    median: f64,
    high: f64,
}

/// Rows with a truth, cut at the cap, and a prediction.
fn usable(courses: &[Course], cap: Option<f64>) -> impl Iterator<Item = (f64, f64)> + '_ {
    let pair = move |p: &Point| (cap.map_or(p.truth, |cap| p.truth.min(cap)), p.predicted);
    let points = courses.iter().flat_map(|c| &c.points).map(pair);
    points.filter(|(truth, predicted)| truth.is_finite() && predicted.is_finite())
}

/// Axes from values to places.
struct Axes {
    x: (f64, f64),
    y: (f64, f64),
    svg: String,
}

impl Axes {
    fn new(x: (f64, f64), y: (f64, f64), x_name: &str, y_name: &str, title: &str) -> Self {
        let wide =
            |(low, high): (f64, f64)| if high > low { (low, high) } else { (low, low + 1.0) };
        let mut axes = Axes { x: wide(x), y: wide(y), svg: String::new() };
        let title = escaped(title);
        let _ = writeln!(
            axes.svg,
            "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{title}\">"
        );
        for tick in ticks(axes.y) {
            let y = axes.place_y(tick);
            let _ = writeln!(
                axes.svg,
                "<line class=\"axis\" x1=\"{LEFT}\" x2=\"{:.1}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/><text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                WIDTH - RIGHT,
                LEFT - 8.0,
                y + 4.0,
                number(tick)
            );
        }
        for tick in ticks(axes.x) {
            let x = axes.place_x(tick);
            let _ = writeln!(
                axes.svg,
                "<text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
                HEIGHT - BOTTOM + 18.0,
                number(tick)
            );
        }
        let _ = writeln!(
            axes.svg,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text><text x=\"14\" y=\"{:.1}\" text-anchor=\"middle\" transform=\"rotate(-90 14 {:.1})\">{}</text>",
            f64::midpoint(LEFT, WIDTH - RIGHT),
            HEIGHT - 8.0,
            escaped(x_name),
            f64::midpoint(TOP, HEIGHT - BOTTOM),
            f64::midpoint(TOP, HEIGHT - BOTTOM),
            escaped(y_name)
        );
        axes
    }

    fn place_x(&self, x: f64) -> f64 {
        LEFT + (x - self.x.0) / (self.x.1 - self.x.0) * (WIDTH - LEFT - RIGHT)
    }

    fn place_y(&self, y: f64) -> f64 {
        HEIGHT - BOTTOM - (y - self.y.0) / (self.y.1 - self.y.0) * (HEIGHT - TOP - BOTTOM)
    }

    fn path(&mut self, class: &str, points: &[(f64, f64)]) {
        let places: Vec<String> = points
            .iter()
            .map(|&(x, y)| format!("{:.1},{:.1}", self.place_x(x), self.place_y(y)))
            .collect();
        let _ = writeln!(self.svg, "<polyline class=\"{class}\" points=\"{}\"/>", places.join(" "));
    }

    fn dot(&mut self, x: f64, y: f64, radius: f64) {
        let (x, y) = (self.place_x(x), self.place_y(y));
        let _ = writeln!(
            self.svg,
            "<circle class=\"dot\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{radius}\"/>"
        );
    }

    fn end(mut self) -> String {
        self.svg.push_str("</svg>\n");
        self.svg
    }
}

/// About five round numbers of a range.
fn ticks((low, high): (f64, f64)) -> Vec<f64> {
    let rough = (high - low) / 5.0;
    let power = 10_f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].iter().map(|m| m * power).find(|s| *s >= rough);
    let step = step.unwrap_or(rough);
    let first = (low / step).ceil() as i64;
    (first..first + 12).map(|n| n as f64 * step).take_while(|t| *t <= high + step * 1e-9).collect()
}

fn number(x: f64) -> String {
    let text = format!("{x:.6}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if text == "-0" { "0".to_owned() } else { text.to_owned() }
}

fn range(values: impl Iterator<Item = f64>) -> (f64, f64) {
    values.fold((0.0, 0.0), |(low, high): (f64, f64), x| (low.min(x), high.max(x)))
}

/// Every row: truth to the right, prediction up; a perfect one lies on the broken line.
pub(super) fn against_truth(courses: &[Course], cap: Option<f64>) -> String {
    let points: Vec<(f64, f64)> = usable(courses, None).collect();
    let x = range(points.iter().map(|p| p.0));
    let y = range(points.iter().map(|p| p.1).chain([cap.map_or(x.1, |cap| cap.min(x.1))]));
    let title = "predicted against true remaining life";
    let mut axes = Axes::new(x, y, "remaining life in truth", "predicted", title);
    let step = points.len().div_ceil(MOST_DOTS).max(1);
    for &(truth, predicted) in points.iter().step_by(step) {
        axes.dot(truth, predicted, 2.5);
    }
    let bend = cap.map_or(x.1, |cap| cap.min(x.1));
    axes.path("ideal", &[(0.0, 0.0), (bend, bend), (x.1, bend)]);
    axes.end()
}

/// Errors by the life that is left.
pub(super) fn by_horizon(courses: &[Course], cap: Option<f64>) -> Vec<Horizon> {
    let points: Vec<(f64, f64)> = usable(courses, cap).collect();
    let highest = points.iter().map(|p| p.0).fold(0.0, f64::max);
    if highest <= 0.0 {
        return Vec::new();
    }
    let mut bins = vec![Vec::new(); BINS];
    for (truth, predicted) in points {
        let bin = ((truth / highest * BINS as f64) as usize).min(BINS - 1);
        bins[bin].push(predicted - truth);
    }
    let horizon = |(n, mut errors): (usize, Vec<f64>)| {
        errors.sort_by(f64::total_cmp);
        let at = |share: f64| errors[((errors.len() - 1) as f64 * share).round() as usize];
        (errors.len() >= FEWEST).then(|| Horizon {
            left: (n as f64 + 0.5) / BINS as f64 * highest,
            low: at(0.1),
            median: at(0.5),
            high: at(0.9),
        })
    };
    bins.into_iter().enumerate().filter_map(horizon).collect()
}

/// The median error with a band.
pub(super) fn error_bands(bins: &[Horizon]) -> String {
    let x = range(bins.iter().map(|b| b.left));
    let y = range(bins.iter().flat_map(|b| [b.low, b.high]));
    let mut axes =
        Axes::new(x, y, "remaining life in truth", "predicted - truth", "error by remaining life");
    let up = bins.iter().map(|b| (b.left, b.high));
    let down = bins.iter().rev().map(|b| (b.left, b.low));
    axes.path("band", &up.chain(down).collect::<Vec<_>>());
    axes.path("line", &bins.iter().map(|b| (b.left, b.median)).collect::<Vec<_>>());
    axes.path("ideal", &[(x.0, 0.0), (x.1, 0.0)]);
    axes.end()
}

/// Mean prediction and mean truth of tenths of the rows, by prediction.
pub(super) fn calibration(courses: &[Course], cap: Option<f64>) -> Vec<(f64, f64)> {
    let mut points: Vec<(f64, f64)> = usable(courses, cap).collect();
    points.sort_by(|a, b| a.1.total_cmp(&b.1));
    let size = points.len().div_ceil(10).max(FEWEST);
    let mean = |chunk: &[(f64, f64)]| {
        let n = chunk.len() as f64;
        let (truth, predicted) =
            chunk.iter().fold((0.0, 0.0), |(t, p), point| (t + point.0, p + point.1));
        (predicted / n, truth / n)
    };
    points.chunks(size).filter(|c| c.len() >= FEWEST).map(mean).collect()
}

/// Points that ought to lie on the diagonal.
pub(super) fn reliability(points: &[(f64, f64)], x_name: &str, y_name: &str) -> String {
    let both = range(points.iter().flat_map(|p| [p.0, p.1]));
    let mut axes = Axes::new(both, both, x_name, y_name, "reliability");
    axes.path("ideal", &[(both.0, both.0), (both.1, both.1)]);
    axes.path("line", points);
    for &(x, y) in points {
        axes.dot(x, y, 5.0);
    }
    axes.end()
}

/// Bars with names.
pub(super) fn bars(bars: &[(&str, f64)]) -> String {
    let highest = bars.iter().map(|b| b.1).fold(f64::MIN_POSITIVE, f64::max);
    let height = bars.len() as f64 * BAR + 8.0;
    let mut svg = format!(
        "<svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-label=\"what features are worth\">\n"
    );
    for (n, (name, value)) in bars.iter().enumerate() {
        let y = n as f64 * BAR + 4.0;
        let length = (value.max(0.0) / highest * (WIDTH - NAMES - 90.0)).max(0.5);
        let _ = writeln!(
            svg,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text><rect class=\"bar\" x=\"{NAMES}\" y=\"{y:.1}\" width=\"{length:.1}\" height=\"{:.1}\"/><text x=\"{:.1}\" y=\"{:.1}\">{}</text>",
            NAMES - 8.0,
            y + 13.0,
            escaped(name),
            BAR - 6.0,
            NAMES + length + 6.0,
            y + 13.0,
            number((value * 1e4).round() / 1e4)
        );
    }
    svg.push_str("</svg>\n");
    svg
}
