#!/usr/bin/env bash
# scikit-learn 1.9.1: `top_k_accuracy_score(k=1)` is not the accuracy of the argmax. Among equal scores it credits the
# class with the highest number, `argmax` the one with the lowest. CLIP logits near 25 in half precision move in steps
# of 1/64 and tie often: a model asked about its own argmax answers is then "wrong" on a fair share of them.
# Seen: "all equal: argmax names class 0, top-1 class 3", then "own answers, half precision: accuracy 100%, top-1
# 70%".
set -euo pipefail
work=$(mktemp -d /tmp/f.XXXX)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --no-compile scikit-learn==1.9.1
cat > "$work/try.py" <<'P'
import numpy as np
from sklearn.metrics import accuracy_score, top_k_accuracy_score
equal = np.zeros((1, 4))
top = next(label for label in range(4) if top_k_accuracy_score([label], equal, k=1, labels=range(4)) == 1)
print(f"all equal: argmax names class {equal.argmax(1)[0]}, top-1 class {top}")
noise = np.random.default_rng(0).normal(size=(2000, 50))
logits = (25 + 0.05 * noise).astype(np.float16).astype(np.float64)
answers = logits.argmax(1)
first, second = accuracy_score(answers, answers), top_k_accuracy_score(answers, logits, k=1, labels=range(50))
print(f"own answers, half precision: accuracy {first:.0%}, top-1 {second:.0%}")
P
seen=$("$work/venv/bin/python" "$work/try.py")
echo "$seen"
[ "$seen" = "all equal: argmax names class 0, top-1 class 3
own answers, half precision: accuracy 100%, top-1 70%" ]
