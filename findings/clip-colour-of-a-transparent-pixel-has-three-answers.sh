#!/usr/bin/env bash
# transformers 5.24.0, open_clip 3.3.0: what a fully transparent pixel of an RGBA picture becomes for CLIP depends on
# the reader. transformers lays the picture on white. open_clip drops the alpha after resizing, and Pillow's resize
# blackens what is invisible: black. Where the picture has the size of the model already, nothing is resized and the
# hidden colour comes forth. The background of one cut-out is thus white, black or anything, for the same weights.
# Seen: "300 pixels: transformers 255 255 255, open_clip 0 0 0" and "224 pixels: transformers 255 255 255, open_clip
# 200 30 10".
set -euo pipefail
work=$(mktemp -d /tmp/f.XXXX)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --no-compile \
  torch==2.14.1 torchvision==0.29.1 transformers==5.24.0 open_clip_torch==3.3.0 pillow==13.0.0
cat > "$work/try.py" <<'P'
import numpy as np
from open_clip import image_transform
from PIL import Image
from transformers import CLIPImageProcessor
processor, transform = CLIPImageProcessor(), image_transform(224, is_train=False)
mean, deviation = np.array(processor.image_mean), np.array(processor.image_std)

def middle(pixels):
    levels = (np.asarray(pixels)[:, 112, 112] * deviation + mean) * 255
    return " ".join(str(round(level)) for level in levels)

for size in (300, 224):
    picture = Image.new("RGBA", (size, size), (200, 30, 10, 0))
    other = middle(processor(picture, return_tensors="np")["pixel_values"][0])
    print(f"{size} pixels: transformers {other}, open_clip {middle(transform(picture))}")
P
seen=$(HOME="$work" HF_HUB_OFFLINE=1 "$work/venv/bin/python" "$work/try.py" 2>/dev/null)
echo "$seen"
[ "$seen" = "300 pixels: transformers 255 255 255, open_clip 0 0 0
224 pixels: transformers 255 255 255, open_clip 200 30 10" ]
