#!/usr/bin/env python3
"""Writes the reference values of the scalers, of regimes, and of what chooses and projects columns.

    python3 operators/reference/scaling.py

Needs numpy, pandas and scikit-learn. `scaling_train.csv` is what is fitted on, `scaling_live.csv` what is scaled; the other files have
the columns of a step's output, but for `anova.csv` (the F of each column) and `k_means.csv` (the centres).
Where ours is not the library's: of a constant column `StandardScaler` and `RobustScaler` give the difference from the mean or
median, which is 0 for the constant itself; ours gives 0 whatever comes.
"""

from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.feature_selection import f_classif, f_regression
from sklearn.preprocessing import MinMaxScaler, RobustScaler, StandardScaler

HERE = Path(__file__).parent
SECOND = 1_000_000_000
CONSTANT = 1e-9


def rows(n_rows, seed, modes, shifts):
    """Two machines in modes that move the level, one channel that is constant in one of them, nulls."""
    rng = np.random.default_rng(seed)
    mode = rng.choice(modes, n_rows)
    shift = rng.choice(shifts, n_rows)
    level = pd.Series(mode).map({"idle": 0.0, "pump": 40.0, "vent": 900.0, "bake": 5.0}).to_numpy()
    x = level + rng.normal(size=n_rows) * (1 + 0.5 * shift)
    y = np.where(mode == "idle", 3.25, 7 + rng.standard_gamma(2.0, size=n_rows) * (1 + level / 100))
    x[rng.random(n_rows) < 0.06] = np.nan
    y[rng.random(n_rows) < 0.06] = np.nan
    ts = 1_700_000_000 * SECOND + np.arange(n_rows) * 10 * SECOND
    frame = pd.DataFrame({"machine": rng.choice(["a", "b"], n_rows), "ts": ts, "x": x, "y": y, "mode": mode, "shift": shift})
    frame.loc[rng.random(n_rows) < 0.03, "mode"] = None
    return frame


def write(name, frame, **types):
    frame = frame.rename(columns={c: f"{c}:{t}" for c, t in types.items()})
    for column in frame.columns[frame.dtypes == bool]:
        frame[column] = frame[column].map({True: "true", False: "false"})
    frame.to_csv(HERE / f"{name}.csv", index=False, float_format="%.17g", lineterminator="\n")


TYPES = {"mode": "string", "shift": "int64"}


def scaled(train, live, make, by=()):
    """Each column by a scaler of all rows, or by that of the row's regime if it was there in training."""
    out = live.copy()
    known = {} if not by else {k: g for k, g in train.dropna(subset=list(by)).groupby(list(by))}
    if by:
        out["regime_unknown"] = [key not in known for key in live[list(by)].itertuples(index=False, name=None)]
    for column in ["x", "y"]:
        def fitted(frame):
            values = frame[[column]].dropna().to_numpy()
            return make().fit(values), values
        everywhere = fitted(train)
        each = {key: fitted(group) for key, group in known.items()}
        for i in live.index:
            key = tuple(live.loc[i, list(by)])
            scaler, values = each.get(key, everywhere)
            z = scaler.transform([[live.loc[i, column]]])[0, 0]
            spread = {StandardScaler: np.std, MinMaxScaler: np.ptp}.get(
                type(scaler), lambda v: np.quantile(v, 0.75) - np.quantile(v, 0.25))(values)
            if spread < CONSTANT and not np.isnan(live.loc[i, column]):
                z = 0.0 if not isinstance(scaler, MinMaxScaler) else scaler.feature_range[0]
            out.loc[i, column] = z
    return out


def running(live, keys, score):
    """`score` of each value and the values of its group so far, the value itself included."""
    out = live.copy()
    for _, group in live.groupby(keys):
        for column in ["x", "y"]:
            values = group[column].dropna()
            out.loc[values.index, column] = score(values)
    return out


def standard_online(values):
    mean, std = values.expanding().mean(), values.expanding().std(ddof=0)
    return ((values - mean) / std).where(std >= CONSTANT, 0.0)


def standard_learning(n):
    def score(values):
        learnt = values.iloc[:n]
        mean = learnt.expanding().mean().reindex(values.index).ffill()
        std = learnt.expanding().std(ddof=0).reindex(values.index).ffill()
        return ((values - mean) / std).where(std >= CONSTANT, 0.0)
    return score


def robust_learning(n):
    def score(values):
        learnt = values.iloc[:n]
        q = {p: learnt.expanding().quantile(p).reindex(values.index).ffill() for p in [0.1, 0.5, 0.9]}
        spread = q[0.9] - q[0.1]
        return ((values - q[0.5]) / spread).where(spread >= CONSTANT, 0.0)
    return score


