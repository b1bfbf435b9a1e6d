//! Views and alerts against what SQL finds in the same history.
//!
//! DataFusion carries whole queries out here, which the crate itself never does: the tables are computed from scratch by
//! somebody else's `ROW_NUMBER`, `GROUP BY` and `JOIN`. A seed is all there is to a case. One that fails says so and is
//! tried again with `FORELINE_SEED=<seed> cargo test -p foreline-sql --test oracle`; `FORELINE_SEEDS` sets how many there
//! are.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails, and says where")]

mod alerts;
mod fleet;
mod graph;
mod lookups;
mod query;
mod views;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

/// A small generator, so that a seed is all there is to a case.
#[derive(Debug, Clone)]
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        usize::try_from(self.roll() % n as u64).unwrap()
    }

    /// A number of `from..to`.
    fn of(&mut self, from: i64, to: i64) -> i64 {
        from + i64::try_from(self.below(usize::try_from(to - from).unwrap())).unwrap()
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    fn pick<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.below(all.len())]
    }

    /// Some of `all`, at least one, in a random order.
    fn some<T: Clone>(&mut self, all: &[T], most: usize) -> Vec<T> {
        let mut left = all.to_vec();
        let n = 1 + self.below(most.min(left.len()));
        (0..n).map(|_| left.swap_remove(self.below(left.len()))).collect()
    }
}

/// Room for DataFusion's planner, which takes much of it where nothing is optimised.
const STACK_BYTES: usize = 64 << 20;

/// Goes through seeds, `n` unless the environment says otherwise; the sum of what the cases count.
fn each_seed(n: u64, case: impl Fn(u64) -> u64 + Send + Sync) -> u64 {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seeds = match number("FORELINE_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("FORELINE_SEEDS").unwrap_or(n),
    };
    let all = || {
        let tried = |seed| {
            let counted = catch_unwind(AssertUnwindSafe(|| case(seed)));
            counted.unwrap_or_else(|_| panic!("see above; FORELINE_SEED={seed} tries it again"))
        };
        seeds.map(tried).sum()
    };
    std::thread::scope(|scope| {
        let roomy = std::thread::Builder::new().stack_size(STACK_BYTES);
        let done = roomy.spawn_scoped(scope, all).unwrap().join();
        done.unwrap_or_else(|panic| resume_unwind(panic))
    })
}
