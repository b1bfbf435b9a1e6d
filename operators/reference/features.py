#!/usr/bin/env python3
"""Writes the reference values of window features that `make.py` does not have.

    python3 operators/reference/features.py

Needs numpy, pandas, scipy, statsmodels, PyWavelets and tsfresh 0.21. Writes `features_calls.json`, the features as a pipeline file names
them, and for each of them a column in `features_short.csv` (windows of a minute of `readings.csv`, some of a few
values, with nulls), `features_long.csv` (windows of 160 rows of `features_signal.csv`) and `features_longest.csv` (all of its
480 rows, which are two segments of Welch's method).

Where a definition differs from tsfresh's: `autocorrelation` is null for a constant, where tsfresh gives nothing for
every variance below 1e-8; what raises an error for a window that is too short is null; `number_peaks` of one is 0; of equal values in a stretch of
`permutation_entropy` the earlier ranks lower, where tsfresh leaves that to an unstable sort. `agg_linear_trend` has no r where
the chunks are constant and no standard error of two chunks, where SciPy has 0. `ar_coefficient` and
`augmented_dickey_fuller` are null where coefficients cannot be told apart, where statsmodels takes the smallest that fit,
and the latter where nothing is left to explain. `fourier_entropy` of a constant is null.
"""

import json
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import tsfresh.feature_extraction.feature_calculators as ts
from scipy import stats

HERE = Path(__file__).parent
MINUTE = 60_000_000_000
SECOND = 1_000_000_000


def plain(name):
    """A feature of tsfresh without parameters."""
    return (name, name, getattr(ts, name))


def told(name, **parameters):
    """A feature of tsfresh with parameters."""
    how = getattr(ts, name)
    return ({name: parameters}, suffix(name, parameters), lambda x: how(x, **parameters))


def combined(name, ours, key, attr=None, **parameters):
    """A feature that tsfresh computes for a list of parameters; `attr` is a feature of its own here."""
    told = {key: attr} | parameters if attr else parameters
    how = getattr(ts, name)
    call = {ours: parameters} if parameters else ours
    return (call, suffix(ours, parameters), lambda x: list(how(x, [told]))[0][1])


def suffix(name, parameters):
    def text(value):
        if isinstance(value, bool):
            return str(value).lower()
        if isinstance(value, str):
            return value
        return f"{value:g}".replace(".", "_").replace("-", "m")

    return "_".join([name] + [text(v) for v in parameters.values()])


def factors(x):
    """Peak, mean of |x|, mean of sqrt(|x|), rms."""
    size = np.abs(x)
    return size.max(), size.mean(), np.sqrt(size).mean(), np.sqrt(np.mean(x**2))


def divide(a, b):
    return a / b if b else np.nan


def fixed_entropy(low, high, bins):
    def entropy(x):
        counts, _ = np.histogram(np.clip(x, low, high), bins=bins, range=(low, high))
        return stats.entropy(counts / len(x))

    return ({"entropy": {"min": low, "max": high, "bins": bins}}, suffix("entropy", {"a": low, "b": high, "c": bins}), entropy)


def permutation_entropy(tau, dimension):
    def entropy(x):
        stretches = np.lib.stride_tricks.sliding_window_view(x, dimension)[::tau]
        ranks = np.argsort(np.argsort(stretches, kind="stable"), kind="stable")
        _, counts = np.unique(ranks, axis=0, return_counts=True)
        ours = stats.entropy(counts / len(ranks))
        if all(len(set(s)) == dimension for s in stretches):
            assert np.isclose(ours, ts.permutation_entropy(x, tau, dimension), rtol=1e-12)
        return ours

    parameters = {"tau": tau, "dimension": dimension}
    return ({"permutation_entropy": parameters}, suffix("permutation_entropy", parameters), entropy)


def quantile(name, q):
    return (name, name, lambda x: np.quantile(x, q))


def trend(attr):
    return combined("linear_trend", f"linear_trend_{attr}", "attr", attr)


