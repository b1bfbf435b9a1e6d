//! k-means: centres such that rows are near the nearest of them.
//!
//! Lloyd's algorithm from ten starts of k-means++, of which the best is kept. The draws are those of a seed and sums run in
//! the order of the rows, so that the same rows give the same centres on every machine. The library that grows the
//! forests has a k-means too, but this crate does not see it, and its draws change with its version.

/// How often the search begins anew.
const STARTS: u64 = 10;
/// Most rounds of a search; it mostly ends by itself after a few dozen.
const MAX_ROUNDS: usize = 300;
/// Points that the starts are tried with, evenly from all; the best is then carried on with all points.
const MAX_TRIED: usize = 10_000;

/// The centres of clusters, and how many points each has.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Found {
    pub(super) centers: Vec<Vec<f64>>,
    pub(super) rows: Vec<u64>,
    /// The sum of squares of the distances.
    inertia: f64,
}

/// The nearest of `centers` by the square of a distance, and that square; of equals the first.
pub(super) fn nearest(
    centers: &[Vec<f64>],
    square: impl Fn(&[f64]) -> f64,
) -> Option<(usize, f64)> {
    let mut best: Option<(usize, f64)> = None;
    for (i, center) in centers.iter().enumerate() {
        let square = square(center);
        if best.is_none_or(|(_, least)| square < least) {
            best = Some((i, square));
        }
    }
    best
}

fn square(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum()
}

/// Finds `k` centres of points.
pub(super) fn fit(points: &[Vec<f64>], k: usize, seed: u64) -> Result<Found, String> {
    let step = points.len().div_ceil(MAX_TRIED).max(1);
    let tried: Vec<Vec<f64>> = points.iter().step_by(step).cloned().collect();
    let mut best: Option<Found> = None;
    for start in 0..STARTS {
        let mut draws = Draws(seed.wrapping_mul(STARTS).wrapping_add(start));
        let Some(centers) = spread_out(&tried, k, &mut draws) else { continue };
        let found = lloyd(&tried, centers);
        if best.as_ref().is_none_or(|b| found.inertia < b.inertia) {
            best = Some(found);
        }
    }
    let best = best.ok_or_else(|| {
        format!("the settings take fewer than {k} values: look for fewer regimes")
    })?;
    Ok(lloyd(points, best.centers))
}

/// k-means++: each next centre is a point drawn in proportion to its squared distance from the centres so far. `None`
/// where there are fewer different points than centres.
fn spread_out(points: &[Vec<f64>], k: usize, draws: &mut Draws) -> Option<Vec<Vec<f64>>> {
    let mut centers = vec![points.get(draws.below(points.len()))?.clone()];
    let mut squares: Vec<f64> = points.iter().map(|p| square(p, &centers[0])).collect();
    while centers.len() < k {
        let total: f64 = squares.iter().sum();
        let mut left = draws.unit() * total;
        let chosen = squares.iter().position(|s| {
            left -= s;
            left < 0.0
        });
        // Rounding can leave a little over at the end, where the last that is not a centre itself is taken.
        let chosen = chosen.or_else(|| squares.iter().rposition(|s| *s > 0.0))?;
        let center = points.get(chosen)?.clone();
        for (least, point) in squares.iter_mut().zip(points) {
            *least = least.min(square(point, &center));
        }
        centers.push(center);
    }
    Some(centers)
}

/// Moves centres to the middle of their points until no point changes its centre.
#[expect(clippy::cast_precision_loss, reason = "fewer than 2^53 rows")]
fn lloyd(points: &[Vec<f64>], mut centers: Vec<Vec<f64>>) -> Found {
    let mut of_point = vec![usize::MAX; points.len()];
    let mut rows = vec![0_u64; centers.len()];
    let mut inertia = 0.0;
    for _ in 0..MAX_ROUNDS {
        let mut changed = false;
        let mut sums = vec![vec![0.0; centers[0].len()]; centers.len()];
        rows = vec![0; centers.len()];
        inertia = 0.0;
        for (point, of) in points.iter().zip(&mut of_point) {
            let Some((place, square)) = nearest(&centers, |c| square(point, c)) else { continue };
            changed |= *of != place;
            *of = place;
            inertia += square;
            rows[place] += 1;
            sums[place].iter_mut().zip(point).for_each(|(sum, x)| *sum += x);
        }
        if !changed {
            break;
        }
        for ((center, sum), &n) in centers.iter_mut().zip(sums).zip(&rows) {
            // A centre that lost its points stays where it is.
            if n > 0 {
                *center = sum.into_iter().map(|s| s / n as f64).collect();
            }
        }
    }
    Found { centers, rows, inertia }
}

/// Numbers that look random and are the same for a seed (splitmix64).
struct Draws(u64);

impl Draws {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From 0 to 1, which it does not reach.
    #[expect(clippy::cast_precision_loss, reason = "53 bits are left")]
    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn below(&mut self, n: usize) -> usize {
        usize::try_from(self.next() % (n.max(1) as u64)).unwrap_or(0)
    }
}
