#!/usr/bin/env bash
# torch 2.14.1, on a CPU: `F.normalize` promises not to divide by zero by its `eps` of 1e-12. In float16, CLIP's usual
# precision, that number rounds to 0 and a zero vector (a masked-out view, an empty prompt) becomes NaN; in float32
# and bfloat16 it stays 0. `F.cosine_similarity` with its 1e-8 falls the same way. An eps of 1e-7 is kept by float16.
# Seen: "float32: normalize 0, cosine 0", "bfloat16: normalize 0, cosine 0", "float16: normalize nan, cosine nan",
# "float16, eps 1e-7: normalize 0, cosine 0".
set -euo pipefail
work=$(mktemp -d /tmp/f.XXXX)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --no-compile torch==2.14.1 numpy==2.4.6
cat > "$work/try.py" <<'P'
import torch
import torch.nn.functional as F
for name, options in [("float32", {}), ("bfloat16", {}), ("float16", {}), ("float16", {"eps": 1e-7})]:
    zero, one = torch.zeros(1, 512, dtype=getattr(torch, name)), torch.ones(1, 512, dtype=getattr(torch, name))
    unit, cosine = F.normalize(zero, dim=-1, **options)[0, 0].item(), F.cosine_similarity(zero, one, **options).item()
    print(f"{name}{', eps 1e-7' if options else ''}: normalize {unit:g}, cosine {cosine:g}")
P
seen=$("$work/venv/bin/python" "$work/try.py" 2>/dev/null)
echo "$seen"
[ "$seen" = "float32: normalize 0, cosine 0
bfloat16: normalize 0, cosine 0
float16: normalize nan, cosine nan
float16, eps 1e-7: normalize 0, cosine 0" ]
