#!/usr/bin/env bash
# datasets 5.2.0: `Dataset.to_parquet` of a folder's pictures (`load_dataset("imagefolder")`) writes the absolute paths of
# this machine and no picture: a file that works here and, once it is copied or the folder is gone, holds nothing but
# names. `push_to_hub` puts the bytes in, and so does drawing on the pictures (`map`); nothing says which a file is.
# Seen: "bytes: None, absolute path: True, smaller: True" (3 KiB for 300 KiB of pictures); once the folder is gone:
# "FileNotFoundError".
set -euo pipefail
work=$(mktemp -d /tmp/f.XXXX)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --no-compile datasets==5.2.0 pillow==13.0.0
cat > "$work/try.py" <<'P2'
import os
import shutil
import sys
from pathlib import Path
from datasets import disable_progress_bars, load_dataset
from PIL import Image
import pyarrow.parquet
disable_progress_bars()
root = Path(sys.argv[1]) / "pictures"
total = 0
for name in ("bus", "car"):
    (root / name).mkdir(parents=True)
    for index in range(2):
        file = root / name / f"{index}.png"
        Image.frombytes("RGB", (160, 160), os.urandom(3 * 160 * 160)).save(file)
        total += file.stat().st_size
written = root.parent / "pictures.parquet"
load_dataset("imagefolder", data_dir=str(root), split="train").to_parquet(str(written))
first = pyarrow.parquet.read_table(written).to_pylist()[0]["image"]
print(f"bytes: {first['bytes']}, absolute path: {os.path.isabs(first['path'])}, smaller: {written.stat().st_size < total / 20}")
shutil.rmtree(root)
try:
    print(load_dataset("parquet", data_files=str(written), split="train")[0]["image"].size)
except FileNotFoundError as error:
    print(type(error).__name__)
P2
seen=$(HOME="$work" HF_HOME="$work/hf" HF_HUB_OFFLINE=1 "$work/venv/bin/python" "$work/try.py" "$work" 2>/dev/null)
echo "$seen"
[ "$seen" = "bytes: None, absolute path: True, smaller: True
FileNotFoundError" ]
