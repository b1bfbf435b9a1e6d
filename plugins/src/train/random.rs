//! Draws that depend on a seed and on what is drawn for, never on order.

/// Mixes a seed and a place into a number in which every bit depends on both (the mixing function of `SplitMix64`).
/// Neighbouring places lie far apart.
pub(super) fn spread(seed: u64, place: u64) -> u64 {
    let mut z = seed.wrapping_add((place + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A number in `[0, 1)`.
pub(super) fn share(seed: u64, place: u64) -> f64 {
    (spread(seed, place) >> 11) as f64 / (1_u64 << 53) as f64
}

/// `n` of `0..of`, in rising order.
pub(super) fn choose(seed: u64, n: usize, of: usize) -> Vec<usize> {
    let mut all: Vec<usize> = (0..of).collect();
    all.sort_by_key(|&at| (spread(seed, at as u64), at));
    all.truncate(n);
    all.sort_unstable();
    all
}
