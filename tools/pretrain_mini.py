"""Pre-train `mini` on Tinyworld: attributes first, then captions.

    python tools/pretrain_mini.py attributes --out runs/mini
    python tools/pretrain_mini.py captions --out runs/mini
    python tools/pretrain_mini.py export --out runs/mini

Interrupted runs go on from their last checkpoint. One core draws the pictures and trains.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import torch
from mini_captions import CaptionBatches, contrast
from mini_towers import ImageTower, Sizes, TextTower
from mini_training import KEPT, AttributeHeads, kept_patches, optimisers, save_checkpoint, set_rate
from mini_world import World
from safetensors.torch import save_file
from torch import nn

from cliptune.clip.weights.mini import WEIGHTS, initial_rows, pack

_WARMUP = 150  # steps
_LARGE_PICTURES = 20_000  # the first pictures show large objects
_CHECKPOINT_STEPS = 100
_DECAY = 0.4  # last part of the captions stage, in which the learning rate falls linearly to 0
_WHOLE = 0.2  # last part of the captions stage, in which no patch is left out
_ATTRIBUTE_WEIGHT = 0.3  # of the attribute heads beside the captions
_MAX_SCALE = 100.0


class Tally:
    """Accuracy per head and pictures per second since the last line of the log."""

    def __init__(self) -> None:
        self.right: dict[str, list[int]] = {}
        self.start, self.pictures = time.perf_counter(), 0

    def add(self, right: dict[str, torch.Tensor], pictures: int) -> None:
        self.pictures += pictures
        for name, marks in right.items():
            counts = self.right.setdefault(name, [0, 0])
            counts[0] += int((marks == 1).sum())
            counts[1] += int((marks >= 0).sum())

    def line(self) -> str:
        rate = self.pictures / (time.perf_counter() - self.start)
        shown = " ".join(f"{k} {100 * r / max(1, n):.0f}" for k, (r, n) in self.right.items())
        self.__init__()  # type: ignore[misc]
        return f"{rate:.0f}/s {shown}"


def train_attributes(out: Path, seed: int, pictures: int, batch: int, stop: int | None) -> None:
    """First stage: the image tower learns to name every attribute. Writes attributes.pt into `out`."""
    torch.manual_seed(seed)
    sizes = Sizes()
    tower = ImageTower(sizes, torch.Generator().manual_seed(seed))
    heads = AttributeHeads(sizes)
    opts = optimisers([tower, heads])
    path, first = out / "attributes.pt", 0
    if path.exists():
        saved = torch.load(path, weights_only=True)
        first = restore(saved, tower, heads, opts)
    worlds = World(seed, large=True), World(seed)
    steps, tally = pictures // batch, Tally()
    last = min(steps, stop or steps)
    parameters = [*tower.parameters(), *heads.parameters()]
    for step in range(first, last):
        set_rate(opts, min(1.0, (step + 1) / _WARMUP))
        seen = worlds[step * batch >= _LARGE_PICTURES].pictures(step * batch, batch)
        keep = kept_patches(seen.coverage, KEPT, torch.Generator().manual_seed(seed + step))
        _, loss, right = heads(tower, seen, keep)
        for opt in opts:
            opt.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 2.0)
        for opt in opts:
            opt.step()
        tally.add(right, batch)
        if (step + 1) % _CHECKPOINT_STEPS == 0 or step + 1 == last:
            print(f"attributes {(step + 1) * batch} loss {loss.item():.3f} {tally.line()}", flush=True)
            done = (step + 1) * batch
            save_checkpoint(path, {**state(step + 1, tower, heads, opts), "pictures": done})


def train_captions(out: Path, seed: int, pictures: int, batch: int, stop: int | None) -> None:
    """Second stage: both towers learn captions; the attribute heads go on beside. Writes captions.pt into `out`."""
    torch.manual_seed(seed)
    sizes, texts = Sizes(), CaptionBatches()
    tower = ImageTower(sizes, torch.Generator().manual_seed(seed))
    heads = AttributeHeads(sizes)
    rows = initial_rows(sizes.text_width, seed)[texts.ids]
    text = TextTower(sizes, rows, torch.Generator().manual_seed(seed + 1))
    before = torch.load(out / "attributes.pt", weights_only=True)
    tower.load_state_dict(before["tower"])
    heads.load_state_dict(before["heads"])
    both = nn.ModuleDict({"visual": tower, "text": text})
    opts = optimisers([both, heads])
    path, first = out / "captions.pt", 0
    if path.exists():
        first = restore(torch.load(path, weights_only=True), both, heads, opts)
    # pictures of the first stage are not shown again
    world, start = World(seed), before["pictures"]
    steps, tally = pictures // batch, Tally()
    last = min(steps, stop or steps)
    parameters = [*both.parameters(), *heads.parameters()]
    for step in range(first, last):
        set_rate(opts, min(1.0, (step + 1) / _WARMUP, (1 - step / steps) / _DECAY))
        seen = world.pictures(start + step * batch, batch)
        whole = step >= (1 - _WHOLE) * steps
        keep = None if whole else kept_patches(seen.coverage, KEPT, torch.Generator().manual_seed(seed + step))
        embedding, loss, right = heads(tower, seen, keep)
        ids, end, true = texts.write(seen, seed * 1_000_000 + step)
        scale = text.logit_scale.exp().clamp(max=_MAX_SCALE)
        pairs = contrast(embedding, text(ids, end), scale, true)
        for opt in opts:
            opt.zero_grad()
        (pairs + _ATTRIBUTE_WEIGHT * loss).backward()
        nn.utils.clip_grad_norm_(parameters, 2.0)
        for opt in opts:
            opt.step()
        tally.add(right, batch)
        if (step + 1) % _CHECKPOINT_STEPS == 0 or step + 1 == last:
            done = (step + 1) * batch
            print(f"captions {done} pairs {pairs.item():.3f} scale {scale.item():.0f} {tally.line()}", flush=True)
            save_checkpoint(path, {**state(step + 1, both, heads, opts), "pictures": done})


def export(out: Path, seed: int, weights: Path) -> None:
    """Write the shipped file from the last checkpoint of the captions stage."""
    saved = torch.load(out / "captions.pt", weights_only=True)
    tensors = {}
    for key, value in saved["tower"].items():
        key = key.removeprefix("text.")
        tensors[key] = value.clamp(max=torch.tensor(_MAX_SCALE).log()) if key == "logit_scale" else value
    before = torch.load(out / "attributes.pt", weights_only=True)
    training = {
        "seed": seed, "attribute_pictures": before["pictures"], "caption_pictures": saved["pictures"],
        "sizes": Sizes().as_dict(), "data": "Tinyworld",
    }  # fmt: skip
    metadata = {"format": "cliptune-mini", "vocabulary_seed": str(seed), "training": json.dumps(training)}
    save_file(pack(tensors, CaptionBatches().ids), weights, metadata=metadata)
    print(f"{weights}: {weights.stat().st_size / 1e6:.2f} MB")


def state(step: int, tower: nn.Module, heads: nn.Module, opts: list[torch.optim.Optimizer]) -> dict[str, Any]:
    return {
        "step": step, "tower": tower.state_dict(), "heads": heads.state_dict(), "opts": [o.state_dict() for o in opts],
    }  # fmt: skip


def restore(saved: dict[str, Any], tower: nn.Module, heads: nn.Module, opts: list[torch.optim.Optimizer]) -> int:
    """Returns: the number of steps done."""
    tower.load_state_dict(saved["tower"])
    heads.load_state_dict(saved["heads"])
    for opt, tensors in zip(opts, saved["opts"], strict=True):
        opt.load_state_dict(tensors)
    return saved["step"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stage", choices=["attributes", "captions", "export"])
    parser.add_argument("--out", type=Path, default=Path("runs/mini"))
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--pictures", type=int, help="of this stage; by default 96,000 and 140,800")
    parser.add_argument("--batch", type=int, help="by default 96 and 128")
    parser.add_argument("--weights", type=Path, default=WEIGHTS, help="file that export writes")
    parser.add_argument("--stop", type=int, help="stop after this many steps, to go on later")
    args = parser.parse_args()
    torch.set_num_threads(1)
    args.out.mkdir(parents=True, exist_ok=True)
    if args.stage == "attributes":
        train_attributes(args.out, args.seed, args.pictures or 96_000, args.batch or 96, args.stop)
    elif args.stage == "captions":
        train_captions(args.out, args.seed, args.pictures or 140_800, args.batch or 128, args.stop)
    else:
        export(args.out, args.seed, args.weights)


if __name__ == "__main__":
    main()
