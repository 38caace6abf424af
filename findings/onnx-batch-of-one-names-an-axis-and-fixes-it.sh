#!/usr/bin/env bash
# torch 2.14.1 with onnx 1.23.2 and onnxruntime 1.32.0: a tower that appends learned prompts by `expand`, exported
# with `torch.onnx.export(dynamo=True, dynamic_shapes=...)` from an example of one picture. The export succeeds and
# the file calls the input's first axis "batch", but everything behind it is computed for 1: the output is [1, 4], one
# picture runs, three raise an error inside a Reshape. `torch.export` alone refuses the same example with a dynamic
# dimension, so one expects the same here. From an example of two pictures the file is right.
# Seen: "example of 1: input ['batch', 5, 8], output [1, 4], three pictures: error", "example of 2: input ['batch', 5,
# 8], output ['batch', 4], three pictures: (3, 4)", then "torch.export, example of 1: refused".
set -euo pipefail
work=$(mktemp -d /tmp/f.XXXX)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --no-compile torch==2.14.1 onnx==1.23.2 onnxscript==0.7.2 onnxruntime==1.32.0
cat > "$work/try.py" <<'P'
import sys
import onnxruntime
import torch
from torch import nn
torch.manual_seed(0)

class Prompted(nn.Module):
    def __init__(self):
        super().__init__()
        self.prompts, self.head = nn.Parameter(torch.randn(2, 8)), nn.Linear(8, 4)
        self.block = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)

    def forward(self, x):
        prompts = self.prompts.expand(x.shape[0], -1, -1)
        return self.head(self.block(torch.cat([x, prompts], 1))[:, 0])

tower = Prompted().eval()
for size in (1, 2):
    path = f"{sys.argv[1]}/{size}.onnx"
    dynamic = {"x": {0: "batch"}}
    torch.onnx.export(tower, (torch.randn(size, 5, 8),), path, dynamo=True, dynamic_shapes=dynamic, verbose=False)
    session = onnxruntime.InferenceSession(path)
    entry, exit_ = session.get_inputs()[0], session.get_outputs()[0]
    session.run(None, {entry.name: torch.randn(size, 5, 8).numpy()})
    try:
        three = session.run(None, {entry.name: torch.randn(3, 5, 8).numpy()})[0].shape
    except Exception:
        three = "error"
    print(f"example of {size}: input {entry.shape}, output {exit_.shape}, three pictures: {three}")
try:
    torch.export.export(tower, (torch.randn(1, 5, 8),), dynamic_shapes={"x": {0: torch.export.Dim.DYNAMIC}})
    print("torch.export, example of 1: accepted")
except ValueError:
    print("torch.export, example of 1: refused")
P
seen=$(HOME="$work" "$work/venv/bin/python" "$work/try.py" "$work" 2>/dev/null)
echo "$seen"
[ "$seen" = "example of 1: input ['batch', 5, 8], output [1, 4], three pictures: error
example of 2: input ['batch', 5, 8], output ['batch', 4], three pictures: (3, 4)
torch.export, example of 1: refused" ]
