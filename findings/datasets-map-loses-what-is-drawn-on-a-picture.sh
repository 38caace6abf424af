#!/usr/bin/env bash
# datasets 5.2.0: `Dataset.map` with a function that draws on the row's picture in place (a red circle as a visual
# prompt) keeps nothing of it when the picture came from a file. The function sees its own drawing, `map` reports no
# trouble, and the new data set reads the untouched file: a picture that still carries a file name is stored as that
# name, not as its pixels. The same edit of a copy is kept, and so is one of a picture that was stored as bytes.
# Seen: "in place: inside map (0, 0, 255), afterwards (255, 0, 0)", "a copy: ... afterwards (0, 0, 255)", "in place,
# stored as bytes: ... afterwards (0, 0, 255)".
set -euo pipefail
work=$(mktemp -d /tmp/f.XXXX)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --no-compile datasets==5.2.0 pillow==13.0.0
cat > "$work/try.py" <<'P'
import sys
from datasets import Dataset, Image, disable_progress_bars
from PIL import Image as PictureFile
from PIL import ImageDraw
disable_progress_bars()
path = sys.argv[1] + "/red.png"
red = PictureFile.new("RGB", (32, 32), (255, 0, 0))
red.save(path)
from_file = Dataset.from_dict({"image": [path]}).cast_column("image", Image())
as_bytes = Dataset.from_dict({"image": [red]})

def draw(row, copied=False):
    picture = row["image"].copy() if copied else row["image"]
    ImageDraw.Draw(picture).rectangle((0, 0, 31, 31), fill=(0, 0, 255))
    return {"image": picture, "inside": str(picture.getpixel((5, 5)))}

for name, data, options in [
    ("in place", from_file, {}), ("a copy", from_file, {"copied": True}), ("in place, stored as bytes", as_bytes, {})
]:
    row = data.map(draw, fn_kwargs=options)[0]
    print(f"{name}: inside map {row['inside']}, afterwards {row['image'].getpixel((5, 5))}")
P
seen=$(HOME="$work" HF_HOME="$work/hf" HF_HUB_OFFLINE=1 "$work/venv/bin/python" "$work/try.py" "$work" 2>/dev/null)
echo "$seen"
[ "$seen" = "in place: inside map (0, 0, 255), afterwards (255, 0, 0)
a copy: inside map (0, 0, 255), afterwards (0, 0, 255)
in place, stored as bytes: inside map (0, 0, 255), afterwards (0, 0, 255)" ]
