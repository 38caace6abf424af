"""`patterns`: what the patterns on the pixels look like, what each adds, and how alike they are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from cliptune.adapter import Adapter
from cliptune.analysis.finding import PICTURES, Finding
from cliptune.analysis.prm import Redundancy, contributions, redundancy, remarks, weighing
from cliptune.explain.figures import figure, gallery, heat
from cliptune.explain.opened import OpenedRun
from cliptune.explain.port import Explanation
from cliptune.heads import PRMHead
from cliptune.prompts.pixels import PixelPattern

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SHOWN = 3
_ASKED = 50


@dataclass(frozen=True)
class Patterns(Finding):
    """The V patterns of a run.

    Args:
        names: of the groups of descriptions that look through them, or "pattern 1" and so on.
        class_names: C.
        contribution: (C, V), what each adds to the logit of the images' own class, mean over the class's images; None
            without a reweighting matrix.
        of_image: (N, V), the same image by image.
        alike: how alike the patterns are, what they make of images, and what they answer alone.
        remarks: what is wrong with that, with what to try.
        pictures: (image, V + 1, R, R, 3) in [0, 1], images as they are and with each pattern.
    """

    names: tuple[str, ...]
    class_names: tuple[str, ...]
    contribution: Tensor | None
    of_image: Tensor | None
    alike: Redundancy
    remarks: tuple[str, ...]
    pictures: Tensor = field(metadata=PICTURES)

    def sentence(self) -> str:
        v = len(self.alike.patterns)
        said = f"{v} pattern{'s' if v > 1 else ''} on the pixels"
        if v > 1:
            between = self.alike.patterns[~torch.eye(v, dtype=torch.bool)]
            said += f", whose cosine is {float(between.min()):.2f} to {float(between.max()):.2f}"
            if self.alike.views is not None:
                # A pattern may make several views, and several patterns one.
                views = self.alike.views[~torch.eye(len(self.alike.views), dtype=torch.bool)]
                said += f"; what they make of an image has a cosine of {float(views.mean()):.2f}"
        if self.contribution is not None:
            mean = self.contribution.nanmean(dim=0)
            most = int(mean.argmax())
            said += (
                f"; {self.names[most]!r} adds most to the own class, {100 * float(mean[most] / mean.sum()):.0f} % of "
                "its logit"
            )
        return " ".join([f"{said}.", *self.remarks])


class PatternsExplanation(Explanation[Patterns]):
    name = "patterns"
    title = "What is drawn on the pictures"
    source = "arXiv:2506.01000; contributions and redundancy are ours"
    place = 20

    def why_not(self, run: OpenedRun) -> str | None:
        return None if pattern_of(run.adapter) is not None else "Nothing is drawn on the pixels of the pictures."

    def explain(self, run: OpenedRun) -> Patterns:
        adapter, pattern = run.adapter, pattern_of(run.adapter)
        assert pattern is not None
        batch = run.batch_of(range(min(_ASKED, len(run.split()))))
        alike = redundancy(adapter, batch)
        names = tuple(f"pattern {i + 1}" for i in range(len(alike.patterns)))
        contribution = of_image = None
        said: list[str] = []
        if isinstance(adapter.head, PRMHead):
            read = weighing(adapter)
            names, said = read.groups, remarks(read, alike)
            added = [(contributions(adapter, b), b.labels) for b in run.batches()]
            of_image = torch.cat([c[torch.arange(len(y)), :, y].cpu() for c, y in added])
            labels = torch.cat([y.cpu() for _, y in added])
            rows = [of_image[labels == c].mean(dim=0) for c in range(len(adapter.class_names))]
            contribution = torch.stack(rows)
        pictures = drawn_on(adapter, run)
        return Patterns(names, adapter.class_names, contribution, of_image, alike, tuple(said), pictures)

    def draw(self, found: Patterns) -> Mapping[str, Figure]:
        v = found.pictures.shape[1] - 1
        words = ["the picture", *(found.names if len(found.names) == v else [f"pattern {i + 1}" for i in range(v)])]
        flat = [view for image in found.pictures for view in image]
        made = {"pictures": gallery(flat, words * len(found.pictures), columns=v + 1)}
        if found.contribution is not None:
            added, (axes,) = figure(height=1.6 + 0.22 * min(40, len(found.class_names)))
            names = found.class_names if len(found.class_names) <= 40 else ()
            label = "added to the own class's logit"
            heat(axes, found.contribution.numpy(), rows=names, columns=found.names, label=label)
            made["contributions"] = added
        if v > 1:
            made["alike"] = _alike(found.alike)
        return made

    def captions(self, found: Patterns) -> Mapping[str, str]:
        said = {"pictures": found.sentence()}
        if found.contribution is not None:
            added = found.contribution.nan_to_num(nan=-torch.inf)
            c, v = divmod(int(added.argmax()), added.shape[1])
            said["contributions"] = (
                f"{found.names[v]!r} adds most, {float(added[c, v]):.2f} to the logit of {found.class_names[c]!r}."
            )
        alike = found.alike.patterns
        if len(alike) > 1:
            between = alike.clone().fill_diagonal_(-2)
            first, second = divmod(int(between.argmax()), len(alike))
            said["alike"] = (
                f"Patterns {first + 1} and {second + 1} are most alike, with a cosine of {float(between.max()):.2f}."
            )
        return said


def pattern_of(adapter: Adapter) -> PixelPattern | None:
    return next((part for part in adapter.prompt.modules() if isinstance(part, PixelPattern)), None)


@torch.no_grad()
def drawn_on(adapter: Adapter, run: OpenedRun) -> Tensor:
    """A few pictures as they are, and each pattern's view of them, (image, V + 1, R, R, 3) in [0, 1]."""
    batch = run.batch_of(range(min(_SHOWN, len(run.split()))))
    with adapter.evaluating():
        views = adapter.views(batch, adapter.prompt(seen=adapter.seen).pixels).cpu()
    mean, std = (torch.tensor(value)[:, None, None] for value in (adapter.clip.mean, adapter.clip.std))
    plain = torch.nn.functional.interpolate(batch.images.cpu(), views.shape[-2:], mode="bilinear")[:, None]
    return torch.cat([plain, views * std + mean], dim=1).clamp(0, 1).permute(0, 1, 3, 4, 2)


def _alike(found: Redundancy) -> Figure:
    measures = {"patterns": found.patterns, "image features": found.views, "same answer": found.predictions}
    known = {name: values for name, values in measures.items() if values is not None}
    made, axes = figure(len(known), 1, height=2.8 * len(known))
    for axis, (name, values) in zip(axes, known.items(), strict=True):
        numbers = [str(i + 1) for i in range(len(values))]
        heat(axis, values.numpy(), rows=numbers, columns=numbers, label="share" if name == "same answer" else "cosine")
        axis.set_title(name)
    return made
