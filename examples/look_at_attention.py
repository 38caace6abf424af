"""How much attention do the prompt tokens of MaPLe draw? Attention is recorded only inside the `with` block.

python examples/look_at_attention.py
"""

from __future__ import annotations

import cliptune
from cliptune.analysis import record

clip = cliptune.load_clip("mini")
data = cliptune.load_data("tinyworld/objects")
adapter = cliptune.build("maple", clip, data.class_names).adapter

with record(adapter, image=range(clip.image.layers), text=range(clip.text.layers)) as recording:
    adapter.logits([data.test.image(i) for i in range(8)])

for (tower, layer), attention in recording.attention.items():
    query = "cls" if tower == "image" else "eot"
    shares = {group: float(attention.query(query).mass(group).mean()) for group in attention.keys.names}
    print(f"{tower} block {layer}: {query} looks at " + ", ".join(f"{g} {s:.2f}" for g, s in shares.items()))
