"""The text tower at ViT-B/16 sizes: plain 77-token path against the fast path, forward and backward, in one run.

    python benchmarks/text_tower.py [--classes 50 100 1000] [--threads 2]

Prints seconds per pass, their ratio, the largest difference of features and gradients, and, from fresh processes, the
peak memory of one CoOp step. Weights are random; the class names are ImageNet's.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path

import torch
from torch import Tensor
from torchvision.models import ResNet50_Weights

from cliptune import methods
from cliptune.adapter import Adapter
from cliptune.batch import Batch
from cliptune.clip import CLIP
from cliptune.clip.tokenizer import default_tokenizer
from cliptune.clip.weights.openai import OPENAI_CONFIGS

# The plain path of a thousand classes does not fit in memory at once; the sum of the parts' gradients is the same.
PLAIN_CLASSES_AT_ONCE = 100


def adapter_of(clip: CLIP, classes: int) -> Adapter:
    names = ResNet50_Weights.IMAGENET1K_V1.meta["categories"][:classes]
    return methods.build("coop", clip, names).adapter


def random_clip() -> CLIP:
    torch.manual_seed(0)
    return CLIP(OPENAI_CONFIGS["ViT-B/16"], default_tokenizer(), "ViT-B/16, random weights")


def fast_pass(adapter: Adapter, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Features of all classes and the gradient of a fixed projection of them with respect to the context."""
    features = adapter.clip.encode_text(adapter.texts, adapter.prompt().text)[0]
    (grad,) = torch.autograd.grad((features * weights).sum(), adapter.trainable().values())
    return features.detach(), grad


def plain_pass(adapter: Adapter, weights: Tensor) -> tuple[Tensor, Tensor]:
    """The same on the plain path, some classes at a time."""
    names, parts, total = adapter.class_names, [], torch.zeros(())
    adapter.clip.text.plain = True
    try:
        for start in range(0, len(names), PLAIN_CLASSES_AT_ONCE):
            some = slice(start, start + PLAIN_CLASSES_AT_ONCE)
            features, grad = fast_pass(adapter.for_texts(names[some]), weights[some])
            parts.append(features)
            total = total + grad
    finally:
        adapter.clip.text.plain = False
    return torch.cat(parts), total


def seconds(fn, repeats: int) -> tuple[float, tuple[Tensor, Tensor]]:
    best, result = float("inf"), None
    for _ in range(repeats):
        start = time.perf_counter()
        result = fn()
        best = min(best, time.perf_counter() - start)
    return best, result


def relative(a: Tensor, b: Tensor) -> float:
    return float((a - b).abs().max() / b.abs().max())


def compare(classes: list[int]) -> None:
    clip = random_clip()
    print(f"{'classes':>8} {'plain s':>9} {'fast s':>9} {'ratio':>7} {'features':>10} {'gradient':>10}")
    for count in classes:
        adapter = adapter_of(clip, count)
        weights = torch.randn(count, clip.text.embed)
        fast_pass(adapter, weights)
        fast, (features, grad) = seconds(lambda a=adapter, w=weights: fast_pass(a, w), repeats=3)
        plain, (truth, true_grad) = seconds(lambda a=adapter, w=weights: plain_pass(a, w), repeats=1)
        print(
            f"{count:>8} {plain:>9.2f} {fast:>9.3f} {plain / fast:>6.1f}x "
            f"{relative(features, truth):>10.1e} {relative(grad, true_grad):>10.1e}",
            flush=True,
        )


def one_step(classes: int, batch: int) -> None:
    """One CoOp step, image tower included; prints the peak resident memory of this process in GiB."""
    clip = random_clip()
    recipe = methods.build("coop", clip, adapter_of(clip, classes).class_names)
    optimiser = torch.optim.SGD(recipe.adapter.trainable().values(), lr=recipe.stages[0].optimiser.lr)
    images = torch.rand(batch, 3, clip.image.resolution, clip.image.resolution)
    inputs = Batch.of(images, torch.arange(batch) % classes)
    loss, _ = recipe.stages[0].objective(recipe.adapter(inputs), inputs, 0.0)
    loss.backward()
    optimiser.step()
    print(peak_bytes() / 2**30)


def peak_bytes() -> int:
    """Peak resident memory of this process."""
    status = Path("/proc/self/status")
    if status.exists():
        # On Linux the resource module also counts what the parent held when it started this process.
        (line,) = (line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # macOS counts bytes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--classes", type=int, nargs="+", default=[50, 100, 1000])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--batch", type=int, default=32, help="images in the step whose memory is measured")
    parser.add_argument("--one-step", type=int, metavar="CLASSES", help="only run one CoOp step and print its peak GiB")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.one_step:
        one_step(arguments.one_step, arguments.batch)
        return
    compare(arguments.classes)
    for count in arguments.classes:
        command = [sys.executable, __file__, "--one-step", str(count), "--threads", str(arguments.threads)]
        command += ["--batch", str(arguments.batch)]
        peak = float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        print(f"peak memory of a CoOp step, {count} classes, batch {arguments.batch}: {peak:.2f} GiB", flush=True)


if __name__ == "__main__":
    main()
