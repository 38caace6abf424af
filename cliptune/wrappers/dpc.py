"""DPC: a parallel prompt against hard negatives, mixed with the tuned one by task.  (arXiv:2503.13443)"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from torch import nn

from cliptune.adapter import Adapter
from cliptune.clip.ports import mix
from cliptune.objectives import WeightedLoss, cross_entropy
from cliptune.objectives.contrastive import hard_negative_contrast
from cliptune.objectives.decoupled import DecoupledLoss
from cliptune.params import LowRank
from cliptune.prompts.dual import MODES, DualPrompt, Mode, map_parameters
from cliptune.prompts.projector import Projector
from cliptune.recipe import HostStages, Objective, OptimiserConfig, Recipe, Stage
from cliptune.wrappers.negatives import HardNegatives

PAPER = "2503.13443"
ENTERS = "where the host does"
# Last of what changes the prompt: it mixes what enters the towers, whatever that is made of.
ORDER = 40
# Until its own stage begins, nothing happens but the host's training.
CONTINUES = True
PAPERS_NEGATIVES = 8


@dataclass(frozen=True)
class Config:
    """Options.

    Args:
        dpc_base_weight, dpc_new_weight: ω for the trained classes and for others, in [0, 1].
        dpc_mode: "paper" trains the parallel prompt itself; "converse", "released" and "mixed_forward" as in
            `DualPrompt`, with their other effective learning rates.
        dpc_negatives: K, hard classes looked at per image; None for the paper's 8, or all classes if there are
            fewer.
        dpc_sampler: "paper" or "released" choice of negatives; as a control "random" classes in place of hard ones.
            dpc_duplicates: "mask" or "keep" pairs of one class as negatives of each other. None follows the mode:
            released with "released", else the paper.
        dpc_loss: "contrast", or as a control "ce": cross-entropy over all classes, of the same images.
        dpc_keep_host_losses: keep the host's regularisers beside the contrast that replaces its cross-entropy.
        dpc_start: "tuned" clones the tuned prompt, "fresh" starts where the host started.
        dpc_train_maps: let coupling maps (MaPLe) learn in the second stage.
        dpc_factors: low-rank matrices begin the second stage "new", with a zero product on the merged tuned matrix,
            or as a "clone" of the tuned factors on the tuned start, so that the change may reach rank 2 r.
        dpc_mix: "raw" mixes tokens as they are. "ln" mixes what a block's first LayerNorm makes of them, where nothing
            else reads them, so that of two tokens the longer one does not weigh more; with dpc_mode="paper" only.
        dpc_pull_push: keep the pull-push term of dapt in the second stage, on the images of the batch and not on their
            negatives. The other terms of dapt belong to the first stage.
        dpc_lr, dpc_batch_size, dpc_epochs: of the second stage; images per batch before negatives are added.
    """

    dpc_base_weight: float = 0.2
    dpc_new_weight: float = 0.0
    dpc_mode: Mode = "paper"
    dpc_negatives: int | None = None
    dpc_sampler: Literal["paper", "released", "random"] | None = None
    dpc_duplicates: Literal["mask", "keep"] | None = None
    dpc_loss: Literal["contrast", "ce"] = "contrast"
    dpc_keep_host_losses: bool = True
    dpc_start: Literal["tuned", "fresh"] = "tuned"
    dpc_train_maps: bool = False
    dpc_factors: Literal["new", "clone"] = "new"
    dpc_mix: Literal["raw", "ln"] = "raw"
    dpc_pull_push: bool = False
    dpc_lr: float = 2e-3
    dpc_batch_size: int = 4
    dpc_epochs: int = 20


def build(recipe: Recipe, config: Config = Config()) -> Recipe:
    adapter = recipe.adapter
    _check_config(config)
    _check_host(recipe)
    negatives = _negatives(config, len(adapter.classes))
    if config.dpc_negatives is None and negatives < PAPERS_NEGATIVES:
        recipe.notes += (
            f"dpc: dpc_negatives was left out and is {negatives}, all classes, not the paper's {PAPERS_NEGATIVES}.",
        )
    host = next(stage for stage in reversed(recipe.stages) if stage.optimiser is not None)
    prompt = DualPrompt(
        adapter.prompt,
        config.dpc_mode,
        config.dpc_base_weight,
        config.dpc_new_weight,
        fresh=config.dpc_start == "fresh",
        train_maps=config.dpc_train_maps,
        clone_factors=config.dpc_factors == "clone",
        normalised=_read_through_norm(adapter) if config.dpc_mix == "ln" else {},
    )
    if config.dpc_mode == "converse" and prompt.fresh and _bilinear(prompt, config):
        raise ValueError(
            "dpc: dpc_start='fresh' with dpc_mode='converse' mixes parameters, which is only right where they are what "
            "enters the towers; low-rank factors and trained maps are not. Use dpc_mode='paper'."
        )
    if adapter.prompt.class_specific:
        recipe.remarks += ("trained classes only, so that the weight for new ones does not matter",)
    if adapter.prompt().condition is not None:
        recipe.remarks += ("both networks that shift the text by the image run at test",)
    coupled = map_parameters(adapter.prompt) - map_parameters(adapter.prompt, Projector)
    if config.dpc_train_maps and not coupled:
        raise ValueError(
            "dpc: dpc_train_maps is for hosts whose prompts are coupled by maps, such as maple, and this one has none. "
            "Leave it out."
        )
    if coupled:
        kept = "learn" if config.dpc_train_maps else "stay those of the tuned prompt"
        recipe.remarks += (f"maps between prompts {kept} in the second stage",)
    adapter.prompt = prompt
    recipe.host_stages = HostStages(recipe.method, len(recipe.stages), "prompt.tuned.")
    for stage in recipe.stages:
        if stage.optimiser is not None:
            stage.optimiser = stage.optimiser.moved("prompt.", "prompt.tuned.")
    released = config.dpc_mode == "released"
    rule = config.dpc_sampler or ("released" if released else "paper")
    for option, given in (("dpc_sampler", config.dpc_sampler), ("dpc_duplicates", config.dpc_duplicates)):
        if given is None and released:
            recipe.notes += (f"dpc: {option} was left out and is the release's, as dpc_mode='released' is.",)
    # A host that learns from a teacher lets the teacher say what is hard.
    sampler = HardNegatives(negatives, rule, getattr(_alone(host.objective), "logits", None))
    recipe.stages.append(
        Stage(
            _objective(host, config),
            config.dpc_epochs,
            config.dpc_batch_size,
            OptimiserConfig(lr=config.dpc_lr, factors=_parallel_factors(host)),
            name="dpc",
            resize_first=host.resize_first,
            sampler=sampler,
            masks=host.masks if config.dpc_pull_push else None,
            before=(_open, sampler.forget),
        )
    )
    return recipe


def _open(adapter: Adapter) -> None:
    assert isinstance(adapter.prompt, DualPrompt)
    adapter.prompt.open()


def _check_config(config: Config) -> None:
    for name, value, known in (
        ("dpc_mode", config.dpc_mode, MODES),
        ("dpc_sampler", config.dpc_sampler, (None, "paper", "released", "random")),
        ("dpc_duplicates", config.dpc_duplicates, (None, "mask", "keep")),
        ("dpc_loss", config.dpc_loss, ("contrast", "ce")),
        ("dpc_start", config.dpc_start, ("tuned", "fresh")),
        ("dpc_factors", config.dpc_factors, ("new", "clone")),
        ("dpc_mix", config.dpc_mix, ("raw", "ln")),
    ):
        if value not in known:
            raise ValueError(f"dpc: {name} must be one of {', '.join(filter(None, known))}, got {value!r}.")
    if config.dpc_loss == "ce" and config.dpc_duplicates is not None:
        raise ValueError(
            f"dpc: dpc_duplicates={config.dpc_duplicates!r} is about pairs of the contrast, and dpc_loss='ce' has "
            "none. Leave it out."
        )
    for name in ("dpc_base_weight", "dpc_new_weight"):
        if not 0 <= getattr(config, name) <= 1:
            raise ValueError(f"dpc: {name} (ω) must be between 0 and 1, got {getattr(config, name)}.")
    if config.dpc_mode != "paper" and config.dpc_base_weight == 0:
        raise ValueError(
            f"dpc: mode {config.dpc_mode!r} scales the gradient by ω or 1 / ω, so dpc_base_weight must be above 0. "
            "Use dpc_mode='paper' for ω = 0."
        )
    if config.dpc_mix == "ln" and config.dpc_mode != "paper":
        raise ValueError(
            f"dpc: dpc_mix='ln' mixes in evaluation alone, but mode {config.dpc_mode!r} mixes raw tokens in training. "
            "Use dpc_mode='paper'."
        )


def _check_host(recipe: Recipe) -> None:
    adapter = recipe.adapter
    if not any(stage.optimiser is not None for stage in recipe.stages) or not any(
        p.requires_grad for p in adapter.prompt.parameters()
    ):
        raise ValueError(
            "dpc: this host trains no prompt, so there is nothing to clone and mix. Use a host that learns prompt "
            "tokens or biases, such as coop, maple or bias_tuning."
        )
    if any(p.requires_grad for p in adapter.head.parameters()):
        raise ValueError(
            "dpc: this host learns in its head as well, and heads are not mixed. Use a host that learns prompts only."
        )
    ports = adapter.prompt()
    if ports.pixels is not None:
        raise ValueError(
            "dpc: this host draws on the pixels, and views of an image cannot be mixed like prompts. "
            "Use a host that learns prompt tokens or biases."
        )
    if ports.text_features is not None:
        raise ValueError(
            "dpc: this host learns behind the text tower, and text embeddings are not mixed like prompts. "
            "Use a host that learns prompt tokens or biases."
        )
    if ports.image.empty and ports.text.empty:
        raise ValueError("dpc: this host's prompt enters neither tower as tokens or biases, which is what dpc mixes.")
    mix(ports, ports, 0.5)


def _negatives(config: Config, classes: int) -> int:
    if config.dpc_negatives is None:
        return min(PAPERS_NEGATIVES, classes)
    if not 2 <= config.dpc_negatives <= classes:
        raise ValueError(
            f"dpc: dpc_negatives (K) must be between 2 and the number of classes, {classes}, "
            f"got {config.dpc_negatives}. Use a smaller K, or leave it out."
        )
    return config.dpc_negatives


def _read_through_norm(adapter: Adapter) -> dict[str, frozenset[int]]:
    """Tower → layers whose tokens only a LayerNorm reads: they are dropped after their block.

    The first image tokens pass one before their block; the first text tokens stand in the residual stream as they are.
    """
    ports, found = adapter.prompt(), {}
    for name, tokens in (("text", ports.text.tokens), ("image", ports.image.tokens)):
        last = len(getattr(adapter.clip, name).transformer) - 1 if tokens else -1
        dropped = {layer for layer in tokens if layer + 1 in tokens or layer == last}
        found[name] = frozenset(dropped - {0} if name == "text" else dropped | (tokens.keys() & {0}))
    if not any(found.values()):
        raise ValueError(
            "dpc: dpc_mix='ln' is for tokens that a LayerNorm alone reads, deep ones and those of images, and this "
            "host has none. Use dpc_mix='raw'."
        )
    return found


def _objective(host: Stage, config: Config) -> Objective:
    duplicates = config.dpc_duplicates or ("keep" if config.dpc_mode == "released" else "mask")
    objective = _alone(host.objective)
    only_ce = getattr(objective, "fn", None) is cross_entropy
    kept = None if only_ce or not config.dpc_keep_host_losses else objective
    needs = frozenset() if kept is None else kept.needs
    plain = config.dpc_loss == "ce"
    contrast = WeightedLoss(hard_negative_contrast, needs, duplicates=duplicates, host=kept, plain=plain)
    if not config.dpc_pull_push:
        return contrast
    terms = host.objective
    if not isinstance(terms, DecoupledLoss) or not terms.pull:
        raise ValueError(
            "dpc: dpc_pull_push keeps a term of dapt, and "
            + ("it cannot act on this host." if isinstance(terms, DecoupledLoss) else "dapt is not joined.")
            + " Leave it out, or use a method such as maple+dapt+dpc."
        )
    return DecoupledLoss(contrast, terms.pull, foreground=0.0, background=0.0, gate=1.0, margin=terms.margin)


def _alone(objective: Objective | None) -> Any:
    """The host's own objective, without the terms of dapt: these belong to the first stage."""
    return objective.host if isinstance(objective, DecoupledLoss) else objective


def _bilinear(prompt: nn.Module, config: Config) -> bool:
    return config.dpc_train_maps or any(isinstance(module, LowRank) for module in prompt.modules())


def _parallel_factors(host: Stage) -> dict[str, float]:
    assert host.optimiser is not None
    return {key.replace("prompt.tuned.", "prompt.parallel.", 1): f for key, f in host.optimiser.factors.items()}
