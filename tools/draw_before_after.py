"""Draw what the frozen CLIP and CoOp answer for the first test picture of each class: docs/images/before-after.png.

The run is that of examples/adapt_clip.py: `mini` on tinyworld/aquarium, 16 pictures of each base class, seed 1, CoOp's
published recipe for base-to-new generalisation. Pictures are not chosen: the first of each of the first classes.

python tools/draw_before_after.py
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont

import cliptune

SIDE, GAP, TEXT = 132, 16, 20  # of a picture, between pictures, of a line of text; pixels
RIGHT, WRONG, INK, FAINT = "#1a7f37", "#b3261e", "#1f2328", "#59636e"


def answers(adapter: Any, pictures: Sequence[Image.Image]) -> list[tuple[str, float]]:
    """The class of each picture, and its probability in %."""
    best = adapter.logits(list(pictures)).softmax(dim=-1).max(dim=-1)
    return [(adapter.class_names[i], 100 * p) for p, i in zip(best.values.tolist(), best.indices.tolist(), strict=True)]


def draw(
    pictures: Sequence[Image.Image], names: Sequence[str], rows: Sequence[tuple[str, Sequence[tuple[str, float]]]]
) -> Image.Image:
    """Pictures side by side, the true name above each, and a line of answers for every row (label, answers)."""
    font, small = ImageFont.load_default(14), ImageFont.load_default(12)
    left = GAP + 150
    size = (left + len(pictures) * (SIDE + GAP), GAP + 2 * TEXT + SIDE + len(rows) * 2 * TEXT + GAP)
    sheet = Image.new("RGB", size, "white")
    pen = ImageDraw.Draw(sheet)
    pen.text((GAP, GAP), "the class is", fill=FAINT, font=font)
    for column, (picture, name) in enumerate(zip(pictures, names, strict=True)):
        x = left + column * (SIDE + GAP)
        pen.text((x, GAP), name, fill=INK, font=font)
        sheet.paste(picture.resize((SIDE, SIDE), Image.Resampling.NEAREST), (x, GAP + TEXT + 4))
    for line, (label, answered) in enumerate(rows):
        y = GAP + 2 * TEXT + SIDE + line * 2 * TEXT
        pen.multiline_text((GAP, y), label, fill=FAINT, font=font, spacing=2)
        for column, ((answer, probability), name) in enumerate(zip(answered, names, strict=True)):
            x, right = left + column * (SIDE + GAP), answer == name
            colour = RIGHT if right else WRONG
            _mark(pen, x, y + 3, right, colour)
            pen.text((x + 16, y), answer, fill=colour, font=font)
            pen.text((x + 16, y + TEXT - 3), f"{probability:.0f} %", fill=FAINT, font=small)
    return sheet


def _mark(pen: ImageDraw.ImageDraw, x: int, y: int, right: bool, colour: str) -> None:
    """A tick or a cross, for those who do not see the colours."""
    strokes = [((0, 6), (4, 10), (11, 1))] if right else [((1, 1), (10, 10)), ((1, 10), (10, 1))]
    for stroke in strokes:
        pen.line([(x + dx, y + dy) for dx, dy in stroke], fill=colour, width=2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", default="docs/images/before-after.png")
    parser.add_argument("--epochs", type=int, help="instead of the recipe's")
    parser.add_argument("--classes", type=int, default=6)
    asked = parser.parse_args()
    clip = cliptune.load_clip("mini")
    data = cliptune.load_data("tinyworld/aquarium", shots=16, seed=1, classes="base")
    frozen = cliptune.build("zeroshot", clip, data.class_names).adapter
    options = cliptune.methods.published_options("coop", "base2new")
    if asked.epochs is not None:
        options["epochs"] = asked.epochs
    run = cliptune.fit(cliptune.build("coop", clip, data.class_names, **options), data, views=8, progress="silent")
    labels = data.test.labels.tolist()
    shown = [labels.index(label) for label in range(min(asked.classes, len(data.class_names)))]
    pictures, names = [data.test.image(i) for i in shown], [data.class_names[labels[i]] for i in shown]
    rows = []
    for label, adapter in (("frozen CLIP", frozen), ("four words learned", run.adapter)):
        scored = f"{cliptune.evaluate(adapter, data.test).accuracy:.1f} % of {len(data.test)}"
        rows.append((f"{label}\n{scored}", answers(adapter, pictures)))
        print(f"{label}: {scored} test pictures")
    out = Path(asked.out)
    out.parent.mkdir(parents=True, exist_ok=True)
    draw(pictures, names, rows).save(out, optimize=True)
    print(f"{out}: {out.stat().st_size / 1024:.0f} KiB")


if __name__ == "__main__":
    main()
