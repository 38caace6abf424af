"""Adapt CLIP to a task and ask it about other classes; runs on the embedded model and data in seconds.

python examples/adapt_clip.py
"""

from __future__ import annotations

import cliptune

clip = cliptune.load_clip("mini")
data = cliptune.load_data("tinyworld/textures", shots=16, seed=1, classes="base")
recipe = cliptune.build("coop", clip, data.class_names, epochs=10)
print(f"before: {cliptune.evaluate(recipe.adapter, data.test).accuracy:.1f} % of the test images")

run = cliptune.fit(recipe, data, progress="silent")
print(f"after:  {cliptune.evaluate(run.adapter, data.test).accuracy:.1f} %, "
      f"{sum(p.numel() for p in run.adapter.trainable().values())} learned numbers")  # fmt: skip

new = cliptune.load_data("tinyworld/textures", classes="new")
run.adapter.set_classes(new.class_names)
print(f"classes never trained on: {cliptune.evaluate(run.adapter, new.test).accuracy:.1f} %")
