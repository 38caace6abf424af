#!/usr/bin/env bash
# label-studio-sdk 2.1.2 with pycocotools 2.0.11: Label Studio's COCO export numbers its annotations from 0, and
# `COCOeval` notes the id of the matched annotation, where 0 stands for "none". The first box of every such export is
# therefore never found: predictions equal to the ground truth score AP 0.25 on two pictures. With all ids raised by
# one they score 1. Image and category ids, which the export also counts from 0, do no harm.
# Seen: "annotation ids [0, 1]: AP 0.25", then "annotation ids [1, 2]: AP 1.00".
set -euo pipefail
work=$(mktemp -d /tmp/f.XXXX)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --no-compile label-studio-sdk==2.1.2 pycocotools==2.0.11 pillow==13.0.0
cat > "$work/try.py" <<'P'
import contextlib, io, json, sys
from pathlib import Path
from label_studio_sdk.converter import Converter
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
folder = Path(sys.argv[1])
form = ('<View><Image name="image" value="$image"/><RectangleLabels name="box" toName="image"><Label value="bird"/>'
        "</RectangleLabels></View>")

def task(number):
    Image.new("RGB", (100, 100)).save(folder / f"{number}.png")
    region = {"id": "r", "from_name": "box", "to_name": "image", "type": "rectanglelabels", "original_width": 100,
              "original_height": 100,
              "value": {"x": 10, "y": 10, "width": 50, "height": 50, "rotation": 0, "rectanglelabels": ["bird"]}}
    path = str(folder / f"{number}.png")
    return {"id": number, "data": {"image": path}, "annotations": [{"id": number, "result": [region]}]}

(folder / "tasks.json").write_text(json.dumps([task(1), task(2)]))
converter = Converter(form, str(folder), download_resources=False)
converter.convert_to_coco(str(folder / "tasks.json"), str(folder / "coco"), is_dir=False)
for shift in (0, 1):
    truth = json.loads((folder / "coco" / "result.json").read_text())
    for annotation in truth["annotations"]:
        annotation["id"] += shift
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = truth
        coco.createIndex()
        found = [{k: a[k] for k in ("image_id", "category_id", "bbox")} | {"score": 0.9} for a in truth["annotations"]]
        score = COCOeval(coco, coco.loadRes(found), "bbox")
        score.evaluate(), score.accumulate(), score.summarize()
    print(f"annotation ids {[a['id'] for a in truth['annotations']]}: AP {score.stats[0]:.2f}")
P
seen=$(HOME="$work" "$work/venv/bin/python" "$work/try.py" "$work" 2>/dev/null)
echo "$seen"
[ "$seen" = "annotation ids [0, 1]: AP 0.25
annotation ids [1, 2]: AP 1.00" ]
