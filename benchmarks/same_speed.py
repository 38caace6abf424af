"""Whether another version of the library takes as long for CLIP's own towers: A B A B, in processes of their own.

    git archive COMMIT | tar -x -C /tmp/before
    python benchmarks/same_speed.py /tmp/before [--rounds 15]

Timed is the processor time of one thread, which other programs on the machine hardly change: images through a ViT of
ViT-B/32's widths with deep prompts, forward and backward; texts of CLIP's widths with a learned context, the same; a
ResNet; and `load_clip("mini")`. Shown are the least seconds of either version and their ratio, now over before.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

_SIZES = {"embed": 512, "context": 77, "vocab": 49408, "text_width": 512, "text_layers": 3}


def tasks() -> dict[str, Callable[[], object]]:
    """What is timed, by name; only what both versions have is imported."""
    import torch

    from cliptune import load_clip
    from cliptune.clip import CLIP
    from cliptune.clip.model import CLIPConfig
    from cliptune.clip.ports import TowerPorts

    torch.set_num_threads(1)
    torch.manual_seed(0)
    mini = load_clip("mini")
    vit = CLIP(CLIPConfig(resolution=224, image_width=768, image_layers=3, patch=32, **_SIZES), mini.tokenizer)
    resnet = CLIP(CLIPConfig(resolution=224, image_width=64, image_layers=(1, 1, 1, 1), patch=0, **_SIZES))
    images, texts = torch.randn(4, 1, 3, 224, 224), vit.tokenize([f"X X X X a photo of a cat {i}" for i in range(40)])
    places = torch.arange(1, 5).expand(40, -1)
    texts = type(texts)(texts.ids, places)
    deep = {i: torch.zeros(4, 768, requires_grad=True) for i in range(3)}
    context = torch.zeros(4, 512, requires_grad=True)

    def image() -> None:
        vit.encode_image(images, TowerPorts(tokens=deep)).sum().backward()

    def text() -> None:
        vit.encode_text(texts, TowerPorts(tokens={0: context})).sum().backward()

    def of_resnet() -> None:
        with torch.no_grad():
            resnet.encode_image(images[:2])

    return {"image": image, "text": text, "ResNet": of_resnet, "load": lambda: load_clip("mini")}


def worker() -> None:
    """Answer each line of the input, a task's name, with its processor time in seconds."""
    known = tasks()
    for run in known.values():
        run()
    print(" ".join(known), flush=True)
    for line in sys.stdin:
        begun = time.process_time()
        known[line.strip()]()
        print(time.process_time() - begun, flush=True)


class Version:
    """A process with one version of the library."""

    def __init__(self, folder: Path) -> None:
        command = [sys.executable, __file__, "--worker"]
        surroundings = {**os.environ, "PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"}
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self.process = subprocess.Popen(command, cwd=folder, env=surroundings, **pipes)  # type: ignore[call-overload]
        self.tasks = self._line().split()

    def _line(self) -> str:
        line: str = self.process.stdout.readline()
        return line

    def seconds(self, task: str) -> float:
        self.process.stdin.write(f"{task}\n")
        self.process.stdin.flush()
        return float(self._line())


def main() -> int:
    parser = argparse.ArgumentParser(description="Processor time of two versions, side by side.")
    parser.add_argument("before", nargs="?", type=Path, help="folder of the other version")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.worker:
        worker()
        return 0
    if asked.before is None:
        parser.error("the folder of the other version is missing")
    versions = [Version(asked.before.resolve()), Version(Path(__file__).resolve().parent.parent)]
    print("| task | before, s | now, s | ratio |\n|---|---|---|---|")
    for task in versions[0].tasks:
        found = [[version.seconds(task) for version in versions] for _ in range(asked.rounds)]
        before, now = (min(column) for column in zip(*found, strict=True))
        print(f"| {task} | {before:.4f} | {now:.4f} | {now / before:.3f} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
