#!/usr/bin/env bash
# torch 2.14.1, transformers 5.24.0, float32 on the CPU: the embedding of one picture is other bits alone than in a batch,
# and with two threads other bits at another place of the same batch. Nothing of it is random: torch picks its kernel by
# the number of rows, and where threads share them, by which thread's part a row is in. So embeddings that are kept by
# picture, made in batches of whatever came together, are not those of the next run, and ties and digests tell. With one
# thread and a fixed number of rows (the last batch filled up) a picture has one embedding, whatever its place and
# neighbours. Needs two processors; which numbers differ is the processor's affair (here x86 with AVX-512).
# Seen: "1 thread: alone as in a batch of 8 False, rows 0 and 7 of 8 equal True, rows 0 and 8 of 9 equal True",
# "2 threads: alone as in a batch of 8 False, rows 0 and 7 of 8 equal True, rows 0 and 8 of 9 equal False".
set -euo pipefail
work=$(mktemp -d /tmp/f.XXXX)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --no-compile torch==2.14.1 transformers==5.24.0 numpy==2.4.6
cat > "$work/try.py" <<'P'
import torch
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection
torch.manual_seed(0)
sizes = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 1, "num_attention_heads": 12}
tower = CLIPVisionModelWithProjection(CLIPVisionConfig(**sizes, patch_size=32, projection_dim=512)).eval()
one, others = torch.rand(3, 224, 224), torch.rand(9, 3, 224, 224)
@torch.no_grad()
def embedded(place, of):
    batch = others[:of].clone()
    batch[place] = one
    return tower(batch).image_embeds[place]
for threads in (1, 2):
    torch.set_num_threads(threads)
    alone, first, last, of_nine, ninth = (embedded(*at) for at in ((0, 1), (0, 8), (7, 8), (0, 9), (8, 9)))
    assert torch.allclose(alone, first, atol=1e-5) and torch.allclose(of_nine, ninth, atol=1e-5)
    print(
        f"{threads} thread{'s' * (threads > 1)}: alone as in a batch of 8 {torch.equal(alone, first)}, "
        f"rows 0 and 7 of 8 equal {torch.equal(first, last)}, rows 0 and 8 of 9 equal {torch.equal(of_nine, ninth)}"
    )
P
seen=$(HOME="$work" HF_HUB_OFFLINE=1 "$work/venv/bin/python" "$work/try.py" 2>/dev/null)
echo "$seen"
[ "$seen" = "1 thread: alone as in a batch of 8 False, rows 0 and 7 of 8 equal True, rows 0 and 8 of 9 equal True
2 threads: alone as in a batch of 8 False, rows 0 and 7 of 8 equal True, rows 0 and 8 of 9 equal False" ]
