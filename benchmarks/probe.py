"""The linear probe's search of C against scikit-learn's fits from cold, in one run.

    python benchmarks/probe.py --of embedding [--cold -6 -4 -2 0 2 4 6] [--limit 1000] [--tol 1e-4 --max-iter 1000]
        [--cold-search] [--threads 1]
    python benchmarks/probe.py --of blocks
    python benchmarks/probe.py [--images 10000] [--width 512] [--classes 100] [--noise 4] [--decay 1] [--norm 10]

With --of, features are those of the embedded CLIP and a hundred classes of Tinyworld: its embedding, 10,000 × 128, or
the class tokens of its four blocks side by side, 10,000 × 512, as self-supervised towers are probed (arXiv:2104.14294).
Else they are made up, like CLIP's: around a common mean, with a spectrum that decays, all of one norm; the probe takes
embeddings before they are made unit vectors, and those of ViT-B/16 have norms around 10. "cold" is how the probe was
fitted before: scikit-learn's `LogisticRegression(C=…, max_iter=1000)` from zero for every C, of which the search asked
23. "warm" is the head as it is: each of the 23 fits begins from the others, and the chosen one is fitted once more,
closer.

Times are seconds of processor time of one or more threads, which other work on the machine changes less than those on
the clock. Cold fits are made for the powers of ten given by --cold, none if nothing follows it. One that takes longer
than --limit is stopped: its time is then a lower bound, marked "≥". The ratio in the last line is that of the cold fits
that were timed to the warm search whole, and so a lower bound as well: a cold search has 16 more fits. Objectives per
image, C · Σ loss + ½ ‖W‖² over C N, tell which fit is nearer to the minimum: scikit-learn's default tolerance often
ends far above it. With --cold-search the whole search is made from cold as well, its own 23 fits. With a smaller --tol
and more --max-iter the cold fits go on to where the warm ones are, if they are given float64 (--wide): of float32
features scikit-learn computes in float32.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import time
import warnings
from collections import defaultdict
from collections.abc import Callable
from multiprocessing.connection import Connection
from resource import RLIMIT_CPU, RUSAGE_SELF, getrusage, setrlimit
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from cliptune import load_clip
from cliptune.clip.towers.image import VisionTransformer
from cliptune.data.loader import gather
from cliptune.data.tinyworld import load_suite
from cliptune.data.transforms import test_transform
from cliptune.heads import LinearHead
from cliptune.heads.linear import POWERS, STEPS
from cliptune.heads.logistic import LogisticRegression

VALIDATION, TEST = 4, 10  # images per class
SUITES = ("objects", "textures", "colours", "pairs", "scenes", "aerial", "symbols", "flowers", "fishes")


def features(
    counts: list[int], width: int, classes: int, noise: float, decay: float, norm: float
) -> list[tuple[Tensor, Tensor]]:
    """Splits of vectors (N, D) float32 of one norm with labels (N,), of the same classes."""
    rng = np.random.default_rng(0)
    spectrum = np.arange(1.0, width + 1) ** -decay
    spectrum /= np.linalg.norm(spectrum)
    mean, centres = rng.normal(size=width), rng.normal(size=(classes, width))
    turn = np.linalg.qr(rng.normal(size=(width, width)))[0]
    splits = []
    for n in counts:
        y = np.arange(n) % classes
        around = (centres[y] + noise * rng.normal(size=(n, width))) * spectrum @ turn
        x = mean / np.linalg.norm(mean) + 0.6 * around
        x *= norm / np.linalg.norm(x, axis=1, keepdims=True)
        splits.append((torch.tensor(x, dtype=torch.float32), torch.tensor(y)))
    return splits


def seen(blocks: bool, classes: int = 100) -> list[tuple[Tensor, Tensor]]:
    """Splits of the embedded CLIP's features (N, D) of Tinyworld's suites, with labels, of 100 images a class."""
    clip, tokens = load_clip("mini"), []

    def heard(finish: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def told(*args: Any, **options: Any) -> Tensor:
            rows = finish(*args, **options)
            tokens.append(rows.flatten(0, -3)[:, 0])
            return rows

        return told

    assert isinstance(clip.image, VisionTransformer)
    for block in clip.image.transformer.blocks:
        block.finish = heard(block.finish)
    shown = test_transform(clip.config.resolution)
    splits: dict[str, list[tuple[Tensor, Tensor]]] = defaultdict(list)
    known = 0
    for name in SUITES:
        suite = load_suite(name, train=100, val=VALIDATION, test=TEST)
        for split in ("train", "val", "test"):
            images = getattr(suite, split)
            for some in torch.arange(len(images)).split(100):
                pixels = gather(images, some.tolist(), shown).images
                tokens.clear()
                with torch.no_grad():
                    x = clip.encode_image(clip.normalise(pixels)[:, None])[:, 0]
                y = images.labels[some] + known
                x = torch.cat(tokens, dim=1) if blocks else x
                splits[split].append((x[y < classes], y[y < classes]))
        known += len(suite.class_names)
    return [(torch.cat(x), torch.cat(y)) for x, y in (zip(*parts, strict=True) for parts in splits.values())]


def fit_cold(answer: Connection, x: np.ndarray, y: np.ndarray, limit: float, options: dict[str, float]) -> None:
    """In a process of its own, which ends when its processor time is up."""
    from sklearn.linear_model import LogisticRegression as Cold

    warnings.simplefilter("ignore")
    Cold(max_iter=1).fit(x[:200], y[:200])  # what is loaded once
    start = time.process_time()
    setrlimit(RLIMIT_CPU, (int(start + limit) + 1, int(start + limit) + 2))
    model = Cold(**options).fit(x, y)
    answer.send((time.process_time() - start, model.coef_, model.intercept_, int(model.n_iter_[0])))


def cold(x: Tensor, y: Tensor, limit: float, **options: float) -> tuple[float, Tensor, Tensor, int] | None:
    """Seconds, weights, biases and iterations of a fit from cold; None if it took longer."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=fit_cold, args=(sender, x.numpy(), y.numpy(), limit, options))
    process.start()
    sender.close()
    try:
        seconds, weight, bias, iterations = receiver.recv()
    except EOFError:
        return None
    finally:
        process.join()
    return seconds, torch.tensor(weight).double(), torch.tensor(bias).double(), iterations


