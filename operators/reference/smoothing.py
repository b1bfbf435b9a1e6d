#!/usr/bin/env python3
"""Writes the reference values of the smoothing steps and of the steps that look at the rows before.

    python3 operators/reference/smoothing.py

Needs numpy, pandas, scipy and statsmodels. Reads readings.csv, which make.py writes. Every expected file has the columns
of the step's output; times are nanoseconds of UTC. What no library has is written out here, with a sentence on why.
"""

from fractions import Fraction
from pathlib import Path
import warnings

import numpy as np
import pandas as pd
import statsmodels.api as sm
from scipy import integrate, signal
from statsmodels.tsa.statespace.initialization import Initialization

# statsmodels warns of a likelihood that nothing here looks at.
warnings.simplefilter("ignore")

HERE = Path(__file__).parent
SECOND = 1_000_000_000


def write(name, frame):
    frame = frame.copy()
    for column in frame.columns:
        if frame[column].dtype == bool:
            frame = frame.assign(**{column: frame[column].map({True: "true", False: "false"})})
            frame = frame.rename(columns={column: f"{column}:bool"})
    frame.to_csv(HERE / f"{name}.csv", index=False, float_format="%.17g", lineterminator="\n")


def per_machine(frame, function, columns=("x", "y"), suffix=""):
    """`function(times, values)` of each column of each machine, rows in the order of `frame`."""
    out = frame.copy()
    for column in columns:
        name = column + suffix
        values = pd.Series(np.nan, index=frame.index)
        for _, rows in frame.groupby("machine"):
            values.loc[rows.index] = np.asarray(function(rows["ts"], rows[column]), dtype=float)
        out[name] = values
    return out


def without_nulls(function, max_gap=None):
    """`function(times, values)` of the values that are there, in runs that no gap interrupts."""

    def apply(times, values):
        out = pd.Series(np.nan, index=values.index)
        there = values.notna()
        t, x = times[there], values[there]
        runs = (t.diff() > max_gap).cumsum() if max_gap else t * 0
        for _, run in x.groupby(runs):
            out.loc[run.index] = function(t[run.index].to_numpy(), run.to_numpy())
        return out

    return apply


def rolling_median(window, min_periods):
    def smooth(times, values):
        index = values.set_axis(pd.to_datetime(times)) if isinstance(window, str) else values
        smoothed = index.rolling(window, min_periods=min_periods).median()
        return smoothed.set_axis(values.index).where(values.notna())

    return smooth


def hampel(window, n_sigmas, scale=1.4826, min_rows=3, min_deviation=0.0):
    """No library has a trailing Hampel filter with these options: numpy's median, window by window."""

    def judge(times, values):
        x, out, flags = values.to_numpy(), [], []
        t = times.to_numpy()
        for i in range(len(x)):
            first = max(0, i + 1 - window) if isinstance(window, int) else 0
            rows = np.arange(first, i + 1)
            if not isinstance(window, int):
                rows = rows[t[rows] > t[i] - pd.Timedelta(window).value]
            inside = x[rows][~np.isnan(x[rows])]
            outlier = False
            if not np.isnan(x[i]) and len(inside) >= min_rows:
                m = np.median(inside)
                mad = np.median(np.abs(inside - m))
                far = abs(x[i] - m)
                outlier = bool(far > n_sigmas * scale * mad and far > min_deviation)
            out.append(m if outlier else x[i])
            flags.append(outlier)
        return out, flags

    return judge


def judged(frame, judge, flags):
    out = frame.copy()
    for column in ["x", "y"]:
        for _, rows in frame.groupby("machine"):
            values, outliers = judge(rows["ts"], rows[column])
            out.loc[rows.index, column] = values
            if column in flags:
                out.loc[rows.index, f"{column}_outlier"] = outliers
    return out.astype({f"{column}_outlier": bool for column in flags})


def savgol_weights(rows, order, derivative, step):
    """`savgol_coeffs(pos=rows - 1)` in rational numbers. SciPy solves a Vandermonde system in floating point, which is
    off by 1e-9 for 25 rows and degree 6, and by 2e-4 for 301 rows and degree 5; where it is precise, the two agree."""
    at = [Fraction(i - (rows - 1)) for i in range(rows)]
    n = order + 1
    a = [[sum(x ** (i + j) for x in at) for j in range(n)] + [Fraction(i == derivative)] for i in range(n)]
    for c in range(n):
        a[c] = [v / a[c][c] for v in a[c]]
        for r in range(n):
            if r != c:
                a[r] = [v - a[r][c] * w for v, w in zip(a[r], a[c])]
    factor = np.prod([Fraction(k) for k in range(1, derivative + 1)] or [Fraction(1)])
    factor /= Fraction(step).limit_denominator(10**6) ** derivative
    exact = np.array([float(factor * sum(a[k][n] * x**k for k in range(n))) for x in at])
    if rows < 20:
        scipy = signal.savgol_coeffs(rows, order, deriv=derivative, delta=step, pos=rows - 1, use="dot")
        np.testing.assert_allclose(scipy, exact, rtol=1e-9, atol=1e-12)
    return exact


