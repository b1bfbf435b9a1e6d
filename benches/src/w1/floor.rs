//! The same job by hand: one thread, one loop, nothing but what W1's input needs.
//!
//! It knows the width of a stamp, that machines are numbered, that rows are in order and that nothing is missing. It
//! is the lower bound that an engine is measured against, not a way to do it.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::w1::FLEET;

const ALPHA: f64 = 0.1;
const WINDOW_MS: u64 = 10_000;
const BLOCK: usize = 1 << 20;
/// Features of a channel: count, mean, std, min, max, rms, skewness, kurtosis.
const FEATURES: usize = 8;

/// One channel of one machine: its smoothed value and the sums of the open window.
#[derive(Clone, Copy, Default)]
struct Channel {
    smooth: f64,
    shift: f64,
    n: f64,
    s1: f64,
    s2: f64,
    s3: f64,
    s4: f64,
    min: f64,
    max: f64,
}

#[derive(Clone, Copy, Default)]
struct Machine {
    window: u64,
    seen: bool,
    channels: [Channel; 3],
}

/// What the floor found: windows, and the sum of all scores, so that nothing can be left out.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Found {
    pub rows: u64,
    pub windows: u64,
    pub score_sum: f64,
}

/// Does W1 over the file; `weight(channel, feature)` is the linear model.
pub(crate) fn run(path: &Path, weights: &[f64]) -> Result<Found> {
    let mut file = File::open(path).with_context(|| format!("open {}", path.display()))?;
    let mut machines = vec![Machine::default(); usize::try_from(FLEET.machines)?];
    let mut found = Found { rows: 0, windows: 0, score_sum: 0.0 };
    let mut block = vec![0_u8; BLOCK];
    let mut kept = 0;
    let mut header = true;
    loop {
        let read = file.read(&mut block[kept..])?;
        let filled = kept + read;
        let end = block[..filled].iter().rposition(|&b| b == b'\n').map_or(0, |p| p + 1);
        let mut rest = &block[..end];
        if header {
            let line = rest.iter().position(|&b| b == b'\n').context("a header")?;
            rest = &rest[line + 1..];
            header = false;
        }
        while !rest.is_empty() {
            rest = row(rest, &mut machines, weights, &mut found);
        }
        block.copy_within(end..filled, 0);
        kept = filled - end;
        if read == 0 {
            break;
        }
    }
    if kept != 0 {
        bail!("the last line has no end");
    }
    for machine in &mut machines {
        if machine.seen {
            close(machine, weights, &mut found);
        }
    }
    Ok(found)
}

fn digits(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |n, b| n * 10 + u64::from(b - b'0'))
}

/// One line: `2026-01-01T00:00:00.000Z,m0000,1.234,45.67,1.012345`.
fn row<'a>(
    line: &'a [u8],
    machines: &mut [Machine],
    weights: &[f64],
    found: &mut Found,
) -> &'a [u8] {
    let time_ms =
        ((digits(&line[11..13]) * 60 + digits(&line[14..16])) * 60 + digits(&line[17..19])) * 1_000
            + digits(&line[20..23]);
    let machine = &mut machines[usize::try_from(digits(&line[26..30])).unwrap_or(0)];
    let window = time_ms / WINDOW_MS;
    if machine.seen && window != machine.window {
        close(machine, weights, found);
    }
    machine.window = window;
    let mut rest = &line[31..];
    for channel in &mut machine.channels {
        let value;
        (value, rest) = number(rest);
        if machine.seen {
            channel.smooth += ALPHA * (value - channel.smooth);
        } else {
            channel.smooth = value;
        }
        channel.add(channel.smooth);
    }
    machine.seen = true;
    found.rows += 1;
    rest
}

/// A decimal and what follows its delimiter.
fn number(bytes: &[u8]) -> (f64, &[u8]) {
    const SCALE: [f64; 8] = [1.0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7];
    let (mut mantissa, mut decimals, mut point, mut at) = (0_u64, 0, 0, 0);
    loop {
        match bytes[at] {
            b'.' => point = 1,
            b',' | b'\n' => break,
            digit => {
                mantissa = mantissa * 10 + u64::from(digit - b'0');
                decimals += point;
            }
        }
        at += 1;
    }
    (mantissa as f64 / SCALE[decimals], &bytes[at + 1..])
}

impl Channel {
    fn add(&mut self, x: f64) {
        if self.n == 0.0 {
            self.shift = x;
            (self.min, self.max) = (x, x);
        }
        let d = x - self.shift;
        let d2 = d * d;
        self.n += 1.0;
        self.s1 += d;
        self.s2 += d2;
        self.s3 += d2 * d;
        self.s4 += d2 * d2;
        self.min = self.min.min(x);
        self.max = self.max.max(x);
    }

    fn features(&self) -> [f64; FEATURES] {
        let n = self.n;
        let m = self.s1 / n;
        let (e2, e3, e4) = (self.s2 / n, self.s3 / n, self.s4 / n);
        let m2 = e2 - m * m;
        let m3 = e3 - 3.0 * m * e2 + 2.0 * m * m * m;
        let m4 = e4 - 4.0 * m * e3 + 6.0 * m * m * e2 - 3.0 * m * m * m * m;
        let mean = self.shift + m;
        let std = (m2 * n / (n - 1.0)).sqrt();
        let rms = (m2 + mean * mean).sqrt();
        [n, mean, std, self.min, self.max, rms, m3 / m2.powf(1.5), m4 / (m2 * m2)]
    }
}

/// Scores the open window and begins a new one.
fn close(machine: &mut Machine, weights: &[f64], found: &mut Found) {
    let mut score = 0.0;
    for (channel, weights) in machine.channels.iter_mut().zip(weights.chunks(FEATURES)) {
        let features = channel.features();
        score += features.iter().zip(weights).map(|(f, w)| f * w).sum::<f64>();
        *channel = Channel { smooth: channel.smooth, ..Channel::default() };
    }
    found.windows += 1;
    found.score_sum += score;
}
