"""Makes small models of XGBoost and LightGBM with their raw scores.

python3 make.py    (XGBoost 3.2.0, LightGBM 4.7.0) writes beside itself `<name>.json` or `<name>.txt`, the model, and
`<name>.scores.json`: features (null = missing), raw scores rows x outputs as hex floats, transformed ones, and the
library's own contributions (`pred_contribs`, `pred_contrib`), rows x outputs x (features and base).
"""

import json
import pathlib

import lightgbm
import numpy as np
import xgboost

HERE = pathlib.Path(__file__).parent
rng = np.random.default_rng(7)
x = np.round(rng.normal(size=(120, 3)) * [1.0, 10.0, 0.1], 3)
x[rng.random(x.shape) < 0.05] = np.nan
x[::9, 2] = 0.0
z = np.nan_to_num(x)
number = z[:, 0] * 3.0 + np.abs(z[:, 1]) + (z[:, 2] > 0.0) * 5.0
two = (number > 10.0).astype(int)
three = np.searchsorted([5.0, 12.0], number)


def keep(name, raw, out, contributions):
    rows = [[None if np.isnan(v) else v for v in row] for row in x.tolist()]
    raw, out = np.asarray(raw, dtype=float), np.asarray(out, dtype=float)
    width = 1 if raw.ndim == 1 else raw.shape[1]
    scores = {
        "outputs": width,
        "x": rows,
        "raw": [v.hex() for v in raw.ravel().tolist()],
        "out": out.ravel().tolist(),
        "contributions": np.asarray(contributions, dtype=float).ravel().tolist(),
    }
    (HERE / f"{name}.scores.json").write_text(json.dumps(scores) + "\n")


names = ["a", "b", "c"]
for name, objective, y in [
    ("xgboost_number", "reg:squarederror", number),
    ("xgboost_two", "binary:logistic", two),
    ("xgboost_three", "multi:softprob", three),
]:
    data = xgboost.DMatrix(x, label=y, feature_names=names)
    given = {"objective": objective, "max_depth": 3, "tree_method": "hist", "nthread": 1, "seed": 1}
    if name == "xgboost_three":
        given["num_class"] = 3
    model = xgboost.train(given, data, num_boost_round=6)
    model.save_model(HERE / f"{name}.json")
    contributions = model.predict(data, pred_contribs=True)
    keep(name, model.predict(data, output_margin=True), model.predict(data), contributions)

for name, objective, y in [
    ("lightgbm_number", "regression", number),
    ("lightgbm_two", "binary", two),
    ("lightgbm_three", "multiclass", three),
]:
    given = {
        "objective": objective, "num_leaves": 6, "min_data_in_leaf": 5, "verbose": -1, "num_threads": 1,
        "zero_as_missing": name == "lightgbm_two", "seed": 1, "deterministic": True,
    }
    if name == "lightgbm_three":
        given["num_class"] = 3
    data = lightgbm.Dataset(x, label=y, feature_name=names)
    model = lightgbm.train(given, data, num_boost_round=6)
    model.save_model(HERE / f"{name}.txt")
    contributions = model.predict(x, pred_contrib=True)
    keep(name, model.predict(x, raw_score=True), model.predict(x), contributions)