def trend_of_chunks(attr, chunk_len, f_agg):
    call, name, theirs = combined(
        "agg_linear_trend", f"agg_linear_trend_{attr}", "attr", attr, chunk_len=chunk_len, f_agg=f_agg
    )

    def ours(x):
        chunks = [getattr(x[i : i + chunk_len], f_agg)() for i in range(0, len(x), chunk_len)]
        if attr in ["rvalue", "stderr", "pvalue"] and np.var(chunks) < 1e-30:
            return np.nan
        if attr in ["stderr", "pvalue"] and len(chunks) < 3:
            return np.nan
        return theirs(x)

    return (call, name, ours)


def unexplained(design, wanted):
    """The part of the sum of squares that a design leaves; nothing where a column says nothing new."""
    if len(design) < design.shape[1] or np.linalg.matrix_rank(design) < design.shape[1]:
        return 0.0
    coefficients = np.linalg.lstsq(design, wanted, rcond=None)[0]
    return np.sum((wanted - design @ coefficients) ** 2) / np.sum(wanted**2)


def before(x, lags, n):
    """A column for each of so many lags, of the last n values."""
    return [x[len(x) - n - lag : len(x) - lag] for lag in range(1, lags + 1)]


def ar_coefficient(coeff, k):
    call, name, theirs = combined("ar_coefficient", "ar_coefficient", None, coeff=coeff, k=k)

    def ours(x):
        n = len(x) - k
        if n <= k or coeff > k:
            return np.nan
        design = np.column_stack([np.ones(n), *before(x - x.mean(), k, n)])
        return np.nan if np.linalg.matrix_rank(design) <= k else theirs(x)

    return (call, name, ours)


