"""DAPT: foreground and background of an image, aligned with words apart from each other.  (arXiv:2508.00395)"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cliptune.adapter import Adapter, Outputs
from cliptune.batch import Batch
from cliptune.clip.ports import Ports, called
from cliptune.clip.tokens import TokenBatch
from cliptune.clip.towers.image import Patched
from cliptune.objectives.decoupled import DecoupledLoss
from cliptune.recipe import Recipe
from cliptune.texts import ClassSet
from cliptune.texts.word_list import read_word_list
from cliptune.wrappers.masks import USUAL_CELLS, Erased, GradCAMMasks, MaskSource, checked, given_masks

PAPER = "2508.00395"
ENTERS = "the host's loss"
EXACT = "gradients with dapt in bfloat16 were up to 5.0 % off in norm"
# Adds losses to what the host trains; what mixes prompts comes after it and trains with a loss of its own.
ORDER = 30

TEMPLATE = "a clean origami {}."
BACKGROUND = (
    "ground",
    "land",
    "grass",
    "tree",
    "building",
    "wall",
    "sky",
    "lake",
    "water",
    "river",
    "sea",
    "railway",
    "railroad",
    "keyboard",
    "helmet",
    "cloud",
    "house",
    "mountain",
    "ocean",
    "road",
    "rock",
    "street",
    "valley",
    "bridge",
    "sign",
)
FOOD = ("table", "forks", "tablecloth", "hands", "spoon", "glasses", "dishes")


@dataclass(frozen=True)
class Config:
    """Options.

    Args:
        dapt_source: where masks come from: "gradcam" of the very view that is trained on (DAPT-G); "exact" for those of
            Tinyworld; or a folder of mask files, found by the relative path of their picture, with 0 on the
            background, 255 where it is to be ignored, else the object (DAPT-S).
        dapt_pull, dapt_foreground, dapt_background: weights of pull-push, foreground and background terms, ≥ 0.
        dapt_gate: share of the epochs with pull-push alone, before the other two take over; in [0, 1].
        dapt_together: all terms in all epochs.
        dapt_margin: of pull-push.
        dapt_threshold: of the Grad-CAM masks, in (0, 1). dapt_per_batch: divide the map by the maximum of the batch,
            as released, instead of each image's own.
        dapt_words: number of background words used, 1 to 25. dapt_food: seven words of the dinner table besides.
        dapt_words_file: text file of background words in their place, one to a line, any number of them.
        dapt_own_words: those words themselves; kept with the run, whether a file gave them or this option.
        dapt_erase: share of the patches of each mask that lose their object, drawn anew for every view; in [0, 1). At
            least one keeps it. A control: what is the mask worth?
        dapt_prompts: "deep" replaces the rows of background texts from the second block on, as released; "full" puts
            the host's tokens at their input as well; None takes "full" where the host has nothing deeper.
    """

    dapt_source: str = "gradcam"
    dapt_pull: float = 0.8
    dapt_foreground: float = 0.1
    dapt_background: float = 0.5
    dapt_gate: float = 0.7
    dapt_together: bool = False
    dapt_margin: float = 1.5
    dapt_threshold: float = 0.5
    dapt_per_batch: bool = False
    dapt_words: int = 25
    dapt_food: bool = False
    dapt_words_file: str | None = None
    dapt_own_words: tuple[str, ...] = ()
    dapt_erase: float = 0.0
    dapt_prompts: Literal["deep", "full"] | None = None


def build(recipe: Recipe, config: Config = Config(), masks: MaskSource | None = None) -> Recipe:
    """Add the terms to every stage of the host that learns.

    Args:
        masks: how a batch gets its masks, in place of `dapt_source`.
    """
    adapter = recipe.adapter
    _check_config(config)
    if config.dapt_words_file is not None:
        # What is written down must not depend on a file that may change or stay behind.
        config = replace(config, dapt_words_file=None, dapt_own_words=read_word_list(config.dapt_words_file))
        recipe.config = {**recipe.config, "dapt_words_file": None, "dapt_own_words": config.dapt_own_words}
    ports = adapter.prompt()
    if ports.pixels is not None:
        raise ValueError(
            "dapt: this host draws on the pixels of its views, which masks would cut apart. "
            "Use a host that learns prompt tokens or biases."
        )
    if not any(stage.optimiser is not None for stage in recipe.stages):
        raise ValueError("dapt: this host takes no gradient steps, so losses cannot be added to it. Use another host.")
    if not any(p.requires_grad for p in adapter.prompt.parameters()):
        raise ValueError("dapt: this host learns no prompt, which is what the terms act on. Use another host.")
    image, text = not adapter.image_is_frozen, not adapter.text_is_frozen
    stored = config.dapt_source if masks is None and config.dapt_source != "gradcam" else None
    if stored is not None:
        masks = given_masks
        for name in ("dapt_threshold", "dapt_per_batch"):
            if getattr(config, name) != getattr(Config, name):
                raise ValueError(
                    f"dapt: {name} is for masks by Grad-CAM, and dapt_source={config.dapt_source!r} does not look at "
                    "it. Leave it out."
                )
        recipe.flags = {
            **recipe.flags,
            "external_models": [*recipe.flags.get("external_models", ()), f"masks: {stored}"],
        }
    if masks is None:
        tower = adapter.clip.image
        if not isinstance(tower, Patched):
            raise ValueError(
                f"dapt: Grad-CAM masks need the patches of a ViT, but this backbone has a {called(tower)}. "
                "Use a ViT backbone, or give masks: dapt_source=FOLDER."
            )
        masks = GradCAMMasks(
            tower.patches, tower.resolution, config.dapt_threshold, config.dapt_per_batch, tower.prefix
        )
    if config.dapt_erase:
        tower = adapter.clip.image
        cells = round(tower.patches**0.5) if isinstance(tower, Patched) else USUAL_CELLS
        masks = Erased(masks, cells, config.dapt_erase)
    if not image:
        recipe.remarks += ("pull-push cannot act, because no learnable reaches the image",)
    if not text:
        recipe.remarks += ("the foreground term cannot act, because no learnable reaches the texts",)
    source = Decoupling(adapter, masks, config)
    if config.dapt_prompts is None:
        chosen = "full" if source.words is None else "deep"
        recipe.notes += (f"dapt: dapt_prompts was left out and is {chosen!r}, for a host with these text tokens.",)
    deeper = set(ports.text.tokens) - {0} or ports.text.kinds - {"tokens"}
    background = image or source.words is None or bool(deeper)
    if not background:
        recipe.remarks += ("the background term cannot act with dapt_prompts='deep' on a host with nothing deeper",)
    adapter.extras["decoupled"] = source
    for stage in recipe.stages:
        if stage.objective is not None:
            stage.masks = stored
            stage.objective = DecoupledLoss(
                stage.objective,
                # A term whose gradient is zero everywhere is not worth its passes.
                pull=config.dapt_pull if image else 0.0,
                foreground=config.dapt_foreground if text else 0.0,
                background=config.dapt_background if background else 0.0,
                gate=config.dapt_gate if image else 0.0,
                margin=config.dapt_margin,
                together=config.dapt_together,
            )
    recipe.exact = recipe.exact or EXACT
    return recipe


def _check_config(config: Config) -> None:
    for name in ("dapt_pull", "dapt_foreground", "dapt_background", "dapt_margin"):
        if not 0 <= getattr(config, name) < math.inf:
            raise ValueError(f"dapt: {name} must be a number of at least 0, got {getattr(config, name)}.")
    if not config.dapt_source:
        raise ValueError("dapt: dapt_source must be gradcam, exact, or a folder of mask files, got an empty name.")
    if not 0 <= config.dapt_gate <= 1:
        raise ValueError(f"dapt: dapt_gate must be between 0 and 1, got {config.dapt_gate}.")
    if not 1 <= config.dapt_words <= len(BACKGROUND):
        raise ValueError(f"dapt: dapt_words must be between 1 and {len(BACKGROUND)}, got {config.dapt_words}.")
    if config.dapt_own_words and config.dapt_words_file is not None:
        raise ValueError("dapt: dapt_words_file and dapt_own_words both name the background words. Give one of them.")
    if (config.dapt_own_words or config.dapt_words_file is not None) and config.dapt_words != len(BACKGROUND):
        raise ValueError(
            f"dapt: dapt_words={config.dapt_words} counts the paper's words, and dapt_words_file takes others, all of "
            "them. Leave one out."
        )
    if not 0 <= config.dapt_erase < 1:
        raise ValueError(f"dapt: dapt_erase must be at least 0 and below 1, got {config.dapt_erase}.")
    if config.dapt_prompts not in (None, "deep", "full"):
        raise ValueError(f"dapt: dapt_prompts must be one of deep, full, got {config.dapt_prompts!r}.")


class Decoupling:
    """What `Adapter.extras` holds: for each batch, an object that computes the parts of the images when asked.

    Args:
        masks: see `MaskSource`. config: which background words, and how they are prompted.
    """

    def __init__(self, adapter: Adapter, masks: MaskSource, config: Config) -> None:
        self.masks = masks
        listed = tuple(config.dapt_own_words) or BACKGROUND[: config.dapt_words]
        self.names = words = (*listed, *(FOOD if config.dapt_food else ()))
        ports = adapter.prompt()
        prompts = config.dapt_prompts or ("deep" if set(ports.text.tokens) - {0} else "full")
        n = ports.text.tokens[0].shape[-2] if ports.text.tokens else 0
        self.background, self.words = _background_texts(adapter, words, n)
        if prompts == "full":
            self.words = None

    @contextmanager
    def __call__(self, adapter: Adapter, batch: Batch) -> Iterator[Parts]:
        """Around a forward pass: what its last image block sees is kept for Grad-CAM."""
        parts = Parts(self, adapter, batch)
        tower = adapter.clip.image
        if not isinstance(tower, Patched) or not getattr(self.masks, "needs_rows", False):
            yield parts
            return
        tower.watch = parts.keep
        try:
            yield parts
        finally:
            tower.watch = None


def _background_texts(adapter: Adapter, words: tuple[str, ...], n: int) -> tuple[TokenBatch, Tensor | None]:
    """Background sentences with the places that the host's deep tokens take, and what stands there by nature (n, d)."""
    clip = adapter.clip
    lead = TEMPLATE.split("{}")[0].split()
    # More tokens than words before the name: placeholders are put in front, so that the name stays.
    sentence = TEMPLATE if n <= len(lead) else " ".join(["X"] * n) + " " + TEMPLATE
    texts = clip.tokenize([sentence.replace("{}", word) for word in words])
    if not n:
        return texts, None
    ids, slots = texts.ids, torch.arange(texts.head, texts.head + n, device=texts.ids.device).expand(len(texts), n)
    nature = clip.text.token_embedding(ids[0, texts.head : texts.head + n]).detach()
    return TokenBatch(ids, slots.contiguous(), **texts.marks), nature


