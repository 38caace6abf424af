#!/usr/bin/env bash
# torchvision 0.29.1, pillow 13.0.0: a 16-bit grey PNG (X-ray, depth, microscope) on its way to CLIP.
# `convert("RGB")`, with which open_clip's and OpenAI's transform begin or end, cuts at 255: every level from 255 of
# 65535 on is white. `transforms.ToTensor` reads it as signed numbers, unscaled: the brighter half is negative. Only
# v2's `ToImage` with `ToDtype(float32, scale=True)` gives the picture. None of the three warns.
# Seen: "levels 200 1000 32767 40000: convert 0.78 1.00 1.00 1.00, ToTensor 200 1000 32767 -25536, v2 0.00 0.02 0.50
# 0.61".
set -euo pipefail
work=$(mktemp -d /tmp/f.XXXX)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --no-compile torch==2.14.1 torchvision==0.29.1 pillow==13.0.0 numpy==2.4.6
cat > "$work/try.py" <<'P'
import sys
import numpy as np
import torch
from PIL import Image
from torchvision.transforms import ToTensor, v2
path = sys.argv[1] + "/grey.png"
Image.fromarray(np.array([[200, 1000, 32767, 40000]], np.uint16)).save(path)
picture = Image.open(path)
assert picture.mode == "I;16"
converted = ToTensor()(picture.convert("RGB"))[0, 0]
direct = ToTensor()(picture)[0, 0]
scaled = v2.Compose([v2.ToImage(), v2.ToDtype(torch.float32, scale=True)])(picture)[0, 0]
print("levels 200 1000 32767 40000")
for name, row, form in [("convert", converted, ".2f"), ("ToTensor", direct, "g"), ("v2", scaled, ".2f")]:
    print(name, *(f"{value:{form}}" for value in row.tolist()))
P
seen=$("$work/venv/bin/python" "$work/try.py" "$work" 2>/dev/null)
echo "$seen"
[ "$seen" = "levels 200 1000 32767 40000
convert 0.78 1.00 1.00 1.00
ToTensor 200 1000 32767 -25536
v2 0.00 0.02 0.50 0.61" ]