def scalers():
    train = rows(300, 11, ["idle", "pump", "vent"], [1, 2])
    live = rows(160, 12, ["idle", "pump", "vent", "bake"], [1, 2])
    write("scaling_train", train, **TYPES)
    write("scaling_live", live, **TYPES)
    write("standard", scaled(train, live, StandardScaler), **TYPES)
    flag = {**TYPES, "regime_unknown": "bool"}
    write("standard_by", scaled(train, live, StandardScaler, ["mode", "shift"]), **flag)
    write("minmax", scaled(train, live, MinMaxScaler), **TYPES)
    write("minmax_by", scaled(train, live, lambda: MinMaxScaler((-1, 2)), ["mode"]), **flag)
    write("robust", scaled(train, live, RobustScaler), **TYPES)
    write("robust_by", scaled(train, live, RobustScaler, ["mode"]), **flag)
    write("standard_online", running(live, ["machine"], standard_online), **TYPES)
    write("standard_learning", running(live, ["machine"], standard_learning(25)), **TYPES)
    write("robust_learning", running(live, ["machine"], robust_learning(30)), **TYPES)
    # Rows without a mode are scaled with the figures of all rows of the machine, and flagged.
    by_mode = running(live, ["machine", "mode"], standard_online)
    overall = running(live, ["machine"], standard_online)
    missing = live["mode"].isna()
    by_mode.loc[missing, ["x", "y"]] = overall.loc[missing, ["x", "y"]]
    by_mode["regime_unknown"] = missing
    write("standard_online_by", by_mode, **flag)


def settings(n_rows, seed):
    """Three settings near six points, as flights have them."""
    rng = np.random.default_rng(seed)
    points = np.array([[0, 0, 100], [10, 0.25, 100], [20, 0.7, 100], [25, 0.62, 60], [35, 0.84, 100], [42, 0.84, 100]])
    which = rng.integers(0, 6, n_rows)
    noise = rng.uniform(-1, 1, (n_rows, 3)) * [0.003, 0.0008, 0.0]
    values = points[which] + noise
    frame = pd.DataFrame(values, columns=["altitude", "mach", "throttle"])
    frame.insert(0, "unit", rng.choice(["1", "2", "3"], n_rows))
    frame.insert(1, "cycle", np.arange(n_rows))
    return frame


def regimes():
    flights = settings(240, 21)
    write("regime_flights", flights)
    out = flights.copy()
    rounded = [np.round(flights[c], d) + 0.0 for c, d in [("altitude", 0), ("mach", 2), ("throttle", 0)]]
    out["regime"] = [f"{a:.0f}/{m:.2f}/{t:.0f}" for a, m, t in zip(*rounded)]
    write("regime_round", out, regime="string")
    order = sorted(set(zip(*rounded)))
    for i, (a, m, t) in enumerate(order, 1):
        is_it = out["regime"] == f"{a:.0f}/{m:.2f}/{t:.0f}"
        out[f"regime_{i}_rows"] = is_it.groupby(out["unit"]).cumsum().astype(int)
    write("regime_counters", out, regime="string", **{f"regime_{i}_rows": "int64" for i in range(1, len(order) + 1)})
    columns = ["altitude", "mach", "throttle"]
    scale = flights[columns].std(ddof=0).to_numpy()
    found = KMeans(6, n_init=20, random_state=0, tol=0).fit(flights[columns].to_numpy() / scale)
    centers = pd.DataFrame(found.cluster_centers_ * scale, columns=columns).sort_values(columns)
    write("k_means", centers)


def channels(n_rows, seed):
    """Six channels of three causes, one of them on a large offset, and what they are to tell."""
    rng = np.random.default_rng(seed)
    causes = rng.normal(size=(n_rows, 3)) * [3.0, 1.0, 0.4]
    mix = np.random.default_rng(5).normal(size=(3, 5))
    values = causes @ mix + 0.1 * rng.normal(size=(n_rows, 5))
    values[:, 1] = values[:, 1] * 20 + 900
    frame = pd.DataFrame(values, columns=["a", "b", "c", "d", "e"])
    frame["f"] = 0.5
    life = 100 - 7 * causes[:, 0] + rng.normal(size=n_rows) * 5
    frame["life"] = life
    frame["fault"] = np.where(life > 110, "none", np.where(life > 85, "worn", "broken"))
    frame.insert(0, "machine", rng.choice(["a", "b"], n_rows))
    frame.insert(1, "t", np.arange(n_rows))
    return frame


def projections():
    train, live = channels(200, 31), channels(60, 32)
    write("channels_train", train, fault="string")
    live.loc[[7, 30], "c"] = np.nan
    write("channels_live", live, fault="string")
    names = ["a", "b", "c", "d", "e"]
    for name, standardize, n in [("pca_standardized", True, 3), ("pca_centred", False, 2)]:
        x, z = train[names].to_numpy(), live[names].to_numpy()
        if standardize:
            scaler = StandardScaler().fit(x)
            x, z = scaler.transform(x), scaler.transform(z)
        pca = PCA(n).fit(x)
        whole = ~np.isnan(z).any(axis=1)
        t = np.full((len(z), n), np.nan)
        t[whole] = pca.transform(z[whole])
        out = live.copy()
        for i in range(n):
            out[f"pc{i + 1}"] = t[:, i]
        out["t2"] = (t**2 / pca.explained_variance_).sum(axis=1)
        q = np.full(len(z), np.nan)
        q[whole] = ((z[whole] - pca.inverse_transform(t[whole])) ** 2).sum(axis=1)
        out["q"] = q
        write(name, out, fault="string")
    classes = f_classif(train[names], train["fault"])[0]
    regression = f_regression(train[names], train["life"])[0]
    write("anova", pd.DataFrame({"column": names, "classification": classes, "regression": regression}))
    correlation = train[names].corr()
    correlation.insert(0, "column", names)
    write("correlation", correlation)


if __name__ == "__main__":
    scalers()
    regimes()
    projections()
