//! Quantiles as NumPy has them, for losses and limits.

/// The quantile `q` of some values, between two of them by their distance (NumPy's default rule); 0 of none.
pub(super) fn quantile(values: impl Iterator<Item = f64>, q: f64) -> f64 {
    let mut values: Vec<f64> = values.collect();
    let Some(last) = values.len().checked_sub(1) else { return 0.0 };
    let place = q * last as f64;
    let low = (place.floor() as usize).min(last);
    let (_, &mut at, above) = values.select_nth_unstable_by(low, f64::total_cmp);
    match above.iter().copied().min_by(f64::total_cmp) {
        Some(next) => at + (next - at) * (place - low as f64),
        None => at,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_lie_between_values() {
        let of = |q| quantile([4.0, 1.0, 3.0, 2.0].into_iter(), q);
        assert_eq!([of(0.0), of(0.5), of(0.9), of(1.0)], [1.0, 2.5, 3.7, 4.0]);
        assert_eq!(quantile(std::iter::empty(), 0.5), 0.0);
    }
}
