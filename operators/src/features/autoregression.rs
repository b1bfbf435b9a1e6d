//! What the values before say of a value: autoregressions, and whether there is a level to come back to.
//!
//! Both are least squares over values less their mean, which changes no result but keeps the digits of a small vibration on
//! a large offset. Where the values before are so much alike that coefficients cannot be told apart, tsfresh gives the
//! smallest ones that fit, which depend on rounding; here they are null.

use super::least_squares::Reduced;
use super::sample::{Sample, number};
use super::{Args, Feature, Needs, Param, ParamKind, Theme, UnitRule};
use Needs::Central;
use UnitRule::{Count, Ratio, Term};

pub(super) const THEME: Theme = Theme { title: "Autoregression", features: TABLE };

/// Most values before that one is explained by.
const MAX_ORDER: u32 = 100;

/// Most values whose lags are looked for: time goes with the power of 1.5 of their number, and these take some 25
/// milliseconds.
const MAX_TESTED: usize = 4_096;

#[rustfmt::skip]
const TABLE: &[Feature] = &[
    Feature::new("ar_coefficient", Term(0), Central, "tsfresh: coefficient `a[coeff]` of the autoregression `x[i] = a[0] + a[1] x[i - 1] + ... + a[k] x[i - k]` by least squares; null where `coeff > k`, unless there are more than `2 k` values, and where coefficients cannot be told apart, as those of a constant", ar_coefficient).with(&[
        Param::needed("coeff", ParamKind::Whole(0, MAX_ORDER), "which coefficient; 0 is the constant term"),
        Param::or("k", ParamKind::Whole(1, MAX_ORDER), 10.0, "the order: how many values before"),
    ]),
    Feature::new("augmented_dickey_fuller_teststat", Ratio, Central, "tsfresh: statistic of the augmented Dickey-Fuller test with a constant term: the coefficient of `x[i - 1]` in standard errors, where it and the lagged changes explain the change to `x[i]`; far below 0 where values come back to a level. The number of lags is that of least AIC up to `12 (n / 100)^(1/4)`. Null below four values, beyond 4,096, and where coefficients cannot be told apart or leave nothing to explain", |s, _| Some(dickey_fuller(s)?.0)),
    Feature::new("augmented_dickey_fuller_pvalue", Ratio, Central, "tsfresh: approximate p-value of it that there is no level to come back to (MacKinnon 1994)", |s, _| Some(mackinnon(dickey_fuller(s)?.0))),
    Feature::new("augmented_dickey_fuller_usedlag", Count, Central, "tsfresh: number of lags that it used", |s, _| Some(number(dickey_fuller(s)?.1))),
];

/// Values less their mean; `None` for a constant.
fn centred(sample: &Sample<'_>) -> Option<Vec<f64>> {
    let m = &sample.moments;
    m.spreads().then(|| sample.values.iter().map(|x| x - m.mean).collect())
}

fn ar_coefficient(sample: &Sample<'_>, args: &Args) -> Option<f64> {
    let (which, order, n) = (args.whole(0), args.whole(1), sample.len());
    // A row for each coefficient.
    if which > order || n <= 2 * order {
        return None;
    }
    let x = centred(sample)?;
    let mut design = vec![vec![1.0; n - order]];
    design.extend((1..=order).map(|lag| x[order - lag..n - lag].to_vec()));
    let found = Reduced::of(design, x[order..].to_vec())?.coefficients();
    if which > 0 {
        return Some(found[which]);
    }
    let others: f64 = found[1..].iter().sum();
    Some(found[0] + sample.moments.mean * (1.0 - others))
}

/// The statistic of the test and the number of lags.
fn dickey_fuller(sample: &Sample<'_>) -> Option<(f64, usize)> {
    if sample.len() > MAX_TESTED {
        return None;
    }
    let x = centred(sample)?;
    let most = most_lags(x.len())?;
    // The level before the lags: any number of them is a number of columns from the left.
    let all = changes_explained(&x, most, |level, lags| [vec![level], lags].concat())?;
    let n_rows = number(x.len() - 1 - most);
    let aic = |lags: usize| {
        let n_columns = lags + 2;
        n_rows * libm::log(all.left_by(n_columns)) + 2.0 * number(n_columns)
    };
    let lags = (0..=most).fold(0, |best, lags| if aic(lags) < aic(best) { lags } else { best });
    // The level last: what is asked for is the last coefficient.
    let best = changes_explained(&x, lags, |level, lags| [lags, vec![level]].concat())?;
    let n_rows = x.len() - 1 - lags;
    Some((best.last_t(number(n_rows - (lags + 2)))?, lags))
}

/// Schwert's `12 (n / 100)^(1/4)`, and so many that there are more rows than columns; `None` where there are not.
fn most_lags(n: usize) -> Option<usize> {
    let fits = (n / 2).checked_sub(2)?;
    let wanted = (0..fits).find(|&lags| 12.0 * (number(n) / 100.0).sqrt().sqrt() <= number(lags));
    Some(wanted.unwrap_or(fits))
}

/// The changes from a value to the next by a constant, the value before and `lags` changes before, in the order that
/// `arrange` gives to the latter. `None` where that is not a test.
fn changes_explained(
    x: &[f64],
    lags: usize,
    arrange: impl Fn(Vec<f64>, Vec<Vec<f64>>) -> Vec<Vec<f64>>,
) -> Option<Reduced> {
    let changes: Vec<f64> = x.windows(2).map(|pair| pair[1] - pair[0]).collect();
    let n = changes.len();
    let level = x[lags..n].to_vec();
    let lagged = (1..=lags).map(|lag| changes[lags - lag..n - lag].to_vec()).collect();
    let mut design = vec![vec![1.0; n - lags]];
    design.extend(arrange(level, lagged));
    let n_columns = design.len();
    let reduced = Reduced::of(design, changes[lags..].to_vec())?;
    // What is left by an exact fit is rounding.
    (reduced.left_by(n_columns) > 1e-24 * reduced.left_by(0)).then_some(reduced)
}

/// MacKinnon's approximate p-value of the test with a constant term.
fn mackinnon(t: f64) -> f64 {
    if t > 2.74 {
        return 1.0;
    }
    if t < -18.83 {
        return 0.0;
    }
    let z = if t <= -1.61 {
        (0.038_269 * t + 1.4412) * t + 2.1659
    } else {
        ((-0.010_368 * t - 0.127_45) * t + 0.932_02) * t + 1.7339
    };
    0.5 * libm::erfc(-z / std::f64::consts::SQRT_2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p_values_are_those_of_statsmodels() {
        // `[mackinnonp(t, "c", 1) for t in ...]`, on both sides of where one formula ends and the next begins.
        let known = [
            (2.8, 1.0),
            (2.7, 0.9990870192563208),
            (0.5, 0.9848730963065522),
            (-1.6, 0.4835934696535866),
            (-1.61, 0.4779756525941893),
            (-1.62, 0.47272929792051827),
            (-3.3, 0.014878474492290718),
            (-18.8, 2.0229167170824544e-30),
            (-18.9, 0.0),
        ];
        for (t, p) in known {
            assert!((mackinnon(t) - p).abs() <= 1e-12 * p, "{t}: {} {p}", mackinnon(t));
        }
    }

    #[test]
    fn lags_are_as_many_as_fit() {
        let known = [(3, None), (4, Some(0)), (9, Some(2)), (30, Some(9)), (100, Some(12))];
        for (n, most) in known {
            assert_eq!(most_lags(n), most, "{n}");
        }
    }
}