def dickey_fuller(attr):
    call, name, theirs = combined(
        "augmented_dickey_fuller", f"augmented_dickey_fuller_{attr}", "attr", attr
    )

    def ours(x):
        lags = min(len(x) // 2 - 2, int(np.ceil(12 * (len(x) / 100) ** 0.25)))
        if lags < 0:
            return np.nan
        x, n = x - x.mean(), len(x) - 1 - lags
        design = np.column_stack([np.ones(n), x[-n - 1 : -1], *before(np.diff(x), lags, n)])
        return theirs(x) if unexplained(design, np.diff(x)[-n:]) > 1e-24 else np.nan

    return (call, name, ours)


def cwt(coeff, w):
    how = lambda x: list(ts.cwt_coefficients(x, [{"widths": (w,), "coeff": coeff, "w": w}]))[0][1]
    parameters = {"coeff": coeff, "w": w}
    return ({"cwt_coefficients": parameters}, suffix("cwt_coefficients", parameters), how)


CALLS = [
    ("var", "var", lambda x: np.var(x, ddof=1)),
    ("peak", "peak", lambda x: factors(x)[0]),
    ("peak_to_peak", "peak_to_peak", np.ptp),
    ("mean_abs", "mean_abs", lambda x: factors(x)[1]),
    ("shape_factor", "shape_factor", lambda x: divide(factors(x)[3], factors(x)[1])),
    ("impulse_factor", "impulse_factor", lambda x: divide(factors(x)[0], factors(x)[1])),
    ("clearance_factor", "clearance_factor", lambda x: divide(factors(x)[0], factors(x)[2] ** 2)),
    plain("length"), plain("sum_values"), plain("abs_energy"), plain("root_mean_square"), plain("minimum"), plain("maximum"),
    plain("absolute_maximum"), plain("variance"), plain("standard_deviation"), plain("variation_coefficient"),
    told("quantile", q=0.37), plain("median"),
    quantile("q01", 0.01), quantile("q05", 0.05), quantile("q10", 0.1), quantile("q25", 0.25),
    quantile("q75", 0.75), quantile("q90", 0.9), quantile("q95", 0.95), quantile("q99", 0.99),
    ("iqr", "iqr", stats.iqr), ("mad", "mad", stats.median_abs_deviation),
    combined("symmetry_looking", "symmetry_looking", None, r=0.05),
    told("mean_n_absolute_max", number_of_maxima=3),
    plain("has_duplicate"), plain("ratio_value_number_to_time_series_length"),
    plain("percentage_of_reoccurring_values_to_all_values"),
    plain("percentage_of_reoccurring_datapoints_to_all_datapoints"),
    plain("sum_of_reoccurring_values"), plain("sum_of_reoccurring_data_points"),
    trend("slope"), trend("intercept"), trend("rvalue"), trend("stderr"), trend("pvalue"),
    trend_of_chunks("slope", 3, "max"), trend_of_chunks("slope", 2, "var"), trend_of_chunks("intercept", 4, "mean"),
    trend_of_chunks("rvalue", 2, "min"), trend_of_chunks("stderr", 2, "std"), trend_of_chunks("pvalue", 5, "mean"),
    ("zero_crossings", "zero_crossings", lambda x: ts.number_crossing_m(x, 0)),
    ("mean_crossings", "mean_crossings", lambda x: ts.number_crossing_m(x, np.mean(x))),
    told("number_crossing_m", m=-0.5), told("number_peaks", n=1), told("number_peaks", n=3),
    told("autocorrelation", lag=1), told("autocorrelation", lag=5),
    combined("partial_autocorrelation", "partial_autocorrelation", None, lag=1),
    combined("partial_autocorrelation", "partial_autocorrelation", None, lag=4),
    combined("agg_autocorrelation", "agg_autocorrelation", None, f_agg="mean", maxlag=40),
    combined("agg_autocorrelation", "agg_autocorrelation", None, f_agg="var", maxlag=7),
    combined("agg_autocorrelation", "agg_autocorrelation", None, f_agg="median", maxlag=40),
    plain("absolute_sum_of_changes"), plain("mean_abs_change"), plain("mean_change"),
    plain("mean_second_derivative_central"), told("cid_ce", normalize=True), told("cid_ce", normalize=False),
    told("change_quantiles", ql=0, qh=0.6, isabs=False, f_agg="mean"),
    told("change_quantiles", ql=0.2, qh=0.8, isabs=True, f_agg="var"),
    told("change_quantiles", ql=0.3, qh=0.9, isabs=True, f_agg="median"),
    told("c3", lag=1), told("c3", lag=3), told("time_reversal_asymmetry_statistic", lag=2),
    plain("longest_strike_above_mean"), plain("longest_strike_below_mean"),
    plain("count_above_mean"), plain("count_below_mean"), told("count_above", t=0.5), told("count_below", t=0.5),
    told("range_count", min=-1, max=1), told("value_count", value=0.5),
    ar_coefficient(0, 2), ar_coefficient(2, 2), ar_coefficient(0, 10), ar_coefficient(1, 10), ar_coefficient(10, 10),
    dickey_fuller("teststat"), dickey_fuller("pvalue"), dickey_fuller("usedlag"),
    plain("first_location_of_minimum"), plain("last_location_of_minimum"),
    plain("first_location_of_maximum"), plain("last_location_of_maximum"),
    plain("has_duplicate_max"), plain("has_duplicate_min"),
    combined("index_mass_quantile", "index_mass_quantile", None, q=0.4),
    combined("energy_ratio_by_chunks", "energy_ratio_by_chunks", None, segment_focus=1, num_segments=4),
    told("ratio_beyond_r_sigma", r=1.5), told("large_standard_deviation", r=0.25),
    plain("variance_larger_than_standard_deviation"),
    fixed_entropy(-2, 2, 8), told("binned_entropy", max_bins=10), permutation_entropy(1, 3),
    permutation_entropy(2, 5), plain("sample_entropy"),
    told("approximate_entropy", m=2, r=0.3), told("lempel_ziv_complexity", bins=5),
    told("fourier_entropy", bins=5), told("fourier_entropy", bins=100), plain("benford_correlation"),
    combined("fft_coefficient", "fft_coefficient_real", "attr", "real", coeff=2),
    combined("fft_coefficient", "fft_coefficient_imag", "attr", "imag", coeff=2),
    combined("fft_coefficient", "fft_coefficient_abs", "attr", "abs", coeff=3),
    combined("fft_coefficient", "fft_coefficient_angle", "attr", "angle", coeff=1),
    combined("fft_aggregated", "fft_aggregated_centroid", "aggtype", "centroid"),
    combined("fft_aggregated", "fft_aggregated_variance", "aggtype", "variance"),
    combined("fft_aggregated", "fft_aggregated_skew", "aggtype", "skew"),
    combined("fft_aggregated", "fft_aggregated_kurtosis", "aggtype", "kurtosis"),
    combined("spkt_welch_density", "spkt_welch_density", None, coeff=2),
    combined("spkt_welch_density", "spkt_welch_density", None, coeff=8),
    cwt(0, 2), cwt(3, 5), cwt(14, 20),
]  # fmt: skip

WHOLE = """number_peaks longest_strike count_above_mean count_below_mean range_count value_count
number_crossing_m zero_crossings mean_crossings has_duplicate symmetry_looking large_standard_deviation
variance_larger_than_standard_deviation length augmented_dickey_fuller_usedlag""".split()


def is_whole(name):
    return any(name.startswith(w) for w in WHOLE)


def value(name, function, x):
    """The feature, nothing where it is not defined."""
    constant = len(x) and x.min() == x.max()
    words = ["autocorrelation", "partial_autocorrelation", "linear_trend", "fourier_entropy"]
    correlates = name.split("_")[0] != "agg" and any(name.startswith(w) for w in words)
    correlates &= not ("slope" in name or "intercept" in name)
    if len(x) == 0 or (constant and correlates):
        return np.nan
    if len(x) < 3 and ("stderr" in name or "pvalue" in name):
        return np.nan
    if len(x) == 1:
        if "linear_trend" in name:
            return np.nan
        if "number_peaks" in name:
            return 0
    try:
        return float(function(x))
    except (ValueError, IndexError, AssertionError):
        return np.nan


def row(x, column):
    out = {}
    for _, name, function in CALLS:
        v = value(name, function, x)
        if is_whole(name):
            out[f"{column}_{name}:int64"] = "" if np.isnan(v) else int(v)
        else:
            out[f"{column}_{name}"] = v if np.isfinite(v) else np.nan
    return out


def write(name, rows):
    pd.DataFrame(rows).to_csv(HERE / f"{name}.csv", index=False, float_format="%.15g", lineterminator="\n")


def short():
    frame = pd.read_csv(HERE / "readings.csv")
    ends = (frame["ts"] // MINUTE + 1) * MINUTE
    for (machine, end), rows in frame.groupby(["machine", ends]):
        there = rows.dropna(subset="x")
        line = np.nan
        if there["ts"].nunique() > 1:
            line = stats.linregress((there["ts"] - there["ts"].iloc[0]) / SECOND, there["x"]).intercept
        by_rows = {"x_missing:int64": len(rows) - len(there), "x_missing_share": 1 - len(there) / len(rows)}
        own = {"machine": machine, "window_end": end} | by_rows | {"x_intercept": line}
        yield own | row(there["x"].to_numpy(), "x")


def signal(n_rows=480, seed=11):
    """Noise on a tone, and a coarse copy of it in which values come again."""
    rng = np.random.default_rng(seed)
    i = np.arange(n_rows)
    s = np.sin(i / 7) + 0.4 * rng.normal(size=n_rows) + 0.0005 * i
    return pd.DataFrame({"machine": "a", "ts": i * SECOND, "s": s.round(6), "d": (s * 2).round() / 2})


def long(frame, n_rows=160):
    for end in range(n_rows, len(frame) + 1, n_rows):
        rows = frame.iloc[end - n_rows : end]
        out = {"machine": "a", "ts": rows["ts"].iloc[-1]}
        for column in ["s", "d"]:
            out |= row(rows[column].to_numpy(), column)
        yield out


def main():
    warnings.simplefilter("ignore")
    calls = [call for call, _, _ in CALLS]
    (HERE / "features_calls.json").write_text(json.dumps(calls, indent=0) + "\n")
    write("features_short", short())
    frame = signal()
    frame.to_csv(HERE / "features_signal.csv", index=False, lineterminator="\n")
    write("features_long", long(frame))
    write("features_longest", long(frame, len(frame)))


if __name__ == "__main__":
    main()
