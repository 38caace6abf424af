"""Pictures per second of processor time that Tinyworld draws on one core.

python benchmarks/draw_tinyworld.py
"""

from __future__ import annotations

import time

import torch

from cliptune.data.tinyworld.draws import Draws
from cliptune.data.tinyworld.render import render
from cliptune.data.tinyworld.scene import Chooser, compose


def main() -> None:
    torch.set_num_threads(1)
    chooser = Chooser([{"kind": ["object"], "count": ["one"]}])
    for block in (1, 32, 64, 256):
        best = 0.0
        for _ in range(3):
            start, drawn = time.process_time(), 0
            while drawn < 512:
                draws = Draws([str(i) for i in range(drawn, drawn + block)])
                render(compose(chooser.attributes(torch.zeros(block, dtype=torch.int64), draws), draws))
                drawn += block
            best = max(best, drawn / (time.process_time() - start))
        print(f"{block:4d} pictures at a time: {best:6.0f} pictures/s")


if __name__ == "__main__":
    main()
