"""Images of classes that a tuned prompt confuses with those of a batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import Literal

import torch
from torch import Tensor

from cliptune.adapter import Adapter, Outputs
from cliptune.batch import Batch
from cliptune.prompts.dual import DualPrompt
from cliptune.recipe import Pool

Rule = Literal["paper", "released", "random"]
# With fewer hard negatives than this, random classes are added.
FEWEST = 2


def choose_negatives(
    scores: Tensor,
    labels: Sequence[int],
    top: int,
    positions: Mapping[int, Sequence[int]],
    random: Random,
    rule: Rule = "paper",
) -> list[list[int]]:
    """For every image of a batch, positions of images of hard classes; no class occurs twice among them all.

    Args:
        scores: (B, C) of the frozen tuned model. labels: of the B images.
        top: K, 2 ≤ K ≤ C. Of an image's K best classes its own and those already in the batch are left out.
        positions: class → positions of its training images; a class without images is never chosen.
        random: chooses among the images of a class, and classes where fewer than two are left.
        rule: "paper" takes K − 1 classes at most and fills up from all unused ones. "released" takes K where the
            image's own class is not among its best, and fills up by a bounded number of draws that never give the
            first nor the last class. "random" is the control: as many classes as "paper" looks at, whatever their
            scores.
    Source: DPC (arXiv:2503.13443), dynamic hard-negative optimiser.
    """
    count = scores.shape[1]
    used, chosen = set(labels), []
    for label, best in zip(labels, scores.topk(top, dim=1).indices.tolist(), strict=True):
        if rule == "random":
            best = random.sample([c for c in range(count) if c != label], top - 1)
        hard = [c for c in best if c != label]
        if rule == "paper":
            hard = hard[: top - 1]
        kept = [c for c in hard if c not in used and positions.get(c)]
        used.update(kept)
        if len(kept) < FEWEST:
            more = _released_filling if rule == "released" else _filling
            filling = more(FEWEST - len(kept), count, used, positions, random)
            used.update(filling)
            kept += filling
        chosen.append([random.choice(positions[c]) for c in kept])
    return chosen


def _filling(
    wanted: int, count: int, used: set[int], positions: Mapping[int, Sequence[int]], random: Random
) -> list[int]:
    free = [c for c in range(count) if c not in used and positions.get(c)]
    return random.sample(free, min(wanted, len(free)))


def _released_filling(
    wanted: int, count: int, used: set[int], positions: Mapping[int, Sequence[int]], random: Random
) -> list[int]:
    filling: list[int] = []
    for _ in range(count - 2):
        # Drawn before it is known whether one more is wanted, as in the release: its stream is replayed.
        c = random.randint(1, count - 2)
        if len(filling) == wanted:
            break
        if c not in used and c not in filling and positions.get(c):
            filling.append(c)
    return filling


class HardNegatives:
    """The sampler of DPC's second stage: each image is followed by its hard negatives.

    Only the training images that the run was given are drawn from, with the transform of the run, so a K-shot run
    stays one.

    Args:
        top: K. rule: see `choose_negatives`.
        scores: `(outputs of the tuned prompt, batch) → logits`, where someone else ranks the classes: a teacher.
    Raises (when called): ValueError for an image without a label.
    """

    def __init__(
        self, top: int, rule: Rule = "paper", scores: Callable[[Outputs, Batch], Tensor] | None = None
    ) -> None:
        self.top, self.rule, self.scores = top, rule, scores
        self._text: Tensor | None = None
        self._positions: dict[int, list[int]] = {}

    def forget(self, adapter: Adapter) -> None:
        """A stage begins: what was kept of another tuned prompt is void."""
        self._text, self._positions = None, {}

    @torch.no_grad()
    def __call__(self, adapter: Adapter, batch: Batch, pool: Pool) -> Batch:
        assert isinstance(adapter.prompt, DualPrompt)
        if (batch.labels < 0).any():
            raise ValueError(
                "dpc: its second stage compares images of known classes, and an image of this batch has no label. "
                "Train on labelled images."
            )
        tuned = adapter.with_prompt(adapter.prompt.tuned)
        if not self._positions:
            for position, label in enumerate(pool.labels.tolist()):
                self._positions.setdefault(label, []).append(position)
        if self._text is None:
            # The tuned prompt is frozen, so its texts are encoded once per stage.
            self._text = tuned.text_features()
        out = tuned(batch, text_features=self._text, image_embedding=pool.embedding(batch))
        labels = batch.labels.tolist()
        scores = out.logits if self.scores is None else self.scores(out, batch)
        chosen = choose_negatives(scores, labels, self.top, self._positions, pool.random, self.rule)
        flat = [position for positions in chosen for position in positions]
        if not flat:
            return batch
        drawn, order, taken = pool(flat), [], len(batch)
        together = Batch(
            torch.cat([batch.images, drawn.images]),
            torch.cat([batch.labels, drawn.labels]),
            torch.cat([batch.index, drawn.index]),
            None if batch.masks is None or drawn.masks is None else torch.cat([batch.masks, drawn.masks]),
            torch.arange(taken + len(flat), device=batch.labels.device) >= taken,
        )
        for i, positions in enumerate(chosen):
            order += [i, *range(taken, taken + len(positions))]
            taken += len(positions)
        return together[torch.tensor(order, device=batch.labels.device)]
