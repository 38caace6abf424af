#!/usr/bin/env bash
# open_clip 3.3.0: `create_model_and_transforms("ViT-B-16-SigLIP", pretrained=...)` chooses the transform by the tag,
# not by the model: with the tag "webli" it squashes to 224 by 224 and normalises by 0.5; with the path of a file that
# holds those very weights it crops, and normalises by OpenAI's mean and deviation. Nothing warns, the model's own
# `visual.preprocess_cfg` says the same wrong thing. Whoever keeps weights as local files must pass `image_mean`,
# `image_std` and `image_resize_mode`. (No weights are fetched here.)
# Seen: "tag webli: squash, mean 0.5", "file: shortest, mean 0.48145466, crops True", "file and three options: squash,
# mean 0.5, crops False".
set -euo pipefail
work=$(mktemp -d /tmp/f.XXXX)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --no-compile torch==2.14.1 torchvision==0.29.1 open_clip_torch==3.3.0
cat > "$work/try.py" <<'P'
import sys
import open_clip
import torch
name, path = "ViT-B-16-SigLIP", sys.argv[1] + "/weights.pt"
tag = open_clip.get_pretrained_cfg(name, "webli")
print(f"tag webli: {tag['resize_mode']}, mean {tag['mean'][0]}")
model = open_clip.create_model(name).half()
torch.save(model.state_dict(), path)
half = (0.5, 0.5, 0.5)
for what, options in [
    ("file", {}), ("file and three options", {"image_mean": half, "image_std": half, "image_resize_mode": "squash"})
]:
    model, _, transform = open_clip.create_model_and_transforms(name, pretrained=path, **options)
    own = model.visual.preprocess_cfg
    crops = any(type(step).__name__ == "CenterCrop" for step in transform.transforms)
    assert transform.transforms[-1].mean == own["mean"]
    print(f"{what}: {own['resize_mode']}, mean {own['mean'][0]}, crops {crops}")
P
seen=$(HOME="$work" HF_HUB_OFFLINE=1 "$work/venv/bin/python" "$work/try.py" "$work" 2>/dev/null)
echo "$seen"
[ "$seen" = "tag webli: squash, mean 0.5
file: shortest, mean 0.48145466, crops True
file and three options: squash, mean 0.5, crops False" ]
