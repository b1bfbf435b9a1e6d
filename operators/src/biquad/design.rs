//! The sections of a Butterworth filter, from its cutoffs.
//!
//! As `scipy.signal.butter` does it: the poles of the analogue prototype, moved to the band, taken to samples by the
//! bilinear transform with the cutoffs prewarped. Each section has its share of the gain from a closed form, not from
//! the sums of its coefficients, which cancel for low cutoffs. What SciPy pairs into sections differs; the product of
//! all sections, which is the filter, does not.

use std::f64::consts::PI;

use super::{Cutoff, Pass};

/// A section: `y = b0 x + z1`, `z1 = b1 x - a1 y + z2`, `z2 = b2 x - a2 y`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Section {
    pub(super) b: [f64; 3],
    pub(super) a: [f64; 2],
}

impl Section {
    /// The result for a value; the delays are `z1` and `z2`.
    pub(super) fn step(&self, x: f64, [z1, z2]: &mut [f64; 2]) -> f64 {
        let y = self.b[0] * x + *z1;
        *z1 = self.b[1] * x - self.a[0] * y + *z2;
        *z2 = self.b[2] * x - self.a[1] * y;
        y
    }
}

/// A complex number.
#[derive(Debug, Clone, Copy)]
struct Complex {
    re: f64,
    im: f64,
}

impl Complex {
    fn real(re: f64) -> Self {
        Complex { re, im: 0.0 }
    }

    fn plus(self, other: Complex) -> Self {
        Complex { re: self.re + other.re, im: self.im + other.im }
    }

    fn scaled(self, by: f64) -> Self {
        Complex { re: self.re * by, im: self.im * by }
    }

    fn square(self) -> Self {
        Complex { re: self.re * self.re - self.im * self.im, im: 2.0 * self.re * self.im }
    }

    fn norm_square(self) -> f64 {
        self.re * self.re + self.im * self.im
    }

    /// `1 / self`.
    fn inverse(self) -> Self {
        let norm = self.norm_square();
        Complex { re: self.re / norm, im: -self.im / norm }
    }

    /// The root with a real part of at least 0.
    fn sqrt(self) -> Self {
        let size = self.norm_square().sqrt();
        let re = (f64::midpoint(size, self.re).max(0.0)).sqrt();
        let im = (f64::midpoint(size, -self.re).max(0.0)).sqrt();
        Complex { re, im: if self.im < 0.0 { -im } else { im } }
    }
}

/// The sections of a filter, whose cutoffs are parts of the rate.
pub(super) fn design(pass: Pass, order: usize) -> Vec<Section> {
    // In units in which the bilinear transform is z = (4 + s) / (4 - s).
    let warped = |(_, part): Cutoff| 4.0 * libm::tan(PI * part);
    let mut sections = Vec::new();
    for pole in prototype(order) {
        match pass {
            Pass::Low(cutoff) => sections.push(low(pole, warped(cutoff))),
            Pass::High(cutoff) => sections.push(high(pole, warped(cutoff))),
            Pass::Band(from, to) => band(pole, warped(from), warped(to), &mut sections),
        }
    }
    sections
}

/// The poles of the analogue low-pass filter with cutoff 1: of each conjugate pair one, and the real one.
fn prototype(order: usize) -> Vec<Complex> {
    let pole = |k: usize| {
        #[expect(clippy::cast_precision_loss, reason = "the order is at most 10")]
        let angle = PI * (2 * k + 1) as f64 / (2 * order) as f64;
        Complex { re: -libm::sin(angle), im: libm::cos(angle) }
    };
    let pairs = (0..order / 2).map(pole);
    pairs.chain((order % 2 == 1).then_some(Complex::real(-1.0))).collect()
}

/// The denominator in samples of an analogue pair of poles (or of a real one), and what the gain is divided by.
fn sampled(pole: Complex) -> ([f64; 2], f64) {
    let from_four = Complex { re: 4.0 - pole.re, im: -pole.im };
    if pole.im == 0.0 {
        return ([-(4.0 + pole.re) / from_four.re, 0.0], from_four.re);
    }
    let norm = from_four.norm_square();
    let size = pole.norm_square();
    // z = (4 + p) / (4 - p): -2 Re z and |z|^2.
    ([-2.0 * (16.0 - size) / norm, (16.0 + size + 8.0 * pole.re) / norm], norm)
}

