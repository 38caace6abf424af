"""A tuned prompt and a parallel one beside it, mixed where they enter the towers."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Literal

import torch
from torch import Tensor, nn

from cliptune.clip.ports import Ports, TowerPorts, mix
from cliptune.params import LowRank
from cliptune.prompts.base import Prompt
from cliptune.prompts.projector import Projector

Mode = Literal["paper", "converse", "released", "mixed_forward"]
MODES = ("paper", "converse", "released", "mixed_forward")


class DualPrompt(Prompt):
    """P, tuned first and then frozen, and P', trained after it; the classes asked about decide how they are mixed.

    Until `open` is called it is P alone, and P learns. Afterwards P' learns, and in evaluation the towers see
    ω P' + (1 − ω) P, with ω_base where the classes are the trained ones and ω_new elsewhere. With ω = ω_base, M for
    the stored parameters and η for the rate of SGD (weight decay aside):

    | mode | the towers see in training | is plain SGD on it at rate | scored on trained classes |
    |---|---|---|---|
    | paper | P' = M | η | ω P' + (1 − ω) P |
    | converse | P' = (M − (1 − ω) P) / ω | η / ω² | P' |
    | released | P' = M, gradient times 1 / ω | η / ω | P' |
    | mixed_forward | ω M + (1 − ω) P | ω² η | ω M + (1 − ω) P |

    "converse" is what the paper's code documents, "released" what it executes: there P is stored together with M, so
    that un-mixing does nothing. Both score trained classes with P' alone.

    Args:
        tuned: any prompt that enters at tokens and biases. Low-rank matrices restart as a new low-rank branch on
            their merged values; of a low-rank tuned prompt always the merged value is mixed.
        mode: see above. base_weight, new_weight: ω_base and ω_new.
        fresh: P' starts where P once started, instead of at the tuned P.
        train_maps: let the maps of coupled prompts learn in P' too, instead of keeping P's. A projector behind the
            tower is always P's.
        clone_factors: low-rank matrices of P' go on from the factors of P, instead of a new branch.
        normalised: "text" and "image" → layers whose tokens are mixed by `mix_normalised`, in evaluation.

    Attributes:
        weight: ω to use in evaluation whatever the classes; None lets them decide.
    Source: DPC (arXiv:2503.13443). What enters a tower is mixed, never factors or maps.
    """

    opened: Tensor

    def __init__(
        self,
        tuned: Prompt,
        mode: Mode = "paper",
        base_weight: float = 0.2,
        new_weight: float = 0.0,
        fresh: bool = False,
        train_maps: bool = False,
        clone_factors: bool = False,
        normalised: Mapping[str, frozenset[int]] = MappingProxyType({}),
    ) -> None:
        super().__init__()
        self.tuned, self.parallel = tuned, copy.deepcopy(tuned)
        self.class_specific, self.resolution = tuned.class_specific, tuned.resolution
        self.mode, self.base_weight, self.new_weight, self.fresh = mode, base_weight, new_weight, fresh
        self.clone_factors, self.normalised = clone_factors, normalised
        self.weight: float | None = None
        kept = map_parameters(tuned) if not train_maps else map_parameters(tuned, Projector)
        self._learning = {name for name, p in tuned.named_parameters() if p.requires_grad}
        self._parallel_learning = self._learning - kept
        self.register_buffer("opened", torch.tensor(False))
        # A saved state says which of the two learns.
        self.register_load_state_dict_post_hook(lambda module, _: module._set_learning())  # type: ignore[no-untyped-call]
        self._set_learning()

    @torch.no_grad()
    def open(self) -> None:
        """Freeze P as it is and let P' learn; called again, nothing but that."""
        if not self.opened:
            if self.fresh:
                for name in self._learning - self._parallel_learning:  # maps, which stay those of P
                    self.parallel.get_parameter(name).copy_(self.tuned.get_parameter(name))
                if self.mode == "converse":
                    for name, value in self.parallel.named_parameters():
                        value.copy_(torch.lerp(self.tuned.get_parameter(name), value, self.base_weight))
            else:
                self.parallel.load_state_dict(self.tuned.state_dict())
                if not self.clone_factors:
                    self._restart_low_rank()
            self.opened.fill_(True)
        self._set_learning()

    def _restart_low_rank(self) -> None:
        pairs = zip(self.tuned.modules(), self.parallel.modules(), strict=True)
        for theirs, ours in pairs:
            if isinstance(theirs, LowRank) and isinstance(ours, LowRank):
                ours.restart(theirs.merged())

    def _set_learning(self) -> None:
        opened = bool(self.opened)
        for name, p in self.tuned.named_parameters():
            p.requires_grad_(not opened and name in self._learning)
        for name, p in self.parallel.named_parameters():
            p.requires_grad_(opened and name in self._parallel_learning)
        self.train(self.training)

    def train(self, mode: bool = True) -> DualPrompt:
        """The frozen prompt takes no dropout."""
        super().train(mode)
        if self.opened:
            self.tuned.eval()
        return self

    def forward(self, seen: bool = True) -> Ports:
        tuned: Ports = self.tuned(seen)
        if not self.opened:
            return tuned
        # These two ports cannot be interpolated; the tuned prompt's stay.
        stored = replace(self.parallel(seen), pixels=tuned.pixels, features=tuned.features)
        return self._in_training(tuned, stored) if self.training else self._in_evaluation(tuned, stored, seen)

    def _in_training(self, tuned: Ports, stored: Ports) -> Ports:
        if self.mode == "converse":
            return mix(tuned, stored, 1 / self.base_weight)
        if self.mode == "released":
            return mix(_detached(stored), stored, 1 / self.base_weight)
        if self.mode == "mixed_forward":
            return mix(tuned, stored, self.base_weight)
        return stored

    def _in_evaluation(self, tuned: Ports, stored: Ports, seen: bool) -> Ports:
        parallel = mix(tuned, stored, 1 / self.base_weight) if self.mode == "converse" else stored
        weight = self.evaluation_weight(seen)
        if weight == 1:
            return parallel
        mixed = mix(tuned, parallel, weight)
        for tower, layers in self.normalised.items():
            a, b, both = (getattr(ports, tower) for ports in (tuned, parallel, mixed))
            tokens = {layer: mix_normalised(a.tokens[layer], b.tokens[layer], weight) for layer in layers}
            mixed = replace(mixed, **{tower: replace(both, tokens={**both.tokens, **tokens})})
        return mixed

    def evaluation_weight(self, seen: bool) -> float:
        """ω that evaluation mixes with, on trained classes (`seen`) or on others."""
        if self.weight is not None:
            if not 0 <= self.weight <= 1:
                raise ValueError(f"dpc: the weight of the parallel prompt must be between 0 and 1, got {self.weight}.")
            return self.weight
        if not seen:
            return self.new_weight
        return 1.0 if self.mode in ("converse", "released") else self.base_weight


