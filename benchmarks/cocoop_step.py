"""CoCoOp's text work at ViT-B/16 sizes for B images and C classes, in one run: fast path, plain path, and rows.

    python benchmarks/cocoop_step.py [--images 1 2 4] [--classes 25 50 100]

Every image has texts of its own. The plain path runs 77 rows for each of the B · C texts; the fast one runs the prefix
that an image's texts share once, and the suffixes packed. Image embeddings are given, weights are random. Prints rows
of the text tower, seconds of one core's time, forward and backward, and that time per B · C suffix row.
"""

from __future__ import annotations

import argparse
import time

import torch
from torch.nn import functional as F
from torchvision.models import ResNet50_Weights

from cliptune import methods
from cliptune.adapter import Adapter
from cliptune.clip import CLIP
from cliptune.clip.tokenizer import default_tokenizer
from cliptune.clip.weights.openai import OPENAI_CONFIGS

# The plain path of more texts than this does not fit in memory with what its backward pass keeps.
PLAIN_TEXTS = 100


def seconds_of(adapter: Adapter, images: int) -> float:
    """One core's time of the texts of so many images, forward and backward."""
    features = F.normalize(torch.randn(images, 1, adapter.clip.image.embed), dim=-1)
    weights = torch.randn(images, len(adapter.texts), adapter.clip.text.embed)
    start = time.process_time()
    texts = adapter.clip.encode_text(adapter.texts, adapter.prompt().text_given(features))
    (texts * weights).sum().backward()
    return time.process_time() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--classes", type=int, nargs="+", default=[25, 50, 100])
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    clip = CLIP(OPENAI_CONFIGS["ViT-B/16"], default_tokenizer(), "ViT-B/16, random weights")
    names = ResNet50_Weights.IMAGENET1K_V1.meta["categories"]
    print("  B    C  suffix rows  plain rows  fast s  plain s  ms per suffix row")
    for classes in options.classes:
        adapter = methods.build("cocoop", clip, names[:classes]).adapter.train()
        texts = adapter.texts
        suffixes = int((texts.eot + 1 - texts.shared_length).sum())
        for images in options.images:
            fast = min(seconds_of(adapter, images) for _ in range(3))
            plain = float("nan")
            if images * classes <= PLAIN_TEXTS:
                clip.text.plain = True
                plain = seconds_of(adapter, images)
                clip.text.plain = False
            rows, all_rows = images * suffixes, images * classes * texts.ids.shape[1]
            cost = f"{fast:>7.2f} {plain:>8.2f} {1e3 * fast / rows:>18.2f}"
            print(f"{images:>3} {classes:>4} {rows:>12} {all_rows:>11} {cost}", flush=True)


if __name__ == "__main__":
    main()