fn low(pole: Complex, cutoff: f64) -> Section {
    let (a, norm) = sampled(pole.scaled(cutoff));
    if pole.im == 0.0 {
        let g = cutoff / norm;
        return Section { b: [g, g, 0.0], a };
    }
    let g = cutoff * cutoff / norm;
    Section { b: [g, 2.0 * g, g], a }
}

fn high(pole: Complex, cutoff: f64) -> Section {
    let (a, norm) = sampled(pole.inverse().scaled(cutoff));
    if pole.im == 0.0 {
        let g = 4.0 / norm;
        return Section { b: [g, -g, 0.0], a };
    }
    let g = 16.0 / norm;
    Section { b: [g, -2.0 * g, g], a }
}

/// A pole of the prototype becomes two, at the roots of `s^2 - pole width s + centre^2`.
fn band(pole: Complex, from: f64, to: f64, sections: &mut Vec<Section>) {
    let (width, centre_square) = (to - from, from * to);
    let middle = pole.scaled(width / 2.0);
    let root = middle.square().plus(Complex::real(-centre_square)).sqrt();
    // One zero at 0 Hz and one at half the rate for each section.
    let section = |a: [f64; 2], norm: f64| {
        let g = 4.0 * width / norm;
        Section { b: [g, 0.0, -g], a }
    };
    let both = [middle.plus(root), middle.plus(root.scaled(-1.0))];
    if pole.im != 0.0 {
        for pole in both {
            let (a, norm) = sampled(pole);
            sections.push(section(a, norm));
        }
    } else if root.im != 0.0 {
        let (a, norm) = sampled(both[0]);
        sections.push(section(a, norm));
    } else {
        // A band so wide that the two poles are real: one section has both.
        let [(a, norm), (b, other)] = both.map(|p| sampled(Complex::real(p.re)));
        sections.push(section([a[0] + b[0], a[0] * b[0]], norm * other));
    }
}

#[cfg(test)]
mod tests {
    use super::super::{MAX_ORDER, MIN_PART};
    use super::*;

    /// The filter's answer to an impulse.
    fn impulse(sections: &[Section], n: usize) -> Vec<f64> {
        let mut delays = vec![[0.0; 2]; sections.len()];
        let answer = |i| {
            let x = if i == 0 { 1.0 } else { 0.0 };
            sections.iter().zip(&mut delays).fold(x, |x, (section, z)| section.step(x, z))
        };
        (0..n).map(answer).collect()
    }

    #[test]
    fn impulse_responses_agree_with_scipy() {
        let table = include_str!("../../reference/butterworth_impulse.csv");
        let mut n_cases = 0;
        for line in table.lines().skip(1) {
            let fields: Vec<&str> = line.split(',').collect();
            let (order, number) =
                (fields[1].parse().unwrap(), |i: usize| fields[i].parse().unwrap());
            let pass = match fields[0] {
                "low" => Pass::Low(("", number(2))),
                "high" => Pass::High(("", number(2))),
                _ => Pass::Band(("", number(2)), ("", number(3))),
            };
            let want: Vec<f64> = fields[4].split(' ').map(|w| w.parse().unwrap()).collect();
            let got = impulse(&design(pass, order), want.len());
            let largest = want.iter().fold(0.0, |m: f64, w| m.max(w.abs()));
            for (got, want) in got.iter().zip(&want) {
                assert!((got - want).abs() <= 1e-9 * largest, "{line}: {got} is not {want}");
            }
            n_cases += 1;
        }
        assert!(n_cases > 20);
    }

    #[test]
    fn the_lowest_cutoff_lets_a_constant_through() {
        for order in 1..=MAX_ORDER {
            for section in design(Pass::Low(("", MIN_PART)), order) {
                let gain = section.b.iter().sum::<f64>() / (1.0 + section.a[0] + section.a[1]);
                assert!((gain - 1.0).abs() < 2e-7, "{order}: {gain}");
            }
        }
    }
}
