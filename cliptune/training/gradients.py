"""The gradient of one batch, however it is cut over pieces and processes."""

from __future__ import annotations

import dataclasses
from contextlib import nullcontext
from itertools import pairwise
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn

from cliptune.batch import Batch
from cliptune.recipe import Objective
from cliptune.training.distributed import Processes

if TYPE_CHECKING:
    from cliptune.adapter import Adapter

_PER_IMAGE = ("logits", "similarity", "image_features", "image_embedding")


class LossOf(nn.Module):
    """The loss of an adapter on a batch, as one module: what is wrapped to average gradients over processes.

    After a call, `out` holds the adapter's outputs and `sums` what the batch adds to the epoch's totals.
    """

    def __init__(self, adapter: Adapter, objective: Objective):
        super().__init__()
        self.adapter, self.objective = adapter, objective
        self.out: Any = None
        self.sums: dict[str, Tensor] = {}

    def forward(self, batch: Batch, embedding: Tensor | None, progress: float) -> Tensor:
        self.out = self.adapter(batch, image_embedding=embedding, needs=self.objective.needs)
        loss, parts = self.objective(self.out, batch, progress)
        with torch.no_grad():
            known = batch.labels >= 0
            correct = (self.out.logits.argmax(-1) == batch.labels) & known
            self.sums = {"loss": loss * len(batch), "images": torch.tensor(len(batch), device=loss.device)}
            self.sums |= {"known": known.sum(), "correct": correct.sum()}
            self.sums |= {f"part {name}": value * len(batch) for name, value in parts.items()}
        return loss


def add_gradients(
    model: nn.Module,
    batch: Batch,
    embedding: Tensor | None,
    *,
    progress: float,
    whole: int,
    pieces: int,
    seed: int,
    scaler: torch.amp.GradScaler,
    processes: Processes,
) -> dict[str, float]:
    """Backward through the loss of one batch, and show the outputs to the head.

    The mean loss of each piece counts by its share of the batch, so that the gradient is that of the mean over the
    whole batch. All pieces, on all processes, start from the same random seed: what dropout takes from a prompt, it
    takes for the whole batch.

    Args:
        model: `LossOf`, wrapped by `processes` or not.
        batch, embedding: this process's images.
        progress: share of the stage's epochs that is done, in [0, 1).
        whole: images of the batch on all processes together.
        pieces: how many to cut this process's images into; not more than there are images.
        seed: of this step.
        scaler: scales the loss where fp16 needs it.
    Returns: sums over the whole batch: loss, images, known labels, correct answers, parts of the loss.
    """
    loss_of = cast(LossOf, getattr(model, "module", model))
    bounds = [len(batch) * i // pieces for i in range(pieces + 1)]
    cuts = [slice(a, b) for a, b in pairwise(bounds) if a < b]
    sums: dict[str, Tensor] = {}
    for cut in cuts:
        piece = batch[cut]
        torch.manual_seed(seed)
        with nullcontext() if cut is cuts[-1] else processes.local(model):
            loss = model(piece, None if embedding is None else embedding[cut], progress)
            # A wrapped model averages gradients over the processes; the shares already sum to one.
            scaler.scale(loss * (len(piece) / whole * processes.world)).backward()
        with torch.no_grad():
            out, labels = _whole(loss_of.out, piece.labels, processes)
            loss_of.adapter.head.observe(out, labels)
        for name, value in loss_of.sums.items():
            sums[name] = sums.get(name, 0) + value.double()
    loss_of.out, loss_of.sums = None, {}
    totals = processes.total(torch.stack(list(sums.values()))).tolist()
    return dict(zip(sums, totals, strict=True))


def _whole(out: Any, labels: Tensor, processes: Processes) -> tuple[Any, Tensor]:
    """Outputs and labels of all processes, detached: a head that counts must see the same on each of them."""
    tensors = {
        field.name: getattr(out, field.name).detach()
        for field in dataclasses.fields(out)
        if isinstance(getattr(out, field.name), Tensor)
    }
    tensors |= {name: processes.gather(tensors[name]) for name in _PER_IMAGE if name in tensors}
    return dataclasses.replace(out, reference=None, **tensors), processes.gather(labels)
