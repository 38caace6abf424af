"""What must hold of every method, whatever it is: the common checks, for the package's tests and for plug-ins."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from safetensors.torch import load, save

from cliptune.adapter import Adapter
from cliptune.batch import Batch
from cliptune.clip.model import CLIP
from cliptune.clip.weights.openai import OPENAI_CONFIGS
from cliptune.recipe import Recipe, Stage
from cliptune.registry.building import build, count_learnables, find
from cliptune.registry.plugins import is_add_on, parts_of

CLASSES = ("circle", "red panda", "forest", "lemon meringue pie", "Boeing 737-800")
OTHERS = ("lynx", "puma")
COUNTED_AT = "ViT-B/16"


class CheckFailed(AssertionError):
    """A common check does not hold; the message is the sentence that says why."""


@dataclass(frozen=True)
class Subject:
    """A method to check, and what it is checked with.

    Args:
        method: as in `build`. clip: a small backbone, in float32.
        batch: B labelled images of the backbone's size. classes: C names, B labels are among them.
        options: of the method.
    """

    method: str
    clip: CLIP
    batch: Batch
    classes: tuple[str, ...] = CLASSES
    options: Mapping[str, Any] = field(default_factory=dict)

    def recipe(self, seed: int = 1, clip: CLIP | None = None) -> Recipe:
        return build(self.method, self.clip if clip is None else clip, self.classes, seed=seed, **self.options)


@dataclass(frozen=True)
class Finding:
    """What a check found: its name, whether it holds, and a sentence."""

    name: str
    holds: bool
    sentence: str


def observed(adapter: Adapter, batch: Batch, stage: Stage) -> None:
    """What a stage that only observes does, with one batch."""
    with adapter.evaluating(), torch.no_grad():
        adapter.head.observe(adapter(batch), batch.labels, split=stage.observe[0])
        adapter.head.refit()


def trained(recipe: Recipe, batch: Batch, steps: int = 2) -> tuple[Adapter, set[str]]:
    """A few steps of every stage, without the training room: what each stage asks for, and nothing else.

    Returns: the adapter, and the names of the learnables that had a gradient other than zero.
    Raises: CheckFailed for a loss that is no scalar, or parts that are not finite.
    """
    adapter, moved = recipe.adapter, set()
    for stage in recipe.stages:
        for begin in stage.before:
            begin(adapter)
        if stage.optimiser is None or stage.objective is None:
            observed(adapter, batch, stage)
            continue
        optimiser = torch.optim.SGD(adapter.trainable().values(), lr=0.05)
        for step in range(steps):
            torch.manual_seed(step)  # of dropout
            out = adapter(batch, needs=frozenset(stage.objective.needs))
            loss, parts = stage.objective(out, batch, step / steps)
            _demand(loss.ndim == 0, f"the loss must be one number, got shape {tuple(loss.shape)}")
            wrong = [name for name, value in parts.items() if not torch.isfinite(value).all()]
            _demand(not wrong, f"these parts of the loss are not finite: {', '.join(wrong)}")
            optimiser.zero_grad()
            loss.backward()
            moved |= {n for n, p in adapter.trainable().items() if p.grad is not None and p.grad.abs().max() > 0}
            optimiser.step()
    return adapter, moved


def frozen_clip(subject: Subject) -> str:
    """Training leaves the CLIP unchanged, without gradients and in evaluation mode."""
    recipe = subject.recipe()
    before = copy.deepcopy(recipe.adapter.clip.state_dict())
    adapter, _ = trained(recipe, subject.batch)
    changed = [name for name, value in adapter.clip.state_dict().items() if not torch.equal(value, before[name])]
    _demand(not changed, f"training changed tensors of the frozen CLIP: {', '.join(changed[:3])}")
    touched = [name for name, p in adapter.clip.named_parameters() if p.requires_grad or p.grad is not None]
    _demand(not touched, f"these weights of the frozen CLIP take gradients: {', '.join(touched[:3])}")
    _demand(not adapter.train().clip.training, "the frozen CLIP must stay in evaluation mode")
    return f"the CLIP's {len(before)} tensors are as they were after training"


def gradients(subject: Subject) -> str:
    """Every learnable is float32 and gets a gradient."""
    adapter, moved = trained(subject.recipe(), subject.batch)
    for name, parameter in adapter.trainable().items():
        _demand(parameter.dtype == torch.float32, f"{name} must be float32, got {parameter.dtype}")
        # Not in the first step alone: a factor that starts at zero hides its partner there.
        _demand(name in moved, f"{name} never gets a gradient, so that it does not learn. Use it, or freeze it")
    return f"each of {len(adapter.trainable())} learnables gets one"


def round_trip(subject: Subject) -> str:
    """Learnables are saved and loaded without loss, strictly, and hold no CLIP weight."""
    adapter, _ = trained(subject.recipe(), subject.batch)
    content = save(adapter.learnables())
    saved = load(content)
    foreign = [name for name in saved if "clip" in name or "token" in name.split(".")]
    _demand(not foreign, f"the saved learnables hold parts of the CLIP: {', '.join(foreign[:3])}")
    fresh = subject.recipe(seed=2).adapter
    fresh.load_learnables(saved)
    with adapter.evaluating(), fresh.evaluating(), torch.no_grad():
        same = torch.equal(fresh(subject.batch).logits, adapter(subject.batch).logits)
    _demand(same, "an adapter built anew answers otherwise after loading: something learned is not saved")
    for name in list(saved)[:1]:
        for other in ({k: v for k, v in saved.items() if k != name}, {**saved, "prompt.other": torch.zeros(1)}):
            try:
                fresh.load_learnables(other)
            except ValueError:
                continue
            raise CheckFailed("learnables that are missing or spare must be refused")
    return f"{len(content):,} bytes, read back with equal answers"


def new_classes(subject: Subject) -> str:
    """Other classes are answered, or refused with the documented sentence; trained ones are answered as before."""
    adapter, _ = trained(subject.recipe(), subject.batch)
    if adapter.prompt.class_specific or adapter.head.class_specific:
        try:
            adapter.set_classes(OTHERS)
        except ValueError as error:
            _demand("cannot speak of other classes" in str(error), f"new classes are refused with {str(error)!r}")
            return "refused with a sentence, since there are values per class"
        raise CheckFailed("there are values per class, so new classes must be refused")
    with adapter.evaluating(), torch.no_grad():
        before = adapter(subject.batch).logits
        shared = adapter.for_texts(OTHERS)
        _demand(not shared.seen, "classes that were not trained on must not be taken for trained ones")
        shape = tuple(shared(subject.batch).logits.shape)
        expected = (len(subject.batch), len(OTHERS))
        _demand(shape == expected, f"logits of new classes must have shape {expected}, got {shape}")
        _demand(torch.equal(adapter(subject.batch).logits, before), "the adapter itself answers otherwise afterwards")
        back = adapter.set_classes(OTHERS).set_classes(subject.classes)
        _demand(back.seen, "the trained classes must be taken for trained ones again")
        _demand(
            torch.equal(back(subject.batch).logits, before), "the trained classes are answered otherwise afterwards"
        )
    return "answered, and the trained ones as before"


def two_precisions(subject: Subject) -> str:
    """With bfloat16 towers, learnables and logits stay float32 and answers stay near those in float32."""
    full = subject.recipe().adapter
    torch.manual_seed(0)  # of what a prompt draws, here and below
    expected = full(subject.batch).similarity
    half = subject.recipe(clip=copy.deepcopy(subject.clip).to(torch.bfloat16))
    half.adapter.load_learnables(full.learnables())
    logits = trained(half, subject.batch, steps=1)[0](subject.batch).logits
    _demand(logits.dtype == torch.float32, f"logits must be float32, got {logits.dtype}")
    wrong = [name for name, p in half.adapter.trainable().items() if p.dtype != torch.float32]
    _demand(not wrong, f"these learnables must stay float32: {', '.join(wrong[:3])}")
    half.adapter.load_learnables(full.learnables())
    # bfloat16 has 8 bits of mantissa; logits are 100 · cosine.
    torch.manual_seed(0)
    off = (half.adapter(subject.batch).similarity - expected).abs().max().item()
    _demand(off <= 4.0, f"similarities in bfloat16 must be within 4 of those in float32, and differ by {off:.2f}")
    return f"bfloat16 within {off:.2f} of float32, on the scale of 100 · cosine"


def learnables(subject: Subject) -> str:
    """Values that learn at ViT-B/16 sizes for ten classes; equal to what the module declares as `LEARNABLES`, if so."""
    here = count_learnables(subject.method, OPENAI_CONFIGS[COUNTED_AT], **subject.options)
    parts = parts_of(subject.method)
    declared = getattr(find(parts[0]), "LEARNABLES", None) if len(parts) == 1 and not subject.options else None
    if declared is None:
        return f"{here:,} values at the sizes of {COUNTED_AT}; no LEARNABLES is declared to compare with"
    _demand(here == declared, f"{declared:,} values are declared as LEARNABLES, {here:,} learn at {COUNTED_AT}")
    return f"{here:,} values at the sizes of {COUNTED_AT}, as declared"


CHECKS: dict[str, Callable[[Subject], str]] = {
    "frozen CLIP": frozen_clip,
    "gradients": gradients,
    "round trip": round_trip,
    "new classes": new_classes,
    "two precisions": two_precisions,
    "learnables": learnables,
}
"""Name → check, which returns a sentence and raises `CheckFailed` with one."""


def on_a_host(method: str, host: str = "coop") -> str:
    """The method itself; an add-on that stands alone is put on a host."""
    return f"{host}+{method}" if all(is_add_on(find(part)) for part in parts_of(method)) else method


def run_checks(method: str, clip: CLIP, options: Mapping[str, Any] | None = None) -> Iterator[Finding]:
    """Every common check of a method on a backbone, with random images; an error of the method is a failed check."""
    side = clip.image.resolution
    images = torch.rand(3, 3, side, side, generator=torch.Generator().manual_seed(5))
    subject = Subject(method, clip, Batch.of(images, torch.tensor([0, 3, 1])), options=dict(options or {}))
    for name, check in CHECKS.items():
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", message=".*have no descriptions")
                # A method that changes the CLIP must not fail the checks after the one that sees it.
                yield Finding(name, True, check(replace(subject, clip=copy.deepcopy(clip))))
        except CheckFailed as error:
            yield Finding(name, False, str(error))
        except Exception as error:
            yield Finding(name, False, f"{type(error).__name__}: {error}")


def _demand(holds: bool, sentence: str) -> None:
    if not holds:
        raise CheckFailed(f"{sentence}.")
