#!/usr/bin/env python3
"""Writes predictions of three models and what NumPy makes of them.

    python3 operators/reference/ensemble.py

Needs numpy. An empty cell is a missing value; a row without any has no answer.
"""

from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
rng = np.random.default_rng(11)
values = np.round(rng.normal(80.0, 25.0, size=(60, 3)), 4)
values[rng.random(values.shape) < 0.2] = np.nan
values[17] = np.nan
there = ~np.isnan(values)
weights = np.where(there, [0.5, 2.0, 1.0], 0.0)
some = there.any(axis=1)
full = np.where(some[:, None], values, 0.0)
answers = {
    "min": np.nanmin(full, axis=1),
    "mean": np.nanmean(full, axis=1),
    "median": np.nanmedian(full, axis=1),
    "max": np.nanmax(full, axis=1),
    "weighted": np.array(
        [np.average(np.nan_to_num(v), weights=w) if w.any() else np.nan for v, w in zip(full, weights)]
    ),
}


def write(name, columns):
    lines = ["m,t," + ",".join(columns)]
    for row in range(len(values)):
        cells = ["" if np.isnan(c[row]) or not some[row] else repr(float(c[row])) for c in columns.values()]
        lines.append(f"{'ab'[row % 2]},{row}," + ",".join(cells))
    (HERE / f"{name}.csv").write_text("\n".join(lines) + "\n")


write("predictions", {name: values[:, at] for at, name in enumerate("abc")})
write("ensemble", answers)
