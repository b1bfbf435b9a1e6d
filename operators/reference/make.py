#!/usr/bin/env python3
"""Writes the reference values that the steps are checked against.

    python3 operators/reference/make.py

Needs numpy, pandas and scipy. Every expected file has the columns of the step's output; times are nanoseconds
of UTC. pandas knows no `ewm(halflife, times)` with `adjust=False`, so that one is the formula written out.
"""

from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

HERE = Path(__file__).parent
SECOND = 1_000_000_000


def readings(n_rows=240, seed=7):
    """Three machines, irregular times with ties, nulls, a small signal on a large offset."""
    rng = np.random.default_rng(seed)
    ts = 1_700_000_000 * SECOND + np.cumsum(rng.choice([0, 100, 250, 1000, 4000], n_rows)) * 1_000_000
    x = rng.normal(size=n_rows)
    y = 5000 + rng.standard_gamma(2.0, size=n_rows)
    x[rng.random(n_rows) < 0.1] = np.nan
    y[100:140] = np.nan
    return pd.DataFrame({"machine": rng.choice(["a", "b", "c"], n_rows), "ts": ts, "x": x, "y": y})


def write(name, frame):
    frame.to_csv(HERE / f"{name}.csv", index=False, float_format="%.17g", lineterminator="\n")


def per_machine(frame, function):
    """`function` of the columns x and y of each machine, rows in the order of `frame`."""
    out = frame.copy()
    for _, rows in frame.groupby("machine"):
        for column in ["x", "y"]:
            out.loc[rows.index, column] = function(rows["ts"], rows[column])
    return out


def ewm(**how):
    def smooth(_, values):
        smoothed = values.ewm(adjust=False, ignore_na=True, **how).mean()
        return smoothed.where(values.notna())

    return smooth


def ewm_half_life(half_life, max_gap=None):
    def smooth(times, values):
        out, level, at = [], None, None
        for t, x in zip(times, values):
            if np.isnan(x):
                out.append(np.nan)
                continue
            if level is None or (max_gap and t - at > max_gap):
                level = x
            else:
                decay = 0.5 ** ((t - at) / half_life)
                level = decay * level + (1 - decay) * x
            at = t
            out.append(level)
        return out

    return smooth


def rolling(window, min_periods):
    def smooth(times, values):
        index = values.set_axis(pd.to_datetime(times)) if isinstance(window, str) else values
        smoothed = index.rolling(window, min_periods=min_periods).mean()
        return smoothed.set_axis(values.index).where(values.notna())

    return smooth


def features(times, values, remove_mean=False):
    """All features of the values of a window, by name, in the order of the table."""
    t, x = times[~np.isnan(values)], values[~np.isnan(values)]
    n = len(x)
    if n == 0:
        return {"count": 0} | {name: np.nan for name in NAMES[1:]}
    centred = x - x.mean() if remove_mean else x
    rms = np.sqrt(np.mean(centred**2))
    spread = n > 1 and x.min() < x.max()
    seconds = (t - t[0]) / SECOND
    return {
        "count": n,
        "mean": x.mean(),
        "std": x.std(ddof=1) if n > 1 else np.nan,
        "min": x.min(),
        "max": x.max(),
        "range": np.ptp(x),
        "rms": rms,
        "skewness": stats.skew(x) if spread else np.nan,
        "kurtosis": stats.kurtosis(x, fisher=False) if spread else np.nan,
        "crest_factor": np.abs(centred).max() / rms if rms > 0 else np.nan,
        "slope": stats.linregress(seconds, x).slope if np.ptp(seconds) > 0 else np.nan,
        "first": x[0],
        "last": x[-1],
    }


NAMES = "count mean std min max range rms skewness kurtosis crest_factor slope first last".split()


def row(machine, time_name, time, rows, remove_mean):
    out = {"machine": machine, time_name: time}
    for column in ["x", "y"]:
        each = features(rows["ts"].to_numpy(), rows[column].to_numpy(), remove_mean)
        out |= {f"{column}_{k}" + (":int64" if k == "count" else ""): v for k, v in each.items()}
    return out


def windows(frame, length, every, remove_mean=False):
    out = []
    for machine, rows in frame.groupby("machine"):
        first = (rows["ts"].min() - length) // every * every
        for start in range(first, rows["ts"].max() + 1, every):
            inside = rows[(rows["ts"] >= start) & (rows["ts"] < start + length)]
            if len(inside):
                out.append(row(machine, "window_end", start + length, inside, remove_mean))
    return pd.DataFrame(out)


def last_rows(frame, n_rows, every, min_rows):
    out = []
    for machine, rows in frame.groupby("machine"):
        for i in range(len(rows)):
            if i + 1 >= min_rows and (i + 1) % every == 0:
                inside = rows.iloc[max(0, i + 1 - n_rows) : i + 1]
                out.append(row(machine, "ts", rows["ts"].iloc[i], inside, False))
    return pd.DataFrame(out)


def main():
    frame = readings()
    write("readings", frame)
    write("ema_alpha", per_machine(frame, ewm(alpha=0.1)))
    write("ema_span", per_machine(frame, ewm(span=9)))
    write("ema_half_life", per_machine(frame, ewm_half_life(3 * SECOND)))
    write("ema_max_gap", per_machine(frame, ewm_half_life(3 * SECOND, 6 * SECOND)))
    write("moving_average_rows", per_machine(frame, rolling(5, 2)))
    write("moving_average_duration", per_machine(frame, rolling("10s", 1)))
    write("window_tumbling", windows(frame, 60 * SECOND, 60 * SECOND))
    write("window_sliding", windows(frame, 50 * SECOND, 20 * SECOND, remove_mean=True))
    write("window_panes", windows(frame, 48 * SECOND, 16 * SECOND))
    write("window_rolling", last_rows(frame, 12, 5, 4))


if __name__ == "__main__":
    main()
