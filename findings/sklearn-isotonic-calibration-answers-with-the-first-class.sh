#!/usr/bin/env bash
# scikit-learn 1.9.1: `CalibratedClassifierCV(method="isotonic")` on few shots. One curve per class, each fitted on a
# handful of pictures, is flat 0 below its first positive; a picture below it in all classes has only zeros, and these
# are replaced by equal probabilities: `predict` then names the first class, whatever the model behind it thought. Its
# accuracy on those pictures falls to a third. `method="temperature"` has no such rows.
# Seen: "isotonic: 118 of 2000 pictures with equal probabilities, named [0], right 19%, uncalibrated 58%",
# "temperature: 0 ...".
set -euo pipefail
work=$(mktemp -d /tmp/f.XXXX)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --no-compile scikit-learn==1.9.1
cat > "$work/try.py" <<'P'
import numpy as np
from sklearn.calibration import CalibratedClassifierCV
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
draw = np.random.default_rng(0)
classes, width = 10, 32
means = draw.normal(size=(classes, width))

def pictures(shots):
    y = np.repeat(np.arange(classes), shots)
    x = means[y] + 1.5 * draw.normal(size=(len(y), width))
    return x / np.linalg.norm(x, axis=1, keepdims=True), y

model = LogisticRegression().fit(*pictures(8))
held_out, (x, y) = pictures(8), pictures(200)
for method in ("isotonic", "temperature"):
    calibrated = CalibratedClassifierCV(FrozenEstimator(model), method=method).fit(*held_out)
    equal = np.isclose(calibrated.predict_proba(x), 1 / classes).all(1)
    line = f"{method}: {equal.sum()} of {len(y)} pictures with equal probabilities"
    if equal.any():
        named, before = calibrated.predict(x[equal]), model.predict(x[equal])
        right, right_before = (named == y[equal]).mean(), (before == y[equal]).mean()
        line += f", named {np.unique(named)}, right {right:.0%}, uncalibrated {right_before:.0%}"
    print(line)
P
seen=$("$work/venv/bin/python" "$work/try.py")
echo "$seen"
[ "$seen" = "isotonic: 118 of 2000 pictures with equal probabilities, named [0], right 19%, uncalibrated 58%
temperature: 0 of 2000 pictures with equal probabilities" ]
