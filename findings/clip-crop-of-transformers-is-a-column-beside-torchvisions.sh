#!/usr/bin/env bash
# transformers 5.24.0 and torchvision 0.29.1: both cut the middle 224 of a picture for CLIP, but an odd margin is
# halved downwards by `CLIPImageProcessor` (also its PIL version) and rounded to the even number by `CenterCrop`,
# which open_clip and OpenAI's transform use. The two cut the same columns, except where the margin is 3, 7, 11, ...:
# there all of the picture is shifted by one pixel between training with the one and serving with the other. A check
# on a square or an even picture does not see it.
# Seen: "first column by margin 0..8: torchvision 0 0 1 2 2 2 3 4 4, transformers 0 0 1 1 2 2 3 3 4 (PIL the same)".
set -euo pipefail
work=$(mktemp -d /tmp/f.XXXX)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --no-compile \
  torch==2.14.1 torchvision==0.29.1 transformers==5.24.0 pillow==13.0.0 numpy==2.4.6
cat > "$work/try.py" <<'P'
import numpy as np
from PIL import Image
from torchvision.transforms import CenterCrop
from transformers import CLIPImageProcessor, CLIPImageProcessorPil
raw = {"do_resize": True, "do_rescale": False, "do_normalize": False, "return_tensors": "np"}

def first_columns(margin):
    ramp = np.broadcast_to(np.arange(224 + margin, dtype=np.uint8)[None, :, None], (224, 224 + margin, 3))
    picture = Image.fromarray(np.ascontiguousarray(ramp))           # every pixel's level is its column
    processed = [make()(picture, **raw)["pixel_values"][0] for make in (CLIPImageProcessor, CLIPImageProcessorPil)]
    return int(np.asarray(CenterCrop(224)(picture))[0, 0, 0]), *(int(array[0, 0, 0]) for array in processed)

torchvision, transformers, pil = (" ".join(map(str, row)) for row in zip(*map(first_columns, range(9))))
print(f"first column by margin 0..8:\ntorchvision {torchvision}")
print(f"transformers {transformers} (PIL {'the same' if pil == transformers else pil})")
P
seen=$(HOME="$work" HF_HUB_OFFLINE=1 "$work/venv/bin/python" "$work/try.py" 2>/dev/null)
echo "$seen"
[ "$seen" = "first column by margin 0..8:
torchvision 0 0 1 2 2 2 3 4 4
transformers 0 0 1 1 2 2 3 3 4 (PIL the same)" ]
