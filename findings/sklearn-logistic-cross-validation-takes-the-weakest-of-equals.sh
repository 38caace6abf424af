#!/usr/bin/env bash
# scikit-learn 1.9.1: `LogisticRegressionCV` on few-shot unit vectors that every C separates. All ten values of C tie
# at accuracy 1, and the tie goes to the first, C = 0.0001: the model ranks the classes rightly, yet gives each 0.25
# of four, so no confidence of it can be used. Scored by the log loss the same folds choose the other end, C = 10000.
# Seen: "accuracy: C 0.0001, right 100%, top probability 0.25", "neg_log_loss: C 10000, right 100%, top probability
# 1.00".
set -euo pipefail
work=$(mktemp -d /tmp/f.XXXX)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --no-compile scikit-learn==1.9.1
cat > "$work/try.py" <<'P'
import numpy as np
from sklearn.linear_model import LogisticRegressionCV
draw = np.random.default_rng(0)
classes, shots, width = 4, 16, 32
y = np.repeat(np.arange(classes), shots)
x = np.eye(width)[y] + 0.05 * draw.normal(size=(len(y), width))
x /= np.linalg.norm(x, axis=1, keepdims=True)
for scoring in ("accuracy", "neg_log_loss"):
    model = LogisticRegressionCV(cv=4, scoring=scoring, max_iter=1000, use_legacy_attributes=False).fit(x, y)
    probability = model.predict_proba(x)
    right = (probability.argmax(1) == y).mean()
    print(f"{scoring}: C {model.C_:g}, right {right:.0%}, top probability {probability.max(1).mean():.2f}")
P
seen=$("$work/venv/bin/python" -W ignore "$work/try.py")
echo "$seen"
[ "$seen" = "accuracy: C 0.0001, right 100%, top probability 0.25
neg_log_loss: C 10000, right 100%, top probability 1.00" ]