def savgol(rows, order, derivative=0, step=1.0, max_gap=None):
    weights = savgol_weights(rows, order, derivative, step)

    def fit(_, x):
        out = np.full(len(x), np.nan)
        for i in range(rows - 1, len(x)):
            out[i] = weights @ (x[i + 1 - rows : i + 1] - x[i]) + (x[i] if derivative == 0 else 0.0)
        return out

    return without_nulls(fit, max_gap)


def write_savgol_weights():
    with open(HERE / "savitzky_golay_weights.csv", "w") as f:
        f.write("rows,order,derivative,step,weights\n")
        cases = [(1, 0, 0, 1), (2, 1, 1, 0.5), (5, 2, 0, 1), (10, 3, 2, 0.1), (25, 6, 1, 2), (101, 4, 3, 1), (301, 5, 0, 1)]
        for case in cases:
            weights = " ".join(f"{w:.17g}" for w in savgol_weights(*case))
            f.write(",".join(map(str, case)) + f",{weights}\n")


def clipped(frame):
    out = frame.assign(x=frame["x"].clip(-0.5, 1.25), y_clipped=frame["y"].clip(-0.5, 1.25))
    x_flag = (frame["x"] < -0.5) | (frame["x"] > 1.25)
    y_flag = (frame["y"] < -0.5) | (frame["y"] > 1.25)
    return out.assign(x_flag=x_flag, y_flag=y_flag)


def local_level(process, measurement):
    """statsmodels knows rows, not times."""

    def smooth(_, values):
        model = sm.tsa.UnobservedComponents(values.to_numpy(), "llevel")
        model.ssm.initialize(Initialization(1, "diffuse"))
        return model.filter([measurement, process]).filtered_state[0]

    return lambda t, v: pd.Series(smooth(t, v), index=v.index).where(v.notna())


def local_level_in_time(process, measurement, per):
    """The same with a variance that grows in time: Durbin and Koopman 2012, 2.2, in textbook form."""

    def smooth(t, x):
        level, p, out = x[0], measurement, [x[0]]
        for i in range(1, len(x)):
            p = p + process * (t[i] - t[i - 1]) / per
            f = p + measurement
            level = level + p / f * (x[i] - level)
            p = p - p * p / f
            out.append(level)
        return out

    return smooth


def butterworth(kind, order, cutoff, settled, max_gap=None):
    sos = signal.butter(order, cutoff, kind, fs=1.0, output="sos")

    def run(_, x):
        """`zi = sosfilt_zi(sos) * x[0]` is the same as to filter what differs from x[0], which rounds less."""
        if not settled:
            return signal.sosfilt(sos, x)
        zi = signal.sosfilt_zi(sos) * x[0]
        different = signal.sosfilt(sos, x - x[0]) + (x[0] if kind == "low" else 0.0)
        np.testing.assert_allclose(signal.sosfilt(sos, x, zi=zi)[0], different, rtol=1e-9, atol=1e-9)
        return different

    return without_nulls(run, max_gap)


def write_impulses():
    """Cutoffs are parts of the rate. What two right designs make of a low cutoff or a narrow band differs by rounding that
    grows with the order, so those are compared up to order 4."""
    impulse = np.zeros(30)
    impulse[0] = 1.0
    cases = []
    for order in range(1, 11):
        cutoffs = [0.1, 0.25, 0.45] + ([0.003] if order < 5 else [])
        cases += [("low", order, c, None) for c in cutoffs] + [("high", order, c, None) for c in cutoffs]
        bands = [(0.1, 0.3)] + ([(0.01, 0.49), (0.2, 0.21)] if order < 5 else [])
        cases += [("band", order, a, b) for a, b in bands]
    with open(HERE / "butterworth_impulse.csv", "w") as f:
        f.write("kind,order,low,high,impulse\n")
        for kind, order, low, high in cases:
            wn = low if high is None else [low, high]
            sos = signal.butter(order, wn, kind, fs=1.0, output="sos")
            answer = " ".join(f"{v:.14g}" for v in signal.sosfilt(sos, impulse))
            f.write(f"{kind},{order},{low},{'' if high is None else high},{answer}\n")


def lag_duration(frame, duration, max_gap):
    """pandas `merge_asof` of each machine with itself: the newest row at or before `ts - duration`."""
    out = frame.copy()
    for _, rows in frame.groupby("machine"):
        now = pd.DataFrame({"at": rows["ts"] - duration})
        past = rows[["ts", "x", "y"]].rename(columns={"ts": "at"})
        found = pd.merge_asof(now, past, on="at", tolerance=max_gap - duration)
        for column in ["x", "y"]:
            out.loc[rows.index, f"{column}_lag"] = found[column].to_numpy()
    return out


def rate(per, max_gap=np.inf):
    def fast(t, x):
        dt = np.diff(t)
        with np.errstate(divide="ignore", invalid="ignore"):
            change = np.diff(x) / dt * per
        return np.append(np.nan, np.where((dt > 0) & (dt <= max_gap), change, np.nan))

    return without_nulls(fast)