def mix_normalised(tuned: Tensor, parallel: Tensor, weight: float) -> Tensor:
    """Rows (…, d) whose standardised values are mixed, ω and 1 − ω; mean and deviation are mixed beside them.

    A LayerNorm that reads them sees the direction of the mixture of its two answers (it cannot be given the length).
    At 0 and 1 they are the given rows.
    """

    def parts(rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        deviation, mean = torch.std_mean(rows, dim=-1, correction=0, keepdim=True)
        deviation = deviation.clamp_min(torch.finfo(rows.dtype).tiny)
        return (rows - mean) / deviation, mean, deviation

    values, mean, deviation = (torch.lerp(a, b, weight) for a, b in zip(parts(tuned), parts(parallel), strict=True))
    return mean + deviation * parts(values)[0]


def map_parameters(prompt: Prompt, kind: type[Prompt] = Prompt) -> set[str]:
    """Names of the parameters of maps, of this prompt and those inside it that are of a kind."""
    found = set()
    for path, part in prompt.named_modules():
        if isinstance(part, kind):
            for name in part.map_names:
                module: nn.Module = getattr(part, name)
                found |= {".".join(filter(None, (path, name, inner))) for inner, _ in module.named_parameters()}
    return found


def _detached(ports: Ports) -> Ports:
    """The same values without a gradient."""
    condition = ports.condition

    def constant(text: TowerPorts, image_features: Tensor) -> TowerPorts:
        assert condition is not None
        return condition(text, image_features).map(Tensor.detach)

    return replace(
        ports,
        image=ports.image.map(Tensor.detach),
        text=ports.text.map(Tensor.detach),
        condition=None if condition is None else constant,
    )
