#!/usr/bin/env bash
# PEFT 0.21.2 on open_clip 3.3.0: `LoraConfig(target_modules=["out_proj"])` wraps the attention's output projection
# and counts it as trainable, but `nn.MultiheadAttention` reads that layer's weight and never calls it: the adapter
# changes nothing and gets no gradient. `merge_and_unload` then adds the product to the weight, and only the merged
# model differs. "all-linear" includes the same dead adapters beside working ones, so its training runs and its merged
# model disagrees with what was evaluated if those hold anything (a published adapter, or an initialisation other than
# the default). With `target_modules=["attn"]`, PEFT's own wrapper for the whole module, both are as they should be.
# Seen: "out_proj: acts False, gradients 0 of 4, merging changes the output True", "all-linear: acts True, gradients 8
# of 12, merging changes the output True", "attn: acts True, gradients 8 of 8, merging changes the output False".
set -euo pipefail
work=$(mktemp -d /tmp/f.XXXX)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --no-compile torch==2.14.1 torchvision==0.29.1 open_clip_torch==3.3.0 peft==0.21.2
cat > "$work/try.py" <<'P'
import copy
import torch
from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg
from peft import LoraConfig, get_peft_model
torch.manual_seed(0)
image = CLIPVisionCfg(layers=2, width=64, head_width=32, patch_size=8, image_size=32)
clip = CLIP(16, image, CLIPTextCfg(context_length=12, vocab_size=100, width=32, heads=2, layers=2)).eval()
pictures = torch.randn(2, 3, 32, 32)
before = clip.encode_image(pictures)
for targets in (["out_proj"], "all-linear", ["attn"]):
    model = get_peft_model(copy.deepcopy(clip), LoraConfig(target_modules=targets, init_lora_weights=False))
    adapted = model.base_model.model.encode_image(pictures)
    if adapted.requires_grad:
        adapted.square().sum().backward()
    factors = [value for name, value in model.named_parameters() if "lora_" in name and "visual" in name]
    with_gradient = sum(value.grad is not None for value in factors)
    merged = model.merge_and_unload().encode_image(pictures)
    print(f"{targets if isinstance(targets, str) else targets[0]}: acts {not torch.allclose(adapted, before)}, "
          f"gradients {with_gradient} of {len(factors)}, "
          f"merging changes the output {not torch.allclose(merged, adapted, atol=1e-4)}")
P
seen=$(HOME="$work" HF_HUB_OFFLINE=1 "$work/venv/bin/python" "$work/try.py" 2>/dev/null)
echo "$seen"
[ "$seen" = "out_proj: acts False, gradients 0 of 4, merging changes the output True
all-linear: acts True, gradients 8 of 12, merging changes the output True
attn: acts True, gradients 8 of 8, merging changes the output False" ]
