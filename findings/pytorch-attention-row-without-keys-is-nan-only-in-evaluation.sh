#!/usr/bin/env bash
# torch 2.14.1: a query that may attend to nothing (a boolean mask of all True in its row) is well-behaved in
# `nn.MultiheadAttention(need_weights=False)` while training: its attention is 0. The same module with the same mask
# gives NaN in eval mode under `no_grad`, and only there: the fused inference path has its own softmax. With grad
# enabled in eval mode it is 0 again, and so it is when the mask holds -inf instead of True. `need_weights=True` is
# NaN always. Loss and gradients are therefore fine and validation is NaN. `nn.TransformerEncoderLayer` behaves alike.
# Seen: "train 0, eval 0, eval no_grad nan, eval no_grad float mask 0, train need_weights nan".
set -euo pipefail
work=$(mktemp -d /tmp/f.XXXX)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --no-compile torch==2.14.1 numpy==2.4.6
cat > "$work/try.py" <<'P'
import torch
torch.manual_seed(0)
attention = torch.nn.MultiheadAttention(8, 2, batch_first=True)     # its output bias starts at 0
x = torch.randn(1, 3, 8)
boolean = torch.tensor([[False, False, False], [True, True, True], [False, False, False]])
infinite = torch.zeros(3, 3).masked_fill(boolean, float("-inf"))

def row(mask, need_weights=False):
    return f"{attention(x, x, x, attn_mask=mask, need_weights=need_weights)[0][0, 1, 0].item():g}"

answers = [f"train {row(boolean)}"]
attention.eval()
answers.append(f"eval {row(boolean)}")
with torch.no_grad():
    answers += [f"eval no_grad {row(boolean)}", f"eval no_grad float mask {row(infinite)}"]
attention.train()
answers.append(f"train need_weights {row(boolean, need_weights=True)}")
print(", ".join(answers))
P
seen=$("$work/venv/bin/python" "$work/try.py" 2>/dev/null)
echo "$seen"
[ "$seen" = "train 0, eval 0, eval no_grad nan, eval no_grad float mask 0, train need_weights nan" ]
