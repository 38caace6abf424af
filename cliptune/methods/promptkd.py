"""PromptKD: image tokens and a projector that learn a larger teacher's answers.  (arXiv:2403.02781)"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from cliptune.adapter import Adapter, Outputs
from cliptune.batch import Batch
from cliptune.clip.model import CLIP
from cliptune.heads import MeanHead
from cliptune.objectives import distillation
from cliptune.prompts import DeepTokens, NoPrompt, Together
from cliptune.prompts.depth import check_tokens, resolve_depth, shallower
from cliptune.prompts.projector import Projector
from cliptune.recipe import OptimiserConfig, Recipe, Stage
from cliptune.registry.released_names import deep_token_count, image_token_name
from cliptune.texts import ClassSet, TemplatePhrasing
from cliptune.texts.known import KnownTexts

PAPER = "2403.02781"
ENTERS = "image.tokens, features"
PUBLISHED_DEPTH = 9
ZEROSHOT = "zeroshot"


@dataclass(frozen=True)
class Config:
    """Options.

    Args:
        teacher: an adapter, of any method and backbone, that knows the classes: one just trained, one of a run
            (`cliptune.load(folder)`), or one of a released checkpoint (`interop.from_published(…).adapter`).
            "zeroshot" is the student's own CLIP with the data set's sentence. (A description in words, with `width`,
            stands for a teacher that is not at hand: the adapter can then be loaded and used, not trained.)
        names: classes whose teacher texts are kept with the student, in this order; () for the teacher's own and the
            student's. A student speaks of these, and of others only while its teacher is at hand.
        width: embedding size of a teacher that is not at hand; 0 if it is.
        transductive: say that the training images include, unlabelled, those of classes that are tested as new. It
            changes no number: which images are seen is the data's business, and this flags it in the result.
        n_ctx: image tokens per prompted block. depth: prompted blocks; None for the paper's 9, or all of a shallower
            tower.
        temperature: τ. weight: of the loss.
        lr, batch_size, epochs: of SGD with the field's schedule. The last epoch is kept; the release takes the best one
            on test images.
    """

    teacher: Any = ZEROSHOT
    names: tuple[str, ...] = ()
    width: int = 0
    transductive: bool = False
    n_ctx: int = 4
    depth: int | None = None
    temperature: float = 1.0
    weight: float = 1000.0
    lr: float = 5e-3
    batch_size: int = 8
    epochs: int = 20


def build(clip: CLIP, classes: ClassSet, config: Config = Config()) -> Recipe:
    check_tokens("promptkd", "n_ctx", config.n_ctx)
    depth = resolve_depth("promptkd", "image", clip.image, config.depth, PUBLISHED_DEPTH)
    if not config.temperature > 0:
        raise ValueError(f"promptkd: the temperature must be above 0, got {config.temperature}.")
    external = config.teacher != ZEROSHOT
    teacher = config.teacher
    if not external:
        teacher = Adapter(clip, classes, TemplatePhrasing(), NoPrompt(), MeanHead())
    names = tuple(config.names)
    if isinstance(teacher, Adapter):
        names = names or _all_names(teacher, classes)
        texts = KnownTexts(names, _texts(teacher, ClassSet(names, classes.template))[0], _Source(teacher))
        objective = FromTeacher(config.temperature, config.weight, teacher)
        if config.width not in (0, texts.features.shape[-1]):
            raise ValueError(
                "promptkd: width is for a teacher that is not at hand; this one's texts have "
                f"{texts.features.shape[-1]} values, got {config.width}. Leave it out."
            )
    elif config.width:
        texts = KnownTexts(names or classes.names, torch.zeros(len(names or classes.names), config.width))
        objective = FromTeacher(config.temperature, config.weight)
    else:
        raise ValueError(
            f"promptkd: the teacher must be an adapter or 'zeroshot', got {teacher!r}, and no run lies there. Open a "
            "run with cliptune.load(folder), or a released checkpoint with interop.from_published(…).adapter."
        )
    starts = [0.02 * torch.randn(config.n_ctx, clip.image.width) for _ in range(depth)]
    width = texts.features.shape[-1]
    prompt = Together(image=DeepTokens("image", starts), projector=Projector(clip.image.embed, width))
    adapter = Adapter(clip, classes, TemplatePhrasing(), prompt, MeanHead(), known_texts=texts.to(clip.device))
    stage = Stage(objective, config.epochs, config.batch_size, OptimiserConfig(lr=config.lr), whole_batch=True)
    described = _described(teacher) if isinstance(teacher, Adapter) else str(teacher)
    return Recipe(
        adapter,
        [stage],
        # What is written down must be plain, and enough to build the adapter again without its teacher.
        config={"teacher": described, "names": list(names), "width": width} if external else {},
        flags={
            "external_models": [f"teacher: {described}"] if external else [],
            "extra_images": config.transductive,
            "unlabelled_test_images": config.transductive,
        },
        notes=(
            *shallower("promptkd", config.depth, depth, PUBLISHED_DEPTH),
            *(_on_teacher(clip, teacher, config, names) if isinstance(teacher, Adapter) else ()),
        ),
    )


def _on_teacher(clip: CLIP, teacher: Adapter, config: Config, names: tuple[str, ...]) -> list[str]:
    """What was chosen of the teacher's side, as sentences."""
    notes = []
    ours, theirs = clip.image.resolution, teacher.clip.image.resolution
    if ours != theirs:
        notes.append(
            f"promptkd: the teacher sees the student's images of {ours} pixels resized to its {theirs}, not the files."
        )
    if not config.names and config.teacher != ZEROSHOT:
        notes.append(f"promptkd: names was left out, so the teacher's texts of {len(names)} classes are kept.")
    return notes


