"""What scikit-learn, SciPy and NumPy say of the families that are not trees: python3 families.py > families.json

Made with Python 3.11, scikit-learn 1.9.1, SciPy 1.17.1, NumPy 2.4.6.
"""

import json
import numpy as np
from scipy import stats
from sklearn.decomposition import PCA
from sklearn.linear_model import ElasticNet, Lasso, LogisticRegression
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

random = np.random.default_rng(7)
n = 120
base = random.normal(size=(n, 3))
x = np.column_stack([base[:, 0] * 3 + 5, base[:, 0] * 0.7 + base[:, 1], base[:, 2] * 20 - 4, random.normal(size=n)])
y = 2 * base[:, 0] - base[:, 1] + 0.3 * random.normal(size=n) + 1
two = (y > 1).astype(int)
three = np.digitize(y, [0, 2])
test = random.normal(size=(30, 4)) * [3, 1, 20, 1] + [5, 0, -4, 0]


def raw(model):
    """Coefficients and intercept for features that are not scaled."""
    scaler, fitted = model[0], model[-1]
    coefficients = np.atleast_2d(fitted.coef_) / scaler.scale_
    return {
        "coefficients": coefficients.ravel().tolist(),
        "intercepts": (np.atleast_1d(fitted.intercept_) - coefficients @ scaler.mean_).tolist(),
    }


out = {"rows": n, "x": x.ravel().tolist(), "y": y.tolist(), "two": two.tolist(), "three": three.tolist(), "test": test.ravel().tolist()}
out["lasso"] = raw(make_pipeline(StandardScaler(), Lasso(alpha=0.2, tol=1e-14, max_iter=10**6)).fit(x, y))
out["elastic_net"] = raw(make_pipeline(StandardScaler(), ElasticNet(alpha=0.3, l1_ratio=0.4, tol=1e-14, max_iter=10**6)).fit(x, y))
for name, target in [("two", two), ("three", three)]:
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.7, tol=1e-12, max_iter=10**5, solver="newton-cholesky")).fit(x, target)
    out["logistic_" + name] = model.predict_proba(test).ravel().tolist()
for weights in ["uniform", "distance"]:
    model = make_pipeline(StandardScaler(), KNeighborsRegressor(7, weights=weights, algorithm="kd_tree")).fit(x, y)
    # Rows of the training are met at no distance, which `brute` finds by rounding only.
    out["knn_" + weights] = model.predict(np.vstack([test, x[:5]])).tolist()
    model = make_pipeline(StandardScaler(), KNeighborsClassifier(7, weights=weights, algorithm="kd_tree")).fit(x, three)
    out["knn_classes_" + weights] = model.predict_proba(np.vstack([test, x[:5]])).ravel().tolist()

scaler = StandardScaler().fit(x)
z = scaler.transform(x)
pca = PCA(n_components=2).fit(z)


def distances(rows):
    z = scaler.transform(rows)
    t = z @ pca.components_.T
    rest = z - t @ pca.components_
    # What each variable adds to T2 and to Q (Nomikos 1996).
    t2_by = z * ((t / pca.explained_variance_) @ pca.components_)
    return (t**2 / pca.explained_variance_).sum(axis=1), (rest**2).sum(axis=1), t2_by, rest**2


t2, q, _, _ = distances(x)
limits = [np.quantile(t2, 0.95), np.quantile(q, 0.95)]
t2, q, t2_by, q_by = distances(test)
out["pca"] = {"limits": limits, "t2": t2.tolist(), "q": q.tolist(), "anomaly": np.maximum(t2 / limits[0], q / limits[1]).tolist()}
out["pca"] |= {"t2_by": t2_by.ravel().tolist(), "q_by": q_by.ravel().tolist()}

# A fleet whose health index drifts: machines of different drift, steps of different length.
machines, health, age = [], [], []
for machine in range(40):
    drift = random.normal(1.0, 0.2)
    at, level = 0.0, random.normal(0, 0.1)
    for _ in range(int(random.integers(20, 60))):
        machines.append(machine)
        health.append(level)
        age.append(at)
        dt = float(random.choice([0.5, 1.0, 2.0]))
        level += random.normal(drift * dt, 0.6 * np.sqrt(dt))
        at += dt
machines, health, age = np.array(machines), np.array(health), np.array(age)
drifts, squares, steps, ages = [], 0.0, 0, []
for machine in range(40):
    own = machines == machine
    dh, dt = np.diff(health[own]), np.diff(age[own])
    drifts.append(dh.sum() / dt.sum())
    squares += (dh**2 / dt).sum() - dh.sum() ** 2 / dt.sum()
    steps += len(dh)
    ages.append(dt.sum())
diffusion = squares / (steps - 40)
variance = np.var(drifts, ddof=1) - np.mean(diffusion / np.array(ages))
out["degradation"] = {
    "machines": machines.tolist(), "health": health.tolist(), "age": age.tolist(),
    "drift": float(np.mean(drifts)), "drift_variance": float(variance), "diffusion": float(diffusion),
}
# The first passage with a drift that is not known: a mixture of inverse Gaussians, by quadrature over the drift.
way, m, v, s2 = 8.0, 1.2, 0.01, 0.4
nodes = m + np.sqrt(v) * np.linspace(-8, 8, 4001)
weights = stats.norm.pdf(nodes, m, np.sqrt(v))
weights /= weights.sum()


def passed(t):
    return float((weights * stats.invgauss(mu=s2 / (nodes * way), scale=way**2 / s2).cdf(t)).sum())


def quantile(q):
    low, high = 0.0, 1000.0
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if passed(middle) < q else (low, middle)
    return high


out["passage"] = {"way": way, "drift": m, "variance": v, "diffusion": s2, "q": [0.5, 0.1, 0.9], "t": [quantile(q) for q in (0.5, 0.1, 0.9)]}
print(json.dumps(out))
