"""Makes boosted.json: what others' boosted trees err on the set that `boosted.rs` builds with the same numbers.

python3 boosted.py > boosted.json    (scikit-learn 1.9.1, LightGBM 4.7.0, XGBoost 3.2.0)
"""

import json

import lightgbm
import numpy as np
import xgboost
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.metrics import log_loss, mean_pinball_loss

ROWS, LEARNT, WIDTH = 3000, 2000, 6


def noise(n):
    """The generator of `good.rs`, bit by bit."""
    state, mask = 0x2545F4914F6CDD1D, (1 << 64) - 1
    for _ in range(n):
        state ^= (state << 13) & mask
        state ^= state >> 7
        state ^= (state << 17) & mask
        yield (state >> 11) / (1 << 53) * 10.0


z = np.array(list(noise(ROWS * WIDTH))).reshape(ROWS, WIDTH)
y = np.abs(z[:, 0] - 4.0) * 3.0 + z[:, 1] * z[:, 2] + (z[:, 5] - 5.0) * 2.0
x = z[:, :5].copy()
x[::10, 3] = np.nan  # missing, and it means something
y[::10] += 15.0
level = np.searchsorted([25.0, 45.0], y, side="right")  # three classes
a, b = slice(0, LEARNT), slice(LEARNT, ROWS)

same = {"max_iter": 200, "learning_rate": 0.1, "max_leaf_nodes": 31, "max_depth": 8, "min_samples_leaf": 20}
scikit = dict(same, l2_regularization=1.0, max_bins=255, early_stopping=False, random_state=0)
light = {
    "n_estimators": 200, "learning_rate": 0.1, "num_leaves": 31, "max_depth": 8, "min_child_samples": 20,
    "reg_lambda": 1.0, "max_bin": 255, "verbose": -1, "n_jobs": 1, "random_state": 0,
}
extreme = {
    "n_estimators": 200, "learning_rate": 0.1, "max_leaves": 31, "max_depth": 8, "min_child_weight": 20,
    "reg_lambda": 1.0, "max_bin": 255, "tree_method": "hist", "grow_policy": "lossguide", "n_jobs": 1,
}


def rmse(model):
    return float(np.sqrt(np.mean((model.fit(x[a], y[a]).predict(x[b]) - y[b]) ** 2)))


def pinball(model, q):
    return float(mean_pinball_loss(y[b], model.fit(x[a], y[a]).predict(x[b]), alpha=q))


def log_losses(model):
    return float(log_loss(level[b], model.fit(x[a], level[a]).predict_proba(x[b])))


weights = dict(extreme, min_child_weight=1e-3)
print(
    json.dumps(
        {
            "sums": [float(x[b][:, 0].sum()), float(y.sum())],
            "rmse": {
                "scikit-learn": rmse(HistGradientBoostingRegressor(**scikit)),
                "lightgbm": rmse(lightgbm.LGBMRegressor(**light)),
                "xgboost": rmse(xgboost.XGBRegressor(**extreme)),
            },
            "pinball_0.9": {
                "scikit-learn": pinball(
                    HistGradientBoostingRegressor(loss="quantile", quantile=0.9, **scikit), 0.9
                ),
                "lightgbm": pinball(lightgbm.LGBMRegressor(objective="quantile", alpha=0.9, **light), 0.9),
            },
            "log_loss": {
                "scikit-learn": log_losses(HistGradientBoostingClassifier(**scikit)),
                "lightgbm": log_losses(lightgbm.LGBMClassifier(**light)),
                "xgboost": log_losses(xgboost.XGBClassifier(**weights)),
            },
        },
        indent=1,
    )
)
