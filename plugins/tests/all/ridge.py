"""Makes ridge.json: ridge regression behind a standard scaler, by scikit-learn.

python3 ridge.py > ridge.json
"""

import json

import numpy as np
from sklearn.linear_model import Ridge
from sklearn.preprocessing import StandardScaler

rng = np.random.default_rng(5)
x = rng.normal(size=(40, 3)) * [1.0, 10.0, 0.1] + [0.0, 50.0, -3.0]
y = x @ [2.0, -0.5, 30.0] + 7.0 + rng.normal(size=40)
scaler = StandardScaler().fit(x)
model = Ridge(alpha=2.5).fit(scaler.transform(x), y)
coefficients = model.coef_ / scaler.scale_
print(
    json.dumps(
        {
            "alpha": 2.5,
            "x": x.ravel().tolist(),
            "y": y.tolist(),
            "coefficients": coefficients.tolist(),
            "intercept": float(model.intercept_ - coefficients @ scaler.mean_),
        },
        indent=1,
    )
)
