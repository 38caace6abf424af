#!/usr/bin/env bash
# transformers 5.24.0: `CLIPModel.from_pretrained` without a dtype loads what the file holds (version 4 made it
# float32). A CLIP saved in bfloat16 thus computes in bfloat16, and its temperature moves: ln 100 is rounded to
# 4.59375, whose exponential in bfloat16 is 99, and stays 98.86 when float32 is asked for. In float16 it is 100. All
# the logits, and with them every threshold and every distilled target, shrink by one per cent although no weight was
# touched.
# Seen: "bfloat16 file: torch.bfloat16, scale 99.00; asked for float32, scale 98.86", "float16 file: torch.float16,
# scale 100.00; asked for float32, scale 100.03".
set -euo pipefail
work=$(mktemp -d /tmp/f.XXXX)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --no-compile torch==2.14.1 transformers==5.24.0 numpy==2.4.6
cat > "$work/try.py" <<'P'
import math, sys
import torch
from transformers import CLIPConfig, CLIPModel
sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1, "num_attention_heads": 2}
text = {**sizes, "vocab_size": 100, "max_position_embeddings": 12}
config = CLIPConfig(text_config=text, vision_config={**sizes, "image_size": 32, "patch_size": 8})
config.logit_scale_init_value = math.log(100)
for dtype in (torch.bfloat16, torch.float16):
    CLIPModel(config).to(dtype).save_pretrained(sys.argv[1] + "/clip")
    plain = CLIPModel.from_pretrained(sys.argv[1] + "/clip")
    asked = CLIPModel.from_pretrained(sys.argv[1] + "/clip", dtype=torch.float32)
    print(f"{str(dtype)[6:]} file: {plain.dtype}, scale {plain.logit_scale.exp().item():.2f}; "
          f"asked for float32, scale {asked.logit_scale.exp().item():.2f}")
P
seen=$(HOME="$work" HF_HUB_OFFLINE=1 "$work/venv/bin/python" "$work/try.py" "$work" 2>/dev/null)
echo "$seen"
[ "$seen" = "bfloat16 file: torch.bfloat16, scale 99.00; asked for float32, scale 98.86
float16 file: torch.float16, scale 100.00; asked for float32, scale 100.03" ]
