//! The loops of steps that scale, choose and name columns.

use std::collections::BTreeMap;

use arrow::array::AsArray;
use arrow::datatypes::Int32Type;

use super::super::cases::{Counts, weight};
use super::super::rows::Rows;
use super::{X, Y, each, each_pair};

/// The centres of regimes, and what is a distance of 1.
pub(crate) const CENTRES: [[f64; 2]; 4] = [[1.5, 55.0], [1.5, 65.0], [2.5, 55.0], [2.5, 65.0]];
pub(crate) const SCALES: [f64; 2] = [0.5, 5.0];

/// Column `y` goes on as it is.
pub(crate) fn kept(rows: &Rows) -> Counts {
    let mut counts = Counts::default();
    for part in &rows.epochs {
        counts.add(part.values(Y));
    }
    counts
}

/// Figures as they are read from a file: the compiler does not know them.
fn read<T>(figures: T) -> T {
    std::hint::black_box(figures)
}

pub(crate) fn minmax(rows: &Rows) -> Counts {
    let ([low_off, high_off], [low_on, high_on]) = read(([1.0, 1.5], [1.5, 3.0]));
    let mut counts = Counts::default();
    for part in &rows.epochs {
        let on = part.batch.rows.column(4).as_boolean().values();
        let scaled = part.values(X).iter().zip(on).map(|(x, on)| {
            let (low, high) = if on { (low_on, high_on) } else { (low_off, high_off) };
            (x - low) / (high - low)
        });
        counts.add(&scaled.collect::<Vec<f64>>());
    }
    counts
}

pub(crate) fn standard(rows: &Rows) -> Counts {
    let (mean, std) = read((2.0, 0.5));
    each(rows, (), |(), x, out| out.extend(x.iter().map(|x| (x - mean) / std)))
}

pub(crate) fn robust(rows: &Rows) -> Counts {
    let (median, low, high) = read((2.0, 1.5, 2.5));
    each(rows, (), |(), x, out| out.extend(x.iter().map(|x| (x - median) / (high - low))))
}

pub(crate) fn standard_online(rows: &Rows) -> Counts {
    each(rows, [0.0_f64; 3], |[n, mean, m2], x, out| {
        for &x in x {
            *n += 1.0;
            let d = x - *mean;
            *mean += d / *n;
            *m2 += d * (x - *mean);
            let std = (*m2 / *n).sqrt();
            out.push(if std < 1e-9 { 0.0 } else { (x - *mean) / std });
        }
    })
}

pub(crate) fn robust_online(rows: &Rows) -> Counts {
    const N: usize = 1_000;
    each(rows, (Vec::new(), 0.0, 0.0), |(sorted, median, spread), x, out| {
        for &x in x {
            if sorted.len() < N {
                let place = sorted.partition_point(|v| *v < x);
                sorted.insert(place, x);
                *median = quantile(sorted, 0.5);
                *spread = quantile(sorted, 0.75) - quantile(sorted, 0.25);
            }
            out.push(if *spread < 1e-9 { 0.0 } else { (x - *median) / *spread });
        }
    })
}

fn quantile(sorted: &[f64], p: f64) -> f64 {
    let place = p * (sorted.len() - 1) as f64;
    let below = place as usize;
    let above = (below + 1).min(sorted.len() - 1);
    sorted[below] + (sorted[above] - sorted[below]) * place.fract()
}

pub(crate) fn one_hot(rows: &Rows) -> Counts {
    let mut counts = Counts::default();
    for part in &rows.epochs {
        let machines = part.batch.rows.column(0).as_dictionary::<Int32Type>();
        let words = machines.values().as_string::<i32>();
        let of_word: Vec<usize> = words
            .iter()
            .map(|word| match word {
                Some("M-001") => 0,
                Some("M-002") => 1,
                Some("M-003") => 2,
                _ => 3,
            })
            .collect();
        let n = machines.keys().len();
        let mut columns: [Vec<i64>; 3] = std::array::from_fn(|_| Vec::with_capacity(n));
        let mut unknown = Vec::with_capacity(n);
        for &key in machines.keys().values() {
            let place = of_word[usize::try_from(key).unwrap_or(0)];
            for (i, column) in columns.iter_mut().enumerate() {
                column.push(i64::from(place == i));
            }
            unknown.push(place == 3);
        }
        std::hint::black_box((&columns, &unknown));
        counts.add(&columns[1].iter().map(|&one| one as f64).collect::<Vec<f64>>());
    }
    counts
}

pub(crate) fn pca(rows: &Rows) -> Counts {
    let ([mean_x, mean_y], [std_x, std_y]) = read(([2.0, 60.0], [0.5, 5.0]));
    let ([p, q], variance) = read(([0.6, 0.8], 1.5));
    let (mut scores, mut t2) = (Vec::new(), Vec::new());
    each_pair(rows, (), |(), x, y, out| {
        scores.clear();
        t2.clear();
        for (x, y) in x.iter().zip(y) {
            let (x, y) = ((x - mean_x) / std_x, (y - mean_y) / std_y);
            let score = p * x + q * y;
            scores.push(score);
            t2.push(score * score / variance);
            let (x, y) = (x - p * score, y - q * score);
            out.push(x * x + y * y);
        }
        std::hint::black_box((&scores, &t2));
    })
}

/// Weighs the texts of rows, of which each is a range of `text`.
fn add_texts(counts: &mut Counts, text: &str, ends: &[usize]) {
    let mut start = 0;
    let weights = ends.iter().map(|&end| weight(&text[std::mem::replace(&mut start, end)..end]));
    counts.add(&weights.collect::<Vec<f64>>());
}

pub(crate) fn regime_rounded(rows: &Rows) -> Counts {
    let mut names: BTreeMap<[u64; 2], String> = BTreeMap::new();
    let mut counts = Counts::default();
    for part in &rows.epochs {
        let (mut text, mut ends) = (String::new(), Vec::new());
        for (x, y) in part.values(X).iter().zip(part.values(Y)) {
            let (x, y) = ((x * 10.0).round_ties_even() / 10.0, y.round_ties_even());
            let name = names.entry([x.to_bits(), y.to_bits()]);
            text.push_str(name.or_insert_with(|| format!("{x:.1}/{y:.0}")));
            ends.push(text.len());
        }
        add_texts(&mut counts, &text, &ends);
    }
    counts
}

pub(crate) fn regime_nearest(rows: &Rows) -> Counts {
    let (centres, scales) = read((CENTRES, SCALES));
    let names = ["1", "2", "3", "4"];
    let mut counts = Counts::default();
    for part in &rows.epochs {
        let (mut text, mut ends) = (String::new(), Vec::new());
        for (x, y) in part.values(X).iter().zip(part.values(Y)) {
            let (mut nearest, mut least) = (0, f64::INFINITY);
            for (i, [a, b]) in centres.iter().enumerate() {
                let (a, b) = ((x - a) / scales[0], (y - b) / scales[1]);
                if a * a + b * b < least {
                    (nearest, least) = (i, a * a + b * b);
                }
            }
            text.push_str(names[nearest]);
            ends.push(text.len());
        }
        add_texts(&mut counts, &text, &ends);
    }
    counts
}
