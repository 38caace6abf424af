#!/usr/bin/env bash
# transformers 5.24.0: a forward hook on a layer of CLIP's encoder that takes `output[0]`, as hooks for activations
# and Grad-CAM do since layers returned tuples, gets the tokens of the first picture of the batch: the layer now
# returns the tensor itself. With a batch of one, or an average over what came, nothing fails. The attention inside
# the layer still returns a tuple, so the same habit is right one level below.
# Seen: "layer: Tensor, output[0] (17, 32) of a batch of 3", "its attention: tuple, output[0] (3, 17, 32)".
set -euo pipefail
work=$(mktemp -d /tmp/f.XXXX)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --no-compile torch==2.14.1 transformers==5.24.0 numpy==2.4.6
cat > "$work/try.py" <<'P'
import torch
from transformers import CLIPVisionConfig, CLIPVisionModel
sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
model = CLIPVisionModel(CLIPVisionConfig(**sizes, image_size=32, patch_size=8)).eval()
layer = next(module for module in model.modules() if type(module).__name__ == "CLIPEncoderLayer")
seen = {}
layer.register_forward_hook(lambda module, inputs, output: seen.update({"layer": output}))
layer.self_attn.register_forward_hook(lambda module, inputs, output: seen.update({"its attention": output}))
with torch.no_grad():
    model(torch.randn(3, 3, 32, 32))
for name in ("layer", "its attention"):
    print(f"{name}: {type(seen[name]).__name__}, output[0] {tuple(seen[name][0].shape)} of a batch of 3")
P
seen=$(HOME="$work" HF_HUB_OFFLINE=1 "$work/venv/bin/python" "$work/try.py" 2>/dev/null)
echo "$seen"
[ "$seen" = "layer: Tensor, output[0] (17, 32) of a batch of 3
its attention: tuple, output[0] (3, 17, 32) of a batch of 3" ]
