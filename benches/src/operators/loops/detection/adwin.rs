//! A window that is cut where its mean has changed.

use std::collections::VecDeque;

use crate::operators::cases::Counts;
use crate::operators::loops::each;
use crate::operators::rows::Rows;

/// The sum of some values, and of the squares of their distances from their mean.
#[derive(Clone, Copy, Default)]
struct Bucket {
    total: f64,
    m2: f64,
}

/// Buckets by the power of two that is their length.
#[derive(Clone, Default)]
struct Window {
    n_seen: u64,
    width: f64,
    whole: Bucket,
    sizes: Vec<VecDeque<Bucket>>,
    has_drifted: bool,
}

pub(crate) fn adwin(rows: &Rows) -> Counts {
    each(rows, Window::default(), |window, x, out| {
        for &x in x {
            if window.has_drifted {
                *window = Window::default();
            }
            window.add(x);
            window.n_seen += 1;
            if window.n_seen.is_multiple_of(32) && window.width > 10.0 {
                while window.has_changed() {
                    window.drop_oldest();
                    window.has_drifted = true;
                }
            }
            out.push(window.whole.total / window.width);
        }
    })
}

fn length(size: usize) -> f64 {
    (1_u64 << size) as f64
}

impl Window {
    fn add(&mut self, x: f64) {
        if self.width > 0.0 {
            let off = x - self.whole.total / self.width;
            self.whole.m2 += self.width * off * off / (self.width + 1.0);
        }
        self.width += 1.0;
        self.whole.total += x;
        let mut bucket = Bucket { total: x, m2: 0.0 };
        for size in 0.. {
            if size == self.sizes.len() {
                self.sizes.push(VecDeque::new());
            }
            let buckets = &mut self.sizes[size];
            buckets.push_back(bucket);
            if buckets.len() <= 5 {
                return;
            }
            let (Some(a), Some(b)) = (buckets.pop_front(), buckets.pop_front()) else { return };
            let n = length(size);
            let apart = (a.total - b.total) / n;
            let m2 = a.m2 + b.m2 + n * 0.5 * apart * apart;
            bucket = Bucket { total: a.total + b.total, m2 };
        }
    }

    fn has_changed(&self) -> bool {
        let (mut n0, mut n1, mut old, mut new) = (0.0, self.width, 0.0, self.whole.total);
        let d = (2.0 * self.width.ln() / 0.002).ln();
        let variance = self.whole.m2 / self.width;
        for (size, buckets) in self.sizes.iter().enumerate().rev() {
            for bucket in buckets {
                n0 += length(size);
                n1 -= length(size);
                old += bucket.total;
                new -= bucket.total;
                if n0 < 5.0 || n1 < 5.0 {
                    continue;
                }
                let m = 1.0 / (n0 - 4.0) + 1.0 / (n1 - 4.0);
                let reach = (2.0 * m * variance * d).sqrt() + 2.0 / 3.0 * d * m;
                if (old / n0 - new / n1).abs() > reach {
                    return true;
                }
            }
        }
        false
    }

    fn drop_oldest(&mut self) {
        let Some((size, oldest)) = self.sizes.iter_mut().enumerate().next_back() else { return };
        if let Some(gone) = oldest.pop_front() {
            let n = length(size);
            self.width -= n;
            self.whole.total -= gone.total;
            let apart = gone.total / n - self.whole.total / self.width;
            self.whole.m2 -= gone.m2 + n * self.width * apart * apart / (n + self.width);
        }
        while self.sizes.last().is_some_and(VecDeque::is_empty) {
            self.sizes.pop();
        }
    }
}
