//! The lines of a rolling bearing, and the search for a line in a spectrum.
//!
//! Orders are multiples of the speed at which the inner ring turns against the outer one.

use std::f64::consts::PI;

use super::{count, place};

/// The shape of a bearing: two lengths in the same unit, whichever it is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Geometry {
    /// Rolling elements.
    pub balls: u32,
    /// Diameter of a rolling element.
    pub ball_diameter: f64,
    /// Diameter of the circle of their centres.
    pub pitch_diameter: f64,
    /// Contact angle in degrees.
    pub contact_angle: f64,
}

impl Geometry {
    /// The lines by name, as orders: outer race, inner race, twice the spin of a ball (a damaged spot meets a race
    /// twice a turn), cage.
    #[must_use]
    pub fn orders(&self) -> [(&'static str, f64); 4] {
        let ratio =
            self.ball_diameter / self.pitch_diameter * libm::cos(self.contact_angle * PI / 180.0);
        let half = f64::from(self.balls) / 2.0;
        let spin = self.pitch_diameter / self.ball_diameter * (1.0 - ratio * ratio);
        [
            ("bpfo", half * (1.0 - ratio)),
            ("bpfi", half * (1.0 + ratio)),
            ("bsf2", spin),
            ("ftf", 0.5 * (1.0 - ratio)),
        ]
    }
}

/// The highest line near the one that is looked for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Line {
    /// Where it is, in Hz.
    pub hz: f64,
    /// Its amplitude.
    pub amplitude: f64,
    /// The amplitude over the median of the lines around it; infinite over a background of 0.
    pub ratio: f64,
}

/// Where a line is looked for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Search {
    /// How far the line may be off, as a share of its frequency.
    pub tolerance: f64,
    /// How far to both sides the background reaches, in Hz.
    pub background_hz: f64,
}

impl Search {
    /// The highest line within the tolerance of `hz`, at least the one that is nearest to it; `None` where the spectrum,
    /// whose lines are `step` Hz apart, does not reach that far. `around` is a buffer.
    #[must_use]
    pub fn find(&self, lines: &[f64], step: f64, hz: f64, around: &mut Vec<f64>) -> Option<Line> {
        let nearest = place((hz / step).round());
        let first = place((hz * (1.0 - self.tolerance) / step).ceil()).min(nearest).max(1);
        let last = place((hz * (1.0 + self.tolerance) / step).floor()).max(nearest);
        let inside = lines.get(first..=last)?;
        let highest = |a: &(usize, f64), b: &(usize, f64)| a.1.total_cmp(&b.1).then(b.0.cmp(&a.0));
        let (k, amplitude) = inside.iter().copied().enumerate().max_by(highest)?;
        let from = place(((hz - self.background_hz) / step).ceil().max(0.0));
        let upto = place(((hz + self.background_hz) / step).floor()).min(lines.len() - 1);
        around.clear();
        around.extend_from_slice(&lines[from..=upto]);
        let ratio = amplitude / median(around);
        Some(Line { hz: count(first + k) * step, amplitude, ratio })
    }
}

/// The median of values, which are put in order; of an even number the mean of the middle two. NaN of none.
pub fn median(values: &mut [f64]) -> f64 {
    let n = values.len();
    if n == 0 {
        return f64::NAN;
    }
    let (below, &mut upper, _) = values.select_nth_unstable_by(n / 2, f64::total_cmp);
    if !n.is_multiple_of(2) {
        return upper;
    }
    let lower = below.iter().copied().max_by(f64::total_cmp).unwrap_or(upper);
    f64::midpoint(lower, upper)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_orders_of_a_bearing_of_the_literature() {
        // SKF 6205 as Case Western Reserve University's bearing data center gives it, and in Hz at 1,797 rpm.
        let geometry =
            Geometry { balls: 9, ball_diameter: 7.94, pitch_diameter: 39.04, contact_angle: 0.0 };
        let expected = [("bpfo", 3.5848), ("bpfi", 5.4152), ("bsf2", 4.7135), ("ftf", 0.3983)];
        for ((name, order), (wanted, want)) in geometry.orders().into_iter().zip(expected) {
            assert_eq!(name, wanted);
            assert!((order - want).abs() < 5e-5, "{name} {order}");
        }
    }

    #[test]
    fn a_line_is_found_over_its_background() {
        let mut lines = vec![1.0; 200];
        lines[103] = 50.0;
        lines[110] = 90.0;
        let search = Search { tolerance: 0.05, background_hz: 10.0 };
        let found = search.find(&lines, 0.5, 50.0, &mut Vec::new()).unwrap();
        assert_eq!(found, Line { hz: 51.5, amplitude: 50.0, ratio: 50.0 });
        assert_eq!(search.find(&lines, 0.5, 99.0, &mut Vec::new()), None);
        // Between two lines the nearer one is looked at, however narrow the search is.
        let narrow = Search { tolerance: 1e-6, ..search };
        assert_eq!(narrow.find(&lines, 0.5, 51.4, &mut Vec::new()).unwrap().amplitude, 50.0);
    }

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median(&mut [3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&mut [4.0, 1.0, 3.0, 2.0]), 2.5);
        assert!(median(&mut []).is_nan());
    }
}
