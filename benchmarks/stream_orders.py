"""How much the answers of TDA depend on the order in which test images come.

    python benchmarks/stream_orders.py                                  # six suites, 10 orders
    python benchmarks/stream_orders.py --data tinyworld/symbols --orders 20

Nothing is trained: TDA fills its caches from the test images themselves. Per suite one row: the texts alone, then TDA
over the orders, and TDA without the cache of unlikely classes.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import torch

import cliptune
from cliptune.clip import CLIP
from cliptune.protocols.orders import OverOrders, answered_in_orders
from cliptune.protocols.training import class_set
from cliptune.training import SharedImages

SUITES = "symbols,aquarium,scenes,snapshots,fishmarket,backdrops"


def measured(clip: CLIP, suite: str, orders: int) -> tuple[float, OverOrders, OverOrders]:
    """Accuracy of the texts in %, and TDA with and without its second cache over the orders."""
    data, shared = cliptune.load_data(suite), SharedImages()
    classes = class_set(data)
    texts = cliptune.build("zeroshot", clip, classes).adapter
    alone = cliptune.evaluate(texts, data.test, shared=shared).accuracy
    both, likely = (
        answered_in_orders(
            cliptune.build("tda", clip, classes, negative_alpha=weight).adapter, data.test, orders, shared=shared
        )
        for weight in (0.117, 0.0)
    )
    return alone, both, likely


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default=",".join(f"tinyworld/{suite}" for suite in SUITES.split(",")))
    parser.add_argument("--backbone", default="mini")
    parser.add_argument("--orders", type=int, default=10)
    asked = parser.parse_args(arguments)
    clip = cliptune.load_clip(asked.backbone)
    print("| suite | images | zeroshot (%) | tda (%) | lowest to highest | answers that change (%) | one cache (%) |")
    print("|---|---|---|---|---|---|---|")
    for suite in asked.data.split(","):
        alone, both, likely = measured(clip, suite, asked.orders)
        lowest, highest = min(both.accuracies), max(both.accuracies)
        print(
            f"| {suite.split('/')[-1]} | {both.n} | {alone:.1f} | {both.mean:.2f} ± {both.deviation:.2f} | "
            f"{lowest:.2f} to {highest:.2f} | {both.changed:.1f} | {likely.mean:.2f} ± {likely.deviation:.2f} |",
            flush=True,
        )


if __name__ == "__main__":
    torch.manual_seed(0)
    main()
