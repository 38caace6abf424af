#!/usr/bin/env bash
# pillow-jxl-plugin 1.3.8, pillow 13.0.0: Pillow refuses pictures with very many pixels when they are opened, which for
# its own formats is before anything is decoded. The plug-in decodes the whole picture while it is opened, so the
# refusal comes when the memory is taken: a file of 37 KiB takes half a GiB. A limit of one's own that reads
# `image.size` is as late. The size stands in the file's first bytes and can be read without the plug-in.
# Seen: "PNG: refused after less than 100 MiB", "JXL: refused after more than 400 MiB".
set -euo pipefail
work=$(mktemp -d /tmp/f.XXXX)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --no-compile pillow==13.0.0 pillow-jxl-plugin==1.3.8
cat > "$work/make.py" <<'P'
import sys
from PIL import Image
import pillow_jxl
for kind in ("png", "jxl"):
    Image.new("RGB", (14000, 14000)).save(f"{sys.argv[1]}/large.{kind}")
P
cat > "$work/try.py" <<'P'
import resource, sys
from PIL import Image
import pillow_jxl
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
before, what = peak(), "opened"
try:
    Image.open(sys.argv[1])
except Image.DecompressionBombError:
    what = "refused"
taken = peak() - before
told = "more than 400" if taken > 400 else "less than 100" if taken < 100 else f"{taken:.0f}"
print(f"{sys.argv[1][-3:].upper()}: {what} after {told} MiB")
P
"$work/venv/bin/python" "$work/make.py" "$work"
stat --format='%s bytes' "$work"/large.*
seen=$(for kind in png jxl; do "$work/venv/bin/python" "$work/try.py" "$work/large.$kind"; done)
echo "$seen"
[ "$seen" = "PNG: refused after less than 100 MiB
JXL: refused after more than 400 MiB" ]
