#!/usr/bin/env python3
"""Writes predictions with their truth, and the intervals that the package crepes puts around them.

    python3 operators/reference/conformal.py

Needs numpy and crepes. The rows of machine `a` calibrate, those of machine `b` get intervals. An empty cell is a missing value.
The bounds of `cqr` are Romano et al. 2019 written out: the ceil((n + 1) c)-th smallest of max(low - y, y - high).
"""

import math
from pathlib import Path

import numpy as np
from crepes import ConformalRegressor

HERE = Path(__file__).parent
COVERAGE = 0.85
rng = np.random.default_rng(23)
n = 120
predicted = np.round(rng.uniform(5.0, 200.0, n), 3)
spread = np.round(2.0 + 0.1 * predicted * rng.uniform(0.5, 1.5, n), 3)
truth = np.round(predicted + spread * rng.standard_t(4, n), 3)
low, high = np.round(predicted - spread, 3), np.round(predicted + 1.2 * spread, 3)
calibrates = np.arange(n) % 3 != 0
new = ~calibrates


def write(name, columns, rows):
    lines = ["m,t," + ",".join(columns)]
    for row in np.flatnonzero(rows):
        lines.append(f"{'a' if calibrates[row] else 'b'},{row}," + ",".join(repr(float(c[row])) for c in columns.values()))
    (HERE / f"{name}.csv").write_text("\n".join(lines) + "\n")


def crepes(sigmas=None, bins=None):
    """Bounds of the new rows; `bins` numbers the range that each prediction is in."""
    of = lambda values, rows: None if values is None else values[rows]
    regressor = ConformalRegressor()
    regressor.fit((truth - predicted)[calibrates], sigmas=of(sigmas, calibrates), bins=of(bins, calibrates))
    return regressor.predict_int(
        predicted[new], sigmas=of(sigmas, new), bins=of(bins, new), confidence=COVERAGE
    ).T


def quantile_regression():
    scores = np.sort(np.maximum(low - truth, truth - high)[calibrates])
    q = scores[math.ceil((len(scores) + 1) * COVERAGE) - 1]
    return low[new] - q, high[new] + q


edges = np.quantile(predicted[calibrates], [1 / 3, 2 / 3])
bounds = {
    "plain": crepes(),
    "scaled": crepes(sigmas=spread),
    "binned": crepes(bins=np.searchsorted(edges, predicted, side="left")),
    "cqr": quantile_regression(),
}
everything = {"p": predicted, "s": spread, "low": low, "high": high, "y": truth}
write("conformal_train", everything, calibrates)
write("conformal_live", everything, new)
answers = {}
for name, (lower, upper) in bounds.items():
    for side, values in [("low", lower), ("high", upper)]:
        answers[f"{name}_{side}"] = np.full(n, np.nan)
        answers[f"{name}_{side}"][new] = values
write("conformal", answers, new)
