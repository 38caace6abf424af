"""Adapt CLIP to a task and ask it about other classes; runs on the embedded model and data.

python examples/adapt_clip.py
"""

from __future__ import annotations

import cliptune

clip = cliptune.load_clip("mini")
data = cliptune.load_data("tinyworld/aquarium", shots=16, seed=1, classes="base")
frozen = cliptune.build("zeroshot", clip, data.class_names).adapter
# CoOp's published recipe for base-to-new generalisation: four words, 200 epochs.
options = cliptune.methods.published_options("coop", "base2new")
recipe = cliptune.build("coop", clip, data.class_names, **options)
print(f"before: {cliptune.evaluate(frozen, data.test).accuracy:.1f} % of the test images")

# CoOp learns words alone, so the features of eight augmented views of each picture serve all epochs.
run = cliptune.fit(recipe, data, views=8, progress="silent")
print(f"after:  {cliptune.evaluate(run.adapter, data.test).accuracy:.1f} %, "
      f"{sum(p.numel() for p in run.adapter.trainable().values())} learned numbers")  # fmt: skip

new = cliptune.load_data("tinyworld/aquarium", classes="new")
for when, adapter in (("before", frozen), ("after", run.adapter)):
    adapter.set_classes(new.class_names)
    print(f"classes never trained on, {when}: {cliptune.evaluate(adapter, new.test).accuracy:.1f} %")