def objective(x: Tensor, y: Tensor, c: float, weight: Tensor, bias: Tensor) -> float:
    loss = sum(F.cross_entropy(x[i : i + 2000].double() @ weight.T + bias, y[i : i + 2000], reduction="sum").item()
               for i in range(0, len(x), 2000))  # fmt: skip
    return (loss + weight.square().sum().item() / (2 * c)) / len(x)


def accuracy(x: Tensor, y: Tensor, weight: Tensor, bias: Tensor) -> float:
    return 100 * ((x.double() @ weight.T + bias).argmax(dim=1) == y).double().mean().item()


def search(train: tuple[Tensor, Tensor], val: tuple[Tensor, Tensor], classes: int) -> LinearHead:
    head = LinearHead(classes, train[0].shape[1])
    head.listener = lambda line, minor: print(f"  {line}", flush=True) if "right" in line or not minor else None
    for split, (x, y) in (("train", train), ("val", val)):
        head.observe(SimpleNamespace(image_embedding=x[:, None]), y, split)
    head.refit()
    return head


def cold_search(splits: list[tuple[Tensor, Tensor]], limit: float, **options: float) -> None:
    """The search as it was: each of its values fitted from zero, and the first of the best kept."""
    train, val, test = splits
    fits: dict[float, tuple[float, Tensor, Tensor, int]] = {}

    def score(power: float) -> float:
        if power not in fits:
            found = cold(*train, limit, C=10.0**power, **options)
            fits[power] = found or (limit, torch.zeros(1, 1), torch.zeros(1), 0)
        return accuracy(*val, *fits[power][1:3]) if fits[power][3] else 0.0

    best, step = max(POWERS, key=score), 1.0
    for _ in range(STEPS):
        best = max((best, best - step, best + step), key=score)
        step /= 2
    seconds, right = sum(fit[0] for fit in fits.values()), accuracy(*test, *fits[best][1:3])
    print(f"cold search whole: {len(fits)} fits, {seconds:.1f} s; C = {10.0**best:.4g}, {right:.2f} %", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--of", choices=("made", "embedding", "blocks"), default="made")
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--classes", type=int, default=100)
    parser.add_argument(
        "--noise", type=float, default=4.0, help="of images around their class, in distances of classes"
    )
    parser.add_argument("--decay", type=float, default=1.0, help="power at which the spectrum falls")
    parser.add_argument("--norm", type=float, default=10.0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--cold", type=float, nargs="*", default=POWERS)
    parser.add_argument("--limit", type=float, default=1000.0)
    parser.add_argument("--tol", type=float, default=1e-4)
    parser.add_argument("--cold-search", action="store_true", help="make all 23 fits from cold, as it was before")
    parser.add_argument("--max-iter", type=int, default=1000)
    parser.add_argument("--wide", action="store_true", help="features in float64 for the fits from cold")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = str(options.threads)  # of the processes that fit from cold
    if options.of != "made":
        train, val, test = seen(options.of == "blocks")
        made = f"{options.of} of the embedded CLIP, Tinyworld"
    else:
        counts = [options.images, VALIDATION * options.classes, TEST * options.classes]
        train, val, test = features(counts, options.width, options.classes, options.noise, options.decay, options.norm)
        made = f"noise {options.noise:g}, decay {options.decay:g}, norm {options.norm:g}"
    classes = int(train[1].max()) + 1
    sizes = " × ".join(f"{number:,}" for number in (*train[0].shape, classes))
    print(f"{sizes}, {made}, {options.threads} thread(s)", flush=True)

    begun, clock = time.process_time(), time.monotonic()
    head = search(train, val, classes)
    warm, wall = time.process_time() - begun, time.monotonic() - clock

    regression, fits, total, bound = LogisticRegression(*train, classes), {}, 0.0, ""
    print("| C | cold, s | iterations | objective | test, % | warm, s | passes | objective | test, % | ratio |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for power in options.cold:
        c = 10.0**power
        before = cold(
            train[0].double() if options.wide else train[0],
            train[1],
            options.limit,
            C=c,
            tol=options.tol,
            max_iter=options.max_iter,
        )
        start = time.process_time()
        fit = fits[c] = regression.fit(c, 1e-3, fits)
        took = time.process_time() - start
        if before is None:
            seconds, less, told = options.limit, "≥ ", "– | – | –"
            bound = less
        else:
            seconds, less = before[0], ""
            told = f"{before[3]} | {objective(*train, c, *before[1:3]):.6e} | {accuracy(*test, *before[1:3]):.2f}"
        total += seconds
        print(
            f"| {c:g} | {less}{seconds:.1f} | {told} | {took:.2f} | {fit.passes} | "
            f"{objective(*train, c, fit.weight, fit.bias):.6e} | {accuracy(*test, fit.weight, fit.bias):.2f} | "
            f"{less}{seconds / took:.0f} |",
            flush=True,
        )
    chosen = head.chosen["chose"]["C"] if head.chosen else None
    found = accuracy(*test, head.weight.double(), head.bias.double())
    print(
        f"warm search whole: {warm:.1f} s of processor time, {wall:.1f} s on the clock; C = {chosen:.4g}, {found:.2f} %"
    )
    if options.cold:
        print(f"{len(options.cold)} cold fits: {bound}{total:.1f} s; ratio to the warm search ≥ {total / warm:.1f}")
    if options.cold_search:
        cold_search([train, val, test], options.limit, tol=options.tol, max_iter=options.max_iter)
    print(f"memory at most: {getrusage(RUSAGE_SELF).ru_maxrss / 1e6:.2f} GB")


if __name__ == "__main__":
    main()
