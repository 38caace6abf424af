#!/usr/bin/env bash
# scikit-learn 1.9.1: `LogisticRegression` on unit vectors, under the weak penalties among which probes of CLIP search C
# (up to 1e6), returns far above the minimum of its objective and gives no ConvergenceWarning: `tol`, 1e-4, bounds the
# gradient of the mean loss, which is small everywhere once all images are right. At C = 1 and 100 the same tolerance is
# as good as the minimum. `newton-cg` is no remedy by itself; a `tol` of 1e-10 is. So a search over C compares
# classifiers that were stopped early, and a faster solver must be compared by objective as well as by time.
# Seen, usual tolerance over 1e-10: lbfgs 1.00, 1.00, 1.24, 3.07 times the minimum at C = 1, 100, 1e4, 1e6; newton-cg
# 1.00, 1.00, 1.00, 3.86; no warnings.
set -euo pipefail
work=$(mktemp -d /tmp/f.XXXX)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --no-compile scikit-learn==1.9.1
cat > "$work/try.py" <<'P'
import warnings

import numpy as np
from sklearn.linear_model import LogisticRegression
draw = np.random.default_rng(0)
images, width, classes = 600, 64, 10
y = np.arange(images) % classes
centres = draw.normal(size=(classes, width))
around = 0.3 * (centres[y] + 2 * draw.normal(size=(images, width))) / np.arange(1, width + 1)
x = np.ones(width) / width**0.5 + around
x /= np.linalg.norm(x, axis=1, keepdims=True)

def objective(c, **options):
    """C Σ loss + ½ ‖W‖²."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = LogisticRegression(C=c, max_iter=100_000, **options).fit(x, y)
    z = model.decision_function(x)
    loss = np.logaddexp.reduce(z, axis=1) - z[np.arange(images), y]
    return c * loss.sum() + np.linalg.norm(model.coef_) ** 2 / 2

for c in (1, 100, 1e4, 1e6):
    least = objective(c, solver="newton-cg", tol=1e-10)
    usual = {solver: objective(c, solver=solver) / least for solver in ("lbfgs", "newton-cg")}
    print(f"C = {c:g}: no warning; " + ", ".join(f"{solver} {ratio:.2f} times" for solver, ratio in usual.items()))
    assert all(ratio < 1.005 for ratio in usual.values()) if c <= 100 else usual["lbfgs"] > 1.1
    assert c < 1e6 or min(usual.values()) > 2
P
"$work/venv/bin/python" "$work/try.py"