class FromTeacher:
    """The teacher's answers to the very images that the student sees; no label is looked at.

    Args:
        temperature, weight: of the loss.
        teacher: adapter; None if it is not at hand, and training raises a ValueError.
    """

    needs: frozenset[str] = frozenset()

    def __init__(self, temperature: float, weight: float, teacher: Adapter | None = None) -> None:
        self.temperature, self.weight, self.teacher = temperature, weight, teacher

    def __call__(self, out: Outputs, batch: Batch, progress: float) -> tuple[Tensor, dict[str, Tensor]]:
        loss = distillation(out.logits, self.logits(out, batch), self.temperature, self.weight)
        return loss, {"kd": loss / self.weight}

    @torch.no_grad()
    def logits(self, out: Outputs, batch: Batch) -> Tensor:
        """The teacher's logits (B, C), with the class texts that teacher and student share."""
        if self.teacher is None:
            raise ValueError(
                "promptkd: this student was opened without its teacher, so it cannot be trained. "
                "Build it with teacher=an adapter."
            )
        teacher = self.teacher.to(batch.images.device)
        side = teacher.clip.image.resolution
        images = batch.images
        if images.shape[-1] != side:
            images = F.interpolate(images, (side, side), mode="bicubic", antialias=True).clamp(0, 1)
        with teacher.evaluating():
            ports = teacher.prompt(seen=teacher.seen)
            seen = Batch(images, batch.labels, batch.index)
            embedding = teacher.clip.encode_image(teacher.views(seen, ports.pixels), ports.image)
            if ports.features is not None:
                embedding = ports.features(embedding)
        features = F.normalize(embedding, dim=-1)
        return (teacher.clip.scale * features @ out.text_features.mT).mean(dim=1)


class _Source:
    """Text features of further classes, from a teacher that is at hand."""

    def __init__(self, teacher: Adapter) -> None:
        self.teacher = teacher

    def __call__(self, classes: ClassSet) -> Tensor:
        return _texts(self.teacher, classes)


@torch.no_grad()
def _texts(teacher: Adapter, classes: ClassSet) -> Tensor:
    """The teacher's unit features (1, C, D). Raises: ValueError if it does not have one per class."""
    own, asked_once = teacher.trained_classes, dict.fromkeys(classes.names)
    known, others = [tuple(name for name in asked_once if (name in own.names) == told) for told in (True, False)]
    if known and others:  # a teacher may speak of trained classes in another way than of new ones
        rows: dict[str, Tensor] = {}
        for part in (known, others):
            rows |= zip(part, _texts(teacher, ClassSet(part, classes.template))[0], strict=True)
        return torch.stack([rows[name] for name in classes.names])[None]
    names = classes.names if classes.names != own.names else own
    asked = teacher.for_texts(names)
    with asked.evaluating():
        features = asked.text_features()
    if features is None or features.shape[:2] != (1, len(classes)):
        raise ValueError(
            "promptkd: the teacher must have one text feature per class that does not depend on the image, and this "
            f"one ({_described(teacher)}) has not. Use a teacher such as promptsrc, maple or zeroshot."
        )
    return features


def _all_names(teacher: Adapter, classes: ClassSet) -> tuple[str, ...]:
    own = teacher.trained_classes.names
    return classes.names if classes.names == own else tuple(dict.fromkeys((*own, *classes.names)))


def _described(teacher: Adapter) -> str:
    """The same words for the same teacher: how it was built, its backbone, and a fingerprint of what it learned."""
    learned = hashlib.sha256()
    for name, value in sorted(teacher.learnables().items()):
        learned.update(f"{name} {tuple(value.shape)} ".encode() + value.numpy().tobytes())
    built = teacher.built_as or type(teacher.prompt).__name__
    return f"{built} on {teacher.clip.name} ({learned.hexdigest()[:12]})"


def published_name(name: str) -> str | None:
    """Name of a learnable in the released code's state dict; the teacher's texts are not in it."""
    if name.startswith("known_texts."):
        return None
    part = name.removeprefix("prompt.parts.")
    if part.startswith("image."):
        return image_token_name(int(part.split(".")[2]))
    return part.replace("projector.map", "VPT_image_trans.conv1")


def published_tensor(name: str, value: Tensor) -> Tensor:
    """A learnable in the shape of the release, where linear maps are 1 × 1 convolutions."""
    linear = "projector.map" in name and value.ndim == 2
    return value[..., None, None] if linear else value


def published_options(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """Options that a released state dict implies; the teacher has to be given."""
    return {
        "n_ctx": len(tensors["image_encoder.VPT"]),
        "depth": deep_token_count(tensors, "image_encoder"),
    }
