#!/usr/bin/env bash
# Pillow 13.0.0: `Image.open(file, formats=[...])` with "MPO" in the list, to keep other parsers away from strangers'
# bytes. MPO is the format that `image.format` says of many phones' photographs, so it belongs into a list of formats that
# are accepted, but it has no parser of its own: the JPEG one finds it. The list that names it fails with KeyError: 'MPO',
# on any file that no format before it in the list took. "JPEG" alone opens
# MPO files and says format MPO.
# Seen: "png, formats JPEG MPO PNG: KeyError 'MPO'", "jpeg, formats JPEG MPO PNG: JPEG", "mpo, formats JPEG: MPO".
set -euo pipefail
work=$(mktemp -d /tmp/f.XXXX)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --no-compile pillow==13.0.0
cat > "$work/try.py" <<'P'
import io
from PIL import Image

def bytes_of(kind, **more):
    out = io.BytesIO()
    Image.new("RGB", (8, 8)).save(out, kind, **more)
    return out.getvalue()

def opened(what, content, *formats):
    try:
        said = Image.open(io.BytesIO(content), formats=list(formats)).format
    except Exception as error:
        said = f"{type(error).__name__} {error}"
    print(f"{what}, formats {' '.join(formats)}: {said}")

opened("png", bytes_of("PNG"), "JPEG", "MPO", "PNG")
opened("jpeg", bytes_of("JPEG"), "JPEG", "MPO", "PNG")
opened("mpo", bytes_of("MPO", save_all=True, append_images=[Image.new("RGB", (8, 8))]), "JPEG")
P
seen=$("$work/venv/bin/python" "$work/try.py")
echo "$seen"
[ "$seen" = "png, formats JPEG MPO PNG: KeyError 'MPO'
jpeg, formats JPEG MPO PNG: JPEG
mpo, formats JPEG: MPO" ]