class Parts:
    """The foreground and background of one batch; each is encoded when it is first asked for.

    The foreground is only a target and costs no backward pass; the background costs one in the second phase alone.

    Attributes:
        own: which rows of the batch these are: all, but for images that a sampler added.
    """

    def __init__(self, source: Decoupling, adapter: Adapter, batch: Batch) -> None:
        self.source, self.adapter, self.batch = source, adapter, batch
        self.own: slice | Tensor = slice(None) if batch.added is None else ~batch.added
        self.rows: Tensor | None = None
        self.ports: Ports = Ports()
        self.out: Outputs | None = None

    def keep(self, rows: Tensor) -> Tensor:
        """Called by the image tower with the input of its last attention, (B, T, d)."""
        if self.rows is not None:  # the frozen reference passes after the adapter's own answer
            return rows
        # Where no learnable reaches the image, the graph of Grad-CAM starts here.
        self.rows = rows if rows.requires_grad else rows.detach().requires_grad_(torch.is_grad_enabled())
        return self.rows

    def complete(self, ports: Ports, out: Outputs) -> None:
        """The forward pass is done: the sample of the prompt it used, and its answer."""
        self.ports, self.out = ports, out

    @cached_property
    def labels(self) -> Tensor:
        """Labels of the rows `own`; the adapter's own answer where there is none."""
        return self._labels[self.own]

    @property
    def _labels(self) -> Tensor:
        assert self.out is not None
        return torch.where(self.batch.labels >= 0, self.batch.labels, self.out.logits.argmax(dim=-1))

    @cached_property
    def masks(self) -> Tensor:
        """(B, 1, R, R), 1 on the foreground; of the rows `own`."""
        assert self.out is not None
        if not self.batch.images.numel():
            raise ValueError(
                "dapt: the images themselves are needed to mask them, but this run keeps only their embeddings. "
                "Leave `views` out, and train on augmented images."
            )
        score = self.out.logits.gather(1, self._labels[:, None]).squeeze(1)
        return checked(self.source.masks(self.batch, score, self.rows), self.batch)[self.own]

    def image_features(self, part: Literal["foreground", "background"], gradient: bool = False) -> Tensor:
        """Unit features (B, D) of one part of the images."""
        return F.normalize(self._embedding(part, gradient), dim=-1)

    def _embedding(self, part: Literal["foreground", "background"], gradient: bool = False) -> Tensor:
        """Embedding (B, D) of one part of the images, encoded with the same sample of the prompt.

        Removed pixels take the mean colour that CLIP was trained with: zero after normalising, as released. A BatchNorm
        of the host (PromptKD's projector) compares the parts with each other; its running statistics, which evaluation
        uses on whole images, stay those of whole images.
        """
        kept = self.masks if part == "foreground" else 1 - self.masks
        clip, ports = self.adapter.clip, self.ports
        with torch.set_grad_enabled(gradient and torch.is_grad_enabled()), _statistics_kept(self.adapter):
            views = clip.normalise(self.batch.images[self.own]) * kept
            embedding = clip.encode_image(views[:, None], ports.image)
            if ports.features is not None:
                embedding = ports.features(embedding)
            return embedding[:, 0]

    def foreground_logits(self) -> Tensor:
        """(B, C) of the foreground, image side without gradient."""
        assert self.out is not None
        embedding = self._embedding("foreground")[:, None]
        similarity = self.adapter.clip.scale * F.normalize(embedding, dim=-1) @ self.out.text_features.mT
        return self.adapter.head(similarity, self.adapter.texts, embedding)

    def background_similarity(self) -> Tensor:
        """(B, words), scaled, of the background with the background words."""
        features = self.image_features("background", gradient=True)[:, None]
        return (self.adapter.clip.scale * features @ self.background_text_features(features).mT)[:, 0]

    def background_text_features(self, image_features: Tensor) -> Tensor:
        """Unit features (I, words, D) of the background texts, prompted as the host's are, or those of its teacher."""
        known = self.adapter.known_texts
        if known is not None:
            with torch.no_grad():
                return known(ClassSet(self.source.names, TEMPLATE))
        text = self.ports.text_given(image_features)
        if self.source.words is not None:
            text = replace(text, tokens={**text.tokens, 0: self.source.words})
        return F.normalize(self.adapter.clip.encode_text(self.source.background, text), dim=-1)


@contextmanager
def _statistics_kept(adapter: Adapter) -> Iterator[None]:
    """No BatchNorm of the prompt counts the batches inside the block; those in training still use them."""
    norms = [part for part in adapter.prompt.modules() if isinstance(part, nn.BatchNorm1d) and part.training]
    for norm in norms:
        norm.track_running_stats = False
    try:
        yield
    finally:
        for norm in norms:
            norm.track_running_stats = True


def use_masks(adapter: Adapter, masks: MaskSource) -> None:
    """Take the masks of an adapter's foreground terms from elsewhere (DAPT-S). Raises: ValueError without dapt."""
    source: Any = adapter.extras.get("decoupled")
    if source is None:
        raise ValueError("use_masks: the adapter was not built with dapt. Add '+dapt' to its method.")
    source.masks = masks
