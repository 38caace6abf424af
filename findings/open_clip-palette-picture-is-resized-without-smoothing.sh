#!/usr/bin/env bash
# open_clip 3.3.0 (like OpenAI's transform and torchvision's `Resize`): a picture is turned to RGB after it was
# resized. Pillow resizes a palette picture (GIF, many small PNG) by the nearest pixel whatever was asked, so
# "bicubic, antialias" holds for the same pixels saved as RGB and not for them saved with a palette: fine stripes of
# black and white turn all white (or all black) instead of grey. transformers turns to RGB first, and gives the grey
# for both.
# Seen: "open_clip: as RGB 128..128, as palette 255..255", "transformers: as RGB 128..128, as palette 128..128".
set -euo pipefail
work=$(mktemp -d /tmp/f.XXXX)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --no-compile \
  torch==2.14.1 torchvision==0.29.1 open_clip_torch==3.3.0 transformers==5.24.0 pillow==13.0.0
cat > "$work/try.py" <<'P'
import numpy as np
from open_clip import image_transform
from PIL import Image
from transformers import CLIPImageProcessor
processor, transform = CLIPImageProcessor(), image_transform(224, is_train=False)
mean, deviation = processor.image_mean[0], processor.image_std[0]
stripes = np.zeros((896, 896, 3), np.uint8)
stripes[:, ::2] = 255                                       # one pixel wide; a fourth of the size is grey
rgb = Image.fromarray(stripes)
palette = rgb.quantize(2)
assert np.array_equal(np.asarray(palette.convert("RGB")), stripes)

def levels(pixels):
    inner = (np.asarray(pixels)[0, 50:-50, 50:-50] * deviation + mean) * 255
    return f"{round(inner.min())}..{round(inner.max())}"

print(f"open_clip: as RGB {levels(transform(rgb))}, as palette {levels(transform(palette))}")
other = [levels(processor(picture, return_tensors="np")["pixel_values"][0]) for picture in (rgb, palette)]
print(f"transformers: as RGB {other[0]}, as palette {other[1]}")
P
seen=$(HOME="$work" HF_HUB_OFFLINE=1 "$work/venv/bin/python" "$work/try.py" 2>/dev/null)
echo "$seen"
[ "$seen" = "open_clip: as RGB 128..128, as palette 255..255
transformers: as RGB 128..128, as palette 128..128" ]
