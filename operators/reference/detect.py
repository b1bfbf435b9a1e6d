#!/usr/bin/env python3
"""Writes the reference values of the steps that detect and flag.

    python3 operators/reference/detect.py

Needs numpy, pandas, river (0.26) and stumpy. `page_hinkley`, `adwin` and `half_space_trees` are river's own classes
(the trees with the generator below in place of Python's), `matrix_profile` is `stumpy.stumpi`, `pca_t2q` is
`numpy.linalg.eigh`; the others are their formulas written out over all values at once or from scratch for each row.
"""

from pathlib import Path

import numpy as np
import pandas as pd
import stumpy
from river import anomaly, drift

HERE = Path(__file__).parent
SECOND = 1_000_000_000


def signals(seed=21):
    """Two machines, a value every 10 s with some gaps: x shifts and has spikes, y is steps of 0.5 that stick."""
    rng = np.random.default_rng(seed)
    frames = []
    for machine, n_rows in [("a", 280), ("b", 90)]:
        steps = rng.choice([10, 10, 10, 10, 0, 25, 130], n_rows, p=[0.3, 0.3, 0.2, 0.1, 0.02, 0.06, 0.02])
        ts = 1_700_000_000 * SECOND + np.cumsum(steps) * SECOND
        x = 50 + rng.normal(size=n_rows)
        x[n_rows // 2 :] += 1.5
        x[rng.random(n_rows) < 0.03] += 9
        x[rng.random(n_rows) < 0.01] = -999
        x[rng.random(n_rows) < 0.05] = np.nan
        y = np.round(np.cumsum(rng.normal(scale=0.3, size=n_rows)) * 2) / 2
        y[n_rows // 3 : n_rows // 2] = y[n_rows // 3]
        y[rng.random(n_rows) < 0.05] = np.nan
        frames.append(pd.DataFrame({"machine": machine, "ts": ts, "x": x, "y": y}))
    both = pd.concat(frames).sort_values("ts", kind="stable")
    return both.reset_index(drop=True)


def machine(n_rows=170, seed=4):
    """One machine, a value a second: w and z follow x and y until something breaks."""
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(2, n_rows))
    z = 40 + 3 * x - y + rng.normal(scale=0.2, size=n_rows)
    w = -5 + 0.1 * y + rng.normal(scale=0.02, size=n_rows)
    z[120:] += 2
    z[rng.random(n_rows) < 0.05] = np.nan
    ts = 1_700_000_000 * SECOND + np.arange(n_rows) * SECOND
    return pd.DataFrame({"machine": "a", "ts": ts, "x": x, "y": y, "z": z, "w": w})


def shapes(n_rows=180, seed=9):
    """A saw with noise, one tooth upside down, some nulls."""
    rng = np.random.default_rng(seed)
    t = np.arange(n_rows)
    x = 300 + (t % 17) * 0.3 + rng.normal(scale=0.4, size=n_rows)
    x[119:136] = 300 + (16 - t[119:136] % 17) * 0.3 + rng.normal(scale=0.1, size=17)
    x[[30, 95]] = np.nan
    return pd.DataFrame({"machine": "a", "t": t, "x": x})


def write(name, frame):
    frame.to_csv(HERE / f"{name}.csv", index=False, float_format="%.14g", lineterminator="\n")


def per_machine(frame, columns, function):
    """`frame` with the columns that `function(times, values, column)` makes of `columns` of each machine."""
    parts = []
    for _, rows in frame.groupby("machine"):
        added = {}
        for column in columns:
            made = function(rows["ts"].to_numpy(), rows[column].to_numpy(), column)
            added |= {f"{column}_{name}": values for name, values in made.items()}
        parts.append(pd.concat([rows, pd.DataFrame(added, index=rows.index)], axis=1))
    return pd.concat(parts).sort_index()


def boolean(values):
    return ["" if v is None else str(bool(v)).lower() for v in values]


# Quality flags, each row from scratch.

QUALITY = {
    "x": {"range": ([45, 62], [0, 100]), "rate": (0.3, 0.8), "gap": (20, 120), "spike": (5, 4.0, 8.0)},
    "y": {"flat_line": (0.5, 100, 300), "rate": (0.04, 0.08), "spike": (3, 0.4, 0.9)},
}


def beyond(measure, suspect, fail):
    return 4 if measure > fail else 3 if measure > suspect else 1


def quality(times, values, tests, max_gap):
    flag, failed = [], []
    for i, x in enumerate(values):
        found = {"missing": 9} if np.isnan(x) else quality_of(times, values, i, tests, max_gap)
        flag.append(max(found.values()) if found else 2)
        failed.append("+".join(name for name, f in found.items() if f in (3, 4)))
    return {"flag:int64": flag, "tests:string": failed}


def quality_of(times, values, i, tests, max_gap):
    x, found = values[i], {}
    least, most = tests["range"][1] if "range" in tests else (-np.inf, np.inf)
    is_measure = least <= x <= most
    if "range" in tests:
        lo, hi = tests["range"][0]
        found["range"] = 4 if not is_measure else 3 if not lo <= x <= hi else 1
    before = [j for j in range(i) if not np.isnan(values[j])]
    # Only what came after the last long gap is compared with, and what is within its range.
    walk = before + [i]
    gaps = [k for k in range(1, len(walk)) if times[walk[k]] - times[walk[k - 1]] > max_gap * SECOND]
    near = [j for j in (walk[gaps[-1] :] if gaps else walk)[:-1] if least <= values[j] <= most]
    if "rate" in tests and is_measure and near and times[i] > times[near[-1]]:
        rate = abs(x - values[near[-1]]) / ((times[i] - times[near[-1]]) / SECOND)
        found["rate"] = beyond(rate, *tests["rate"])
    if "flat_line" in tests and is_measure:
        eps, suspect, fail = tests["flat_line"]
        run = [i]
        for j in reversed(near):
            if np.ptp(values[[j] + run]) > eps:
                break
            run.insert(0, j)
        flat = (times[i] - times[run[0]]) / SECOND
        found["flat_line"] = 4 if flat >= fail else 3 if flat >= suspect else 1
    if "gap" in tests and before:
        found["gap"] = beyond((times[i] - times[before[-1]]) / SECOND, *tests["gap"])
    if "spike" in tests:
        rows, suspect, fail = tests["spike"]
        if is_measure and len(near) >= rows:
            found["spike"] = beyond(abs(x - np.median(values[near[-rows:]])), suspect, fail)
    return found


# Control charts. Values without nulls come in; what is said goes back to their places.


def of_values(function, **options):
    """`function(times, values)` over the values that are not null; it returns columns with None for null."""

    def spread(times, values, _):
        there = np.flatnonzero(~np.isnan(values))
        made = function(times[there], values[there], **options)
        out = {}
        for name, said in made.items():
            full = np.full(len(values), None, dtype=object)
            full[there] = said
            out[name] = boolean(full) if name.endswith(":bool") else full
        return out

    return spread


def segments(times, max_gap):
    """Where the values after each long gap begin and end."""
    cuts = np.flatnonzero(np.diff(times) > max_gap * SECOND) + 1
    bounds = [0, *cuts, len(times)]
    return list(zip(bounds[:-1], bounds[1:]))


def cusum(times, values, slack, limit, target=None, learn=None, reset=False, max_gap=1e9):
    n = len(values)
    first = learn or 0
    z = values - target if learn is None else (values - values[:learn].mean()) / values[:learn].std(ddof=1)
    high, low, alarm = [None] * n, [None] * n, [None] * n
    for begin, end in segments(times[first:], max_gap):
        h = l = 0.0
        for i in range(first + begin, first + end):
            h, l = max(0.0, h + z[i] - slack), max(0.0, l - z[i] - slack)
            high[i], low[i], alarm[i] = h, l, h > limit or l > limit
            if reset and alarm[i]:
                h = l = 0.0
    return {"cusum_high": high, "cusum_low": low, "cusum_alarm:bool": alarm}


def ewma_chart(times, values, lam, sigmas, target=None, sigma=None, learn_seconds=None, max_gap=1e9):
    n, first = len(values), 0
    if learn_seconds:
        first = int(np.searchsorted(times, times[0] + learn_seconds * SECOND))
        target, sigma = values[:first].mean(), values[:first].std(ddof=1)
    z, lower, upper, alarm = ([None] * n for _ in range(4))
    for begin, end in segments(times[first:], max_gap):
        x = values[first + begin : first + end]
        for i in range(1, len(x) + 1):
            weights = lam * (1 - lam) ** np.arange(i)[::-1]
            at = first + begin + i - 1
            z[at] = (weights * x[:i]).sum() + (1 - lam) ** i * target
            reach = sigmas * sigma * np.sqrt(lam / (2 - lam) * (1 - (1 - lam) ** (2 * i)))
            lower[at], upper[at] = target - reach, target + reach
            alarm[at] = not lower[at] <= z[at] <= upper[at]
    return {"ewma": z, "ewma_lower": lower, "ewma_upper": upper, "ewma_alarm:bool": alarm}


def drifted(times, values, learn, limit, max_gap):
    n = len(values)
    mean0, std0 = values[:learn].mean(), values[:learn].std(ddof=1)
    z, mean, std, shift, alarm = ([None] * n for _ in range(5))
    for begin, end in segments(times[learn:], max_gap):
        for i in range(learn + begin, learn + end):
            x = values[learn + begin : i + 1]
            z[i], mean[i] = (values[i] - mean0) / std0, x.mean()
            std[i] = x.std(ddof=1) if len(x) > 1 else None
            shift[i] = (mean[i] - mean0) / std0
            alarm[i] = abs(shift[i]) > limit
    return {"z": z, "mean": mean, "std": std, "shift": shift, "drift:bool": alarm}


def page_hinkley(times, values, **options):
    test = drift.PageHinkley(**options)
    up, down, found = [], [], []
    for x in values:
        test.update(x)
        up.append(test._sum_increase - test._min_increase)
        down.append(test._max_decrease - test._sum_decrease)
        found.append(test.drift_detected)
    return {"page_hinkley_up": up, "page_hinkley_down": down, "page_hinkley_drift:bool": found}


def adwin(times, values, **options):
    detector = drift.ADWIN(**options)
    mean, rows, found = [], [], []
    for x in values:
        detector.update(x)
        mean.append(detector.estimation)
        rows.append(int(detector.width))
        found.append(detector.drift_detected)
    return {"adwin_mean": mean, "adwin_rows:int64": rows, "adwin_drift:bool": found}


class SplitMix:
    """What river's trees ask of `random.Random`, by splitmix64."""

    def __init__(self, seed):
        self.state = seed

    def random(self):
        mask = 2**64 - 1
        self.state = (self.state + 0x9E3779B97F4A7C15) & mask
        z = self.state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
        return ((z ^ (z >> 31)) >> 11) / 2**53

    def uniform(self, a, b):
        return a + (b - a) * self.random()

    def choices(self, population, weights):
        upto = np.cumsum(weights)
        place = np.searchsorted(upto, self.random() * upto[-1], side="right")
        return [population[min(place, len(population) - 1)]]


def half_space_trees(frame, name, seed, window, limits=None, learn=0, **options):
    out = frame.copy()
    out[name] = None
    for _, rows in frame.groupby("machine"):
        rows = rows.dropna(subset=["x", "y"])
        ranges = limits or {c: (rows[c][:learn].min(), rows[c][:learn].max()) for c in ["x", "y"]}
        trees = anomaly.HalfSpaceTrees(window_size=window, limits=ranges, **options)
        trees.rng = SplitMix(seed)
        for i, row in enumerate(rows[learn:].itertuples()):
            x = {"x": row.x, "y": row.y}
            if i >= window:
                out.loc[row.Index, name] = trees.score_one(x)
            trees.learn_one(x)
    return out


def pca(frame, name, n_learn, scale, components=None, variance=None, contributions=False):
    columns = ["x", "y", "z", "w"]
    rows = frame[columns].dropna()
    learn = rows[:n_learn] if isinstance(n_learn, int) else rows[: (rows.index < n_learn).sum()]
    mean, std = learn.mean(), learn.std() if scale else 1.0
    values, vectors = np.linalg.eigh(((learn - mean) / std).cov())
    values, vectors = values[::-1], vectors[:, ::-1]
    if components is None:
        components = np.searchsorted(np.cumsum(values) / values.sum(), variance) + 1
    values, vectors = values[:components], vectors[:, :components]
    z = ((rows[len(learn) :] - mean) / std).to_numpy()
    t = z @ vectors
    off = z - t @ vectors.T
    said = {f"{name}_t2": (t**2 / values).sum(1), f"{name}_q": (off**2).sum(1)}
    if contributions:
        said |= {f"{name}_t2_{c}": (z * (t / values @ vectors.T))[:, i] for i, c in enumerate(columns)}
        said |= {f"{name}_q_{c}": (off**2)[:, i] for i, c in enumerate(columns)}
    return frame.join(pd.DataFrame(said, index=rows.index[len(learn) :]))


def matrix_profile(frame, rows, history):
    # An offset changes no shape, but costs stumpy's correlations half of their digits.
    x = frame["x"].to_numpy() - 300
    distance = np.full(len(x), np.nan)
    lag = np.full(len(x), np.nan)
    # While nothing is forgotten; then a window that moves.
    n = min(history, len(x))
    stream = stumpy.stumpi(x[:rows], rows, egress=False)
    for value in x[rows:n]:
        stream.update(value)
    distance[rows - 1 : n] = stream.left_P_
    lag[rows - 1 : n] = np.arange(n - rows + 1) - stream.left_I_
    if n < len(x):
        stream = stumpy.stumpi(x[:n], rows, egress=True)
    for i in range(n, len(x)):
        stream.update(x[i])
        distance[i], lag[i] = stream.left_P_[-1], i - rows + 1 - stream.left_I_[-1]
    lost = ~np.isfinite(distance)
    lags = ["" if gone else int(value) for gone, value in zip(lost, lag)]
    distance[lost] = np.nan
    return frame.assign(**{"x_matrix_profile": distance, "x_matrix_profile_lag:int64": lags})


def main():
    frame = signals()
    write("detect_signals", frame)
    flags = lambda times, values, column: quality(times, values, QUALITY[column], 125)
    write("quality", per_machine(frame, ["x", "y"], flags))
    given = of_values(cusum, target=50.5, slack=0.75, limit=8, reset=True, max_gap=125)
    write("cusum_target", per_machine(frame, ["x"], given))
    write("cusum_learn", per_machine(frame, ["x"], of_values(cusum, learn=30, slack=0.5, limit=5)))
    given = of_values(ewma_chart, target=50, sigma=1, lam=0.1, sigmas=2.7, max_gap=125)
    write("ewma_chart_target", per_machine(frame, ["x"], given))
    learnt = of_values(ewma_chart, learn_seconds=300, lam=0.2, sigmas=3)
    write("ewma_chart_learn", per_machine(frame, ["x"], learnt))
    compared = of_values(drifted, learn=20, limit=1, max_gap=125)
    write("drift", per_machine(frame, ["x"], compared))
    both = of_values(page_hinkley, threshold=20, delta=0.1, min_instances=10)
    write("page_hinkley_both", per_machine(frame, ["x", "y"], both))
    up = of_values(page_hinkley, threshold=4, alpha=0.95, mode="up")
    write("page_hinkley_up", per_machine(frame, ["y"], up))
    write("adwin", per_machine(frame, ["x", "y"], of_values(adwin)))
    eager = of_values(adwin, delta=0.1, clock=4, min_window_length=3, grace_period=8)
    write("adwin_eager", per_machine(frame, ["y"], eager))
    limits = {"x": (45, 60), "y": (-4, 5)}
    odd = half_space_trees(frame, "odd", 5, 20, limits, n_trees=7, height=4)
    write("half_space_trees", odd)
    odd = half_space_trees(frame, "anomaly_score", 0, 30, learn=25, n_trees=3, height=6)
    write("half_space_trees_learn", odd)
    frame = machine()
    write("pca_t2q_input", frame)
    write("pca_t2q", pca(frame, "pca", 40, True, components=2, contributions=True))
    write("pca_t2q_unscaled", pca(frame, "odd", 60.0, False, variance=0.8))
    frame = shapes()
    write("matrix_profile_input", frame)
    write("matrix_profile", matrix_profile(frame, 8, 400))
    write("matrix_profile_bounded", matrix_profile(frame, 10, 40))


if __name__ == "__main__":
    main()
