#!/usr/bin/env bash
# open_clip 3.3.0: the text towers of MobileCLIP-S1, S2 and all of MobileCLIP2 but B take the feature at the first
# end-of-text token like OpenAI's CLIP, with the same 49408 tokens and 77 places, yet have no causal mask: the zeros
# of the padding are read as words. Their text features depend on how many zeros follow, so a batch cut behind its
# longest text, or text features cached with another `context_length`, are other features. MobileCLIP-B and
# MobileCLIP2-B of the same families are causal, and there the cut changes nothing. (Random weights show it; the masks
# come from the configs.)
# Seen: "not causal: MobileCLIP-S1 MobileCLIP-S2 MobileCLIP2-L-14 MobileCLIP2-S0 MobileCLIP2-S2 MobileCLIP2-S3
# MobileCLIP2-S4", then "MobileCLIP-B: cutting the padding changes the feature False", "MobileCLIP-S1: ... True".
set -euo pipefail
work=$(mktemp -d /tmp/f.XXXX)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --no-compile torch==2.14.1 torchvision==0.29.1 open_clip_torch==3.3.0
cat > "$work/try.py" <<'P'
import open_clip
import torch
from open_clip.model import CLIPTextCfg, _build_text_tower
configs = {name: open_clip.get_model_config(name) for name in open_clip.list_models()}
texts = {name: config["text_cfg"] for name, config in configs.items()}
loose = [n for n in sorted(texts) if texts[n].get("no_causal_mask") and texts[n].get("pool_type", "argmax") == "argmax"]
print("not causal:")
print("\n".join(loose))
ids = open_clip.get_tokenizer("MobileCLIP-S1")(["a photo of a cat"])
for name in ("MobileCLIP-B", "MobileCLIP-S1"):
    torch.manual_seed(0)
    tower = _build_text_tower(configs[name]["embed_dim"], CLIPTextCfg(**texts[name])).eval()
    with torch.no_grad():
        full = tower(ids)
        tower.attn_mask = None if tower.attn_mask is None else tower.attn_mask[:16, :16]
        short = tower(ids[:, :16])
    print(f"{name}: cutting the padding changes the feature {not torch.allclose(full, short, atol=1e-4)}")
P
seen=$(HOME="$work" HF_HUB_OFFLINE=1 "$work/venv/bin/python" "$work/try.py" 2>/dev/null)
echo "$seen"
[ "$seen" = "not causal:
MobileCLIP-S1
MobileCLIP-S2
MobileCLIP2-L-14
MobileCLIP2-S0
MobileCLIP2-S2
MobileCLIP2-S3
MobileCLIP2-S4
MobileCLIP-B: cutting the padding changes the feature False
MobileCLIP-S1: cutting the padding changes the feature True" ]
