#!/usr/bin/env bash
# safetensors 0.8.0: the same tensors saved twice give the same bytes, until a dictionary of metadata comes along: its
# entries are written in an order that changes from call to call, also within one process. A hash of the file, used to
# tell whether a checkpoint changed or as its address, then differs for equal content. Tensors keep a fixed order.
# Seen: "without metadata: 1 file(s)", "one entry: 1 file(s)", "six entries: more than 1 file".
set -euo pipefail
work=$(mktemp -d /tmp/f.XXXX)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --no-compile safetensors==0.8.0 numpy==2.4.6
cat > "$work/try.py" <<'P'
import hashlib
import numpy as np
from safetensors.numpy import load, save
tensors = {"context": np.ones((4, 8), np.float32), "scale": np.ones(1, np.float32), "bias": np.ones(3, np.float32)}
entries = dict.fromkeys(["method", "backbone", "seed", "shots", "epoch", "rank"], "1")
for name, metadata in [("without metadata", None), ("one entry", {"method": "1"}), ("six entries", entries)]:
    files = [save(tensors, metadata=metadata) for _ in range(20)]
    assert all(np.array_equal(load(file)[key], value) for file in files for key, value in tensors.items())
    different = len({hashlib.sha256(file).hexdigest() for file in files})
    print(f"{name}: {'more than 1 file' if different > 1 else '1 file(s)'}")
P
seen=$("$work/venv/bin/python" "$work/try.py")
echo "$seen"
[ "$seen" = "without metadata: 1 file(s)
one entry: 1 file(s)
six entries: more than 1 file" ]
