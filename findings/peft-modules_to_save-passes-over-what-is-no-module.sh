#!/usr/bin/env bash
# PEFT 0.21.2: `LoraConfig(modules_to_save=[...])` names what is trained in full and saved beside the adapter. Of a
# bare `nn.Parameter`, like CLIP's `logit_scale` or CoOp's context, and even of a name that nothing bears, it says
# nothing: no error, no warning, the value stays frozen and is not in the saved adapter. A wrong name in
# `target_modules` is refused, so one expects the same here. Wrapping the parameter in a module of its own makes it
# work.
# Seen: "head: trained ['head'], saved ['head']", "logit_scale: trained [], saved []", "no_such_name: trained [],
# saved []", "wrapped: trained ['wrapped'], saved ['wrapped']", "warnings: 0", "no_such_name in target_modules:
# refused".
set -euo pipefail
work=$(mktemp -d /tmp/f.XXXX)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --no-compile torch==2.14.1 transformers==5.24.0 peft==0.21.2
cat > "$work/try.py" <<'P'
import warnings
import torch
from peft import LoraConfig, get_peft_model, get_peft_model_state_dict
from torch import nn

class Scale(nn.Module):
    def __init__(self):
        super().__init__()
        self.value = nn.Parameter(torch.ones(()))

class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.tower, self.head, self.wrapped = nn.Linear(4, 4), nn.Linear(4, 2), Scale()
        self.logit_scale = nn.Parameter(torch.ones(()))

with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    for name in ("head", "logit_scale", "no_such_name", "wrapped"):
        model = get_peft_model(Model(), LoraConfig(target_modules=["tower"], modules_to_save=[name]))
        trained = [name for key, value in model.named_parameters() if value.requires_grad and "lora_" not in key]
        saved = [name for key in get_peft_model_state_dict(model) if "lora_" not in key]
        print(f"{name}: trained {sorted(set(trained))}, saved {sorted(set(saved))}")
print(f"warnings: {len(caught)}")
try:
    get_peft_model(Model(), LoraConfig(target_modules=["no_such_name"]))
    print("no_such_name in target_modules: accepted")
except ValueError:
    print("no_such_name in target_modules: refused")
P
seen=$(HOME="$work" HF_HUB_OFFLINE=1 "$work/venv/bin/python" "$work/try.py" 2>/dev/null)
echo "$seen"
[ "$seen" = "head: trained ['head'], saved ['head']
logit_scale: trained [], saved []
no_such_name: trained [], saved []
wrapped: trained ['wrapped'], saved ['wrapped']
warnings: 0
no_such_name in target_modules: refused" ]
