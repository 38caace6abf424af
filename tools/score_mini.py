"""Score `mini` on every Tinyworld suite, as its card shows.

python tools/score_mini.py zeroshot                         # all suites: all classes, base, new, domains
python tools/score_mini.py probe                            # 16-shot linear probe on all suites
python tools/score_mini.py laboratory                       # the suites to compare methods on: how hard each is
python tools/score_mini.py coop --suites garden,aquarium    # base-to-new, CoOp's published recipe
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor

import cliptune
from cliptune.clip.model import CLIP
from cliptune.data.items import Dataset, Split
from cliptune.data.tinyworld.domains import DOMAINS
from cliptune.data.tinyworld.suites import images_of, suites
from cliptune.protocols import base2new

LABORATORY = ("snapshots", "fishmarket", "fabrics", "longtail", "moved", "backdrops")
"""Names that mean something to mini, and pictures that leave a method something to win."""


def unit_images(clip: CLIP, split: Split) -> Tensor:
    """(N, D) unit-norm features of a whole split."""
    parts = [
        clip.encode_image(clip.normalise(images_of(split, rows))[:, None])[:, 0]
        for rows in torch.arange(len(split)).split(128)
    ]
    return torch.nn.functional.normalize(torch.cat(parts), dim=1)


def zero_shot(clip: CLIP, data: Dataset) -> list[float]:
    """Accuracy in % over all classes, over base among base names, over new among new names."""
    numbers = []
    features = unit_images(clip, data.test)
    for part in (data, data.subset("base"), data.subset("new")):
        texts = clip.encode_text(clip.tokenize([data.template.format(name) for name in part.class_names]))[0]
        rows = torch.tensor([data.class_names.index(name) for name in part.class_names])
        own = torch.isin(data.test.labels, rows)
        best = rows[(features[own] @ torch.nn.functional.normalize(texts, dim=1).T).argmax(1)]
        numbers.append(100 * (best == data.test.labels[own]).float().mean().item())
    return numbers


def probe(clip: CLIP, data: Dataset, seeds: Sequence[int], shots: int | None = 16) -> list[float]:
    """Accuracy in % of a logistic regression on the features of `shots` images per class, or all, for each seed."""
    test = unit_images(clip, data.test).numpy()
    out = []
    for seed in seeds:
        train = data.train if shots is None else data.few_shot(shots, seed).train
        model = LogisticRegression(C=30, max_iter=1000).fit(unit_images(clip, train).numpy(), train.labels.numpy())
        out.append(100 * float((model.predict(test) == data.test.labels.numpy()).mean()))
    return out


def spread(values: Sequence[float]) -> str:
    return f"{np.mean(values):.1f} ± {np.std(values):.1f}"


def row(*cells: object) -> None:
    print(
        "| " + " | ".join(f"{cell:.1f}" if isinstance(cell, float) else str(cell) for cell in cells) + " |", flush=True
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["zeroshot", "domains", "probe", "laboratory", "coop"])
    parser.add_argument("--suites", help="separated by commas; all, or those of the laboratory")
    parser.add_argument("--seeds", default="1,2,3")
    parser.add_argument("--epochs", type=int, default=200, help="of CoOp; 200 as published for base-to-new")
    parser.add_argument("--views", type=int, help="augmented views kept per image; new ones every epoch if left out")
    args = parser.parse_args()
    torch.set_num_threads(1)
    clip, seeds = cliptune.load_clip("mini"), [int(seed) for seed in args.seeds.split(",")]
    titles = {
        "zeroshot": ("suite", "classes", "chance", "all", "base", "new"),
        "domains": ("suite", *DOMAINS),
        "probe": ("suite", "zero-shot", "linear probe"),
        "laboratory": ("suite", "classes", "zero-shot", "base", "new", "base − new", "16 shots", "all training images"),
        "coop": ("suite", "zero-shot base", "zero-shot new", "CoOp base", "CoOp new"),
    }[args.what]
    row(*titles)
    row(*["---"] * len(titles))
    known = LABORATORY if args.what == "laboratory" else suites()
    for name in args.suites.split(",") if args.suites else known:
        data = cliptune.load_data(f"tinyworld/{name}")
        if args.what == "domains":
            shifted = [cliptune.load_data(f"tinyworld/{name}", domain=domain) for domain in DOMAINS]
            row(name, *[zero_shot(clip, one)[0] for one in shifted])
            continue
        start = zero_shot(clip, data)
        if args.what == "zeroshot":
            row(name, len(data.class_names), 100 / len(data.class_names), *start)
        elif args.what == "probe":
            row(name, start[0], spread(probe(clip, data, seeds)))
        elif args.what == "laboratory":
            few, most = spread(probe(clip, data, seeds)), probe(clip, data, seeds[:1], None)[0]
            row(name, len(data.class_names), *start, start[1] - start[2], few, most)
        else:
            runs = [
                base2new("coop", clip, data, seed, options={"epochs": args.epochs}, views=args.views, progress="silent")
                for seed in seeds
            ]
            row(name, *start[1:], *[spread([run[half] for run in runs]) for half in ("base", "new")])


if __name__ == "__main__":
    main()
