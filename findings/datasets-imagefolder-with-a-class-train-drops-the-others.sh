#!/usr/bin/env bash
# datasets 5.2.0: `load_dataset("imagefolder")` on class folders of which one is called "train" (the vehicle, a class
# of CIFAR-100 and COCO) takes that one for the split: only its pictures are read, the other classes are left out
# without a word, and no label column is made since one class is left. "train station" or "x_test" does the same; a
# folder "trains", which holds the word only as a part of a longer one, does not.
# Seen: "train: 2 of 6 pictures, classes None", "train station: 2 of 6 ...", "x_test: 2 of 6 ...", "trains: 6 of 6
# pictures, classes ['bus', 'car', 'trains']".
set -euo pipefail
work=$(mktemp -d /tmp/f.XXXX)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --no-compile datasets==5.2.0 pillow==13.0.0
cat > "$work/try.py" <<'P'
import sys
from pathlib import Path
from datasets import disable_progress_bars, load_dataset
from PIL import Image
disable_progress_bars()
for number, third in enumerate(("train", "train station", "x_test", "trains")):
    root = Path(sys.argv[1]) / f"pictures{number}"
    for name in ("bus", "car", third):
        (root / name).mkdir(parents=True)
        for index in range(2):
            Image.new("RGB", (8, 8), (index, 0, 0)).save(root / name / f"{index}.png")
    splits = load_dataset("imagefolder", data_dir=str(root))
    (data,) = splits.values()
    classes = data.features["label"].names if "label" in data.features else None
    print(f"{third}: {len(data)} of 6 pictures, classes {classes}")
P
seen=$(HOME="$work" HF_HOME="$work/hf" HF_HUB_OFFLINE=1 "$work/venv/bin/python" "$work/try.py" "$work" 2>/dev/null)
echo "$seen"
[ "$seen" = "train: 2 of 6 pictures, classes None
train station: 2 of 6 pictures, classes None
x_test: 2 of 6 pictures, classes None
trains: 6 of 6 pictures, classes ['bus', 'car', 'trains']" ]