def area(per, max_gap=np.inf):
    def under(t, x):
        steps = np.diff(integrate.cumulative_trapezoid(x, (t - t[0]) / per, initial=0))
        return np.append(0.0, np.cumsum(np.where(np.diff(t) <= max_gap, steps, 0.0)))

    return without_nulls(under)


def calendar_times():
    """Around changes to and from summer time, the ends of years (leap and not), before 1970, and at random."""
    stamps = ["2023-03-26T00:59:59.5", "2023-03-26T01:00:00", "2023-10-29T00:30:00", "2023-10-29T01:30:00"]
    stamps += ["2023-12-31T22:59:59.999999999", "2023-12-31T23:00:00", "2024-02-29T12:00:00", "2024-12-31T23:30:00"]
    stamps += ["1969-12-31T23:59:59.25", "1931-07-01T18:40:01", "2262-01-01T00:00:00"]
    fixed = pd.to_datetime(stamps, format="ISO8601").astype("datetime64[ns]").astype("int64").tolist()
    rng = np.random.default_rng(21)
    random = rng.integers(0, 2_000_000_000 * SECOND, 40).tolist()
    return pd.DataFrame({"machine": "a", "ts": sorted(fixed + random)})


def calendar(frame, zone):
    local = pd.to_datetime(frame["ts"], utc=True).dt.tz_convert(zone).dt.tz_localize(None)
    midnight = local.dt.normalize()
    day = (local - midnight).astype("int64") / 86_400e9
    week = (local.dt.dayofweek + day) / 7
    year = (local.dt.dayofyear - 1 + day) / np.where(local.dt.is_leap_year, 366, 365)
    out = frame.copy()
    out["hour:int64"] = local.dt.hour
    out["minute_of_day:int64"] = local.dt.hour * 60 + local.dt.minute
    out["weekday:int64"] = local.dt.dayofweek + 1
    out["day_of_year:int64"] = local.dt.dayofyear
    out["month:int64"] = local.dt.month
    for name, part in [("day", day), ("week", week), ("year", year)]:
        out[f"{name}_sin"] = np.sin(2 * np.pi * part)
        out[f"{name}_cos"] = np.cos(2 * np.pi * part)
    return out


def main():
    frame = pd.read_csv(HERE / "readings.csv")
    write("moving_median_rows", per_machine(frame, rolling_median(6, 2)))
    write("moving_median_duration", per_machine(frame, rolling_median("10s", 1)))
    write("hampel_rows", judged(frame, hampel(7, 1.5), ["x", "y"]))
    write("hampel_duration", judged(frame, hampel("10s", 1, 1.2, 4, 0.75), ["y"]))
    write("savitzky_golay_7_2", per_machine(frame, savgol(7, 2)))
    write("savitzky_golay_12_3_1", per_machine(frame, savgol(12, 3, 1, 0.5)))
    write("savitzky_golay_max_gap", per_machine(frame, savgol(6, 1, max_gap=6 * SECOND)))
    write_savgol_weights()
    write("clip", clipped(frame))
    write("monotone_minimum", per_machine(frame, lambda _, v: v.cummin()))
    running_maximum = without_nulls(lambda _, x: np.maximum.accumulate(x), 6 * SECOND)
    write("monotone_max_gap", per_machine(frame, running_maximum))
    write("kalman_1d_rows", per_machine(frame, local_level(0.05, 0.8)))
    in_time = without_nulls(local_level_in_time(0.3, 0.8, 2 * SECOND), 12 * SECOND)
    write("kalman_1d_per", per_machine(frame, in_time))
    for name, kind in [("low_pass", "low"), ("high_pass", "high")]:
        write(f"{name}_4", per_machine(frame, butterworth(kind, 4, 0.05, True)))
        write(f"{name}_3_zero", per_machine(frame, butterworth(kind, 3, 0.11, False, 6 * SECOND), ["x"]))
    write("band_pass_2", per_machine(frame, butterworth("band", 2, [0.04, 0.1], True)))
    write("band_pass_3_zero", per_machine(frame, butterworth("band", 3, [0.002, 0.2], False, 6 * SECOND), ["x"]))
    write_impulses()
    write("lag_rows", per_machine(frame, lambda _, v: v.shift(3), suffix="_lag"))
    write("lag_duration", lag_duration(frame, 5 * SECOND, 9 * SECOND))
    write("difference", per_machine(frame, lambda _, v: v.diff(2), suffix="_difference"))
    write("rate_second", per_machine(frame, rate(SECOND), suffix="_rate"))
    write("rate_hour", per_machine(frame, rate(3600 * SECOND, 6 * SECOND), suffix="_rate"))
    write("integrate_second", per_machine(frame, area(SECOND), suffix="_integral"))
    minutes = area(60 * SECOND, 6 * SECOND)
    write("integrate_max_gap", per_machine(frame, minutes, suffix="_integral"))
    times = calendar_times()
    write("time_features_times", times)
    write("time_features_utc", calendar(times, "UTC"))
    write("time_features_berlin", calendar(times, "Europe/Berlin"))
    write("time_features_kolkata", calendar(times, "Asia/Kolkata"))


if __name__ == "__main__":
    main()
